package dptest

import (
	"bytes"
	"net/netip"

	"github.com/roamgate/roamgate/dataplane"
)

// selectors: every packet has to match one selector of each side, both ways.
func selectors(e *env) {
	one := func(a netip.Addr) dataplane.Selector { return anySelector(a.String(), a.String()) }
	with := func(s dataplane.Selector, protocol uint8, first, last uint16) dataplane.Selector {
		s.Protocol, s.FirstPort, s.LastPort = protocol, first, last
		return s
	}
	u := e.connect(e.device(), func(c *dataplane.Child) {
		c.Remote = []dataplane.Selector{
			with(one(virtual4), protoUDP, 4000, 4999),
			with(one(virtual4), protoICMP, 0, 0xFFFF),
			one(virtual6),
		}
		c.Local = []dataplane.Selector{
			with(anySelector("10.2.0.0", "10.2.0.255"), protoUDP, 7, 7),
			with(anySelector("10.2.0.0", "10.2.0.255"), protoICMP, 8<<8, 8<<8), // echo request
			with(one(host6), protoUDP, 0, 0xFFFF),
		}
	})
	port := func(h IP, src, dst uint16) []byte { return h.UDP(src, dst, payload()) }
	between := func(src, dst netip.Addr) IP { return IP{Src: src, Dst: dst} }
	far := netip.MustParseAddr("10.2.1.0")
	later := func(h IP) []byte {
		h.Offset = 1480
		return h.Packet(protoUDP, append(make([]byte, 8), payload()...))
	}

	up := []struct {
		name   string
		packet []byte
		passes bool
	}{
		{"within both", port(uplink4, 4000, 7), true},
		{"last port of the range", port(uplink4, 4999, 7), true},
		{"port left of the range", port(uplink4, 3999, 7), false},
		{"port right of the range", port(uplink4, 5000, 7), false},
		{"another port of the host", port(uplink4, 4000, 8), false},
		{"first address", port(between(virtual4, netip.MustParseAddr("10.2.0.0")), 4000, 7), true},
		{"address right of the range", port(between(virtual4, far), 4000, 7), false},
		{"another protocol", uplink4.SYN(4000, 7, 1400, false), false},
		{"echo request", uplink4.ICMP(8, 0, payload()), true},
		{"echo request with another code", uplink4.ICMP(8, 1, payload()), false},
		{"echo reply", uplink4.ICMP(0, 0, payload()), false},
		{"later fragment, ports unknown", later(uplink4), false},
		{"IPv6, any port", port(uplink6, 1, 65535), true},
		{"IPv6, later fragment, any port", later(uplink6), true},
		{"IPv6, another protocol", uplink6.SYN(1, 2, 1400, false), false},
	}
	for _, c := range up {
		if c.passes {
			u.up(c.packet)
			if got := e.inside(); !bytes.HasSuffix(got, c.packet[len(c.packet)-15:]) {
				e.Fatalf("up, %s: inside got %q", c.name, got)
			}
			continue
		}
		e.Log("up, dropped:", c.name)
		e.wantDropped(u, u.sealed(c.packet), dataplane.ReasonSelectorIn)
	}

	down := []struct {
		name   string
		packet []byte
		passes bool
	}{
		{"within both", port(downlink4, 7, 4000), true},
		{"another port of the host", port(downlink4, 8, 4000), false},
		{"another port of the device", port(downlink4, 7, 5000), false},
		{"another host", port(between(far, virtual4), 7, 4000), false},
		{"echo request", downlink4.ICMP(8, 0, payload()), true},
		{"echo reply", downlink4.ICMP(0, 0, payload()), false},
		{"later fragment, ports unknown", later(downlink4), false},
		{"IPv6, any port", port(downlink6, 9, 10), true},
		{"IPv6, later fragment, any port", later(downlink6), true},
	}
	for _, c := range down {
		before := e.Backend.Drops()
		e.sendInside(c.packet)
		if c.passes {
			if got, _ := u.down(); !bytes.HasSuffix(got, c.packet[len(c.packet)-15:]) {
				e.Fatalf("down, %s: device got %q", c.name, got)
			}
			continue
		}
		e.Log("down, dropped:", c.name)
		e.dropped(before, dataplane.ReasonSelectorOut)
	}
}
