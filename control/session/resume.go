package session

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/dataplane"
)

// Session resumption (RFC 5723): tickets are made and opened here, between the
// gate and a machine. A ticket that is refused leaves no state; its sender is
// told TICKET_NACK and connects in full.

// ResumptionConfig is about session resumption. ike.Config.Tickets has to go
// with it.
type ResumptionConfig struct {
	// Keys of tickets; nil refuses every ticket and makes none.
	Keys *ticket.Ring
	// Lifetime of a ticket.
	Lifetime time.Duration
	// Reauthenticate is how long after its last full handshake a device can
	// resume; 0 means as long as its certificate lasts.
	Reauthenticate time.Duration
}

// maxUsedTickets that are remembered: those of some 30,000 devices that come
// back once an hour for 8 hours, in 5 MB.
const maxUsedTickets = 1 << 18

// minTicketLife is what is worth a ticket.
const minTicketLife = time.Minute

// TicketResult says what became of a ticket. The names label metrics.
type TicketResult uint8

// Results. Those from TicketMalformed on are refusals.
const (
	TicketIssued       TicketResult = iota
	TicketNotIssued                 // asked for, but there is no key or no time left
	TicketResumed                   // brought a session back
	TicketUnremembered              // one of these that the full filter will not know again
	TicketMalformed                 // no ticket in the message, or none of ours
	TicketDisabled                  // resumption is off
	TicketUnknownKey                // of another gateway, or too old
	TicketForged
	TicketExpired
	TicketReused
	TicketAlgorithms  // of an IKE SA that would not be agreed on any more
	TicketNotAdmitted // the device would not be admitted any more; see Refused for why

	NumTicketResults int = iota
)

var ticketResultNames = [NumTicketResults]string{
	TicketIssued: "issued", TicketNotIssued: "not_issued", TicketResumed: "resumed", TicketUnremembered: "unremembered",
	TicketMalformed: "malformed", TicketDisabled: "disabled", TicketUnknownKey: "unknown_key", TicketForged: "forged",
	TicketExpired: "expired", TicketReused: "reused", TicketAlgorithms: "algorithms", TicketNotAdmitted: "not_admitted",
}

// String is the name in metrics and tables.
func (r TicketResult) String() string {
	if int(r) < NumTicketResults {
		return ticketResultNames[r]
	}
	return "unknown"
}

// tickets is what a server has of them.
type tickets struct {
	filter  *ticket.Filter
	results [NumTicketResults]atomic.Uint64
}

func newTickets() *tickets { return &tickets{filter: ticket.NewFilter(maxUsedTickets)} }

func (t *tickets) count(r TicketResult) { t.results[r].Add(1) }

// counts by name; all names are there.
func (t *tickets) counts() map[string]uint64 {
	out := make(map[string]uint64, NumTicketResults)
	for r := range TicketResult(NumTicketResults) {
		out[r.String()] = t.results[r].Load()
	}
	return out
}

// presented is a ticket that a session began with.
type presented struct {
	serial    ticket.Serial
	expires   time.Time
	addresses []netip.Addr
	session   lease.SessionID // in which it was given
}

// openTicket looks at the ticket of an IKE_SESSION_RESUME. If it is refused,
// that is answered and r is nil.
func (sh *shard) openTicket(now time.Time, p packet, settings *Settings) (r *ike.Resumption, st *standing) {
	r, st, result := sh.readTicket(now, p.data, settings)
	if result == TicketResumed {
		if _, err := settings.Admit.Renew(now, st.full()); err != nil {
			result = TicketNotAdmitted
			sh.server.countRefusal(now, err, p.remote)
		}
	}
	if result == TicketResumed {
		return r, st
	}
	if r != nil {
		r.Erase()
	}
	sh.server.tickets.count(result)
	sh.server.log.Debug("ticket refused", slog.String("remote", p.remote.String()), slog.String("reason", result.String()))
	sh.outgoing = append(sh.outgoing, dataplane.Datagram{
		Data: gate.AppendTicketNACK(nil, &p.header), Local: p.local, Remote: p.remote, Marker: p.marker,
	})
	return nil, nil
}

// shows: an IKE SA is begun with a ticket. If another one was, and its device is at the
// same address, that has given it up: finished, it would use the ticket up, and this
// one would be refused.
func (sh *shard) shows(now time.Time, s *sa) {
	serial := s.session.standing.presented.serial
	if before := sh.shown[serial]; before != nil && before.source == s.source {
		sh.close(now, before.session, ike.CloseReplaced)
	}
	sh.shown[serial] = s
}

// shownNo: it is half-open no longer.
func (sh *shard) shownNo(s *sa) {
	if st := &s.session.standing; st.presented != nil && sh.shown[st.presented.serial] == s {
		delete(sh.shown, st.presented.serial)
	}
}

