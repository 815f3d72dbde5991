package session

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

const (
	// inboxLen is more than those whose IKE_AUTH is to come, see maxFresh: while the
	// shard works they repeat it, and the receiver may have a while of its own.
	inboxLen = 4 * maxFresh
	// burst is how many messages a shard takes before it sends and looks at
	// the clock.
	burst = 64
)

// mail comes from other goroutines and is delivered on the shard's.
type mail interface {
	deliver(sh *shard, now time.Time)
}

// shard owns its part of the sessions.
type shard struct {
	server    *Server
	number    uint8
	inbox     chan packet
	mail      *queue[mail]
	newcomers *newcomers

	// Owned by run.
	held     bool // newcomers wait for workers, or for others
	fresh    fresh
	machines map[uint64]*sa // by our SPI
	sessions map[lease.SessionID]*session
	halfOpen map[initKey]*sa
	shown    map[ticket.Serial]*sa // half-open, by the ticket that was shown last
	children map[dataplane.SPI]*session
	timers   timers
	timer    *time.Timer
	armed    time.Time
	outgoing []dataplane.Datagram
	emptied  chan<- struct{} // closing down: told when there are no sessions

	unchecked  []lease.SessionID // left of recheckAll
	rechecking int               // its decisions that are under way
	index      admittedIndex
	models     models
	parted     int // IKE SAs that linger after their session was up

	// Where sessions are, and what each has alone.
	own     slab.Of[session]
	sas     slab.Of[sa]
	resting slab.Of[ike.Machine]
	octets  slab.Octets
	gone    []*sa // forgotten, to be released
}

// newShard is one of so many.
func newShard(server *Server, number uint8, shards int) *shard {
	return &shard{
		server:    server,
		number:    number,
		inbox:     make(chan packet, inboxLen),
		mail:      newQueue[mail](),
		newcomers: newNewcomers(server.gate, &server.initSecret, server.stats, shards),
		machines:  make(map[uint64]*sa),
		sessions:  make(map[lease.SessionID]*session),
		halfOpen:  make(map[initKey]*sa),
		shown:     make(map[ticket.Serial]*sa),
		children:  make(map[dataplane.SPI]*session),
		index:     newAdmittedIndex(),
		models:    make(models),
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
			clear(letters) // they may hold what is gone
		case <-sh.newcomers.wake:
		case <-sh.timer.C:
			sh.armed = time.Time{}
		case <-quit:
			sh.abandon(time.Now())
			sh.flush()
			return
		}
		sh.welcome(time.Now())
		sh.expire(time.Now())
		sh.flush()
		sh.arm()
		sh.tellEmpty()
		sh.release()
	}
}

// receive gives a message to its machine.
func (sh *shard) receive(now time.Time, p packet) {
	s := sh.machines[p.header.SPI()]
	if p.header.Init {
		s = sh.halfOpen[sh.server.initKeyOf(p.remote, p.header.InitiatorSPI, p.data)]
		if s == nil {
			return // it is up meanwhile, or was given up
		}
	} else if s == nil || s.original == p.header.FromInitiator {
		sh.server.stats.drop(ReasonUnknownIKESPI)
		if s == nil {
			sh.server.unknownIKE(now, p)
		}
		return
	}
	sh.deliver(now, s, p)
}

func (sh *shard) deliver(now time.Time, s *sa, p packet) {
	if sh.step(now, s, ike.Message{Data: p.data, Local: p.local, Remote: p.remote, Marker: p.marker}) {
		s.session.lastIn, s.session.remote = now, p.remote
	}
}

