package session

import (
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
)

// After a reload IKE SAs that are up must go on giving crash tokens when they
// are rekeyed.
func TestReloadKeepsCrashTokens(t *testing.T) {
	run(t, options{config: func(c *Config) { c.CrashSecret = gate.Secret{1} }}, func(w *world) {
		w.connect("phone")
		var sh *shard
		for _, x := range w.server.shards {
			if len(x.sessions) > 0 {
				sh = x
			}
		}
		spy := &script{answer: closes}
		w.on(sh, func(time.Time) {
			for _, s := range sh.sessions {
				s.current.machine = spy
			}
		})
		w.update(func(s *Settings) {
			other := *s.IKE
			other.CrashToken = nil // as config.Build makes it
			s.IKE = &other
		})
		found := false
		for _, in := range spy.inputs {
			if r, ok := in.(ike.Reconfigure); ok {
				found = true
				if r.Config.CrashToken == nil {
					t.Error("the reload took the crash tokens from an IKE SA that is up")
				}
			}
		}
		if !found {
			t.Error("not reconfigured")
		}
	})
}

// A ticket that lost the race stays refused when a reload comes in between.
func TestReusedTicketAndReload(t *testing.T) {
	run(t, resumable(t), func(w *world) {
		w.connectWith(w.phone("phone-1"))
		var sh *shard
		for _, x := range w.server.shards {
			if len(x.sessions) > 0 {
				sh = x
			}
		}
		spy := &script{answer: closes}
		w.on(sh, func(now time.Time) {
			for _, s := range sh.sessions {
				// As readTicket leaves a session that came by a ticket, which another
				// used meanwhile.
				s.evidence, s.admitted = evidence{}, false
				s.standing.presented = &presented{serial: 7, expires: now.Add(time.Hour)}
				w.server.tickets.filter.Use(now, 7, now.Add(time.Hour))
				s.current.machine = spy
				sh.useTicket(now, s)
				next := *w.server.settings.Load() // a reload, before the shard reads its mail
				next.Admit = w.ca.policy()
				w.server.settings.Store(&next)
			}
		})
		w.later(time.Second)
		w.on(sh, func(time.Time) {
			refused := false
			for _, in := range spy.inputs {
				switch in.(type) {
				case ike.Admitted:
					t.Error("a used ticket was admitted")
				case ike.Refused:
					refused = true
				}
			}
			if !refused {
				t.Error("a used ticket was not refused")
			}
		})
		w.later(time.Second)
	})
}