// readTicket opens a ticket; TicketResumed says that nothing is wrong with it.
func (sh *shard) readTicket(now time.Time, data []byte, settings *Settings) (*ike.Resumption, *standing, TicketResult) {
	msg, err := ikewire.Parse(data)
	if err != nil {
		return nil, nil, TicketMalformed
	}
	n := ikewire.FindNotify(msg.Payloads, ikewire.NotifyTicketOpaque)
	switch {
	case n == nil:
		return nil, nil, TicketMalformed
	case settings.Resumption.Keys == nil:
		return nil, nil, TicketDisabled
	}
	c, serial, err := settings.Resumption.Keys.Open(now, n.Data)
	switch {
	case errors.Is(err, ticket.ErrUnknownKey):
		return nil, nil, TicketUnknownKey
	case errors.Is(err, ticket.ErrForged):
		return nil, nil, TicketForged
	case errors.Is(err, ticket.ErrExpired):
		return nil, nil, TicketExpired
	case err != nil:
		return nil, nil, TicketMalformed
	}
	r := &ike.Resumption{
		SKd: c.SkD, PeerID: identification(c.Peer, true), OwnID: identification(c.Own, false), Auth: c.Auth, Client: c.Client,
	}
	before := admit.Standing{
		Device: c.Device, Epoch: c.Epoch, Instance: c.Instance, Units: c.Units, Until: c.Until, Anchor: c.Anchor,
		Path: make([]admit.Link, len(c.Path)),
	}
	for i, l := range c.Path {
		before.Path[i] = admit.Link(l)
	}
	st := newStanding(before, c.Authenticated, &presented{
		serial: serial, expires: c.Expires, addresses: c.Addresses, session: lease.SessionID(c.Session),
	})
	known := slices.IndexFunc(settings.IKE.Suites, func(s ikecrypto.Suite) bool {
		return s.Encryption == c.Encryption && s.KeyBits == c.KeyBits && s.Integrity == c.Integrity && s.PRF == c.PRF && s.Group == c.Group
	})
	switch {
	case sh.server.tickets.filter.Used(serial, c.Expires):
		return r, &st, TicketReused
	case known < 0:
		return r, &st, TicketAlgorithms
	}
	r.Suite = settings.IKE.Suites[known]
	return r, &st, TicketResumed
}

// identification of a ticket: type, three octets without meaning, data.
func identification(body []byte, initiator bool) *ikewire.ID {
	return &ikewire.ID{Initiator: initiator, IDType: ikewire.IDType(body[0]), Data: body[4:]}
}

// countRefusal of a policy.
func (s *Server) countRefusal(now time.Time, err error, remote netip.AddrPort) {
	var refusal *admit.Refusal
	if errors.As(err, &refusal) {
		s.stats.refused(refusal.Reason)
		s.noticeRefused(now, refusal, remote)
	}
}

// errReused: two sessions began with one ticket, and the other was faster.
var errReused = errors.New("the ticket was used before")

// useTicket answers AskAdmit of a peer that has proven that it is the one of
// its ticket. Now the ticket is used up.
func (sh *shard) useTicket(now time.Time, s *session) {
	t, p := sh.server.tickets, s.standing.presented
	fresh, remembered := t.filter.Use(now, p.serial, p.expires)
	if !fresh {
		t.count(TicketReused)
		sh.mail.put(decided{id: s.id, policy: sh.server.settings.Load().Admit, err: errReused})
		return
	}
	if !remembered {
		t.count(TicketUnremembered)
	}
	sh.renew(now, s, false)
}

// renew is decide for a session without certificates: some look-ups, done here.
func (sh *shard) renew(now time.Time, s *session, again bool) {
	policy, rolled := sh.server.settings.Load().Admit, sh.server.rolled.Load()
	admission, err := policy.Renew(now, s.standing.full())
	sh.mail.put(decided{id: s.id, again: again, policy: policy, rolled: rolled, admission: admission, err: err})
}

// makeTicket answers AskTicket. A ticket ends with the certificates and with the
// time that a device may go without showing them.
func (sh *shard) makeTicket(now time.Time, sa *sa, o ike.AskTicket) {
	defer o.Erase()
	s, settings := sa.session, sh.server.settings.Load()
	answered := ike.Ticketed{ID: o.ID}
	result := TicketNotIssued
	if keys := settings.Resumption.Keys; keys != nil && s.standing.known() {
		expires := now.Add(settings.Resumption.Lifetime)
		ends := []time.Time{s.standing.until}
		if again := settings.Resumption.Reauthenticate; again > 0 {
			ends = append(ends, s.standing.authenticated.Add(again))
		}
		for _, end := range ends {
			if end.Before(expires) {
				expires = end
			}
		}
		if life := expires.Sub(now).Truncate(time.Second); life >= minTicketLife {
			opaque, err := keys.Seal(now, s.contents(now, now.Add(life), &o), settings.IKE.Rand)
			if err == nil {
				result, answered.Opaque, answered.Lifetime = TicketIssued, opaque, life
			} else {
				sh.server.log.Debug("no ticket", slog.String("device", s.device), slog.Any("error", err))
			}
		}
	}
	sh.server.tickets.count(result)
	sh.mail.put(answer{sa.spi, answered})
}

// contents of a ticket for the session as it is; the secret is o's.
func (s *session) contents(now, expires time.Time, o *ike.AskTicket) *ticket.Contents {
	st := s.standing.full()
	c := &ticket.Contents{
		Issued: now, Expires: expires, Authenticated: s.standing.authenticated, SkD: o.SKd,
		Encryption: o.Suite.Encryption, KeyBits: o.Suite.KeyBits, Integrity: o.Suite.Integrity, PRF: o.Suite.PRF, Group: o.Suite.Group,
		Peer: o.PeerID.AppendBody(nil), Own: o.OwnID.AppendBody(nil),
		Session: uint64(s.id), Addresses: s.addresses, Auth: o.Auth, Client: o.Client,
		Standing: ticket.Standing{
			Device: st.Device, Epoch: st.Epoch, Instance: st.Instance, Units: st.Units, Until: st.Until, Anchor: st.Anchor,
			Path: make([]ticket.Link, len(st.Path)),
		},
	}
	for i, l := range st.Path {
		c.Path[i] = ticket.Link(l)
	}
	return c
}
