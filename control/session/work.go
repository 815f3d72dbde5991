package session

import (
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// class of a job, by whom it is done for.
type class uint8

const (
	// classSession: a session that is up.
	classSession class = iota
	// classHandshake: a stranger in IKE_AUTH. What was begun is finished before
	// anything else begins, otherwise a storm has everybody half done.
	classHandshake
	// classNewcomer: a stranger's IKE_SA_INIT.
	classNewcomer

	numClasses int = iota
)

const (
	// newcomerWait is how long what was let in may wait for a worker, by what
	// waits and how long jobs take: no longer than a client waits before it
	// repeats its IKE_SA_INIT. What would wait longer is turned away.
	newcomerWait = 500 * time.Millisecond
	// cookieWait is from when on strangers are asked for cookies.
	cookieWait = newcomerWait / 4
	// strangersTurn: of that many jobs one is a stranger's, if any waits, even if
	// sessions that are up have more than enough to do.
	strangersTurn = 4
	// firstGuess is how long a job takes, before any was measured.
	firstGuess = 500 * time.Microsecond
	// smoothing of the measured time: the weight of one job.
	smoothing = 1.0 / 16
)

// workers compute. Jobs of sessions that are up come first, so that no stranger
// can keep a device from its rekeying. The queues are bounded: a machine has one
// question open, and strangers are kept out while there is too much to do.
type workers struct {
	n    int
	wake chan struct{} // capacity 1: something may be there

	mu     sync.Mutex
	queues [numClasses]fifo[func()]
	turn   int
	took   float64 // seconds, smoothed
}

func newWorkers(n int) *workers {
	return &workers{n: n, wake: make(chan struct{}, 1), took: firstGuess.Seconds()}
}

func (w *workers) put(c class, job func()) {
	w.mu.Lock()
	w.queues[c].put(job)
	w.mu.Unlock()
	w.notify()
}

func (w *workers) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

var (
	sessionsFirst  = [numClasses]class{classSession, classHandshake, classNewcomer}
	strangersFirst = [numClasses]class{classHandshake, classNewcomer, classSession}
)

// take returns the next job and wakes another worker if there are more.
func (w *workers) take() (job func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	order := &sessionsFirst
	if w.turn++; w.turn%strangersTurn == 0 {
		order = &strangersFirst
	}
	for _, c := range order {
		if job, ok = w.queues[c].take(); ok {
			break
		}
	}
	if w.waiting() > 0 {
		w.notify()
	}
	return job, ok
}

// waiting is the number of jobs; mu is held.
func (w *workers) waiting() (n int) {
	for c := range w.queues {
		n += w.queues[c].len()
	}
	return n
}

func (w *workers) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting()
}

// wait is how long a newcomer's job would wait.
func (w *workers) wait() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(float64(w.waiting()) * w.took / float64(w.n) * float64(time.Second))
}

func (w *workers) measured(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took += (took.Seconds() - w.took) * smoothing
}

// run starts the workers; they end with quit, whatever still waits.
func (w *workers) run(quit <-chan struct{}, wg *sync.WaitGroup) {
	for range w.n {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-w.wake:
				}
				if job, ok := w.take(); ok {
					began := time.Now()
					job()
					w.measured(time.Since(began))
				}
			}
		})
	}
}

// class of a session's jobs.
func (s *session) class() class {
	switch {
	case s.established():
		return classSession
	case s.evidence.given:
		return classHandshake
	}
	return classNewcomer
}

// compute has a machine's work done.
func (sh *shard) compute(s *sa, w ike.Work) {
	sh.server.stats.worked(w.Name)
	spi := s.spi
	sh.server.work.put(s.session.class(), func() {
		sh.mail.put(answer{spi, ike.WorkDone{ID: w.ID, Result: w.Do()}})
	})
}

// answer is an input for a machine from another goroutine.
type answer struct {
	spi uint64
	in  ike.Input
}

func (a answer) deliver(sh *shard, now time.Time) {
	if s := sh.machines[a.spi]; s != nil {
		sh.step(now, s, a.in)
	}
}
