package device

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// order carries a function out when it has the device. Errors: ErrState before
// Connect, ErrGone.
func (d *Device) order(f func(now time.Time)) error {
	d.owner.Lock()
	if d.ended {
		d.disown()
		<-d.done
		return ErrGone
	}
	defer d.disown()
	if d.info.State == Idle {
		return fmt.Errorf("%w: %v", ErrState, Idle)
	}
	f(time.Now())
	return nil
}

// orderUp is order for a device that is up. Errors: ErrState, ErrGone.
func (d *Device) orderUp(f func(now time.Time) error) error {
	var err error
	gone := d.order(func(now time.Time) {
		if d.info.State != Up {
			err = fmt.Errorf("%w: %v", ErrState, d.info.State)
			return
		}
		err = f(now)
	})
	if gone != nil {
		return gone
	}
	return err
}

// Sleep makes the device deaf and dumb, like a phone whose radio is off. Time
// goes on, SAs stay, nothing is done about either before Wake. Errors: ErrGone.
func (d *Device) Sleep() error {
	return d.order(func(time.Time) { d.asleep, d.news = true, true })
}

// Wake ends Sleep: what fell due meanwhile is done now. Errors: ErrGone.
func (d *Device) Wake() error {
	return d.order(func(now time.Time) {
		d.asleep, d.news = false, true
		d.armed = time.Time{}
		d.tick(now)
	})
}

// Roam goes on from another network: s, which is the device's from now on, is
// its only socket, and the gateway is told (RFC 4555 section 3.5). Info.Moves
// counts when it has answered. What was on its way to the old socket is lost.
// Where MOBIKE isn't agreed on, the error is ErrNotMoved: the device sends from
// there all the same, but the gateway has to find out like after RemapPort.
// Errors: ErrNotMoved, ErrState, ErrGone; with ErrState and ErrGone s is the
// caller's still.
func (d *Device) Roam(s Socket) error { return d.RoamTo(s, netip.AddrPort{}) }

// RoamTo is Roam to another address of the gateway as well, one of its further
// addresses for instance (Info.GatewayAddresses), of the other family if s is;
// the zero AddrPort stays.
func (d *Device) RoamTo(s Socket, natt netip.AddrPort) error {
	return d.orderUp(func(now time.Time) error {
		if natt.IsValid() {
			d.natt = natt
		}
		d.use(s)
		d.local, d.refused = d.info.Local, false
		for _, m := range append([]*machine(nil), d.machines...) {
			d.step(now, m, ike.Move{Local: d.local, Remote: d.natt})
		}
		if d.refused {
			return ErrNotMoved
		}
		return nil
	})
}

// RemapPort is what a NAT does that forgot the device: what is sent from now on
// comes from another port, of which the device knows nothing. The gateway finds
// out by the next packet. Errors: those of Config.Listen, ErrState, ErrGone.
func (d *Device) RemapPort() error {
	return d.orderUp(func(time.Time) error {
		s, err := d.cfg.Listen()
		if err != nil {
			return err
		}
		d.use(s)
		return nil
	})
}

// Announce tells the gateway other addresses than Config.Addresses (RFC 4555
// section 3.6); where MOBIKE isn't agreed on nothing happens. Errors: ErrState,
// ErrGone.
func (d *Device) Announce(addresses []netip.Addr) error {
	return d.orderUp(func(now time.Time) error {
		d.step(now, d.current, ike.Announce{Addresses: addresses})
		return nil
	})
}

// RekeyIKE begins to rekey the IKE SA; Info tells when it is done. Errors:
// ErrState, ErrGone.
func (d *Device) RekeyIKE() error {
	return d.orderUp(func(now time.Time) error {
		d.step(now, d.current, ike.Rekey{})
		return nil
	})
}

// Probe asks the gateway for a sign of life (RFC 7296 section 2.4); without
// one the IKE SA ends. Errors: ErrState, ErrGone.
func (d *Device) Probe() error {
	return d.orderUp(func(now time.Time) error {
		d.step(now, d.current, ike.Probe{})
		return nil
	})
}

// RekeyChild begins to rekey the Child SA that is sent by; Info tells when it
// is done. Errors: ErrState, ErrGone.
func (d *Device) RekeyChild() error {
	return d.orderUp(func(now time.Time) error {
		if c := d.table.out; c != nil {
			d.step(now, d.current, ike.Rekey{Inbound: c.inbound})
		}
		return nil
	})
}

// Vanish ends the device without a word and returns when it has ended.
func (d *Device) Vanish() {
	if d.order(func(time.Time) { d.over = true }) == nil {
		<-d.done
	}
}

// Leave begins to delete the IKE SA: Info tells when the gateway has acknowledged it.
// Errors: ErrState, ErrGone.
func (d *Device) Leave() error {
	return d.order(func(now time.Time) { d.step(now, d.current, ike.Close{Reason: ike.CloseShutdown}) })
}

// Close deletes the IKE SA and returns when the gateway has acknowledged it; if
// ctx ends before, the device vanishes. Errors: ctx.Err.
func (d *Device) Close(ctx context.Context) error {
	if d.Leave() != nil {
		return nil // over already
	}
	_, err := d.Await(ctx, func(i Info) bool { return i.State == Ended })
	d.Vanish()
	return err
}
