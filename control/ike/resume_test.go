package ike

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// ticket is the owner's answer of the gateway; what it opens is in w.tickets.
func (w *world) ticket(o AskTicket) Ticketed {
	if w.noTickets {
		return Ticketed{ID: o.ID}
	}
	w.tickets = append(w.tickets, o.Resumption)
	return Ticketed{ID: o.ID, Opaque: fmt.Appendf(nil, "ticket %d", len(w.tickets)), Lifetime: 8 * time.Hour}
}

// vanish leaves both sides with nothing but what they keep: the device its
// ticket, the gateway its keys.
func (w *world) vanish() {
	w.say("    both forget everything")
	ini := *w.dev.m.ini
	ini.Ticket = w.received
	w.dev.m, w.dev.older, w.dev.changes, w.dev.done = NewInitiator(&ini, 0x33), nil, nil, false
	r := w.tickets[len(w.tickets)-1]
	r.SKd = clone(r.SKd)
	w.gw.m, w.gw.older, w.gw.changes, w.gw.done = NewResumer(w.gw.m.cfg, 0x33, 0x44, &r), nil, nil, false
}

// answerFor makes an unprotected answer of the gateway to the first message.
func (w *world) answerFor(t ikewire.NotifyType, data []byte) Message {
	raw, err := (&ikewire.Message{
		Header:   ikewire.Header{InitiatorSPI: 0x33, Version: ikewire.Version2, Exchange: ikewire.IKESessionResume, Flags: ikewire.FlagResponse},
		Payloads: []ikewire.Payload{notify(t, data)},
	}).Append(nil)
	must(err)
	w.say("gw  -> %s", w.describe(w.gw, w.gw.m, raw))
	return Message{Data: raw, Local: netip.AddrPortFrom(devAddr, 500), Remote: netip.AddrPortFrom(gwAddr, 500)}
}

func tickets(c *Config) { c.Tickets, c.MOBIKE, c.RekeyWithin = true, true, 10*time.Minute }

// noWork fails at each computation that has to be done elsewhere, which all
// those by public keys are.
func (w *world) noWork() {
	w.check = func(s *side, o Output) {
		if o, ok := o.(Work); ok {
			w.t.Errorf("%s: %q while a session is resumed", s.name, o.Name)
		}
	}
}

// Each scenario begins with a full handshake in which the device gets a ticket;
// transcripts are in testdata.
var resumptions = map[string]func(w *world){
	"resume": func(w *world) {
		w.vanish()
		w.noWork()
		w.connect()
	},
	"resume_then_rekey": func(w *world) {
		w.vanish()
		w.connect()
		// New keys by a key exchange come soon, and with them another ticket.
		w.pass(11 * time.Minute)
		w.step(w.dev, RequestTicket{})
		w.deliver()
	},
	"resume_loss_request":  func(w *world) { w.losing(1) },
	"resume_loss_response": func(w *world) { w.losing(2) },
	"resume_loss_auth":     func(w *world) { w.losing(4) },
	"resume_cookie": func(w *world) {
		w.vanish()
		w.noWork()
		w.step(w.dev, Tick{})
		w.wire = nil
		w.step(w.dev, w.answerFor(ikewire.NotifyCookie, []byte("prove it")))
		w.deliver()
	},
	"resume_nack": func(w *world) {
		w.vanish()
		w.step(w.dev, Tick{})
		w.wire = nil
		w.step(w.dev, w.answerFor(ikewire.NotifyTicketNACK, nil))
	},
	"resume_redirected": func(w *world) {
		w.gw.m.cfg.RedirectTo = "gw2.example"
		w.vanish()
		w.connect()
	},
	"resume_not_admitted": func(w *world) {
		w.gw.admit = func(AskAdmit) Input { return Refused{Reason: "barred"} }
		w.vanish()
		w.connect()
		w.pass(time.Minute)
	},
	// Who has the ticket alone can't say anything that is understood.
	"resume_stolen_ticket": func(w *world) {
		w.received.SKd[0] ^= 1
		w.vanish()
		w.connect()
		w.pass(2 * time.Minute)
	},
	"resume_other_identity": func(w *world) {
		w.received.OwnID = &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte("other")}
		w.vanish()
		w.connect()
		w.pass(time.Minute)
	},
	// The device expects another gateway behind the ticket.
	"resume_other_gateway": func(w *world) {
		w.received.PeerID = &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte("gw3.example")}
		w.vanish()
		w.connect()
		w.pass(3 * time.Minute)
	},
	"ticket_refused": func(w *world) {
		w.noTickets = true
		w.step(w.dev, RequestTicket{})
		w.deliver()
	},
}

