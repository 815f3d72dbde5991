package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// A peer that leaves packets unanswered is asked; one that answers stays for
// hours, one that doesn't is given up. ESP from a peer spares it the question.
func TestLiveness(t *testing.T) {
	run(t, options{}, func(w *world) {
		alive, gone, busy := w.connect("alive"), w.connect("gone"), w.connect("busy")
		gone.vanish()
		before := len(w.net.sentTo(busy.addr))
		for range 120 {
			for _, d := range []*device{alive, gone, busy} {
				w.net.said(d.virtualIP(), time.Now())
			}
			w.later(time.Second)
			w.net.heard(busy.virtualIP(), time.Now())
			w.later(29 * time.Second)
		}
		w.want("alive", alive.state(), "up")
		w.want("busy", busy.state(), "up")
		w.want("messages to the busy one", len(w.net.sentTo(busy.addr))-before, 0)
		if n := len(w.net.sentTo(alive.addr)); n < 25 || n > 60 {
			t.Errorf("%d messages in an hour to the one that never answers, by less than IKE", n)
		}
		w.want("given up", w.server.Stats().Closed[ike.CloseTimeout], uint64(1))
		w.want("sessions", len(w.server.Sessions()), 2)
		w.wantLog("reason=peer_timeout")
	})
}

// A device that sleeps, and to which nothing is sent, hears nothing for a day,
// although its SAs come of age; then its session is closed.
func TestSilentDeviceIsParked(t *testing.T) {
	run(t, options{days: 3, config: func(c *Config) {
		c.IKE.IKELife = ike.Lifetime{Rekey: 4 * time.Hour, Jitter: time.Hour, Hard: 48 * time.Hour}
		c.IKE.ChildLife = ike.Lifetime{Rekey: time.Hour, Jitter: time.Minute, Hard: 48 * time.Hour}
	}}, func(w *world) {
		d := w.connect("phone")
		d.vanish()
		before := len(w.net.sentTo(d.addr))
		w.later(23 * time.Hour)
		w.want("messages in 23 hours", len(w.net.sentTo(d.addr))-before, 0)
		w.want("sessions", len(w.server.Sessions()), 1)
		w.want("live leases", w.leases.Stats().Live, 1)
		w.later(time.Hour - time.Second)
		w.want("sessions before the limit", len(w.server.Sessions()), 1)
		w.later(time.Hour + time.Minute)
		w.want("sessions after the limit", len(w.server.Sessions()), 0)
		w.want("closed", w.server.Stats().Closed[ike.CloseIdle], uint64(1))
		w.want("live leases", w.leases.Stats().Live, 0)
		w.wantLog("reason=idle")
		w.wantEmpty()
	})
}

// What wakes for a moment starts the day anew, by ESP or by IKE.
func TestParkedDeviceReturns(t *testing.T) {
	run(t, options{days: 5}, func(w *world) {
		byESP, byIKE := w.connect("esp"), w.connect("ike")
		for range 4 {
			w.later(20 * time.Hour)
			w.net.heard(byESP.virtualIP(), time.Now())
			byIKE.order <- ike.Probe{}
			w.settled()
		}
		w.want("sessions", len(w.server.Sessions()), 2)
		w.later(26 * time.Hour)
		w.want("sessions", len(w.server.Sessions()), 0)
		w.want("closed", w.server.Stats().Closed[ike.CloseIdle], uint64(2))
	})
}

// A packet to a parked device that died long ago: it is asked and given up in
// minutes. One that still lives answers, and sleeps on.
func TestParkedDeviceIsAskedWhenItIsSentTo(t *testing.T) {
	run(t, options{}, func(w *world) {
		dead, asleep := w.connect("dead"), w.connect("asleep")
		dead.vanish()
		w.later(10 * time.Hour)
		before := len(w.net.sentTo(asleep.addr))
		w.net.said(dead.virtualIP(), time.Now())
		w.net.said(asleep.virtualIP(), time.Now())
		w.later(50 * time.Second)
		w.want("too early", len(w.net.sentTo(asleep.addr)), before)
		w.later(2 * time.Minute)
		w.want("given up", w.server.Stats().Closed[ike.CloseTimeout], uint64(1))
		w.want("asked", len(w.net.sentTo(asleep.addr)), before+1)
		w.later(10 * time.Hour)
		w.want("asked later", len(w.net.sentTo(asleep.addr)), before+1)
		w.want("asleep", asleep.state(), "up")
	})
}

// A device that asks something and falls asleep with the answer is left alone: the
// last packet went to it, and waits for nothing.
func TestAnswersAreNotUnanswered(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone", Inbound: 1})
		idle := w.server.settings.Load().Liveness.Idle
		w.later(time.Minute)
		asked := time.Now()
		w.later(answerTime)
		w.server.meter.fold([]dataplane.ChildCounters{{Inbound: 1, PacketsIn: 1, LastIn: asked, PacketsOut: 1, LastOut: time.Now()}})
		w.later(3 * idle)
		w.want("probes", m.probes(), 0)
		w.server.meter.fold([]dataplane.ChildCounters{{Inbound: 1, PacketsIn: 1, LastIn: asked, PacketsOut: 2, LastOut: time.Now()}})
		w.later(3 * idle)
		if m.probes() == 0 {
			t.Error("not asked although more was sent")
		}
	})
}

