package dptest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
)

// trafficScenarios send packets through the backend.
var trafficScenarios = []scenario{
	{"both ways with every algorithm", everyAlgorithm, one},
	{"the caller's slices stay the caller's", slicesStay, one},
	{"an SPI that nobody installed", unknownSPI, one},
	{"replay", replay, one},
	{"forgery", forgery, one},
	{"sources other than the virtual addresses", spoofedSource, one},
	{"received before used", receivedBeforeUsed, one},
	{"make before break", makeBeforeBreak, one},
	{"hint of a new address, then move", hintThenMove, one},
	{"move and back", moveAndBack, one},
	{"move to the other family and back", moveBetweenFamilies, two},
	{"a NAT appears and vanishes", natComesAndGoes, raw},
	{"sequence numbers beyond 2^32", beyondLowHalf, one},
	{"sequence numbers used up", usedUp, one},
	{"soft and hard limit of packets", packetLimits, one},
	{"hard limit of bytes", byteLimit, one},
	{"removed", removed, one},
	{"selectors", selectors, one},
	{"hand-over", handOver, one},
	{"after a crash", afterCrash, one},
	{"IKE messages", ikeTransport, one},
	{"IKE messages at the other family", ikeSecond, two},
	{"IKE messages in batches", ikeBatch, one},
}

// everyAlgorithm moves packets of both families both ways, and counts them.
func everyAlgorithm(e *env) {
	for _, alg := range e.Backend.Features().Algorithms {
		for _, esn := range slices.Compact([]bool{false, e.Backend.Features().ESN}) {
			what := fmt.Sprintf("%+v, ESN %t", alg, esn)
			u := e.connect(e.device(), func(c *dataplane.Child) {
				c.Algorithm, c.ESN = alg, esn
				c.Inbound.Keys, c.Outbound.Keys = newKeys(e.T, alg), newKeys(e.T, alg)
			})
			var bytesIn, bytesOut uint64
			for i := range 4 {
				up, down := uplink4, downlink4
				if i%2 == 1 {
					up, down = uplink6, downlink6
				}
				want := append(payload(), make([]byte, 13*i)...)
				inner := up.UDP(devicePort, hostPort, want)
				bytesIn += uint64(len(inner))
				u.up(inner)
				e.wantInside(want)

				want = append(payload(), make([]byte, 200*i)...)
				inner = down.UDP(hostPort, devicePort, want)
				bytesOut += uint64(len(inner))
				e.sendInside(inner)
				got, seq := u.down()
				if !bytes.HasSuffix(got, want) || seq != uint64(i+1) {
					e.Errorf("%s: packet %d is %q with sequence number %d", what, i, got, seq)
				}
			}
			c := e.counters(u.child.Inbound.SPI)
			if c.PacketsIn != 4 || c.BytesIn != bytesIn || c.PacketsOut != 4 || c.BytesOut != bytesOut || c.LastIn.IsZero() || c.LastOut.IsZero() {
				e.Errorf("%s: counters %+v, want 4 packets each way, %d bytes in, %d out", what, c, bytesIn, bytesOut)
			}
			var final dataplane.ChildCounters
			e.apply(dataplane.Remove{Inbound: u.child.Inbound.SPI, Final: &final})
			if final != c {
				e.Errorf("%s: final counters %+v, want %+v", what, final, c)
			}
		}
	}
	if drops := e.Backend.Drops(); drops != (dataplane.Drops{}) {
		e.Errorf("drops %v", drops)
	}
}

// slicesStay: whoever applied a child may erase and reuse all of it.
func slicesStay(e *env) {
	d := e.device()
	child := e.child(d)
	u := e.tunnel(d, child)
	e.apply(dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: child.Inbound.SPI})
	clear(child.Inbound.Keys.Encryption)
	clear(child.Outbound.Keys.Encryption)
	clear(child.VirtualIPs)
	clear(child.Local)
	clear(child.Remote)
	e.bothWays(u)
}

// bothWays moves a packet each way.
func (e *env) bothWays(u *tunnel) {
	e.Helper()
	want := payload()
	u.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)
	e.downTo(u)
}

// downTo moves a packet to the device and returns its sequence number.
func (e *env) downTo(u *tunnel) uint64 {
	e.Helper()
	want := payload()
	e.sendInside(downlink4.UDP(hostPort, devicePort, want))
	got, seq := u.down()
	if !bytes.HasSuffix(got, want) {
		e.Fatalf("device got %q, want %q", got, want)
	}
	return seq
}

