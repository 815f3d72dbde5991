package session

import (
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// session of a device: what stays when its IKE SA is rekeyed. Its shard's
// goroutine owns it; it is there until the IKE SA that carries it is closed.
type session struct {
	// id is our SPI of the IKE SA that it began with, and not used again while
	// the session is there.
	id       lease.SessionID
	settings *Settings      // those it began with
	current  *sa            // carries it
	machines []*sa          // current and bare ones, oldest first
	remote   netip.AddrPort // where the last message came from
	began    time.Time

	evidence *admit.Evidence // of AskAdmit
	admitted bool
	standing *standing // nil before it is admitted, unless it came with a ticket
	device   string
	group    string // of the device
	// regrouped: the group has changed since the admission.
	regrouped bool
	until     time.Time // end of the admission

	held      *heldLease      // its lease
	addresses []netip.Addr    // that it has
	displaced lease.SessionID // to be closed when this one is up
	inherited []heldLease     // of successors that failed; end with this one

	established time.Time // zero: not yet
	summary     ike.Summary
	children    []Child // oldest first
	esp         string  // of the newest there was
	account     *account

	lastIn     time.Time // last IKE message without fault
	waiting    time.Time // since when a packet to the device is known to be unanswered
	probed     time.Time
	spread     float64   // 0 to 1: this session's part of every jitter
	interimAt  time.Time // next interim record
	lookAt     time.Time // when liveness and the like are looked at
	hinted     time.Time // last address hint
	hintRemote netip.AddrPort

	closing ike.CloseReason // Close was given to the machine
	over    bool
}

// up says whether there is something to keep alive.
func (s *session) up() bool { return !s.established.IsZero() && s.closing == "" && !s.over }

// Child SA of a session.
type Child struct {
	Inbound, Outbound dataplane.SPI
	ESP               string
	LocalTS, RemoteTS []dataplane.Selector
}

// childUp takes a Child SA in, unless the session is over already.
func (sh *shard) childUp(s *session, c Child) {
	if s.over {
		return
	}
	s.children = append(slices.Clip(s.children), c)
	s.esp = c.ESP
	sh.children[c.Inbound] = s
	sh.server.meter.add(c.Inbound, s.account)
	if s.regrouped {
		sh.applyGroup(s, c.Inbound)
	}
}

func (sh *shard) childDown(s *session, inbound dataplane.SPI) {
	i := slices.IndexFunc(s.children, func(c Child) bool { return c.Inbound == inbound })
	if i < 0 {
		return
	}
	// Infos share the old slice.
	s.children = slices.Concat(s.children[:i], s.children[i+1:])
	delete(sh.children, inbound)
}

// tell publishes what is known of a session that is up.
func (sh *shard) tell(s *session) {
	if s.established.IsZero() || s.over || s.closing != "" {
		return
	}
	u := &s.summary
	u.Inbound, u.Outbound, u.ESP, u.LocalTS, u.RemoteTS = 0, 0, "", nil, nil
	if len(s.children) > 0 {
		c := s.children[0]
		u.Inbound, u.Outbound, u.ESP, u.LocalTS, u.RemoteTS = c.Inbound, c.Outbound, c.ESP, c.LocalTS, c.RemoteTS
	}
	sh.server.infos.set(Info{ID: s.id, Summary: *u, Children: s.children, Established: s.established}, s.account)
}

// moved: the IKE SA and its Child SAs have another path.
func (sh *shard) moved(s *session, o ike.Moved) {
	s.summary.Local, s.summary.Remote = o.Local, o.Remote
	sh.server.stats.moved.Add(1)
	if o.Remote == s.hintRemote {
		s.hintRemote = netip.AddrPort{}
		sh.server.stats.event(eventHintConfirmed)
	}
	sh.tell(s)
}
