package ike

import (
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// removed says whether a side took an SPI out of the data plane.
func removed(s *side, spi dataplane.SPI) bool {
	for _, c := range s.changes {
		if r, ok := c.(dataplane.Remove); ok && r.Inbound == spi {
			return true
		}
	}
	return false
}

// The old inbound SA outlives the peer's consent by a second, and no more: what
// the peer had sent before is still taken.
func TestOldChildDeparts(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	w.step(w.gw, Rekey{Inbound: 0xa001})
	w.deliver()
	if removed(w.gw, 0xa001) || !removed(w.dev, 0xd001) {
		t.Errorf("when both have agreed: the gateway removed its side %t, the device %t; want false, true",
			removed(w.gw, 0xa001), removed(w.dev, 0xd001))
	}
	w.pass(passage + time.Millisecond)
	if !removed(w.gw, 0xa001) || len(w.gw.m.departing) != 0 {
		t.Error("the old SA is still there a second later")
	}
	w.settled()
}

// Where the IKE SA ends, or is rekeyed, in that second, nothing is left behind.
func TestDepartingLeavesWithItsIKESA(t *testing.T) {
	for name, run := range map[string]func(w *world){
		"closed":          func(w *world) { w.step(w.gw, Close{Reason: CloseShutdown}); w.deliver() },
		"deleted by peer": func(w *world) { w.step(w.dev, Close{Reason: CloseShutdown}); w.deliver() },
		"rekeyed": func(w *world) {
			w.step(w.gw, Rekey{})
			w.deliver()
			w.pass(2 * passage)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{})
			w.connect()
			w.step(w.gw, Rekey{Inbound: 0xa001})
			w.deliver()
			w.pass(passage / 2)
			run(w)
			if !removed(w.gw, 0xa001) {
				t.Error("the old SA is left in the data plane")
			}
			w.settled()
		})
	}
}