// initiated makes the machine of an IKE_SA_INIT or IKE_SESSION_RESUME.
func (sh *shard) initiated(now time.Time, p packet, key initKey) *sa {
	server := sh.server
	if server.draining.Load() {
		server.stats.drop(ReasonShuttingDown)
		return nil
	}
	settings := server.settings.Load()
	spi, err := sh.newSPI(settings)
	if err != nil {
		server.stats.drop(ReasonNoRandomness)
		return nil
	}
	source := p.remote.Addr()
	crowded := server.gate.CookieNeeded(source)
	if r := server.gate.Open(source); r != gate.ReasonNone {
		server.stats.gateDrop(r)
		return nil
	}
	var machine stepper
	var ticketed *standing
	if p.header.Resume {
		var r *ike.Resumption
		if r, ticketed = sh.openTicket(now, p, settings); r == nil {
			server.gate.Close(source)
			return nil
		}
		machine = ike.NewResumer(settings.IKE, p.header.InitiatorSPI, spi, r)
	} else {
		machine = server.newMachine(settings.IKE, p.header.InitiatorSPI, spi)
	}
	s, home := sh.sas.Get()
	*s = sa{
		home: home, machine: machine,
		spi: spi, peerSPI: p.header.InitiatorSPI,
		init: &key, source: source, counted: true, slot: -1,
	}
	owner, place := sh.own.Get()
	*owner = session{
		id: lease.SessionID(spi), home: place, settings: settings, current: s,
		remote: p.remote, began: now, spread: rand.Float32(),
	}
	owner.add(s)
	s.session = owner
	if crowded {
		s.session.lookAt = now.Add(hurried(settings.IKE.HalfOpen))
	}
	sh.machines[spi] = s
	sh.sessions[s.session.id] = s.session
	sh.halfOpen[key] = s
	sh.fresh.add(now, s)
	server.stats.initiated.Add(1)
	if ticketed != nil {
		owner.standing = *ticketed
		sh.shows(now, s)
	}
	return s
}

// step gives a machine an input and carries out what it wants. It returns
// whether the machine found no fault: nothing was noted.
func (sh *shard) step(now time.Time, s *sa, in ike.Input) (clean bool) {
	clean = true
	s.lift()
	for _, o := range s.machine.Step(now, in) {
		if n, ok := o.(ike.Noted); ok {
			clean = false
			sh.server.stats.note(n.Note)
			continue
		}
		sh.carryOut(now, s, o)
	}
	// A machine may change the deadline of those that it spawned.
	for _, x := range s.session.machines {
		sh.timers.sooner(x, x.deadline())
		sh.lay(x)
	}
	return clean
}

// carryOut never steps a machine: answers come by mail.
func (sh *shard) carryOut(now time.Time, s *sa, o ike.Output) {
	switch o := o.(type) {
	case ike.Send:
		sh.outgoing = append(sh.outgoing, dataplane.Datagram{Data: o.Data, Local: o.Local, Remote: o.Remote, Marker: o.Marker})
	case ike.Work:
		sh.compute(s, o)
	case ike.AskTicket:
		sh.makeTicket(now, s, o)
	case ike.AskAdmit:
		// From here on it is us who take the time.
		sh.fresh.finish(s)
		s.session.lookAt = time.Time{}
		if o.Resumed {
			sh.useTicket(now, s.session)
			return
		}
		s.session.evidence.erase()
		s.session.evidence = keepEvidence(o, &sh.octets)
		sh.judge(s.session, admit.Evidence{IDType: uint8(o.ID.IDType), ID: o.ID.Data, Chain: o.Chain}, false)
	case ike.AskLease:
		sh.acquire(s.session, o)
	case ike.Reserve:
		sh.server.data.tasks.put(task{sh: sh, spi: s.spi, reserve: &o})
	case ike.ReserveIKE:
		sh.reserveIKE(s, o)
	case ike.Apply:
		s.session.grouped(o.Changes)
		sh.server.data.tasks.put(task{sh: sh, spi: s.spi, apply: &o})
	case ike.KeysDerived:
		if sh.server.keys != nil {
			sh.server.keys(o)
		}
	case ike.Established:
		sh.up(now, s, o.Summary)
	case ike.Spawned:
		sh.spawned(s, o)
	case ike.Rekeyed:
		sh.rekeyed(s, o)
	case ike.ChildUp:
		sh.childUp(s.session, Child(o))
		sh.tell(s.session)
	case ike.ChildDown:
		sh.childDown(s.session, o.Inbound)
		sh.tell(s.session)
	case ike.Moved:
		sh.moved(s.session, o)
	case ike.Closed:
		sh.closed(now, s, o)
	case ike.Forget:
		sh.forget(s)
	}
}

// close asks the machine of a session to end, once.
func (sh *shard) close(now time.Time, s *session, reason ike.CloseReason) {
	sh.closeBy(now, s, ike.Close{Reason: reason})
}

func (sh *shard) closeBy(now time.Time, s *session, in ike.Close) {
	if s.closing != "" || s.over {
		return
	}
	s.closing = in.Reason
	// Nothing is forwarded any more: it isn't one that is up.
	sh.server.infos.remove(s.id)
	for _, other := range slices.Clone(s.machines) {
		if other != s.current {
			closeSA{other.spi, in}.deliver(sh, now)
		}
	}
	sh.step(now, s.current, in)
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