func TestNoLivenessChecksWithoutIdle(t *testing.T) {
	run(t, options{config: func(c *Config) { c.Liveness.Idle = 0 }}, func(w *world) {
		d := w.connect("phone")
		before := len(w.net.sentTo(d.addr))
		w.later(answerTime + time.Second)
		w.net.said(d.virtualIP(), time.Now())
		w.later(5 * time.Hour)
		w.want("messages", len(w.net.sentTo(d.addr)), before)
		settings := *w.server.settings.Load()
		settings.Liveness.Idle = time.Minute
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		w.later(2 * time.Minute)
		if len(w.net.sentTo(d.addr)) == before {
			t.Error("a reload did not start liveness checks")
		}
	})
}

// A session to which nothing is sent isn't looked at before its idle limit; one to
// which a packet was sent is until it has answered.
func TestParkedSessionsAreNotLookedAt(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone", Inbound: 1})
		look := func() (in time.Duration) {
			w.on(w.shardOf(m), func(now time.Time) { in = w.shardOf(m).machines[m.spi].session.lookAt.Sub(now) })
			return in
		}
		idle := w.server.settings.Load().Liveness.Idle
		w.later(answerTime + time.Second)
		if in := look(); in < 10*idle {
			t.Errorf("nothing was sent, looked at in %v", in)
		}
		w.server.meter.fold(sent([]*script{m}, time.Now()))
		w.settled()
		if in := look(); in <= 0 || in > 2*idle {
			t.Errorf("a packet was sent, looked at in %v", in)
		}
		w.later(time.Second)
		w.server.meter.fold([]dataplane.ChildCounters{{Inbound: 1, PacketsIn: 1, LastIn: time.Now()}})
		w.later(2 * idle)
		if in := look(); in < 10*idle {
			t.Errorf("it has answered, looked at in %v", in)
		}
		w.want("probes", m.probes(), 0)
		w.server.meter.fold([]dataplane.ChildCounters{{Inbound: 1, PacketsOut: 2, LastOut: time.Now()}})
		w.later(3 * idle)
		if m.probes() == 0 {
			t.Error("not asked although a packet went unanswered")
		}
	})
}

// A shorter idle limit holds for sessions that are up.
func TestReloadOfTheIdleLimit(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.connect("phone")
		w.later(3 * time.Hour)
		settings := *w.server.settings.Load()
		settings.Parking.Idle = 2 * time.Hour
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		w.later(time.Second)
		w.want("closed", w.server.Stats().Closed[ike.CloseIdle], uint64(1))
	})
}

// A fleet that falls silent at one moment, while packets go to it, is asked
// over a quarter of the period; one that sleeps is closed over an hour.
func TestFleetMakesNoBurst(t *testing.T) {
	const fleet = 200
	run(t, options{scripted: true, config: func(c *Config) { c.Liveness.Idle = 40 * time.Minute }}, func(w *world) {
		var all []*script
		for n := range fleet {
			m := w.open(byte(n + 1))
			w.up(m, ike.Summary{Device: fmt.Sprintf("device%d", n), Inbound: dataplane.SPI(n + 1)})
			all = append(all, m)
		}
		w.later(answerTime + time.Second)
		w.server.meter.fold(sent(all[:fleet/2], time.Now()))
		count := func(in func(*script) int, period time.Duration, parts int, machines []*script) (most, total int) {
			for range parts {
				w.later(period / time.Duration(parts))
				now := 0
				for _, m := range machines {
					now += in(m)
				}
				most, total = max(most, now-total), now
			}
			return most, total
		}
		w.later(40 * time.Minute)
		most, total := count((*script).probes, 10*time.Minute+30*time.Second, 21, all)
		w.want("asked", total, fleet/2)
		if most > fleet/8 {
			t.Errorf("%d of %d were asked in the same half minute of ten", most, total)
		}
		w.later(24*time.Hour - 51*time.Minute)
		most, total = count((*script).closings, 62*time.Minute, 31, all[fleet/2:])
		w.want("closed", total, fleet/2)
		if most > fleet/8 {
			t.Errorf("%d of %d were closed in the same two minutes of an hour", most, total)
		}
	})
}

// sent are counters after a packet to each.
func sent(machines []*script, now time.Time) (cs []dataplane.ChildCounters) {
	for n := range machines {
		cs = append(cs, dataplane.ChildCounters{Inbound: dataplane.SPI(n + 1), PacketsOut: 1, LastOut: now})
	}
	return cs
}

func (m *script) probes() int {
	return m.saw(func(in ike.Input) bool { _, is := in.(ike.Probe); return is })
}

func (m *script) closings() int {
	return m.saw(func(in ike.Input) bool { c, is := in.(ike.Close); return is && c.Reason == ike.CloseIdle })
}

func (m *script) saw(is func(ike.Input) bool) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.inputs {
		if is(in) {
			n++
		}
	}
	return n
}

// A message counts as a sign of life if the machine finds no fault with it.
func TestSignsOfLife(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		honest, forged := w.open(1), w.open(2)
		w.up(honest, ike.Summary{Device: "honest", Inbound: 1})
		w.up(forged, ike.Summary{Device: "forged", Inbound: 2})
		forged.set(func() {
			forged.answer = func(in ike.Input) []ike.Output {
				if _, ok := in.(ike.Message); ok {
					return []ike.Output{ike.Noted{Note: ike.NoteIntegrity}}
				}
				return closes(in)
			}
		})
		for range 20 {
			w.server.meter.fold(sent([]*script{honest, forged}, time.Now()))
			w.later(10 * time.Second)
			w.net.send(informational(honest.spi))
			w.net.send(informational(forged.spi))
		}
		w.settled()
		w.want("probes of the honest one", honest.probes(), 0)
		if n := forged.probes(); n < 2 || n > 3 {
			t.Errorf("%d probes of the forged one", n)
		}
		w.want("notes", w.server.Stats().Notes[ike.NoteIntegrity], uint64(20))
	})
}
