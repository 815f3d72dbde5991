package device

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// TestKeepalives go when nothing else does (RFC 3948 section 4).
func TestKeepalives(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		time.Sleep(61 * time.Second)
		if n := d.Counters().Keepalives; n != 3 {
			w.Errorf("%d keepalives in 61 s, want 3", n)
		}
		for range 6 {
			w.ping(d)
			time.Sleep(15 * time.Second)
		}
		if n := d.Counters().Keepalives; n != 3 {
			w.Errorf("%d keepalives with traffic, want 3 as before", n)
		}
	})
}

// TestSleep: nobody hears of a device that sleeps, and it goes on when it wakes.
func TestSleep(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		w.ping(d)
		_ = d.Sleep()
		before := d.Counters()
		w.plane.send(down(firstIP, 1))
		_ = d.Send(down(firstIP, 2))
		time.Sleep(8 * time.Hour)
		after := d.Counters()
		if after.Keepalives != before.Keepalives || after.IKESent != before.IKESent || after.Sent != before.Sent || after.Received != before.Received {
			w.Errorf("in its sleep it went from %+v to %+v", before, after)
		}
		if n := after.Drops[DropAsleep]; n != 2 {
			w.Errorf("%d packets dropped, want one each way", n)
		}
		_ = d.Wake()
		w.ping(d)
		if lost := d.Counters().Lost; lost != 1 {
			w.Errorf("lost %d, want the packet that it slept through", lost)
		}
		if i := d.Info(); i.State != Up || i.ChildSAs != 1 || i.Asleep {
			w.Errorf("after it woke: %+v", i)
		}
	})
}

// TestVanish: the gateway hears nothing, and asks in vain.
func TestVanish(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		d.Vanish()
		if i := d.Info(); i.State != Ended || i.Closed != nil {
			w.Errorf("vanished: %+v", i)
		}
		if n := w.gateway.sessions(); n != 1 {
			w.Errorf("the gateway has %d sessions, want the one that it can't know to be gone", n)
		}
		w.gateway.do(func() { w.gateway.step(w.gateway.machines[0], ike.Probe{}) })
		time.Sleep(2 * time.Minute)
		w.gateway.do(func() {
			if len(w.gateway.closed) != 1 || w.gateway.closed[0].Reason != ike.CloseTimeout {
				w.Errorf("the gateway closed %v, want a timeout", w.gateway.closed)
			}
		})
		if err := d.Probe(); !errors.Is(err, ErrGone) {
			w.Errorf("Probe: %v, want %v", err, ErrGone)
		}
	})
}

// TestRoam: MOBIKE moves the device, also in the middle of a rekeying whose
// answer went to the old network.
func TestRoam(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		w.ping(d)
		elsewhere := w.net.listener("10.3.0.7")
		if err := d.Roam(must(elsewhere())); err != nil {
			w.Fatal(err)
		}
		i := w.await(d, "move", func(i Info) bool { return i.Moves == 1 })
		if i.Local.Addr() != netip.MustParseAddr("10.3.0.7") {
			w.Errorf("moved: %+v", i)
		}
		time.Sleep(time.Second) // the gateway looks first whether the device is there
		w.ping(d)

		old := i.Local
		w.net.rule(func(_, to netip.AddrPort, _ []byte) bool { return to == old })
		if err := d.RekeyChild(); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		if err := d.Roam(must(elsewhere())); err != nil {
			w.Fatal(err)
		}
		i = w.await(d, "move and rekeying", func(i Info) bool { return i.Moves == 2 && i.ChildSAs == 2 && i.Children == 1 })
		time.Sleep(time.Second)
		w.ping(d)
		if i.IKESAs != 1 {
			w.Errorf("%d IKE SAs, want 1", i.IKESAs)
		}
	})
}

// TestRoamWithoutMOBIKE: nobody can be told, but the next packet tells.
func TestRoamWithoutMOBIKE(t *testing.T) {
	inWorld(t, func(g *gateway) { g.cfg.MOBIKE = false }, func(w *world) {
		d := w.connect(nil)
		if err := d.Roam(must(w.net.listener("10.3.0.7")())); !errors.Is(err, ErrNotMoved) {
			w.Fatalf("Roam: %v, want %v", err, ErrNotMoved)
		}
		_ = d.Send(down(lan, 1))
		synctest.Wait()
		w.ping(d)
		w.gateway.do(func() {
			if w.gateway.moved != 1 {
				w.Errorf("the gateway moved %d times, want 1", w.gateway.moved)
			}
		})
	})
}

// TestRemapPort: a NAT gives the device another port in mid-stream.
func TestRemapPort(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		w.ping(d)
		for range 3 {
			before := d.Info().Local
			if err := d.RemapPort(); err != nil {
				w.Fatal(err)
			}
			_ = d.Send(down(lan, 1)) // the packet that gives the hint
			synctest.Wait()
			w.ping(d)
			if now := d.Info().Local; now == before {
				w.Errorf("still at %v", now)
			}
		}
		w.gateway.do(func() {
			if w.gateway.moved != 3 || w.gateway.noted[ike.NoteHintReverted] != 0 {
				w.Errorf("the gateway moved %d times, want 3; notes %v", w.gateway.moved, w.gateway.noted)
			}
		})
	})
}

// TestLifetimes: Child SAs and IKE SAs are rekeyed by the device or by the
// gateway, whoever is first, for a day, and no packet is lost.
func TestLifetimes(t *testing.T) {
	inWorld(t, func(g *gateway) {
		g.cfg.ChildLife = ike.Lifetime{Rekey: 50 * time.Minute, Jitter: 10 * time.Minute, Hard: 2 * time.Hour}
		g.cfg.IKELife = ike.Lifetime{Rekey: 5 * time.Hour, Jitter: time.Hour, Hard: 8 * time.Hour}
	}, func(w *world) {
		d := w.connect(func(c *Config) {
			c.ChildLife = ike.Lifetime{Rekey: 50 * time.Minute, Jitter: 10 * time.Minute, Hard: 2 * time.Hour}
			c.IKELife = ike.Lifetime{Rekey: 5 * time.Hour, Jitter: time.Hour, Hard: 8 * time.Hour}
		})
		const pings = 24 * 6
		for range pings {
			w.ping(d)
			time.Sleep(10 * time.Minute)
		}
		i, c := d.Info(), d.Counters()
		if i.ChildSAs < 24 || i.IKESAs < 4 || i.Children != 1 {
			w.Errorf("after a day: %+v", i)
		}
		if c.Lost != 0 || c.Received != pings {
			w.Errorf("counters %+v, want %d received and none lost", c, pings)
		}
		if n := w.gateway.sessions(); n != 1 {
			w.Errorf("the gateway has %d machines, want 1", n)
		}
	})
}
