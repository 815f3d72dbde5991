package userspace

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// from sends one datagram from another address than the peer's.
func (p *peer) from(source string, data []byte, to netip.AddrPort) {
	p.t.Helper()
	socket, err := encap.Listen(netip.MustParseAddrPort(source), "")
	if err != nil {
		p.t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.Send([][]byte{data}, to); err != nil {
		p.t.Fatal(err)
	}
}

// sealed is an authentic packet of the peer.
func (p *peer) sealed(inner []byte) []byte {
	b := make([]byte, p.seal.SealedLen(len(inner)))
	copy(b[p.seal.HeaderLen():], inner)
	p.next++
	return p.seal.Seal(b, len(inner), nextHeaderOf(inner), uint32(p.child.Inbound.SPI), p.next-1)
}

// TestNobodyOutsideIsInside: what comes from an address of the pools, or from a
// virtual address that is in use, goes no further and is no hint.
func TestNobodyOutsideIsInside(t *testing.T) {
	events := make(chan dataplane.Event, 16)
	p := newPeer(t, newHarness(t, events, nil), nil)
	inUse := netip.MustParseAddr("127.77.0.1")
	other := newPeer(t, p.harness, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{inUse} })
	marked := append(make([]byte, encap.MarkerLen), "IKE"...)
	sources := []string{"127.66.0.1:0", "127.66.255.254:0", "127.77.0.1:0"}
	for _, source := range sources {
		p.from(source, []byte("IKE"), p.IKE)
		p.from(source, marked, p.Encap)
		p.from(source, p.sealed(up4.UDP(1, 2, nil)), p.Encap)
		p.from(source, []byte{9, 9, 9, 9, 9, 9, 9, 9, 9}, p.Encap) // unknown SPI
	}
	drops := p.dropped(t, dataplane.ReasonOuterInside, uint64(4*len(sources)))
	if want := (dataplane.Drops{dataplane.ReasonOuterInside: uint64(4 * len(sources))}); drops != want {
		t.Errorf("drops %v, want only those of inside sources", drops)
	}
	if len(events) != 0 {
		t.Errorf("event %+v", <-events)
	}

	// Nobody has the virtual address any more.
	p.apply(dataplane.Remove{Inbound: other.child.Inbound.SPI})
	p.from("127.77.0.1:0", []byte("hello"), p.IKE)
	received := []dataplane.Datagram{{Data: make([]byte, 10)}}
	if n, err := p.backend.Transport().Receive(received); n != 1 || err != nil || string(received[0].Data) != "hello" {
		t.Errorf("Receive: %d, %v, %q", n, err, received[0].Data)
	}
}

// TestPathInsideIsRefused: no path leads into the pools or to a virtual address,
// so that no ring of children can be made.
func TestPathInsideIsRefused(t *testing.T) {
	h := newHarness(t, nil, nil)
	a, b := netip.MustParseAddr("127.77.0.1"), netip.MustParseAddr("127.77.0.2")
	at := func(virtual netip.Addr) func(*dataplane.Child) {
		return func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{virtual} }
	}
	// b is not in use yet: the path may lead there, and must not be answered by
	// one from b to a.
	first := newPeer(t, h, func(c *dataplane.Child) {
		at(a)(c)
		c.Path.Remote = netip.AddrPortFrom(b, 4500)
	})
	second := newChild(t, h, netip.AddrPortFrom(a, 4500))
	at(b)(&second)
	refused := func(c dataplane.Change) {
		t.Helper()
		if errs := h.backend.Apply([]dataplane.Change{c}); !errors.Is(errs[0], dataplane.ErrInvalid) {
			t.Errorf("%T: %v, want %v", c, errs[0], dataplane.ErrInvalid)
		}
	}
	refused(dataplane.Install{Child: second})
	second.Path.Remote = netip.MustParseAddrPort("127.66.0.1:4500") // the pools
	refused(dataplane.Install{Child: second})
	second.Path.Remote = first.socket.Local()
	first.apply(dataplane.Install{Child: second})
	for _, inside := range []netip.Addr{a, b, netip.MustParseAddr("127.66.3.3")} {
		path := second.Path
		path.Remote = netip.AddrPortFrom(inside, 4500)
		refused(dataplane.Move{Inbound: second.Inbound.SPI, Path: path})
	}
}
