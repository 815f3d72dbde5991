package session

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/dataplane"
)

func newRing(t *testing.T) *ticket.Ring {
	t.Helper()
	keys, _, err := ticket.Keys(nil).Advance(time.Now(), ticket.Schedule{Period: time.Hour, Keep: 8 * time.Hour}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ticket.NewRing(keys)
}

// resumable is a gateway that gives tickets.
func resumable(t *testing.T, change ...func(*Config)) options {
	return options{days: 30, config: func(c *Config) {
		c.IKE.Tickets, c.IKE.RekeyWithin = true, 10*time.Minute
		c.Resumption = ResumptionConfig{Keys: newRing(t), Lifetime: 2 * time.Hour, Reauthenticate: 5 * time.Hour}
		for _, f := range change {
			f(c)
		}
	}}
}

// phone is the configuration of a device that asks for tickets.
func (w *world) phone(name string) *ike.Config {
	cfg := w.ca.ike(name, 30*24*time.Hour)
	cfg.Tickets = true
	return cfg
}

func (w *world) resume(cfg *ike.Config, by *ike.Ticket) *device {
	d := w.startBy(cfg, by)
	w.settled()
	return d
}

// results of tickets, those that are not zero.
func (w *world) wantTickets(want map[string]uint64) {
	w.t.Helper()
	for name, n := range w.server.Stats().Tickets {
		if n != want[name] {
			w.t.Errorf("tickets %s: %d, want %d", name, n, want[name])
		}
	}
}

func (w *world) update(change func(*Settings)) {
	w.t.Helper()
	s := *w.server.settings.Load()
	change(&s)
	if err := w.server.Update(s); err != nil {
		w.t.Fatal(err)
	}
	w.settled()
}

// A device comes back again and again by tickets, with one full handshake; the
// session before goes without a word, since the device has forgotten it; the address
// stays, the key exchange follows.
func TestResumeAgainAndAgain(t *testing.T) {
	run(t, resumable(t), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		w.want("the device", d.state(), "up")
		address, work := d.virtualIP(), w.server.Stats().Work
		for range 4 {
			d.vanish()
			w.later(time.Minute)
			d = w.resume(cfg, d.ticket)
			w.want("the device", d.state(), "up")
			w.want("its address", d.virtualIP(), address)
			w.want("sessions", len(w.server.Sessions()), 1)
			w.want("resumed", w.server.Sessions()[0].Resumed, true)
			w.want("how it signed at first", w.server.Sessions()[0].Auth, "ECDSA P-256 SIGNATURE")
			for kind, n := range w.server.Stats().Work {
				w.want("public-key work: "+kind, n, work[kind])
			}
		}
		w.wantTickets(map[string]uint64{"issued": 5, "resumed": 4})
		w.want("requests that were repeated", w.server.Stats().Notes[ike.NoteResent], uint64(0))
		w.want("closed as replaced", w.server.Stats().Closed[ike.CloseReplaced], uint64(4))
		for range 6 { // it is awake, so it is rekeyed
			d.order <- ike.Probe{}
			w.later(2 * time.Minute)
		}
		w.want("IKE SAs with a key exchange of their own", w.server.Stats().RekeyedIKE, uint64(1))
		d.order <- ike.RequestTicket{}
		w.settled()
		d.vanish()
		d = w.resume(cfg, d.ticket)
		w.want("by the ticket after rekeying", d.state(), "up")
	})
}

// Each ticket that is refused is refused for its own reason, and leaves nothing.
func TestRefusedTickets(t *testing.T) {
	for result, spoil := range map[string]func(w *world, k *ike.Ticket){
		"forged":      func(_ *world, k *ike.Ticket) { k.Opaque[len(k.Opaque)-1] ^= 1 },
		"unknown_key": func(_ *world, k *ike.Ticket) { k.Opaque[3] ^= 1 },
		"malformed":   func(_ *world, k *ike.Ticket) { k.Opaque = k.Opaque[:20] },
		"expired":     func(w *world, _ *ike.Ticket) { w.later(2 * time.Hour) },
		"disabled": func(w *world, _ *ike.Ticket) {
			w.update(func(s *Settings) { s.Resumption = ResumptionConfig{} })
		},
		"algorithms": func(w *world, _ *ike.Ticket) {
			w.update(func(s *Settings) {
				other := *s.IKE
				other.Suites = []ikecrypto.Suite{{Encryption: ikewire.EncrAESGCM16, KeyBits: 256, PRF: ikewire.PRFHMACSHA384, Group: ikewire.GroupECP384}}
				s.IKE = &other
			})
		},
		"not_admitted": func(w *world, _ *ike.Ticket) {
			w.update(func(s *Settings) { s.Admit = w.ca.policy("phone-1") })
		},
	} {
		t.Run(result, func(t *testing.T) {
			run(t, resumable(t), func(w *world) {
				cfg := w.phone("phone-1")
				d := w.connectWith(cfg)
				d.vanish()
				spoil(w, d.ticket)
				initiated := w.server.Stats().Initiated
				again := w.resume(cfg, d.ticket)
				w.want("the device", again.state(), "closed: ticket_refused")
				w.want("machines for it", w.server.Stats().Initiated, initiated)
				w.want("half-open", w.server.Stats().HalfOpen, 0)
				w.wantTickets(map[string]uint64{"issued": 1, result: 1})
			})
		})
	}
}

