package dptest

import "github.com/roamgate/roamgate/dataplane"

// hintThenMove: a device that roams is noticed, and followed once that is told.
func hintThenMove(e *env) {
	d := e.device()
	u := e.connect(d, nil)
	e.bothWays(u)
	late := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	e.bothWays(u)

	// Held up somewhere, it comes from elsewhere: no reason to think of a move.
	away := e.device()
	away.send(late, u.gateway)
	e.inside()
	e.noEvent()

	// The newest packet comes from there: a hint, but nothing more.
	roamed := *u
	roamed.device = away
	want := payload()
	roamed.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)
	if got, want := event[dataplane.AddressChanged](e), (dataplane.AddressChanged{Inbound: u.child.Inbound.SPI, Local: e.Encap, Remote: away.addr()}); got != want {
		e.Errorf("event %+v, want %+v", got, want)
	}
	last := e.downTo(u)

	path := u.child.Path
	path.Remote = away.addr()
	e.apply(dataplane.Move{Inbound: u.child.Inbound.SPI, Path: path})
	if seq := e.downTo(&roamed); seq != last+1 {
		e.Errorf("sequence number %d after the move, want %d", seq, last+1)
	}
	want = payload()
	roamed.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)
	e.noEvent()
}

// moveTo applies a Move to where the device is now.
func (e *env) moveTo(u *tunnel) {
	e.Helper()
	path := dataplane.Path{Local: u.gateway, Remote: u.addr()}
	e.apply(dataplane.Move{Inbound: u.child.Inbound.SPI, Path: path})
}

// wantHint sends a packet from where the device is, which the path doesn't lead
// to, and waits for the hint.
func (e *env) wantHint(u *tunnel) {
	e.Helper()
	want := payload()
	u.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)
	hint := dataplane.AddressChanged{Inbound: u.child.Inbound.SPI, Local: u.gateway, Remote: u.addr()}
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
	e.bothWays(u)
	e.noEvent()

	// What was under way from the old address still counts, but tells nothing
	// new: no hint, and the downlink stays where it is.
	home.send(late, e.Encap)
	e.inside()
	e.noEvent()
	if seq := e.downTo(u); seq != last+2 {
		e.Errorf("sequence number %d after the move, want %d", seq, last+2)
	}

	u.roam(home, e.Encap)
	e.moveTo(u)
	e.wantDropped(u, late, dataplane.ReasonReplay)
	u.send(later, e.Encap)
	e.inside()
	if seq := e.downTo(u); seq != last+3 {
		e.Errorf("sequence number %d after the move back, want %d", seq, last+3)
	}
	e.bothWays(u)
	e.noEvent()

	// The device may be there in earnest the next time.
	u.roam(away, e.Encap)
	e.wantHint(u)
	e.moveTo(u)
	e.bothWays(u)
	e.noEvent()
}

// moveBetweenFamilies: outer IPv4 and IPv6 take turns under one child.
func moveBetweenFamilies(e *env) {
	second := e.second()
	home, away := e.device(), e.deviceAt(second)
	u := e.connect(home, nil)
	e.bothWays(u)
	last := e.downTo(u)
	used := u.sealed(uplink4.UDP(devicePort, hostPort, payload()))
	u.send(used, u.gateway)
	e.inside()

	u.roam(away, second.Encap)
	e.wantHint(u)
	e.moveTo(u)
	e.wantDropped(u, used, dataplane.ReasonReplay)
	if seq := e.downTo(u); seq != last+1 {
		e.Errorf("sequence number %d after the move, want %d", seq, last+1)
	}
	e.bothWays(u)
	e.noEvent()

	u.roam(home, e.Encap)
	e.wantHint(u)
	e.moveTo(u)
	e.bothWays(u)
	e.wantDropped(u, used, dataplane.ReasonReplay)
	if seq := e.downTo(u); seq != last+4 {
		e.Errorf("sequence number %d after the move back, want %d", seq, last+4)
	}
	e.noEvent()
}
