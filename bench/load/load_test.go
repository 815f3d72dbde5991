package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// run in a bubble, where time passes only while everybody waits.
func run(t *testing.T, p Plan, op Operation) (*Result, time.Duration) {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	r := NewResult()
	var took time.Duration
	synctest.Test(t, func(t *testing.T) { took = p.Run(t.Context(), op, r) })
	return r, took
}

func takes(d time.Duration) Operation {
	return func(ctx context.Context, _ uint64) error {
		select {
		case <-ctx.Done():
			return errors.New("abandoned")
		case <-time.After(d):
			return nil
		}
	}
}

// Closed: four at a time, each of 10 ms, are 400 a second.
func TestClosed(t *testing.T) {
	r, took := run(t, Plan{Concurrency: 4, Duration: time.Second, Grace: time.Second}, takes(10*time.Millisecond))
	// Those that begin in the last moment may or may not be.
	if n := r.Done.Load(); took != time.Second || n < 400 || n > 404 || r.Failed.Load() != 0 {
		t.Errorf("%d done in %v, %v", r.Done.Load(), took, r.Failures())
	}
	if q := r.Latency.Quantile(50); q < 9900*time.Microsecond || q > 10100*time.Microsecond {
		t.Errorf("median %v", q)
	}
}

func TestCount(t *testing.T) {
	for _, rate := range []float64{0, 1000} {
		var ran atomic.Uint64
		r, _ := run(t, Plan{Rate: rate, Concurrency: 3, Count: 50, Grace: time.Second}, func(context.Context, uint64) error {
			ran.Add(1)
			return nil
		})
		if ran.Load() != 50 || r.Done.Load() != 50 || r.Begun.Load() != 50 {
			t.Errorf("rate %v: %d ran, %d done", rate, ran.Load(), r.Done.Load())
		}
	}
}

// Open: a rate is kept whatever an operation takes.
func TestOpen(t *testing.T) {
	r, took := run(t, Plan{Rate: 100, Concurrency: 100, Duration: 10 * time.Second, Grace: time.Second}, takes(300*time.Millisecond))
	if n := r.Done.Load(); n < 999 || n > 1001 || took != 10*time.Second {
		t.Errorf("%d done in %v", n, took)
	}
}

// The other side stalls for a second. A generator that waits for it would
// record one slow operation; here each that was due meanwhile is late by what
// is left of the second.
func TestStallIsNotOmitted(t *testing.T) {
	var number atomic.Uint64
	r, _ := run(t, Plan{Rate: 100, Concurrency: 1, Duration: 10 * time.Second, Grace: time.Second}, func(context.Context, uint64) error {
		if number.Add(1) == 200 {
			time.Sleep(time.Second)
		}
		return nil
	})
	l := r.Latency.Latency("stall")
	if l.Count < 999 || l.P50 > 1000 || l.P99 < 800e3 || l.Max < 990e3 {
		t.Errorf("%+v", l)
	}
}

// One that can do 10 a second and is offered 100 leaves the rest late.
func TestOverload(t *testing.T) {
	r, _ := run(t, Plan{Rate: 100, Concurrency: 1, Duration: 10 * time.Second, Grace: time.Second}, takes(100*time.Millisecond))
	if done, late := r.Done.Load(), r.Late.Load(); done < 99 || done > 101 || late < 899 || late > 901 {
		t.Errorf("%d done, %d late", done, late)
	}
}

// What hangs is abandoned after the grace, and counted.
func TestAbandoned(t *testing.T) {
	r, took := run(t, Plan{Concurrency: 2, Duration: time.Second, Grace: time.Second}, takes(time.Hour))
	if took != time.Second || r.Failures()["abandoned"] != 2 || r.Done.Load() != 0 {
		t.Errorf("%v, %d done after %v", r.Failures(), r.Done.Load(), took)
	}
}

// Ctrl-C ends the offering; the result stands.
func TestInterrupted(t *testing.T) {
	r := NewResult()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		p := Plan{Rate: 10, Concurrency: 1, Duration: time.Hour}
		if took := p.Run(ctx, takes(0), r); took != 2*time.Second {
			t.Errorf("offered for %v", took)
		}
	})
	if n := r.Done.Load(); n < 20 || n > 21 {
		t.Errorf("%d done", n)
	}
}

// Independent arrivals come to the same number on average, unevenly.
func TestPoisson(t *testing.T) {
	var last time.Time
	var short atomic.Uint64
	r, _ := run(t, Plan{Rate: 100, Concurrency: 100, Duration: 100 * time.Second, Poisson: true, Seed: 7}, func(context.Context, uint64) error {
		return nil
	})
	if n := r.Done.Load(); n < 9600 || n > 10400 {
		t.Errorf("%d done, want about 10,000", n)
	}
	_, _ = run(t, Plan{Rate: 100, Concurrency: 1, Duration: 100 * time.Second, Poisson: true, Seed: 7}, func(context.Context, uint64) error {
		now := time.Now()
		if now.Sub(last) < 5*time.Millisecond {
			short.Add(1)
		}
		last = now
		return nil
	})
	// 1 - e^-0.5 of the gaps are shorter than half the mean.
	if n := short.Load(); n < 3600 || n > 4300 {
		t.Errorf("%d short gaps of 10,000, want about 3,930", n)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	r, _ := run(t, Plan{Concurrency: 1, Count: 1000}, func(_ context.Context, n uint64) error {
		return fmt.Errorf("failure %d", n)
	})
	if f := r.Failures(); len(f) != maxReasons+1 || f["other"] != 1000-maxReasons || r.Failed.Load() != 1000 {
		t.Errorf("%d reasons, %d other", len(f), f["other"])
	}
}

func TestValidate(t *testing.T) {
	good := Plan{Concurrency: 1, Count: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Plan{{Concurrency: 1}, {Count: 1}, {Concurrency: 1, Count: 1, Rate: -1}, {Concurrency: 1, Duration: -1}, {Concurrency: 1, Count: 1, Grace: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is a plan", bad)
		}
	}
}
