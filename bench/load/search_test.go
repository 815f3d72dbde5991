package load

import (
	"errors"
	"testing"
)

// search for a capacity with a generator that offers limit at most, 0: any.
func search(t *testing.T, s Search, capacity, limit float64) (best float64, trials int) {
	t.Helper()
	err := s.Run(func(rate float64) (Verdict, error) {
		trials++
		offered := rate
		if limit > 0 {
			offered = min(rate, limit)
		}
		switch {
		case offered > capacity:
			return Fails, nil
		case offered < rate:
			best = offered
			return Behind, nil
		}
		best = max(best, rate)
		return Stands, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return best, trials
}

func TestSearch(t *testing.T) {
	for _, test := range []struct {
		name            string
		s               Search
		capacity, limit float64
		want            float64
		trials          int
	}{
		{"from far below", Search{From: 10_000, Tolerance: 0.05}, 1_234_567, 0, 1_234_567, 17},
		{"from above", Search{From: 10_000, Tolerance: 0.05}, 333, 0, 333, 20},
		{"known", Search{From: 101_000, Known: true, Tolerance: 0.05}, 100_000, 0, 100_000, 6},
		{"known, and it became faster", Search{From: 90_000, Known: true, Tolerance: 0.05}, 100_000, 0, 100_000, 9},
		{"known, but wrong", Search{From: 1_000_000, Known: true, Tolerance: 0.05}, 1000, 0, 1000, 30},
		{"slow generator", Search{From: 10_000, Tolerance: 0.05}, 1e9, 70_000, 70_000, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			best, trials := search(t, test.s, test.capacity, test.limit)
			if best > test.want || best < 0.94*test.want || trials > test.trials {
				t.Errorf("%.0f after %d trials, want %.0f after %d at most", best, trials, test.want, test.trials)
			}
		})
	}
}

// What stands nothing is tried a bounded number of times.
func TestSearchFindsNothing(t *testing.T) {
	n := 0
	err := (&Search{From: 1000, Tolerance: 0.05}).Run(func(float64) (Verdict, error) { n++; return Fails, nil })
	if !errors.Is(err, ErrNothingStands) || n > 2*maxTrials {
		t.Errorf("%v after %d trials", err, n)
	}
}
