package userspace

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
)

// TestMTUFollowsTheFamily: what fits through a path is that of its family, after
// a Move and after a hand-over too.
func TestMTUFollowsTheFamily(t *testing.T) {
	needIPv6(t)
	h := newHarness(t, nil, func(c *Config) { c.Locals = []Local{loopback4, loopback6} })
	away := newPeer(t, &harness{Harness: &dptest.Harness{Local: *h.Second}, backend: h.backend, pipe: h.pipe}, nil)
	p := newPeer(t, h, nil)
	whole := down4
	whole.DontFragment = true
	for _, outer6 := range []bool{false, true, false} {
		path := p.child.Path
		if outer6 {
			path = away.child.Path
		}
		p.apply(dataplane.Move{Inbound: p.child.Inbound.SPI, Path: path})
		mtu, err := InnerMTU(1500, gcm128, outer6)
		if err != nil {
			t.Fatal(err)
		}
		checkTooBigAt(t, p, whole, mtu)
		p.sendInside(whole.SYN(1, 2, 9000, false))
		inner := p.arrivalAt(away, outer6)
		if got := int(inner[42])<<8 | int(inner[43]); got != mtu-40 {
			t.Errorf("outer IPv6 %t: MSS %d, want %d", outer6, got, mtu-40)
		}
	}
}

// checkTooBigAt: one octet more than mtu is answered with mtu.
func checkTooBigAt(t *testing.T, p *peer, ip dptest.IP, mtu int) {
	t.Helper()
	p.sendInside(ip.UDP(1, 2, make([]byte, mtu+1-ipv4HeaderLen-udpHeaderLen)))
	answer := p.inside()
	if got := int(answer[26])<<8 | int(answer[27]); answer[20] != 3 || answer[21] != 4 || got != mtu {
		t.Errorf("answer %x tells the MTU %d, want %d", answer, got, mtu)
	}
}

// arrivalAt waits for a packet of p at its own socket or at that of away.
func (p *peer) arrivalAt(away *peer, there bool) []byte {
	p.t.Helper()
	if !there {
		inner, _ := p.arrival()
		return inner
	}
	away.open = p.open
	inner, _ := away.arrival()
	return inner
}

// TestOtherAddressOfOurs: a device that goes on at another address of the
// gateway, and keeps its own, is told; a Move makes the answers come from there.
func TestOtherAddressOfOurs(t *testing.T) {
	events := make(chan dataplane.Event, 16)
	other := Local{IKE: netip.MustParseAddrPort("127.0.0.2:0"), Encap: netip.MustParseAddrPort("127.0.0.2:0")}
	p := newPeer(t, newHarness(t, events, func(c *Config) { c.Locals = []Local{loopback4, other} }), nil)
	p.up(up4.UDP(1, 2, nil), 0)
	p.inside()
	if len(events) != 0 {
		t.Errorf("event %+v", <-events)
	}
	first := p.Encap
	p.Encap = p.backend.Locals()[1].Encap
	p.up(up4.UDP(1, 2, nil), 0)
	p.inside()
	hint := dataplane.AddressChanged{Inbound: p.child.Inbound.SPI, Local: p.Encap, Remote: p.socket.Local()}
	select {
	case got := <-events:
		if got != hint {
			t.Errorf("event %+v, want %+v", got, hint)
		}
	default: // it is told before the packet goes on
		t.Error("no event")
	}
	from := func() netip.AddrPort {
		p.sendInside(down4.UDP(2, 1, nil))
		p.wait(1)
		return p.receiver.Datagram(0).Remote
	}
	if got := from(); got != first {
		t.Errorf("before the move from %v, want %v", got, first)
	}
	p.apply(dataplane.Move{Inbound: p.child.Inbound.SPI, Path: dataplane.Path{Local: p.Encap, Remote: p.socket.Local()}})
	if got := from(); got != p.Encap {
		t.Errorf("after the move from %v, want %v", got, p.Encap)
	}
}

// TestManyLocals: packets for children of all addresses, in turn, arrive in
// order, each from its own address.
func TestManyLocals(t *testing.T) {
	const addresses, rounds, packets = 5, 10, 20
	h := newHarness(t, nil, func(c *Config) {
		for range addresses - 1 {
			c.Locals = append(c.Locals, loopback4)
		}
	})
	virtual := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}) }
	var peers [addresses]*peer
	for i, at := range h.backend.Locals() {
		here := *h
		here.Harness = &dptest.Harness{Local: reached(at)}
		peers[i] = newPeer(t, &here, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{virtual(i)} })
	}
	packet := func(i, n int) []byte {
		return dptest.IP{Src: host4, Dst: virtual(i)}.UDP(uint16(n), 1, nil)
	}
	for range rounds {
		for n := range packets {
			for i, p := range peers {
				p.sendInside(packet(i, n))
			}
		}
		for i, p := range peers {
			for n := range packets {
				inner, _ := p.arrival()
				if from := p.receiver.Datagram(p.taken - 1).Remote; !bytes.Equal(inner, packet(i, n)) || from != p.Encap {
					t.Fatalf("address %d, packet %d: %x from %v, want it from %v", i, n, inner, from, p.Encap)
				}
			}
		}
	}
	if drops := h.backend.Drops(); drops != (dataplane.Drops{}) {
		t.Errorf("drops %v", drops)
	}
}

// TestBroadcastReachesInside: DHCPINFORM to everybody (RFC 2131 section 4.4.3)
// comes to the inside like any other packet, if the selectors allow it.
func TestBroadcastReachesInside(t *testing.T) {
	inform := up4
	inform.Dst = netip.MustParseAddr("255.255.255.255")
	packet := inform.UDP(68, 67, []byte("DHCPINFORM"))
	all := dataplane.Selector{First: netip.IPv4Unspecified(), Last: inform.Dst, LastPort: 0xFFFF}
	open := newPeer(t, newHarness(t, nil, nil), func(c *dataplane.Child) { c.Local = []dataplane.Selector{all} })
	open.up(packet, 0)
	if got := open.inside(); !bytes.Equal(got, packet) {
		t.Errorf("inside got %x, want %x", got, packet)
	}

	narrow := newPeer(t, newHarness(t, nil, nil), nil)
	narrow.up(packet, 0)
	narrow.dropped(t, dataplane.ReasonSelectorIn, 1)
}
