package session

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// stepper is what a shard needs of an *ike.Machine.
type stepper interface {
	Step(now time.Time, in ike.Input) []ike.Output
	Deadline() time.Time
	Rest(*slab.Octets) bool
}

var _ stepper = (*ike.Machine)(nil)

// maxMachines of one session: the one that carries it, one or two that are to
// take over, and those that were rekeyed and that the peer is to delete. A peer
// that rekeys and never deletes loses the oldest.
const maxMachines = 8

// sa is an IKE SA: a machine and what is known about it alone. Its shard's
// goroutine owns it.
type sa struct {
	home     *slab.Chunk[sa]
	machine  stepper
	rests    *slab.Chunk[ike.Machine] // where machine is while it rests; see lay
	spi      uint64                   // ours
	original bool                     // ours is the initiator's
	peerSPI  uint64                   // zero before the handshake is over
	session  *session

	init      *initKey   // of the IKE_SA_INIT that it began with; nil once it is up
	source    netip.Addr // counted by the gate
	counted   bool       // by the gate, as half-open or lingering
	fresh     bool       // counted by the shard: it was begun lately, see fresh
	finishing bool       // its IKE_AUTH has come
	parted    bool       // counted by the shard: it lingers after its session was up
	closed    bool       // Closed came from it: it lingers

	due  time.Time // in timers
	slot int       // index in timers, -1: not in it
}

// initKey tells IKE_SA_INIT requests apart. Source and SPI alone would not do:
// a request that is repeated with a cookie, or by another device behind the
// same NAT, is a new one (RFC 7296 section 2.1).
type initKey struct {
	remote netip.AddrPort
	spi    uint64
	sum    uint64
}

// initKeyOf a message. A cookie that was added to it doesn't make another one of it:
// its sender may have been asked for one after a copy was let in, and what is
// answered to that copy is for both.
func (s *Server) initKeyOf(remote netip.AddrPort, spi uint64, data []byte) initKey {
	var copied [1500]byte
	return initKey{remote: remote, spi: spi, sum: gate.Sum64(&s.initSecret, ikewire.WithoutCookie(copied[:0], data))}
}

// carries says whether the session goes on by this IKE SA. Others of a session
// are bare: rekeyed already, or spawned and not in charge yet.
func (s *sa) carries() bool { return s.session.current == s }

// lay a machine to rest that has nothing to do. Once nothing but its IKE SA can point
// to it, as others of the session do, it lies where others rest.
func (sh *shard) lay(s *sa) {
	if s.rests != nil || !s.machine.Rest(&sh.octets) || len(s.session.machines) > 1 {
		return
	}
	if m, ok := s.machine.(*ike.Machine); ok {
		at, home := sh.resting.Get()
		*at, *m = *m, ike.Machine{}
		s.machine, s.rests = at, home
	}
}

// lift is the inverse, before anything is done with it.
func (s *sa) lift() {
	if s.rests == nil {
		return
	}
	at, m := s.machine.(*ike.Machine), new(ike.Machine)
	*m = *at
	s.rests.Put(at)
	s.machine, s.rests = m, nil
}

// closeSA ends a machine that carries nothing, or never did.
type closeSA struct {
	spi uint64
	in  ike.Close
}

func (c closeSA) deliver(sh *shard, now time.Time) {
	if s := sh.machines[c.spi]; s != nil && !s.closed {
		sh.step(now, s, c.in)
	}
}

// reconfigureAll gives all IKE SAs that are up another configuration.
type reconfigureAll struct{ cfg *ike.Config }

func (r reconfigureAll) deliver(sh *shard, now time.Time) {
	for _, s := range sh.sessions {
		if s.up() {
			sh.step(now, s.current, ike.Reconfigure{Config: r.cfg})
		}
	}
}

// newSPI draws one that is not in use, as the SPI of a machine or the ID of a
// session: the shard's number, then 56 random bits.
func (sh *shard) newSPI(settings *Settings) (uint64, error) {
	for {
		var b [8]byte
		if _, err := settings.IKE.Rand.Read(b[1:]); err != nil {
			return 0, err
		}
		b[0] = sh.number
		spi := binary.BigEndian.Uint64(b[:])
		if spi != 0 && sh.machines[spi] == nil && sh.sessions[lease.SessionID(spi)] == nil {
			return spi, nil
		}
	}
}

// reserveIKE answers ike.ReserveIKE. Without randomness the IKE SA can't go on.
func (sh *shard) reserveIKE(s *sa, o ike.ReserveIKE) {
	spi, err := sh.newSPI(s.session.settings)
	if err != nil {
		sh.server.stats.drop(ReasonNoRandomness)
		sh.mail.put(closeOrder{id: s.session.id, reason: ike.CloseInternal})
		return
	}
	sh.mail.put(answer{s.spi, ike.ReservedIKE{ID: o.ID, SPI: spi}})
}

// spawned: the session has another IKE SA from now on.
func (sh *shard) spawned(s *sa, o ike.Spawned) {
	next, home := sh.sas.Get()
	*next = sa{
		home: home, machine: o.Next, spi: o.ResponderSPI, peerSPI: o.InitiatorSPI, original: o.Original,
		session: s.session, source: s.source, slot: -1,
	}
	if o.Original {
		next.spi, next.peerSPI = o.InitiatorSPI, o.ResponderSPI
	}
	sh.machines[next.spi] = next
	s.session.add(next)
	sh.timers.sooner(next, next.deadline())
	if o.Redundant {
		sh.mail.put(closeSA{next.spi, ike.Close{Reason: ike.CloseRekeyed}})
	}
	if len(s.session.machines) > maxMachines {
		sh.crowded(s, next)
	}
}

// forgetSA ends a machine at once, unless it carries a session by now. It is closed
// first, so that nothing of it stays in the data plane.
type forgetSA struct{ spi uint64 }

func (f forgetSA) deliver(sh *shard, now time.Time) {
	if s := sh.machines[f.spi]; s == nil || s.carries() && !s.session.over {
		return
	}
	closeSA{f.spi, ike.Close{Reason: ike.CloseRekeyed}}.deliver(sh, now)
	if s := sh.machines[f.spi]; s != nil {
		sh.forget(s)
	}
}

// crowded forgets the oldest IKE SA of a session that has too many.
func (sh *shard) crowded(working, next *sa) {
	for _, s := range working.session.machines {
		if s != working && s != next && !s.carries() {
			sh.server.stats.drop(ReasonRekeyedSAs)
			sh.mail.put(forgetSA{s.spi})
			return
		}
	}
}

// rekeyed: another IKE SA carries the session from now on. If the session was
// being closed, its successor is told.
func (sh *shard) rekeyed(s *sa, o ike.Rekeyed) {
	session := s.session
	i := slices.IndexFunc(session.machines, func(x *sa) bool { return x.machine == stepper(o.Next) })
	if i < 0 || !s.carries() || !session.established() {
		return
	}
	next := session.machines[i]
	session.current = next
	sh.change(session, func(c *card) {
		c.name(func(n *names) { n.ike = o.IKE })
		c.initiatorSPI, c.responderSPI = next.peerSPI, next.spi
		if next.original {
			c.initiatorSPI, c.responderSPI = next.spi, next.peerSPI
		}
	})
	sh.server.stats.rekeyedIKE.Add(1)
	sh.tell(session)
	sh.server.log.Debug("IKE SA rekeyed", slog.String("device", session.device), slog.String("ike", o.IKE))
	sh.timers.sooner(next, next.deadline())
	if session.closing != "" {
		sh.mail.put(closeSA{next.spi, ike.Close{Reason: session.closing}})
	}
}
