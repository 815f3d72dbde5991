package session

import (
	"errors"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// acquisition is what is done about an AskLease: one family after the other.
type acquisition struct {
	held     heldLease
	want     []netip.Addr
	entitled bool // by a ticket of ours
	assigned []netip.Addr
	families []lease.Family // still to be asked for
	got      []netip.Addr
}

func (sh *shard) acquire(s *session, ask ike.AskLease) {
	a := acquisition{held: heldLease{device: ask.Device, session: s.id}, want: ask.Want, assigned: s.assigned}
	if s.standing.presented != nil {
		a.want, a.entitled = s.standing.presented.addresses, true
	}
	if ask.IPv4 {
		a.families = append(a.families, lease.IPv4)
	}
	if ask.IPv6 {
		a.families = append(a.families, lease.IPv6)
	}
	sh.acquireNext(a)
}

// acquireNext asks for the first of the families. The first address makes the
// session the device's current one, the second goes with it.
func (sh *shard) acquireNext(a acquisition) {
	req := lease.Request{
		Device: a.held.device, Session: a.held.session, Family: a.families[0], Additional: len(a.got) > 0,
	}
	for _, want := range a.want {
		if want.Is4() == (req.Family == lease.IPv4) {
			req.Want, req.Entitled = want, a.entitled
			break
		}
	}
	if assigned := assignedOf(a.assigned, req.Family); assigned.IsValid() {
		req.Want, req.Entitled, req.Assigned = assigned, false, true
		req.Evict = func(id lease.SessionID) { sh.server.shards[id>>56].mail.put(evict{id}) }
	}
	sh.server.leases.Acquire(req, func(g lease.Grant, err error) {
		sh.mail.put(granted{acquisition: a, grant: g, err: err})
	})
}

// granted is the registry's answer.
type granted struct {
	acquisition
	grant lease.Grant
	err   error
}

// deliver: a family without pool is left out. One whose pool is used up is not:
// a device that has lost half of its networks without a word would send their
// packets around the tunnel.
func (g granted) deliver(sh *shard, now time.Time) {
	s := sh.sessions[g.held.session]
	first := len(g.got) == 0
	switch {
	case s == nil && g.err == nil && first:
		sh.server.give(g.grant.Displaced, g.held)
		return
	case s == nil:
		return
	case errors.Is(g.err, lease.ErrNoPool) && (len(g.families) > 1 || !first):
	case g.err != nil:
		sh.step(now, s.current, ike.LeaseFailed{Reason: g.err.Error()})
		return
	case first && !sh.server.takeSeat(g.grant.Displaced != 0):
		sh.server.stats.drop(ReasonSessionsFull)
		sh.server.end(g.held)
		sh.step(now, s.current, ike.LeaseFailed{Reason: "all sessions are in use"})
		return
	case first:
		s.holds, s.device, s.displaced = true, g.held.device, g.grant.Displaced
		g.got = append(g.got, g.grant.Address)
	default:
		g.got = append(g.got, g.grant.Address)
	}
	if g.grant.New {
		sh.notice(now, s, NoticeAssigned, []netip.Addr{g.grant.Address})
	}
	if g.families = g.families[1:]; len(g.families) > 0 {
		sh.acquireNext(g.acquisition)
		return
	}
	if s.addresses = append(s.two[:0], g.got...); !s.fits() {
		sh.step(now, s.current, ike.LeaseFailed{Reason: "another address was assigned meanwhile"})
		return
	}
	sh.step(now, s.current, ike.Leased{Addresses: g.got, Settings: &s.settings.Assign})
}

// takeSeat counts a session against MaxSessions. One that replaces another may
// go beyond for the moment that both exist.
func (s *Server) takeSeat(replaces bool) bool {
	if n := s.seats.Add(1); s.maxSessions > 0 && n > int64(s.maxSessions) && !replaces {
		s.seats.Add(-1)
		return false
	}
	return true
}

// end ends a lease, after all changes of the data plane that were asked for
// before.
func (s *Server) end(held heldLease) { s.data.tasks.put(task{end: &held}) }

// give ends a lease whose session didn't come up. If that session had displaced
// another, which still uses the address, that one is closed and the lease ends
// with it.
func (s *Server) give(displaced lease.SessionID, held heldLease) {
	if displaced == 0 {
		s.end(held)
		return
	}
	s.order(closeOrder{id: displaced, reason: ike.CloseReplaced, end: &held})
}

// letGo gives back what a session holds when it is over.
func (sh *shard) letGo(s *session) {
	if s.holds {
		sh.server.seats.Add(-1)
		sh.server.give(s.displaced, s.lease())
		s.holds, s.displaced = false, 0
	}
	for _, held := range s.inherited {
		sh.server.end(held)
	}
	s.inherited = nil
}

// closeOrder closes a session from outside its shard.
type closeOrder struct {
	id     lease.SessionID
	reason ike.CloseReason
	end    *heldLease // to be ended with it; may be nil
	// gone: the device showed a ticket of this session, so it has forgotten it, and a
	// DELETE would be repeated to nobody. After an outage that is all devices.
	gone bool
}

func (o closeOrder) deliver(sh *shard, now time.Time) {
	s := sh.sessions[o.id]
	if s == nil {
		if o.end != nil {
			sh.server.end(*o.end)
		}
		return
	}
	if o.end != nil {
		s.inherited = append(s.inherited, *o.end)
	}
	sh.closeBy(now, s, ike.Close{Reason: o.reason, Gone: o.gone})
}
