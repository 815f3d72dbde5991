package userspace

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// TestRing: what is put comes out in order, with its head, until the ring is
// full; and from several loops at once.
func TestRing(t *testing.T) {
	var r ring
	if r.take() != nil {
		t.Fatal("something in an empty ring")
	}
	heads := []foreign{
		{kind: foreignESP, at: 3, tos: 0xB8, remote: netip.MustParseAddrPort("192.0.2.1:4500")},
		{kind: foreignESP, remote: netip.MustParseAddrPort("[2001:db8::1]:1")},
		{kind: foreignFrame, remote: netip.MustParseAddrPort("0.0.0.0:0")},
	}
	for round := range 3 {
		for i, f := range heads {
			if first, ok := r.put(f, bytes.Repeat([]byte{byte(i)}, i*1000)); !ok || first != (i == 0) {
				t.Fatalf("round %d, %d: first %t, ok %t", round, i, first, ok)
			}
		}
		b := r.take()
		for i, want := range heads {
			var f foreign
			var data []byte
			f, data, b = nextForeign(b)
			if f != want || !bytes.Equal(data, bytes.Repeat([]byte{byte(i)}, i*1000)) {
				t.Errorf("round %d: %+v, %d octets, want %+v", round, f, len(data), want)
			}
		}
		if len(b) != 0 {
			t.Errorf("%d octets behind the last", len(b))
		}
	}
	n := 0
	for ; ; n++ {
		if _, ok := r.put(heads[0], make([]byte, 1000)); !ok {
			break
		}
	}
	if n != ringLen/(1000+foreignHead) {
		t.Errorf("full with %d packets", n)
	}
	r.take()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 100 {
				r.put(heads[0], []byte{byte(w), byte(i)})
			}
		})
	}
	writers.Wait()
	var next [4]byte
	for b := r.take(); len(b) > 0; {
		var data []byte
		_, data, b = nextForeign(b)
		if data[1] != next[data[0]] {
			t.Fatalf("packet %d of writer %d came when %d was next", data[1], data[0], next[data[0]])
		}
		next[data[0]]++
	}
	if next != [4]byte{100, 100, 100, 100} {
		t.Errorf("came %v", next)
	}
}

// TestOwnerFollowsTheAddress: children of one device have one owner, also when a
// device comes back with another set of addresses: then the newest child carries
// what goes to it, in whatever loop it is.
func TestOwnerFollowsTheAddress(t *testing.T) {
	for _, processors := range []int{1, 4} { // loops that share one wake each other, too
		t.Run(fmt.Sprint(processors, " processors"), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			ownerFollowsTheAddress(t)
		})
	}
}

func ownerFollowsTheAddress(t *testing.T) {
	t.Helper()
	h := newHarness(t, nil, withLoops(t, 4))
	used := make(map[uint8]bool)
	for i := range 64 {
		spi, err := h.backend.Reserve(netip.AddrFrom4([4]byte{10, 9, 1, byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		used[loopOf(spi)] = true
		h.backend.Apply([]dataplane.Change{dataplane.Remove{Inbound: spi}})
	}
	if len(used) != 4 {
		t.Errorf("64 addresses have %d loops", len(used))
	}

	// A device with an IPv6 address whose home is elsewhere than that of virtual4.
	other6 := virtual6
	for homeLoop(other6, 4) == homeLoop(virtual4, 4) {
		other6 = other6.Next()
	}
	spi6, err := h.backend.Reserve(other6)
	if err != nil {
		t.Fatal(err)
	}
	old := newPeer(t, h, func(c *dataplane.Child) {
		c.VirtualIPs = []netip.Addr{other6}
		c.Inbound.SPI = spi6
	})
	packet := down6
	packet.Dst = other6
	arrives := func(p *peer, step string) {
		t.Helper()
		for n := range uint16(8) { // into any queue
			if err := h.Inside.Send(packet.UDP(n, 1, nil)); err != nil {
				t.Fatal(err)
			}
			if inner, _ := p.arrival(); inner == nil {
				t.Errorf("%s: nothing came", step)
			}
		}
	}
	arrives(old, "before")
	both := newPeer(t, h, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{virtual4, other6} })
	if loopOf(both.child.Inbound.SPI) == loopOf(old.child.Inbound.SPI) {
		t.Fatal("they have one loop: the test shows nothing")
	}
	arrives(both, "with both")
	again, err := h.backend.Reserve(other6)
	if err != nil || loopOf(again) != loopOf(both.child.Inbound.SPI) {
		t.Errorf("the next child of the address is drawn from loop %d, %v", loopOf(again), err)
	}
	both.apply(dataplane.Remove{Inbound: old.child.Inbound.SPI})
	arrives(both, "without the old one")

	// The newer one goes first: the older ones get the address back, the newest of
	// them first.
	first := newPeer(t, h, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{virtual4, other6} })
	middle := newPeer(t, h, func(c *dataplane.Child) {
		c.VirtualIPs = []netip.Addr{other6}
		c.Inbound.SPI = reserveIn(t, h, loopOf(old.child.Inbound.SPI))
	})
	arrives(middle, "in the other loop")
	last := newPeer(t, h, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{virtual4, other6} })
	arrives(last, "and back")
	middle.apply(dataplane.Remove{Inbound: last.child.Inbound.SPI})
	arrives(first, "without the newest, its loop goes on")
	middle.apply(dataplane.UseOutbound{Inbound: middle.child.Inbound.SPI})
	arrives(middle, "told again")
	middle.apply(dataplane.Remove{Inbound: middle.child.Inbound.SPI})
	arrives(first, "without the newer one in another loop")
	first.apply(dataplane.Remove{Inbound: first.child.Inbound.SPI})
	arrives(both, "with the oldest alone")
	both.apply(dataplane.Remove{Inbound: both.child.Inbound.SPI})
	for _, l := range h.backend.loops {
		_ = l.do(func() {
			if len(l.newest) != 0 || len(l.aside) != 0 {
				t.Errorf("loop %d still has %d and %d children of addresses", l.sadb.loop, len(l.newest), len(l.aside))
			}
		})
	}
}

