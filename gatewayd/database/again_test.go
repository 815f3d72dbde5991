package database

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var deadlock = &pgconn.PgError{Code: "40P01"}

// Who loses three times beside others waits for them and goes next, alone: who
// came meanwhile goes after.
func TestWhoLosesGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := New(nil, Postgres)
		var all sync.WaitGroup
		var mu sync.Mutex
		var seen []string
		say := func(what string) { mu.Lock(); defer mu.Unlock(); seen = append(seen, what) }
		write := func(who string, lost int, long time.Duration) {
			all.Go(func() {
				err := db.again(t.Context(), func() error {
					if lost--; lost >= 0 {
						say(who + " loses")
						return deadlock
					}
					say(who + " begins")
					time.Sleep(long)
					say(who + " ends")
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		write("first", 0, patience)
		write("loser", beside, time.Second)
		time.Sleep(time.Second) // more than all pauses
		write("third", 0, time.Second)
		all.Wait()
		want := []string{
			"first begins", "loser loses", "loser loses", "loser loses",
			"first ends", "loser begins", "loser ends", "third begins", "third ends",
		}
		if !slices.Equal(seen, want) {
			t.Errorf("got %q", seen)
		}
	})
}

// It ends: with the last error, or with its caller's patience.
func TestLosesForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := New(nil, Postgres)
		n := 0
		lose := func() error { n++; return deadlock }
		if err := db.again(t.Context(), lose); !errors.Is(err, deadlock) || n != attempts {
			t.Errorf("%v after %d attempts", err, n)
		}
		// Another one's transaction lasts longer than this caller waits, who tries beside
		// it again.
		all := sync.WaitGroup{}
		all.Go(func() {
			db.again(t.Context(), func() error { time.Sleep(time.Minute); return nil })
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		n = 0
		if err := db.again(ctx, lose); !errors.Is(err, context.DeadlineExceeded) || n <= beside {
			t.Errorf("%v after %d attempts", err, n)
		}
		all.Wait()
		// And leaves nothing behind.
		if !db.turns.TryAcquire(everybody) {
			t.Error("a turn was kept")
		}
	})
}