// wantDropped sends an ESP packet that has to be dropped for that reason, and
// makes sure that nothing of it came to the inside.
func (e *env) wantDropped(u *tunnel, packet []byte, reason dataplane.Reason) {
	e.Helper()
	before := e.Backend.Drops()
	u.send(packet, u.gateway)
	e.dropped(before, reason)
}

func unknownSPI(e *env) {
	d := e.device()
	child := e.child(d) // reserved, not installed
	u := e.tunnel(d, child)
	e.wantDropped(u, u.sealed(uplink4.UDP(devicePort, hostPort, payload())), dataplane.ReasonUnknownSPI)
	if e.Backend.Features().SilentUnknownSPI {
		return
	}
	want := dataplane.UnknownSPI{SPI: child.Inbound.SPI, Local: e.Encap, Remote: d.addr()}
	if got := event[dataplane.UnknownSPI](e); got != want {
		e.Errorf("event %+v, want %+v", got, want)
	}
}

func replay(e *env) {
	u := e.connect(e.device(), nil)
	numbered := func(seq uint64) ([]byte, []byte) {
		want := payload()
		return u.sealedAs(uplink4.UDP(devicePort, hostPort, want), seq), want
	}
	accepted := func(seq uint64) []byte {
		packet, want := numbered(seq)
		u.send(packet, u.gateway)
		e.wantInside(want)
		return packet
	}
	accepted(1)
	first := accepted(5)
	accepted(3) // late, but within the window
	e.wantDropped(u, first, dataplane.ReasonReplay)
	again, _ := numbered(3)
	e.wantDropped(u, again, dataplane.ReasonReplay)
	accepted(5000)
	old, _ := numbered(4)
	e.wantDropped(u, old, dataplane.ReasonReplayOld)
	accepted(4999)
}

// forgery: a packet that doesn't authenticate changes nothing, least of all the
// window.
func forgery(e *env) {
	u := e.connect(e.device(), nil)
	e.bothWays(u)
	forged := u.sealedAs(uplink4.UDP(devicePort, hostPort, payload()), 1_000_000)
	forged[len(forged)-1] ^= 1
	e.wantDropped(u, forged, dataplane.ReasonIntegrity)
	e.bothWays(u)
}

func spoofedSource(e *env) {
	u := e.connect(e.device(), func(c *dataplane.Child) {
		// Selectors alone would let it through.
		c.Remote = slices.Clone(c.Local)
	})
	for _, spoofed := range []IP{
		{Src: host4, Dst: host4}, {Src: virtual4.Next(), Dst: host4}, {Src: host6, Dst: host6}, {Src: virtual6.Prev(), Dst: host6},
	} {
		e.wantDropped(u, u.sealed(spoofed.UDP(devicePort, hostPort, payload())), dataplane.ReasonInnerSource)
	}
	e.bothWays(u)
}

// receivedBeforeUsed: an installed child accepts, but sends only after
// UseOutbound (RFC 7296 section 2.8).
func receivedBeforeUsed(e *env) {
	d := e.device()
	child := e.child(d)
	u := e.tunnel(d, child)
	e.apply(dataplane.Install{Child: child})
	want := payload()
	u.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)

	before := e.Backend.Drops()
	e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	e.dropped(before, dataplane.ReasonNoChild)
	e.apply(dataplane.UseOutbound{Inbound: child.Inbound.SPI})
	if seq := e.downTo(u); seq != 1 {
		e.Errorf("first sequence number is %d", seq)
	}
}

// makeBeforeBreak rekeys a child: both receive, the one used last sends.
func makeBeforeBreak(e *env) {
	d := e.device()
	old := e.connect(d, nil)
	e.bothWays(old)
	child := e.child(d)
	replacement := e.tunnel(d, child)
	e.apply(dataplane.Install{Child: child})
	e.bothWays(old)
	want := payload()
	replacement.up(uplink4.UDP(devicePort, hostPort, want))
	e.wantInside(want)

	e.apply(dataplane.UseOutbound{Inbound: child.Inbound.SPI})
	e.bothWays(replacement)
	want = payload()
	old.up(uplink4.UDP(devicePort, hostPort, want)) // it was under way
	e.wantInside(want)

	e.apply(dataplane.UseOutbound{Inbound: old.child.Inbound.SPI})
	e.downTo(old)
	e.apply(dataplane.Remove{Inbound: old.child.Inbound.SPI})
	e.bothWays(replacement)
}