// reserveIn draws an SPI of one loop.
func reserveIn(t *testing.T, h *harness, loop uint8) (spi dataplane.SPI) {
	t.Helper()
	l, err := h.backend.loops[loop], error(nil)
	closed := l.do(func() { spi, err = l.reserve(l.now) })
	if err := errors.Join(closed, err); err != nil {
		t.Fatal(err)
	}
	return spi
}

// TestChangesOverLoops: one Apply for children of all loops; the limit counts all
// of them.
func TestChangesOverLoops(t *testing.T) {
	const children = 40
	h := newHarness(t, nil, func(c *Config) { withLoops(t, 4)(c); c.MaxChildren = children })
	template := newChild(t, h, netip.MustParseAddrPort("127.0.0.1:9"))
	var changes []dataplane.Change
	for i := range children - 1 {
		virtual := netip.AddrFrom4([4]byte{10, 9, 1, byte(i)})
		spi, err := h.backend.Reserve(virtual)
		if err != nil {
			t.Fatal(err)
		}
		c := template
		c.Inbound.SPI, c.VirtualIPs = spi, []netip.Addr{virtual}
		changes = append(changes, dataplane.Install{Child: c}, dataplane.UseOutbound{Inbound: spi}, dataplane.Move{Inbound: spi + 64})
	}
	if _, err := h.backend.Reserve(virtual4); !errors.Is(err, dataplane.ErrFull) {
		t.Errorf("one more than MaxChildren: %v", err)
	}
	for i, err := range h.backend.Apply(changes) {
		if want := i%3 == 2; errors.Is(err, dataplane.ErrUnknownSPI) != want || !want && err != nil {
			t.Errorf("change %d: %v", i, err)
		}
	}
	var seen []string
	for c := range h.backend.Counters {
		seen = append(seen, fmt.Sprint(c.Inbound))
	}
	if len(seen) != children-1 {
		t.Errorf("counters of %d children", len(seen))
	}
	var states []dataplane.ChildState
	if err := h.backend.Export(func(s dataplane.ChildState) bool { states = append(states, s); return true }); err != nil {
		t.Fatal(err)
	}
	heir := newHarness(t, nil, func(c *Config) { withLoops(t, 4)(c); c.Member = 1 })
	for i := range states {
		states[i].Child.Path.Local = heir.Encap
	}
	spoiled := states[len(states)-1]
	spoiled.Child.Inbound.SPI = makeSPI(0, 4, 100, 0) // a fifth loop
	if err := heir.backend.Import(append(states[:len(states)-1:len(states)-1], spoiled)); !errors.Is(err, dataplane.ErrInvalid) {
		t.Errorf("a child of a loop that isn't there: %v", err)
	}
	for c := range heir.backend.Counters {
		t.Errorf("%v is left of what was refused", c.Inbound)
	}
	if err := heir.backend.Import(states); err != nil {
		t.Error(err)
	}
}
