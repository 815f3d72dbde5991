package session

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// A device connects, is listed, and goes by itself.
func TestDeviceConnectsAndLeaves(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connect("phone")
		w.want("device", d.state(), "up")
		w.net.heard(d.virtualIP(), time.Now())
		sessions := w.server.Sessions()
		if len(sessions) != 1 {
			t.Fatalf("%d sessions", len(sessions))
		}
		i := sessions[0]
		w.want("name", i.Device, "phone")
		w.want("group", i.Group, "field")
		w.want("virtual IP", i.VirtualIPs[0], d.virtualIP())
		w.want("established", i.Established, time.Now())
		w.want("bytes in", i.BytesIn, uint64(100))
		w.want("packets in", i.PacketsIn, uint64(1))
		w.want("last in", i.LastIn.Equal(time.Now()), true)
		w.want("SPI", uint64(i.ID), i.ResponderSPI)
		st := w.server.Stats()
		w.want("established", st.Established, 1)
		w.want("half-open", st.HalfOpen, 0)
		w.want("initiated", st.Initiated, uint64(1))
		w.want("handshakes", st.Handshake.Counts[0], uint64(1))
		w.want("live leases", w.leases.Stats().Live, 1)
		w.wantLog(`msg="session established" device=phone`)

		d.order <- ike.Close{Reason: ike.CloseKilled}
		w.settled()
		st = w.server.Stats()
		w.want("closed by the peer", st.Closed[ike.ClosePeerDeleted], uint64(1))
		w.want("established", st.Established, 0)
		w.want("live leases", w.leases.Stats().Live, 0)
		w.wantEmpty()
		w.wantLog(`msg="session closed" device=phone`, "reason=peer_deleted")
		w.later(time.Minute)
		w.want("lingering", w.server.Stats().HalfOpen, 0)
	})
}

// Whichever message of the handshake is lost, or sent twice, the device comes
// up, and the gateway makes one machine for it.
func TestHandshakeSurvivesLoss(t *testing.T) {
	for lost := range 4 {
		run(t, options{}, func(w *world) {
			n := 0
			w.net.lose = func(dataplane.Datagram) bool { n++; return n == lost+1 }
			d := w.start(w.ca.ike("phone", time.Hour))
			w.later(5 * time.Second)
			w.want("device", d.state(), "up")
			w.want("machines", w.server.Stats().Initiated, uint64(1))
			w.want("sessions", len(w.server.Sessions()), 1)
			answered := uint64(lost % 2) // the answer was lost, not the request
			w.want("retransmissions answered", w.server.Stats().Notes[ike.NoteRetransmission], answered)
		})
	}
}

// A second login of a device gets the same address and ends the first one,
// whatever shards they are on.
func TestSecondLoginReplacesTheFirst(t *testing.T) {
	run(t, options{}, func(w *world) {
		before := w.connect("phone")
		for range 10 {
			d := w.connect("phone")
			w.want("second login", d.state(), "up")
			w.want("first login", before.state(), "closed: "+string(ike.ClosePeerDeleted))
			w.want("address", d.virtualIP(), before.virtualIP())
			w.want("sessions", len(w.server.Sessions()), 1)
			if r, i := w.net.state(); r != 0 || i != 1 {
				t.Errorf("%d SPIs reserved, %d installed", r, i)
			}
			before = d
		}
		w.want("replaced", w.server.Stats().Closed[ike.CloseReplaced], uint64(10))
		w.want("live leases", w.leases.Stats().Live, 1)
		w.want("seats", w.server.seats.Load(), int64(1))
	})
}

// The first login is silent: the new one doesn't wait for it.
func TestSecondLoginReplacesAVanishedOne(t *testing.T) {
	run(t, options{}, func(w *world) {
		old := w.connect("phone")
		old.vanish()
		d := w.connect("phone")
		w.want("second login", d.state(), "up")
		if _, installed := w.net.state(); installed != 1 {
			t.Errorf("%d Child SAs installed", installed)
		}
		w.later(time.Minute)
		w.want("replaced", w.server.Stats().Closed[ike.CloseReplaced], uint64(1))
		w.want("second login", d.state(), "up")
		w.want("live leases", w.leases.Stats().Live, 1)
	})
}

