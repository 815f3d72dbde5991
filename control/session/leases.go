package session

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// acquire asks for the lease. IPv4 only: the machine asks for nothing else yet.
func (sh *shard) acquire(s *session, ask ike.AskLease) {
	req := lease.Request{Device: ask.Device, Session: lease.SessionID(s.spi), Family: lease.IPv4}
	for _, want := range ask.Want {
		if want.Is4() {
			req.Want = want
			break
		}
	}
	held := heldLease{device: req.Device, session: req.Session}
	sh.server.leases.Acquire(req, func(g lease.Grant, err error) {
		sh.mail.put(granted{held: held, grant: g, err: err})
	})
}

// granted is the registry's answer.
type granted struct {
	held  heldLease
	grant lease.Grant
	err   error
}

func (g granted) deliver(sh *shard, now time.Time) {
	s := sh.sessions[uint64(g.held.session)]
	alive := s != nil && !s.closed
	if g.err != nil {
		if alive {
			sh.step(now, s, ike.LeaseFailed{Reason: g.err.Error()})
		}
		return
	}
	if !alive {
		sh.server.give(g.grant.Displaced, g.held)
		return
	}
	if !sh.server.takeSeat(g.grant.Displaced != 0) {
		sh.server.stats.drop(ReasonSessionsFull)
		sh.server.end(g.held)
		sh.step(now, s, ike.LeaseFailed{Reason: "all sessions are in use"})
		return
	}
	s.held = &g.held
	s.displaced = g.grant.Displaced
	sh.step(now, s, ike.Leased{
		Addresses: []netip.Addr{g.grant.Address},
		Settings:  s.settings.Assign,
	})
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
	s.order(closeOrder{spi: uint64(displaced), reason: ike.CloseReplaced, end: &held})
}

// letGo gives back what a session holds when it is over.
func (sh *shard) letGo(s *session) {
	if s.held != nil {
		sh.server.seats.Add(-1)
		sh.server.give(s.displaced, *s.held)
		s.held, s.displaced = nil, 0
	}
	for _, held := range s.inherited {
		sh.server.end(held)
	}
	s.inherited = nil
}

// closeOrder closes a session from outside its shard.
type closeOrder struct {
	spi    uint64
	reason ike.CloseReason
	end    *heldLease // to be ended with it; may be nil
}

func (o closeOrder) deliver(sh *shard, now time.Time) {
	s := sh.sessions[o.spi]
	if s == nil || s.closed {
		if o.end != nil {
			sh.server.end(*o.end)
		}
		return
	}
	if o.end != nil {
		s.inherited = append(s.inherited, *o.end)
	}
	sh.close(now, s, o.reason)
}