func (w *world) losing(n int) {
	w.vanish()
	w.noWork()
	w.drop[w.sent+n] = true
	w.connect()
	w.pass(time.Minute)
}

func TestResumptions(t *testing.T) {
	for name, run := range resumptions {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{dev: tickets, gw: tickets})
			w.connect()
			if w.received == nil {
				t.Fatalf("no ticket\n%s", w.log.String())
			}
			run(w)
			w.golden(name)
			w.checkKeys()
		})
	}
}

// A resumed IKE SA has other keys each time, although all of them come from the
// same ticket.
func TestResumedKeysAreFresh(t *testing.T) {
	w := newWorld(t, options{dev: tickets, gw: tickets})
	w.connect()
	seen := map[string]bool{string(w.dev.m.skD): true}
	first, opened := *w.received, w.tickets[0]
	for range 5 {
		again := first
		again.SKd = clone(first.SKd)
		w.received, w.tickets = &again, []Resumption{opened}
		w.vanish()
		w.connect()
		if seen[string(w.dev.m.skD)] || string(w.dev.m.skD) != string(w.gw.m.skD) {
			t.Fatal("keys that were there before, or that differ")
		}
		seen[string(w.dev.m.skD)] = true
	}
}

// Secrets have an end: what a machine was given to resume from is erased, come
// what may.
func TestResumptionIsErased(t *testing.T) {
	for name, run := range map[string]func(w *world){
		"resumed":   func(w *world) { w.connect() },
		"given up":  func(w *world) { w.step(w.gw, Close{Reason: CloseKilled}); w.step(w.dev, Close{Reason: CloseKilled}) },
		"malformed": func(w *world) { w.step(w.gw, Message{Data: []byte("no IKE")}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{dev: tickets, gw: tickets})
			w.connect()
			w.vanish()
			secret := w.gw.m.handshake.resume.SKd
			run(w)
			for _, b := range secret {
				if b != 0 {
					t.Fatal("SK_d of the session before is still in memory")
				}
			}
			for _, b := range w.received.SKd {
				if b != 0 {
					return
				}
			}
			t.Error("the device's own ticket was erased")
		})
	}
}

// FuzzResume throws octets at a machine that waits for IKE_SESSION_RESUME.
func FuzzResume(f *testing.F) {
	w := newWorld(&testing.T{}, options{dev: tickets, gw: tickets})
	w.connect()
	w.vanish()
	w.step(w.dev, Tick{})
	f.Add(w.wire[0].data.Data)
	cfg, opened := w.gw.m.cfg, w.tickets[0]
	f.Fuzz(func(t *testing.T, data []byte) {
		r := opened
		r.SKd = clone(r.SKd)
		m := NewResumer(cfg, 0x33, 0x44, &r)
		sent := 0
		for _, o := range m.Step(time.Unix(1, 0), Message{
			Data: data, Local: netip.AddrPortFrom(gwAddr, 500), Remote: netip.AddrPortFrom(devAddr, 500),
		}) {
			switch o.(type) {
			case Send:
				sent++
			case Established, AskAdmit, Apply:
				t.Errorf("%T before the peer has proven anything", o)
			}
		}
		if sent > 1 {
			t.Errorf("%d answers to one datagram", sent)
		}
	})
}
