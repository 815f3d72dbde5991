package session

import (
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// backlogPerWorker is how many jobs may wait for a worker before strangers are
// turned away: with half a millisecond for each, an eighth of a second.
const backlogPerWorker = 256

// workers compute. The queue is bounded by the number of machines, each of
// which has one question open; strangers are kept out while it is long.
type workers struct {
	n    int
	jobs *queue[func()]
}

func (w *workers) busy() bool { return w.jobs.len() >= w.n*backlogPerWorker }

// run starts the workers; they end with quit, whatever still waits.
func (w *workers) run(quit <-chan struct{}, wg *sync.WaitGroup) {
	for range w.n {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-w.jobs.wake:
				}
				if job, ok := w.jobs.take(); ok {
					job()
				}
			}
		})
	}
}

// compute has a machine's work done.
func (sh *shard) compute(s *sa, w ike.Work) {
	sh.server.stats.worked(w.Name)
	spi := s.spi
	sh.server.work.jobs.put(func() {
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
