package checkin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/dmlink/schedule"
)

func life(speed float64, watched time.Duration) Life {
	s := schedule.Default()
	return Life{Schedule: s, For: watched, Speed: speed, Concurrency: 10, Seed: 1}
}

// In eight hours each device comes once, give or take what jitter moves across
// the ends; never two sessions of a device at once.
func TestLife(t *testing.T) {
	for _, speed := range []float64{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			l := life(speed, time.Duration(float64(8*time.Hour)/speed))
			came, there := make([]int, 1000), make([]bool, 1000)
			r := load.NewResult()
			var turn = make(chan struct{}, 1)
			took := l.Run(t.Context(), 1000, func(_ context.Context, n uint64) error {
				turn <- struct{}{}
				if there[n] {
					t.Errorf("device %d is there twice", n)
				}
				came[n]++
				there[n] = true
				<-turn
				time.Sleep(time.Duration(float64(time.Second) / speed))
				turn <- struct{}{}
				there[n] = false
				<-turn
				return nil
			}, r)
			if took != l.For {
				t.Errorf("it took %v", took)
			}
			often := map[int]int{}
			for _, n := range came {
				often[n]++
			}
			if often[1] < 950 || often[1]+often[2] != 1000 || r.Done.Load() != uint64(often[1]+2*often[2]) || r.Late.Load() > 0 {
				t.Errorf("speed %v: %v visits of devices, %d done, %d late", speed, often, r.Done.Load(), r.Late.Load())
			}
			if p := r.Latency.Quantile(50); p < time.Duration(0.99e9/speed) || p > time.Duration(1.01e9/speed) {
				t.Errorf("median %v", p)
			}
		})
	}
}

// A server that is away: each device comes again an interval later, not at once.
func TestLifeInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := life(1, 24*time.Hour)
		r := load.NewResult()
		l.Run(t.Context(), 100, func(context.Context, uint64) error { return errors.New("away") }, r)
		if n := r.Failed.Load(); n < 150 || n > 300 {
			t.Errorf("%d tries of 100 devices in a day", n)
		}
	})
}

// Who is due and finds no place is late, and whose session is slow shows it in
// the others' time.
func TestLifeCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := life(1, time.Hour)
		l.Concurrency = 1
		r := load.NewResult()
		l.Run(t.Context(), 1000, func(context.Context, uint64) error {
			time.Sleep(time.Minute)
			return nil
		}, r)
		// 125 are due in an hour, and 60 have their turn.
		if done, late := r.Done.Load(), r.Late.Load(); done < 58 || done > 61 || done+late < 100 || done+late > 150 {
			t.Errorf("%d done, %d late", done, late)
		}
		if r.Latency.Quantile(90) < 10*time.Minute-time.Second {
			t.Errorf("nobody waited: %v", r.Latency.Quantile(90))
		}
	})
}

// Ctrl-C ends it; sessions that have begun come to their end.
func TestLifeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		l := life(1, 10*time.Hour)
		r := load.NewResult()
		took := l.Run(ctx, 1000, func(ctx context.Context, _ uint64) error {
			time.Sleep(time.Minute)
			return ctx.Err()
		}, r)
		if took != time.Hour || r.Failed.Load() > 0 || r.Begun.Load() != r.Done.Load() {
			t.Errorf("after %v: %d begun, %d done, %v", took, r.Begun.Load(), r.Done.Load(), r.Failures())
		}
	})
}
