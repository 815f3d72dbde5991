package alert

import "context"

// Result of a delivery.
type Result uint8

const (
	// Failed: the channel couldn't; it may later.
	Failed Result = iota
	// Sent: it is on its way. That a device got it shows in its session only.
	Sent
	// Unreachable: this channel doesn't lead to the device now: it isn't
	// connected, it has no phone number.
	Unreachable
)

// String is the name in logs.
func (r Result) String() string {
	switch r {
	case Sent:
		return "sent"
	case Unreachable:
		return "unreachable"
	default:
		return "failed"
	}
}

// Channel carries notifications to devices: the tunnel first, others where there
// are some. Its methods may be called by several goroutines.
type Channel interface {
	// Name for logs and counters.
	Name() string
	// Deliver a notification. It returns when the channel has taken it, soon, and
	// keeps nothing of octets. A bearer that needs the form of WAP push makes it
	// by AppendPush.
	Deliver(ctx context.Context, device string, octets []byte) Result
}