// A second login that fails after it was given the lease: the first one, which
// uses the address, is closed, and only then the lease ends.
func TestFailedLoginKeepsTheAddressUntilItIsUnused(t *testing.T) {
	run(t, options{}, func(w *world) {
		first := w.connect("phone")
		w.net.set(func() {
			w.net.applyErr = dataplane.ErrInvalid
			w.net.onRemove = func(netip.Addr) {
				if w.leases.Stats().Live != 1 {
					t.Error("the lease ended before the Child SA was removed")
				}
			}
		})
		second := w.connect("phone")
		w.want("second login", second.state(), "closed: "+string(ike.ClosePeerRefused))
		w.want("first login", first.state(), "closed: "+string(ike.ClosePeerDeleted))
		w.want("live leases", w.leases.Stats().Live, 0)
		w.wantEmpty()
	})
}

func TestReservationFails(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.net.fullErr = dataplane.ErrFull
		d := w.connect("phone")
		if d.state() == "up" {
			t.Error("up without an SPI")
		}
		w.later(time.Minute)
		w.want("no Child SA", w.server.Stats().Closed[ike.CloseNoChild], uint64(1))
		w.want("live leases", w.leases.Stats().Live, 0)
	})
}

func TestKill(t *testing.T) {
	run(t, options{}, func(w *world) {
		one, two := w.connect("one"), w.connect("two")
		w.want("killed", w.server.Kill(func(i Info) bool { return i.Device == "one" }), 1)
		w.settled()
		w.want("one", one.state(), "closed: "+string(ike.ClosePeerDeleted))
		w.want("two", two.state(), "up")
		w.want("closed", w.server.Stats().Closed[ike.CloseKilled], uint64(1))
		w.want("killed again", w.server.Kill(func(i Info) bool { return i.Device == "one" }), 0)
	})
}

// At the end every peer is told; one that doesn't answer holds nobody up for
// more than three seconds.
func TestShutdown(t *testing.T) {
	run(t, options{}, func(w *world) {
		polite, gone := w.connect("polite"), w.connect("gone")
		gone.vanish()
		begin := time.Now()
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		w.want("took", time.Since(begin), shutdownGrace)
		w.want("polite", polite.state(), "closed: "+string(ike.ClosePeerDeleted))
		w.want("closed", w.server.Stats().Closed[ike.CloseShutdown], uint64(2))
		w.want("sessions", len(w.server.Sessions()), 0)
		w.settled()
		w.want("live leases", w.leases.Stats().Live, 0)
		w.wantEmpty()
	})
}

func TestShutdownIsImmediateWhenAllAnswer(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.connect("phone")
		begin := time.Now()
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		w.want("took", time.Since(begin), time.Duration(0))
	})
}

func TestTransportThatClosesEndsRun(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.connect("phone")
		_ = w.net.Close()
		w.later(time.Minute)
		if err := w.stop(); !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		w.stop = func() error { return nil }
	})
}

// Addresses run out: that is an answer, and nobody loses his.
func TestAddressesExhausted(t *testing.T) {
	run(t, options{pools: []string{"10.9.0.0/30"}}, func(w *world) {
		one, two := w.connect("one"), w.connect("two")
		three := w.connect("three")
		if three.state() == "up" || one.state() != "up" || two.state() != "up" {
			t.Errorf("%s, %s, %s", one.state(), two.state(), three.state())
		}
		w.settled()
		w.want("no address", w.server.Stats().Closed[ike.CloseNoAddress], uint64(1))
		one.order <- ike.Close{Reason: ike.CloseKilled}
		w.settled()
		w.want("three, later", w.connect("three").state(), "up")
	})
}

