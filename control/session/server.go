package session

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

const (
	// shutdownGrace is how long peers have to answer our DELETE.
	shutdownGrace = 3 * time.Second
	// refusedLogRate bounds log lines that strangers can cause, per second.
	refusedLogRate = 50
)

// Server runs the IKE SAs of a gateway.
type Server struct {
	backend     dataplane.Backend
	transport   dataplane.IKETransport
	events      <-chan dataplane.Event
	leases      Leases
	keys        func(ike.KeysDerived)
	log         *slog.Logger
	logRate     gate.Rate
	noticeRate  gate.Rate
	maxSessions int
	newMachine  func(cfg *ike.Config, spiI, spiR uint64) stepper
	initSecret  [16]byte
	crashSecret gate.Secret // zero: no quick crash detection

	settings atomic.Pointer[Settings]
	update   sync.Mutex  // one Update at a time
	given    *ike.Config // as Update got it
	gate     *gate.Gate
	shards   []*shard
	work     *workers
	meter    *meter
	data     *applier
	records  *recorder
	seats    atomic.Int64 // sessions that were granted a lease
	draining atomic.Bool
	rolled   atomic.Uint64 // changes of the policy's Roll
	stats    *stats
	tickets  *tickets
	infos    infos
}

// New makes a server that does nothing before Run. Errors: ErrConfig, and those
// of Settings.IKE.Rand.
func New(cfg Config) (*Server, error) {
	return newServer(cfg, func(c *ike.Config, spiI, spiR uint64) stepper { return ike.NewResponder(c, spiI, spiR) })
}

// newServer takes the machines' maker, for tests.
func newServer(cfg Config, newMachine func(*ike.Config, uint64, uint64) stepper) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	s := &Server{
		backend: cfg.Backend, transport: cfg.Backend.Transport(), events: cfg.Events, leases: cfg.Leases,
		keys: cfg.Keys, log: cfg.Logger, logRate: gate.Rate{PerSecond: refusedLogRate}, noticeRate: gate.Rate{PerSecond: refusedNoticeRate},
		maxSessions: cfg.MaxSessions, newMachine: newMachine,
		work:  newWorkers(cfg.Workers),
		stats: newStats(), tickets: newTickets(),
		infos: infos{m: make(map[lease.SessionID]*session), current: make(map[string]lease.SessionID)},
	}
	s.meter = newMeter(cfg.Backend, s.unanswered)
	s.records = &recorder{write: cfg.Records, notices: cfg.Notices, stats: s.stats, queue: newQueue[entry]()}
	s.data = &applier{
		backend: cfg.Backend, meter: s.meter, leases: cfg.Leases, records: s.records,
		log: cfg.Logger, tasks: newQueue[task](),
	}
	s.crashSecret = cfg.CrashSecret
	s.given = cfg.IKE
	s.settings.Store(s.withCrashToken(&cfg.Settings))
	if _, err := cfg.IKE.Rand.Read(s.initSecret[:]); err != nil {
		return nil, fmt.Errorf("draw a secret: %w", err)
	}
	secret := cfg.CookieSecret
	if secret == (gate.Secret{}) {
		if _, err := cfg.IKE.Rand.Read(secret[:]); err != nil {
			return nil, fmt.Errorf("draw a secret: %w", err)
		}
	}
	var err error
	if s.gate, err = gate.New(cfg.Gate, secret); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	shards := max(cfg.Shards, 1)
	for n := range shards {
		s.shards = append(s.shards, newShard(s, uint8(n), shards))
	}
	return s, nil
}

// Run serves until ctx ends; then it deletes all sessions, waits for their
// peers' answers for three seconds at most, ends their leases and returns nil.
// If the transport fails before, it does the same and returns why. It is
// called once.
//
// One goroutine stays in IKETransport.Receive until the backend is closed,
// which is for the caller to do afterwards; it uses nothing else then.
func (s *Server) Run(ctx context.Context) error {
	var front, back, last sync.WaitGroup
	quit, backQuit, lastQuit := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.records.run(lastQuit, &last)
	s.work.run(backQuit, &back)
	s.data.run(backQuit, &back)
	for _, sh := range s.shards {
		front.Go(func() { sh.run(quit) })
	}
	front.Go(func() { s.watch(quit) })
	received := make(chan error, 1)
	go func() { received <- s.receive(quit) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-received:
		err = fmt.Errorf("receive IKE messages: %w", err)
	}
	s.drain()
	close(quit)
	front.Wait()
	s.readRest()
	// Shards are gone: what they asked for last is in the applier's queue.
	close(backQuit)
	back.Wait()
	// And its last records are in the recorder's.
	close(lastQuit)
	last.Wait()
	return err
}

// readRest deals with what shards that have ended told each other last, and what
// the lease registry has told them: no session is there any more, and the leases
// that are held for one end.
func (s *Server) readRest() {
	for more := true; more; {
		more = false
		for _, sh := range s.shards {
			letters := sh.mail.drain(nil)
			for _, m := range letters {
				m.deliver(sh, time.Now())
				more = true
			}
			sh.flush()
		}
	}
}

// drain deletes all sessions, within shutdownGrace.
func (s *Server) drain() {
	s.draining.Store(true)
	grace := time.NewTimer(shutdownGrace)
	defer grace.Stop()
	var wait []<-chan struct{}
	for _, sh := range s.shards {
		emptied := make(chan struct{})
		sh.mail.put(closeAll{emptied})
		wait = append(wait, emptied)
	}
	for _, emptied := range wait {
		select {
		case <-emptied:
		case <-grace.C:
			return
		}
	}
}

// Update replaces the settings. Assign is for sessions to come, and IKE for
// exchanges to come: those that are up rekey by it. The rest is for all: whoever
// is no longer admitted is closed.
// Errors: ErrConfig, with which nothing has changed.
func (s *Server) Update(settings Settings) error {
	if err := settings.check(); err != nil {
		return err
	}
	s.update.Lock()
	defer s.update.Unlock()
	if err := s.gate.Update(settings.Gate); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	given := settings.IKE
	with := s.withCrashToken(&settings)
	before := s.settings.Swap(with)
	if before.Admit != settings.Admit {
		s.broadcast(recheckAll{})
	}
	if s.given != given {
		s.given = given
		s.broadcast(reconfigureAll{with.IKE})
	}
	s.broadcast(lookAll{})
	return nil
}

// order hands an order to the shard that o.id, one of ours, belongs to.
func (s *Server) order(o closeOrder) { s.shards[o.id>>56].mail.put(o) }

func (s *Server) broadcast(m mail) {
	for _, sh := range s.shards {
		sh.mail.put(m)
	}
}