// ended waits for the hard limit to be told, after which nothing goes either way,
// whatever the backend still knows of the reason.
func (e *env) ended(u *tunnel) {
	e.Helper()
	for {
		got := event[dataplane.LimitReached](e)
		if got.Inbound != u.child.Inbound.SPI {
			e.Errorf("event %+v of another child", got)
		}
		if got.Hard {
			break
		}
	}
	before := e.Backend.Drops()
	u.up(uplink4.UDP(devicePort, hostPort, payload()))
	e.droppedSomehow(before)
	before = e.Backend.Drops()
	e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	e.droppedSomehow(before)
	e.noEvent()
}

// limitsEachWay: one direction reaches its limit, and both end.
func limitsEachWay(e *env) {
	u := e.connect(e.device(), func(c *dataplane.Child) {
		c.Soft.Packets, c.Hard.Packets = 4, 6
	})
	up := func() {
		want := payload()
		u.up(uplink4.UDP(devicePort, hostPort, want))
		e.wantInside(want)
	}
	for range 3 {
		up()
	}
	e.downTo(u)
	e.noEvent()
	for range 3 {
		up()
	}
	if got := event[dataplane.LimitReached](e); got != (dataplane.LimitReached{Inbound: u.child.Inbound.SPI}) {
		e.Errorf("event %+v, want the soft limit", got)
	}
	e.wantDropped(u, u.sealed(uplink4.UDP(devicePort, hostPort, payload())), dataplane.ReasonHardLimit)
	e.ended(u)
	c := e.counters(u.child.Inbound.SPI)
	if c.PacketsIn != 6 || c.PacketsOut != 1 {
		e.Errorf("counters %+v, want 6 packets in and 1 out", c)
	}
	e.apply(dataplane.Remove{Inbound: u.child.Inbound.SPI})
}

func packetLimits(e *env) {
	if e.Backend.Features().LimitsEachWay {
		limitsEachWay(e)
		return
	}
	u := e.connect(e.device(), func(c *dataplane.Child) {
		c.Soft.Packets, c.Hard.Packets = 4, 6
	})
	e.bothWays(u)
	e.noEvent()
	e.bothWays(u)
	e.bothWays(u)
	if got := event[dataplane.LimitReached](e); got != (dataplane.LimitReached{Inbound: u.child.Inbound.SPI}) {
		e.Errorf("event %+v, want the soft limit", got)
	}
	e.wantDropped(u, u.sealed(uplink4.UDP(devicePort, hostPort, payload())), dataplane.ReasonHardLimit)
	before := e.Backend.Drops()
	e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	e.dropped(before, dataplane.ReasonHardLimit)
	if got := event[dataplane.LimitReached](e); got != (dataplane.LimitReached{Inbound: u.child.Inbound.SPI, Hard: true}) {
		e.Errorf("event %+v, want the hard limit", got)
	}
	e.noEvent()
}

func byteLimit(e *env) {
	u := e.connect(e.device(), func(c *dataplane.Child) { c.Hard.Bytes = 2000 })
	big := append(make([]byte, 1200), payload()...)
	u.up(uplink4.UDP(devicePort, hostPort, big))
	e.wantInside(big)
	e.sendInside(downlink4.UDP(hostPort, devicePort, big))
	u.down()
	if e.Backend.Features().LimitsEachWay {
		e.sendInside(downlink4.UDP(hostPort, devicePort, big))
		u.down()
		before := e.Backend.Drops()
		e.sendInside(downlink4.UDP(hostPort, devicePort, big))
		e.dropped(before, dataplane.ReasonHardLimit)
		e.ended(u)
		return
	}
	e.wantDropped(u, u.sealed(uplink4.UDP(devicePort, hostPort, payload())), dataplane.ReasonHardLimit)
	if got := event[dataplane.LimitReached](e); got != (dataplane.LimitReached{Inbound: u.child.Inbound.SPI, Hard: true}) {
		e.Errorf("event %+v, want the hard limit", got)
	}
}

func removed(e *env) {
	u := e.connect(e.device(), nil)
	e.bothWays(u)
	e.apply(dataplane.Remove{Inbound: u.child.Inbound.SPI})
	e.wantDropped(u, u.sealed(uplink4.UDP(devicePort, hostPort, payload())), dataplane.ReasonUnknownSPI)
	before := e.Backend.Drops()
	e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	e.dropped(before, dataplane.ReasonNoChild)
	for c := range e.Backend.Counters {
		e.Errorf("counters %+v", c)
	}
}
