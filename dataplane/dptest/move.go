package dptest

import (
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// hintThenMove: a device that roams is noticed, and followed once that is told.
func hintThenMove(e *env) {
	d := e.device()
	u := e.connect(d, nil)
	e.bothWays(u)
	late := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	e.bothWays(u)

	// Held up somewhere, it comes from elsewhere: no reason to think of a move.
	away := e.device()
	loose := e.Backend.Features().LooseHints
	if !loose {
		away.send(late, u.gateway)
		e.inside()
		e.noEvent()
	}

	// The newest packet comes from there: a hint, but nothing more.
	roamed := *u
	roamed.device = away
	e.wantHint(&roamed)
	last := e.downTo(u)

	path := u.child.Path
	path.Remote = away.addr()
	e.apply(dataplane.Move{Inbound: u.child.Inbound.SPI, Path: path})
	e.goesOn(&roamed, last)
	want := payload()
	roamed.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)
	if loose {
		return // the packet before the move may be told of after it
	}
	e.noEvent()
}

// goesOn moves a packet to the device, whose number has to follow that of the
// last one before a move, and returns it.
func (e *env) goesOn(u *tunnel, last uint64) uint64 {
	e.Helper()
	seq := e.downTo(u)
	if seq != last+1 && (seq <= last || !e.Backend.Features().MoveSkips) {
		e.Errorf("sequence number %d after the move, want %d", seq, last+1)
	}
	return seq
}

// stays says that no hint came, where the backend is exact about them.
func (e *env) stays() {
	e.Helper()
	if !e.Backend.Features().LooseHints {
		e.noEvent()
	}
}

// moveTo applies a Move to where the device is now.
func (e *env) moveTo(u *tunnel) {
	e.Helper()
	path := dataplane.Path{Local: u.gateway, Remote: u.addr()}
	if u.raw() {
		path.Encapsulation = dataplane.EncapsulationNone
	}
	e.apply(dataplane.Move{Inbound: u.child.Inbound.SPI, Path: path})
}

// wantHint sends a packet from where the device is, which the path doesn't lead
// to, and waits for the hint.
func (e *env) wantHint(u *tunnel) {
	e.Helper()
	hint := dataplane.AddressChanged{Inbound: u.child.Inbound.SPI, Local: u.gateway, Remote: u.addr()}
	if e.Backend.Features().LooseHints {
		e.eventually("hint", func() bool {
			want := payload()
			u.up(uplink4.UDP(devicePort, hostPort, want))
			e.wantInside(want)
			for {
				select {
				case got := <-e.events:
					if got == hint {
						return true
					}
				case <-time.After(200 * time.Millisecond):
					return false
				}
			}
		})
		return
	}
	want := payload()
	u.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)
	if got := event[dataplane.AddressChanged](e); got != hint {
		e.Errorf("event %+v, want %+v", got, hint)
	}
}

// moveAndBack: a hint is followed, and the move taken back because nobody
// answers there. Window and sequence numbers know nothing of either.
func moveAndBack(e *env) {
	home, away := e.device(), e.device()
	u := e.connect(home, nil)
	e.bothWays(u)
	late := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	later := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	last := e.downTo(u)

	u.roam(away, e.Encap)
	e.wantHint(u)
	e.moveTo(u)
	e.goesOn(u, last)
	e.bothWays(u)
	e.stays()

	// What was under way from the old address still counts, but tells nothing
	// new: no hint, and the downlink stays where it is.
	home.send(late, e.Encap)
	e.inside()
	e.stays()
	last = e.downTo(u)

	u.roam(home, e.Encap)
	e.moveTo(u)
	e.wantDropped(u, late, dataplane.ReasonReplay)
	u.send(later, e.Encap)
	e.inside()
	e.goesOn(u, last)
	e.bothWays(u)
	e.stays()

	// The device may be there in earnest the next time.
	u.roam(away, e.Encap)
	e.wantHint(u)
	e.moveTo(u)
	e.bothWays(u)
	e.stays()
}

// moveBetweenFamilies: outer IPv4 and IPv6 take turns under one child.
func moveBetweenFamilies(e *env) {
	second := e.Second
	home, away := e.device(), e.deviceAt(second)
	u := e.connect(home, nil)
	e.bothWays(u)
	last := e.downTo(u)
	used := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	u.send(used, u.gateway)
	e.inside()

	u.roam(away, second.Encap)
	if !e.Backend.Features().PathLocalOnly {
		e.wantHint(u)
	}
	e.moveTo(u)
	e.wantDropped(u, used, dataplane.ReasonReplay)
	e.goesOn(u, last)
	e.bothWays(u)
	last = e.downTo(u)
	e.stays()

	u.roam(home, e.Encap)
	if !e.Backend.Features().PathLocalOnly {
		e.wantHint(u)
	}
	e.moveTo(u)
	e.goesOn(u, last)
	e.bothWays(u)
	e.wantDropped(u, used, dataplane.ReasonReplay)
	e.stays()
}

// natComesAndGoes: the same child is carried directly over IP, and in UDP while
// there is a NAT, which shows another address or, if it is the device's own
// precaution, the same.
func natComesAndGoes(e *env) {
	direct, udp := e.bothWaysOut(&e.Local)
	behind := e.device()
	u := e.connect(direct, nil)
	e.bothWays(u)
	last := e.downTo(u)
	used := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	u.send(used, u.gateway)
	e.inside()
	for _, way := range []*device{behind, direct, udp, direct, udp, behind} {
		u.roam(way, e.Encap)
		e.moveTo(u)
		e.goesOn(u, last)
		e.wantDropped(u, used, dataplane.ReasonReplay)
		e.bothWays(u)
		last = e.downTo(u)
	}
	c := e.counters(u.child.Inbound.SPI)
	if c.PacketsIn != 8 || c.PacketsOut != 20 {
		e.Errorf("counters %+v, want 8 packets in and 20 out", c)
	}
}