// A ticket is used up by who has proven to be its device, and by nobody else.
func TestTicketIsUsedOnce(t *testing.T) {
	run(t, resumable(t), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		d.vanish()
		first := d.ticket
		thief := *first
		thief.SKd = make([]byte, len(first.SKd))
		w.want("who has read the ticket on the wire", w.resume(w.phone("thief"), &thief).state(), "connecting")
		d = w.resume(cfg, first)
		w.want("its device", d.state(), "up")
		d.vanish()
		w.want("the same ticket again", w.resume(cfg, first).state(), "closed: ticket_refused")
		w.wantTickets(map[string]uint64{"issued": 2, "resumed": 1, "reused": 1})
		w.later(time.Minute)
		w.want("half-open", w.server.Stats().HalfOpen, 0)
	})
}

// Two devices, or a device and its clone, begin by the same ticket at the same
// time: one of them gets in.
func TestTicketIsUsedAtOnce(t *testing.T) {
	run(t, resumable(t), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		d.vanish()
		a, b := w.startBy(cfg, d.ticket), w.startBy(cfg, d.ticket)
		w.settled()
		states := map[string]int{a.state(): 1}
		states[b.state()]++
		w.want("up", states["up"], 1)
		w.want("refused, before its AUTH or by it", states["closed: ticket_refused"]+states["closed: peer_refused"], 1)
		w.want("reused", w.server.Stats().Tickets["reused"], uint64(1))
		w.later(time.Minute)
	})
}

// A device gives up while its IKE_AUTH is lost, and begins anew with its ticket: what
// was begun before is given up too, whatever shard its SPI would lead to.
func TestResumeBegunAnew(t *testing.T) {
	run(t, resumable(t, func(c *Config) { c.Shards = 4 }), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		d.vanish()
		address := w.next
		w.net.set(func() { w.net.lose = func(d dataplane.Datagram) bool { return d.Data[18] == 35 } })
		for range 3 {
			w.next = address
			w.want("the device", w.resume(cfg, d.ticket).state(), "connecting")
			w.want("half-open", w.server.Stats().HalfOpen, 1)
		}
		w.net.set(func() { w.net.lose = nil })
		w.next = address
		w.want("the device", w.resume(cfg, d.ticket).state(), "up")
		w.want("half-open", w.server.Stats().HalfOpen, 0)
		w.wantTickets(map[string]uint64{"issued": 2, "resumed": 1})
		for _, sh := range w.server.shards {
			if len(sh.shown) != 0 {
				t.Errorf("%d tickets are remembered", len(sh.shown))
			}
		}
	})
}

// Under a flood whoever resumes shows a cookie first, like everybody.
func TestResumeWithCookie(t *testing.T) {
	run(t, resumable(t, func(c *Config) { c.Gate.CookieAt = 0 }), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		d.vanish()
		before := w.server.Stats().Drops["cookie_required"]
		w.want("the device", w.resume(cfg, d.ticket).state(), "up")
		w.want("cookies asked for", w.server.Stats().Drops["cookie_required"]-before, uint64(1))
	})
}

// Resuming goes on for so long; then there is no ticket until the certificate
// was shown again.
func TestReauthentication(t *testing.T) {
	run(t, resumable(t), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		for range 3 {
			d.vanish()
			w.later(100*time.Minute - 10*time.Second)
			d = w.resume(cfg, d.ticket)
			w.want("the device", d.state(), "up")
		}
		if d.ticket != nil {
			t.Errorf("a ticket until %v, five hours after the certificate was shown", d.ticket.Expires)
		}
		w.wantTickets(map[string]uint64{"issued": 3, "resumed": 3, "not_issued": 1})
	})
}

// A session that was resumed is looked at again like others when the policy
// changes.
func TestResumedSessionIsRechecked(t *testing.T) {
	run(t, resumable(t), func(w *world) {
		cfg := w.phone("phone-1")
		d := w.connectWith(cfg)
		d.vanish()
		d = w.resume(cfg, d.ticket)
		w.update(func(s *Settings) { s.Admit = w.ca.policy("somebody-else") })
		w.want("when somebody else is barred", d.state(), "up")
		w.update(func(s *Settings) { s.Admit = w.ca.policy("phone-1") })
		w.want("when it is barred", d.state(), "closed: peer_deleted")
		w.want("refused as barred", w.server.Stats().Refused[admit.ReasonBarred.String()], uint64(1))
	})
}