// MaxSessions holds for devices; one that comes back isn't another.
func TestMaxSessions(t *testing.T) {
	run(t, options{config: func(c *Config) { c.MaxSessions = 2 }}, func(w *world) {
		w.connect("one")
		w.connect("two")
		if d := w.connect("three"); d.state() == "up" {
			t.Error("a third session")
		}
		w.want("turned away", w.server.Stats().Drops[ReasonSessionsFull.String()], uint64(1))
		w.want("two again", w.connect("two").state(), "up")
		w.want("sessions", len(w.server.Sessions()), 2)
		w.want("live leases", w.leases.Stats().Live, 2)
	})
}

func TestCookieUnderLoad(t *testing.T) {
	run(t, options{config: func(c *Config) { c.Gate.CookieAt = 0 }}, func(w *world) {
		d := w.connect("phone")
		w.want("device", d.state(), "up")
		w.want("cookies", w.server.Stats().Drops[gate.ReasonCookieRequired.String()], uint64(1))
		w.want("machines", w.server.Stats().Initiated, uint64(1))
	})
}

// A request that is repeated, because its answer was lost and load came up
// meanwhile, is answered by the machine that it has: asked for a cookie its sender
// would go on with another request, and sign that.
func TestNoCookieForARetransmission(t *testing.T) {
	run(t, options{}, func(w *world) {
		n := 0
		w.net.lose = func(dataplane.Datagram) bool { n++; return n == 2 }
		d := w.start(w.ca.ike("phone", time.Hour))
		w.settled()
		settings := *w.server.settings.Load()
		settings.Gate.CookieAt = 0
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		w.later(5 * time.Second)
		w.want("device", d.state(), "up")
		w.later(time.Minute)
		w.want("half-open", w.server.Stats().HalfOpen, 0)
		w.want("cookies", w.server.Stats().Drops[gate.ReasonCookieRequired.String()], uint64(0))
		w.want("machines", w.server.Stats().Initiated, uint64(1))
	})
}

// Here its sender was asked, and the load is over when a copy arrives; soon comes
// another message, with the cookie. One machine answers both, and AUTH is for the
// second.
func TestCopyBehindARequestForACookie(t *testing.T) {
	run(t, options{config: func(c *Config) { c.Gate.CookieAtPrefix = 0 }}, func(w *world) {
		var seen []dataplane.Datagram
		pass := 1
		w.net.lose = func(d dataplane.Datagram) bool {
			seen, pass = append(seen, d), pass-1
			return pass < 0
		}
		d := w.start(w.ca.ike("phone", time.Hour))
		w.settled()
		settings := *w.server.settings.Load()
		settings.Gate.CookieAtPrefix = 100
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		w.net.set(func() { pass = 1 })
		w.net.send(seen[0])
		w.settled()
		w.want("machines", w.server.Stats().Initiated, uint64(1))
		asked := seen[1]
		asked.Local, asked.Remote = asked.Remote, asked.Local
		w.net.set(func() { pass = 100 })
		w.net.hosts[asked.Local.Addr()] <- asked
		w.later(time.Second)
		w.want("device", d.state(), "up")
		w.want("cookies", w.server.Stats().Drops[gate.ReasonCookieRequired.String()], uint64(1))
		w.want("machines", w.server.Stats().Initiated, uint64(1))
	})
}

// Old algorithms are counted by name, and named once for each session.
func TestLegacyAlgorithmsAreNamed(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		w.up(w.open(1), ike.Summary{Device: "old", Inbound: 1, Legacy: []string{"MODP_1024", "SHA1"}})
		w.up(w.open(2), ike.Summary{Device: "older", Inbound: 2, Legacy: []string{"SHA1"}})
		w.up(w.open(3), ike.Summary{Device: "new", Inbound: 3})
		st := w.server.Stats()
		w.want("SHA1", st.Legacy["SHA1"], uint64(2))
		w.want("MODP_1024", st.Legacy["MODP_1024"], uint64(1))
		w.want("names", len(st.Legacy), 2)
		w.want("log lines", countLog(w, "level=WARN"), 2)
		w.wantLog(`msg="session uses legacy algorithms" device=old legacy="[MODP_1024 SHA1]"`)
	})
}
