package fleet

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/push"
)

// Tunnel is the alert.Channel that leads through gateways: a notification goes to
// the one at which the device is.
type Tunnel struct{ f *Fleet }

// Tunnel of the fleet.
func (f *Fleet) Tunnel() Tunnel { return Tunnel{f} }

var _ alert.Channel = Tunnel{}

// Name implements alert.Channel.
func (Tunnel) Name() string { return "tunnel" }

// Deliver implements alert.Channel. The newest session is tried first.
func (t Tunnel) Deliver(ctx context.Context, device string, octets []byte) alert.Result {
	places, err := t.f.Where(ctx, device)
	if err != nil {
		return alert.Failed
	}
	result := alert.Unreachable
	for n := len(places) - 1; n >= 0; n-- {
		err := t.f.push.Alert(ctx, places[n].Gateway, device, rand.Text(), octets)
		switch {
		case err == nil:
			return alert.Sent
		case !errors.Is(err, push.ErrNoSession):
			result = alert.Failed
		}
	}
	return result
}
