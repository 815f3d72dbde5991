package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

func (w *world) reload(p *admit.Policy) {
	w.t.Helper()
	settings := *w.server.settings.Load()
	settings.Admit = p
	if err := w.server.Update(settings); err != nil {
		w.t.Fatal(err)
	}
}

// The peer learns nothing but that it failed; log and metrics have the reason.
func TestRefusedDevice(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.reload(w.ca.policy("stolen"))
		d := w.connect("stolen")
		w.want("device", d.state(), "closed: "+string(ike.ClosePeerRefused))
		w.want("detail", d.closed.Detail, "AUTHENTICATION_FAILED")
		st := w.server.Stats()
		w.want("refused", st.Refused[admit.ReasonBarred.String()], uint64(1))
		w.want("closed", st.Closed[ike.CloseRefused], uint64(1))
		w.want("leases", w.leases.Stats().Assigned, 0)
		w.wantLog(`msg="session refused"`, "refused: barred")
		w.later(time.Minute)
		w.want("half-open", w.server.Stats().HalfOpen, 0)
	})
}

// A reload that bars a device ends its session, and no other.
func TestReloadEndsWhoIsNoLongerAdmitted(t *testing.T) {
	run(t, options{}, func(w *world) {
		stolen, kept := w.connect("stolen"), w.connect("kept")
		w.reload(w.ca.policy("stolen"))
		w.settled()
		w.want("stolen", stolen.state(), "closed: "+string(ike.ClosePeerDeleted))
		w.want("kept", kept.state(), "up")
		w.want("refused", w.server.Stats().Refused[admit.ReasonBarred.String()], uint64(1))
		w.wantLog(`msg="session no longer admitted" device=stolen`)
	})
}

// A decision that was under way when the policy changed is made again.
func TestReloadDuringAdmission(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		old := w.server.settings.Load().Admit
		sh := w.shardOf(m)
		w.on(sh, func(time.Time) { sh.machines[m.spi].session.evidence = evidence{given: true} })
		w.reload(w.ca.policy("stolen"))
		sh.mail.put(decided{id: lease.SessionID(m.spi), policy: old})
		w.settled()
		w.want("asked again", w.server.Stats().Refused[admit.ReasonNoCertificate.String()], uint64(1))
		if _, ok := m.last().(ike.Refused); !ok {
			t.Errorf("the machine was told %T", m.last())
		}
	})
}

// A session does not outlive its certificate.
func TestAdmissionExpires(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connectWith(w.ca.ike("phone", 2*time.Hour))
		w.later(2*time.Hour - 2*time.Second)
		w.want("before", d.state(), "up")
		w.later(3 * time.Second)
		w.want("after", d.state(), "closed: "+string(ike.ClosePeerDeleted))
		w.want("expired", w.server.Stats().Closed[ike.CloseExpired], uint64(1))
	})
}

// A reload with many sessions looks at a few of them at a time, so that logins
// don't wait for all; every one is looked at in the end.
func TestReloadDecidesAFewAtATime(t *testing.T) {
	const sessions = 200
	run(t, options{scripted: true, config: func(c *Config) { c.Workers = 1 }}, func(w *world) {
		for n := range sessions {
			m := w.open(byte(n + 1))
			w.up(m, ike.Summary{Device: fmt.Sprintf("device%d", n), Inbound: dataplane.SPI(n + 1)})
			sh := w.shardOf(m)
			w.on(sh, func(time.Time) {
				s := sh.machines[m.spi].session
				s.admitted, s.evidence = true, evidence{given: true}
			})
		}
		w.want("sessions", len(w.server.Sessions()), sessions)
		release := make(chan struct{})
		w.server.work.put(classHandshake, func() { <-release }) // the only worker
		w.settled()
		w.reload(w.ca.policy("stolen"))
		w.reload(w.ca.policy("stolen", "lost"))
		w.settled()
		if n := w.server.work.len(); n == 0 || n > maxRechecks {
			t.Errorf("%d decisions wait", n)
		}
		close(release)
		w.settled()
		w.want("sessions", len(w.server.Sessions()), 0)
		w.want("revoked", w.server.Stats().Closed[ike.CloseRevoked], uint64(sessions))
		for _, sh := range w.server.shards {
			w.on(sh, func(time.Time) { w.want("under way", sh.rechecking, 0) })
		}
	})
}

// A population behind one address leaves and comes back: those that left
// linger, and take none of the strangers' room.
func TestThoseWhoLeftTakeNoRoomOfStrangers(t *testing.T) {
	run(t, options{config: func(c *Config) {
		c.Gate.MaxHalfOpen, c.Gate.CookieAt, c.Gate.MaxHalfOpenPrefix, c.Gate.CookieAtPrefix = 3, 2, 3, 2
	}}, func(w *world) {
		for i := range 6 {
			d := w.connect(fmt.Sprintf("device%d", i))
			w.want("state", d.state(), "up")
			w.server.Kill(func(Info) bool { return true })
			w.settled()
		}
		w.want("half-open", w.server.Stats().HalfOpen, 0)
		w.want("lingering", w.machines(), 6)
		w.later(16 * time.Second)
		w.want("lingering", w.machines(), 0)
		for _, sh := range w.server.shards {
			w.on(sh, func(time.Time) { w.want("parted", sh.parted, 0) })
		}
	})
}
