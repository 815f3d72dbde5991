package inventory_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
)

// due devices and old changes, as a store would have them.
type due struct {
	devices, old atomic.Int64
	broken       atomic.Bool
	again        time.Duration
	roots        int
}

func (d *due) BeginSurveys(_ context.Context, again time.Duration, limit int, roots ...inventory.Root) (int, error) {
	if d.broken.Load() {
		return 0, errors.New("no database")
	}
	d.again, d.roots = again, len(roots)
	n := min(int64(limit), d.devices.Load())
	d.devices.Add(-n)
	return int(n), nil
}

func (d *due) Prune(_ context.Context, _ time.Time, n int) (int, error) {
	done := min(int64(n), d.old.Load())
	d.old.Add(-done)
	return int(done), nil
}

// A fleet that is due at once is asked bit by bit; a database that is away for a
// while costs that while.
func TestSurveyor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(due)
		d.devices.Store(1200)
		d.old.Store(1000)
		d.broken.Store(true)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			inventory.NewSurveyor(d, inventory.SurveyorOptions{}).Run(ctx)
			close(done)
		}()
		synctest.Wait()
		if d.devices.Load() != 1200 || d.old.Load() != 0 {
			t.Errorf("without a database %d are due, %d changes are old", d.devices.Load(), d.old.Load())
		}
		d.broken.Store(false)
		for i, want := range []int64{700, 200, 0, 0} {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := d.devices.Load(); got != want {
				t.Errorf("after look %d: %d are due, want %d", i, got, want)
			}
		}
		if d.again != 7*24*time.Hour || d.roots != len(inventory.Roots)+len(inventory.RootsMicrosoft) {
			t.Errorf("asked again after %v, for %d roots", d.again, d.roots)
		}
		stop()
		<-done
	})
}
