package session

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

const (
	inboxLen = 1024
	// burst is how many messages a shard takes before it sends and looks at
	// the clock.
	burst = 64
)

// stepper is what a shard needs of an *ike.Machine.
type stepper interface {
	Step(now time.Time, in ike.Input) []ike.Output
	Deadline() time.Time
}

var _ stepper = (*ike.Machine)(nil)

// session is a machine and what is known about it. Its shard's goroutine owns
// it.
type session struct {
	machine  stepper
	settings *Settings // those it began with
	spi      uint64    // ours
	init     initKey
	remote   netip.AddrPort // where its last message came from
	source   netip.Addr     // counted by the gate
	counted  bool           // by the gate, as half-open or lingering
	began    time.Time

	evidence *admit.Evidence // of AskAdmit
	admitted bool
	device   string
	until    time.Time // end of the admission

	held      *heldLease      // its lease
	displaced lease.SessionID // to be closed when this one is up
	inherited []heldLease     // of successors that failed; end with this one

	established time.Time // zero: not yet
	summary     ike.Summary
	lastIn      time.Time // last IKE message without fault, or ESP packet
	probed      time.Time

	closing bool // Close was given to the machine
	closed  bool // Closed came from it: it lingers

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

// mail comes from other goroutines and is delivered on the shard's.
type mail interface {
	deliver(sh *shard, now time.Time)
}

// shard owns its part of the sessions.
type shard struct {
	server *Server
	number uint8
	inbox  chan packet
	mail   *queue[mail]

	// Owned by run.
	sessions map[uint64]*session
	halfOpen map[initKey]*session
	children map[dataplane.SPI]*session
	timers   timers
	timer    *time.Timer
	armed    time.Time
	outgoing []dataplane.Datagram
	live     int             // sessions that are not closed
	emptied  chan<- struct{} // closing down: told when none is live
}

func newShard(server *Server, number uint8) *shard {
	return &shard{
		server:   server,
		number:   number,
		inbox:    make(chan packet, inboxLen),
		mail:     newQueue[mail](),
		sessions: make(map[uint64]*session),
		halfOpen: make(map[initKey]*session),
		children: make(map[dataplane.SPI]*session),
	}
}

// run ends with quit; sessions that are left then are given up.
func (sh *shard) run(quit <-chan struct{}) {
	sh.timer = time.NewTimer(time.Hour)
	defer sh.timer.Stop()
	var letters []mail
	for {
		select {
		case p := <-sh.inbox:
			sh.receive(time.Now(), p)
			for n := min(len(sh.inbox), burst); n > 0; n-- {
				sh.receive(time.Now(), <-sh.inbox)
			}
		case <-sh.mail.wake:
			letters = sh.mail.drain(letters)
			for _, m := range letters {
				m.deliver(sh, time.Now())
			}
		case <-sh.timer.C:
			sh.armed = time.Time{}
		case <-quit:
			sh.abandon(time.Now())
			sh.flush()
			return
		}
		sh.expire(time.Now())
		sh.flush()
		sh.arm()
		sh.tellEmpty()
	}
}

// receive gives a message to its machine, or makes one for it.
func (sh *shard) receive(now time.Time, p packet) {
	var s *session
	if p.header.Init {
		s = sh.initiated(now, p)
	} else if s = sh.sessions[p.header.ResponderSPI]; s == nil {
		sh.server.stats.drop(ReasonUnknownIKESPI)
	}
	if s == nil {
		return
	}
	if sh.step(now, s, ike.Message{Data: p.data, Local: p.local, Remote: p.remote, Marker: p.marker}) {
		s.lastIn, s.remote = now, p.remote
	}
}

// initiated finds or makes the session of an IKE_SA_INIT.
func (sh *shard) initiated(now time.Time, p packet) *session {
	key := initKey{remote: p.remote, spi: p.header.InitiatorSPI, sum: gate.Sum64(&sh.server.initSecret, p.data)}
	if s := sh.halfOpen[key]; s != nil {
		return s
	}
	server := sh.server
	switch {
	case server.draining.Load():
		server.stats.drop(ReasonShuttingDown)
		return nil
	case server.work.busy():
		server.stats.drop(ReasonWorkersBusy)
		return nil
	}
	settings := server.settings.Load()
	spi, err := sh.newSPI(settings)
	if err != nil {
		server.stats.drop(ReasonNoRandomness)
		return nil
	}
	source := p.remote.Addr()
	if r := server.gate.Open(source); r != gate.ReasonNone {
		server.stats.gateDrop(r)
		return nil
	}
	s := &session{
		machine:  server.newMachine(settings.IKE, p.header.InitiatorSPI, spi),
		settings: settings, spi: spi, init: key,
		remote: p.remote, source: source, counted: true,
		began: now, slot: -1,
	}
	sh.sessions[spi] = s
	sh.halfOpen[key] = s
	sh.live++
	server.stats.initiated.Add(1)
	return s
}

// newSPI draws one that is not in use: the shard's number, then 56 random bits.
func (sh *shard) newSPI(settings *Settings) (uint64, error) {
	for {
		var b [8]byte
		if _, err := settings.IKE.Rand.Read(b[1:]); err != nil {
			return 0, err
		}
		b[0] = sh.number
		spi := binary.BigEndian.Uint64(b[:])
		if spi != 0 && sh.sessions[spi] == nil {
			return spi, nil
		}
	}
}

// step gives a machine an input and carries out what it wants. It returns
// whether the machine found no fault: nothing was noted.
func (sh *shard) step(now time.Time, s *session, in ike.Input) (clean bool) {
	clean = true
	for _, o := range s.machine.Step(now, in) {
		if n, ok := o.(ike.Noted); ok {
			clean = false
			sh.server.stats.note(n.Note)
			continue
		}
		sh.carryOut(now, s, o)
	}
	if sh.sessions[s.spi] == s {
		sh.timers.sooner(s, s.deadline())
	}
	return clean
}

// carryOut never steps a machine: answers come by mail.
func (sh *shard) carryOut(now time.Time, s *session, o ike.Output) {
	switch o := o.(type) {
	case ike.Send:
		sh.outgoing = append(sh.outgoing, dataplane.Datagram{Data: o.Data, Local: o.Local, Remote: o.Remote, Marker: o.Marker})
	case ike.Work:
		sh.compute(s, o)
	case ike.AskAdmit:
		s.evidence = &admit.Evidence{IDType: uint8(o.ID.IDType), ID: o.ID.Data, Chain: o.Chain}
		sh.decide(s, false)
	case ike.AskLease:
		sh.acquire(s, o)
	case ike.Reserve:
		sh.server.data.tasks.put(task{sh: sh, spi: s.spi, reserve: &o})
	case ike.Apply:
		sh.server.data.tasks.put(task{sh: sh, spi: s.spi, apply: &o})
	case ike.KeysDerived:
		if sh.server.keys != nil {
			sh.server.keys(o)
		}
	case ike.Established:
		sh.up(now, s, o.Summary)
	case ike.Closed:
		sh.over(now, s, o)
	case ike.Forget:
		sh.forget(s)
	}
}

// close asks a machine to end, once.
func (sh *shard) close(now time.Time, s *session, reason ike.CloseReason) {
	if s.closing || s.closed {
		return
	}
	s.closing = true
	sh.step(now, s, ike.Close{Reason: reason})
}

// flush sends what the machines gave out. A message that can't be sent is
// counted; its machine repeats it, or the peer does.
func (sh *shard) flush() {
	rest := sh.outgoing
	for len(rest) > 0 {
		n, err := sh.server.transport.Send(rest)
		rest = rest[n:]
		if len(rest) > 0 && (err != nil || n == 0) {
			sh.server.stats.drop(ReasonSendFailed)
			rest = rest[1:]
		}
	}
	clear(sh.outgoing)
	sh.outgoing = sh.outgoing[:0]
}
