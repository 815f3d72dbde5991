//go:build ipsecmb && cgo

package userspace

import (
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// All tests of this build open and seal together, also where that isn't fast.
func init() { together = func() bool { return true } }

// TestTogether: a round's packets are one call, and one that comes alone is none.
func TestTogether(t *testing.T) {
	p := newPeer(t, newHarness(t, make(chan dataplane.Event, 16), nil), nil)
	l := p.backend.loops[0]
	most := func() (n int) {
		stopped(t, l, func() { n = cap(l.batcher.jobs) })
		return n
	}
	p.up(up4.UDP(1, 2, nil), 0)
	p.inside()
	if n := most(); n > 1 {
		t.Errorf("%d jobs for one packet", n)
	}
	stopped(t, l, func() {
		for range 40 {
			p.queue(up4.UDP(1, 2, nil), protoIPv4, 0)
		}
		p.flush()
	})
	for range 40 {
		p.inside()
	}
	if n := most(); n < 40 {
		t.Errorf("%d jobs for 40 packets", n)
	}
}

// TestKeysEnd: keys in the library's memory go with their children, and with the loop.
func TestKeysEnd(t *testing.T) {
	h := newHarness(t, make(chan dataplane.Event, 16), nil)
	p, stays := newPeer(t, h, nil), newPeer(t, h, nil)
	l := h.backend.loops[0]
	for _, p := range []*peer{p, stays} {
		stopped(t, l, func() {
			p.queue(up4.UDP(1, 2, nil), protoIPv4, 0)
			p.queue(up4.UDP(1, 2, nil), protoIPv4, 0)
			p.flush()
		})
		p.inside()
		p.inside()
	}
	key := func(p *peer) (k batchKey) {
		stopped(t, l, func() { k = *l.batchOpener(l.find(p.child.Inbound.SPI)) })
		return k
	}
	gone, left := key(p).key, key(stays).key
	p.apply(dataplane.Remove{Inbound: p.child.Inbound.SPI})
	stopped(t, l, func() {}) // a round later
	if gone.There() || !left.There() {
		t.Errorf("the removed child's key is there: %v; the other's: %v", gone.There(), left.There())
	}
	if err := h.backend.Close(); err != nil {
		t.Fatal(err)
	}
	if left.There() {
		t.Error("a key outlived its loop")
	}
}

// TestReplayTogether: of packets with one number in a round only the first counts,
// although all of them were opened.
func TestReplayTogether(t *testing.T) {
	p := newPeer(t, newHarness(t, make(chan dataplane.Event, 16), nil), nil)
	l := p.backend.loops[0]
	before := p.backend.Drops()
	stopped(t, l, func() {
		for range 3 {
			p.queue(up4.UDP(1, 2, nil), protoIPv4, 0)
			p.next--
		}
		p.flush()
	})
	p.inside()
	p.next++
	p.up(up4.UDP(3, 4, nil), 0)
	p.inside()
	after := p.backend.Drops()
	if n := after[dataplane.ReasonReplay] - before[dataplane.ReasonReplay]; n != 2 {
		t.Errorf("%d replays were dropped", n)
	}
}
