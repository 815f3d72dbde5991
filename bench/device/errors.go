package device

import (
	"errors"
	"fmt"

	"github.com/roamgate/roamgate/control/ike"
)

var (
	// ErrConfig: something that a device needs is missing, or doesn't fit.
	ErrConfig = errors.New("invalid device configuration")
	// ErrState: not in this state of the device, such as a second Connect.
	ErrState = errors.New("device is in another state")
	// ErrQueueFull: the packet was dropped because others wait before it.
	ErrQueueFull = errors.New("queue of packets is full")
	// ErrGone: the device has ended.
	ErrGone = errors.New("device has ended")
	// ErrPoolFull: MaxShared devices share the sockets.
	ErrPoolFull = errors.New("as many devices as can be share the sockets")
	// ErrNotMoved: the gateway can't be told of a move.
	ErrNotMoved = errors.New("MOBIKE was not agreed on")
)

// ClosedError says how the IKE SA ended.
type ClosedError struct {
	Reason ike.CloseReason
	// Detail, such as the notification that refused us, or the gateway that we
	// were sent to.
	Detail string
}

func (e *ClosedError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("IKE SA ended: %s", e.Reason)
	}
	return fmt.Sprintf("IKE SA ended: %s: %s", e.Reason, e.Detail)
}
