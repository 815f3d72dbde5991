// Package load offers work to something at a rate, or as fast as it is done,
// and measures how long each piece took from the moment at which it was due.
//
// What lives here: arrival times, bounds, what to do with work that is late.
// What doesn't: the work.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/bench/report"
)

// Operation is one piece of work. An error is a failure under its text, which
// should be one of few. Its time counts if there was none.
type Operation func(ctx context.Context, number uint64) error

// Plan says how much work is offered, and how.
type Plan struct {
	// Rate is how many operations are due in a second, each at its own time
	// whatever became of those before it (open loop); 0 begins one when another
	// is over (closed loop).
	Rate float64
	// Concurrency: closed loop, how many at a time; open loop, how many at
	// most. One that is due when so many run waits, and its waiting counts, so
	// that a stall of the other side shows in every operation it held up
	// (coordinated omission). At least 1.
	Concurrency int
	// Duration and Count end it, whichever comes first; 0 is no bound, and one
	// of them has to be there.
	Duration time.Duration
	Count    uint64
	// Grace is how long operations that have begun may go on after that.
	Grace time.Duration
	// Poisson arrivals instead of even ones: what many independent devices are.
	Poisson bool
	// Seed of the Poisson arrivals.
	Seed uint64
}

// Validate the plan.
func (p *Plan) Validate() error {
	switch {
	case p.Rate < 0:
		return fmt.Errorf("rate %v, must not be negative", p.Rate)
	case p.Concurrency < 1:
		return fmt.Errorf("concurrency %d, must be at least 1", p.Concurrency)
	case p.Duration < 0 || p.Grace < 0:
		return fmt.Errorf("duration %v and grace %v, must not be negative", p.Duration, p.Grace)
	case p.Duration == 0 && p.Count == 0:
		return fmt.Errorf("no bound: need a duration or a count")
	}
	return nil
}

// Result of a run. It can be read while the run goes on.
type Result struct {
	// Done and Failed operations; Begun counts those under way too.
	Begun, Done, Failed atomic.Uint64
	// Late are operations that were due, but not begun when the time was over:
	// the other side couldn't keep up.
	Late atomic.Uint64
	// Latency of those done, from when they were due.
	Latency *report.Histogram

	mu       sync.Mutex
	failures map[string]uint64
}

// NewResult is empty.
func NewResult() *Result {
	return &Result{Latency: report.NewHistogram(), failures: make(map[string]uint64)}
}

// maxReasons bounds the table of failures, whose texts come from errors.
const maxReasons = 50

func (r *Result) failed(err error) {
	r.Failed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	reason := err.Error()
	if _, known := r.failures[reason]; !known && len(r.failures) >= maxReasons {
		reason = "other"
	}
	r.failures[reason]++
}

// Failures by reason; a copy.
func (r *Result) Failures() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]uint64, len(r.failures))
	for reason, n := range r.failures {
		out[reason] = n
	}
	return out
}

// Run carries the plan out and returns how long work was offered. It ends early
// with ctx, which isn't an error: what was done until then is in the result.
func (p *Plan) Run(ctx context.Context, op Operation, r *Result) time.Duration {
	began := time.Now()
	offering, stop := context.WithCancel(ctx)
	defer stop()
	if p.Duration > 0 {
		offering, stop = context.WithDeadline(offering, began.Add(p.Duration))
		defer stop()
	}
	// Operations outlive the offering by the grace.
	working, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var workers sync.WaitGroup
	if p.Rate > 0 {
		p.open(offering, working, &workers, began, op, r)
	} else {
		p.closed(offering, working, &workers, op, r)
	}
	offered := time.Since(began)
	timer := time.AfterFunc(p.Grace, abandon)
	defer timer.Stop()
	workers.Wait()
	return offered
}

// Perform an operation that was due at a time, and count it. It reports whether
// it worked.
func (r *Result) Perform(ctx context.Context, op Operation, number uint64, due time.Time) bool {
	r.Begun.Add(1)
	if err := op(ctx, number); err != nil {
		r.failed(err)
		return false
	}
	r.Latency.Record(time.Since(due))
	r.Done.Add(1)
	return true
}

// closed begins an operation when another is over, and returns when no more is
// to begin.
func (p *Plan) closed(offering, working context.Context, workers *sync.WaitGroup, op Operation, r *Result) {
	var next atomic.Uint64
	var done sync.WaitGroup
	for range p.Concurrency {
		done.Add(1)
		workers.Go(func() {
			defer done.Done()
			for offering.Err() == nil {
				number := next.Add(1) - 1
				if p.Count > 0 && number >= p.Count {
					return
				}
				r.Perform(working, op, number, time.Now())
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-offering.Done():
	}
}

// open begins each operation when it is due, or as soon after it as one of the
// workers is free.
func (p *Plan) open(offering, working context.Context, workers *sync.WaitGroup, began time.Time, op Operation, r *Result) {
	type job struct {
		number uint64
		due    time.Time
	}
	jobs := make(chan job)
	defer close(jobs)
	for range p.Concurrency {
		workers.Go(func() {
			for j := range jobs {
				r.Perform(working, op, j.number, j.due)
			}
		})
	}
	arrivals := rand.New(rand.NewPCG(p.Seed, 0))
	interval := float64(time.Second) / p.Rate
	at := 0.0 // nanoseconds after began
	timer := time.NewTimer(0)
	defer timer.Stop()
	for number := uint64(0); p.Count == 0 || number < p.Count; number++ {
		due := began.Add(time.Duration(at))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-offering.Done():
				return
			case <-timer.C:
			}
		}
		select {
		case <-offering.Done():
			r.Late.Add(p.overdue(time.Since(began), number))
			return
		case jobs <- job{number, due}:
		}
		step := interval
		if p.Poisson {
			step *= arrivals.ExpFloat64()
		}
		at += step
	}
}

// overdue is how many of evenly spread operations were due by then, beyond
// those that were begun.
func (p *Plan) overdue(since time.Duration, begun uint64) uint64 {
	due := uint64(since.Seconds() * p.Rate)
	if p.Count > 0 {
		due = min(due, p.Count)
	}
	if due <= begun {
		return 0
	}
	return due - begun
}
