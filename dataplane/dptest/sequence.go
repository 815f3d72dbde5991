package dptest

import "github.com/roamgate/roamgate/dataplane"

const lowHalf = 1 << 32

// connectNear installs a child whose sequence numbers, of both directions, have
// come to next, by way of a hand-over. Of those below next the device has sent
// all but next-3.
func (e *env) connectNear(next uint64, esn bool) (*env, *tunnel) {
	e.Helper()
	d := e.device()
	child := e.child(d)
	child.ESN = esn
	u := e.tunnel(d, child)
	e.apply(dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: child.Inbound.SPI})
	states := e.export()
	states[0].NextSequence = next
	states[0].Replay = next - 1
	states[0].ReplayWindow = []uint64{^uint64(0) &^ (1 << 2)}

	heir := e.successor()
	heir.rehome(states)
	if err := heir.Backend.Import(states); err != nil {
		e.Fatalf("Import: %v", err)
	}
	u.gateway = heir.Encap
	u.next = next
	u.window.Import(next-1, nil)
	return heir, u
}

// beyondLowHalf: with ESN the low half of the sequence number, which is all that
// a packet carries, begins anew, and the window lies over the seam (RFC 4303
// section 2.2.1 and appendix A2).
func beyondLowHalf(e *env) {
	if !e.Backend.Features().ESN {
		e.Skip("the backend has no ESN")
	}
	const first = lowHalf - 3
	e, u := e.connectNear(first, true)
	var packets [][]byte
	for i := range uint64(6) {
		want := payload()
		packets = append(packets, u.sealed(uplink4.UDP(devicePort, hostPort, want)))
		u.send(packets[i], u.gateway)
		e.wantInside(want)
		if seq := e.downTo(u); seq != first+i {
			e.Errorf("sequence number %#x, want %#x", seq, uint64(first+i))
		}
	}
	for _, p := range packets {
		e.wantDropped(u, p, dataplane.ReasonReplay)
	}
	want := payload()
	u.send(u.sealedAs(uplink4.UDP(devicePort, hostPort, want), first-3), u.gateway) // on the other side of the seam
	e.wantInside(want)
	e.wantDropped(u, u.sealedAs(uplink4.UDP(devicePort, hostPort, payload()), first-2), dataplane.ReasonReplay)
	// A number of the first run, where the window has that of the second.
	e.wantDropped(u, u.sealedAs(uplink4.UDP(devicePort, hostPort, payload()), 100), dataplane.ReasonIntegrity)
	e.bothWays(u)

	states := e.export()
	if s := states[0]; s.NextSequence != first+7 || s.Replay != first+6 {
		e.Errorf("exported next number %#x and replay %#x, want %#x and %#x", s.NextSequence, s.Replay, uint64(first+7), uint64(first+6))
	}
	heir := e.successor()
	heir.rehome(states)
	if err := heir.Backend.Import(states); err != nil {
		e.Fatalf("Import: %v", err)
	}
	u.gateway = heir.Encap
	heir.wantDropped(u, packets[0], dataplane.ReasonReplay)
	heir.wantDropped(u, packets[5], dataplane.ReasonReplay)
	heir.bothWays(u)
}

// usedUp: without ESN the numbers end, and nothing is sent under the key any
// more (RFC 4303 section 3.3.3).
func usedUp(e *env) {
	e, u := e.connectNear(lowHalf-2, false)
	for range 2 {
		e.bothWays(u)
	}
	if e.Backend.Features().LimitsEachWay {
		e.endedBySequence(u)
		return
	}
	for range 2 {
		before := e.Backend.Drops()
		e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
		e.dropped(before, dataplane.ReasonSequenceExhausted)
	}
	if got := event[dataplane.LimitReached](e); got != (dataplane.LimitReached{Inbound: u.child.Inbound.SPI, Hard: true}) {
		e.Errorf("event %+v, want the hard limit", got)
	}
	// The device wouldn't, but if it begins anew, that is a replay.
	e.wantDropped(u, u.sealedAs(uplink4.UDP(devicePort, hostPort, payload()), lowHalf-1), dataplane.ReasonReplay)
	e.wantDropped(u, u.sealedAs(uplink4.UDP(devicePort, hostPort, payload()), lowHalf+1), dataplane.ReasonReplayOld)
}

// endedBySequence: the same where both directions end together.
func (e *env) endedBySequence(u *tunnel) {
	e.Helper()
	before := e.Backend.Drops()
	e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	e.dropped(before, dataplane.ReasonSequenceExhausted)
	e.ended(u)
}
