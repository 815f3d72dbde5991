package policy_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/policy/policytest"
)

// A document that is applied reaches everybody in batches: at once if the keeper
// is poked, a second later otherwise. Who gets commands is told, once.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policytest.NewMemory()
		for _, id := range []string{"a", "b", "c"} {
			s.PutDevice(t, policy.Facts{ID: id})
		}
		var mu sync.Mutex
		var placed []string
		e := policy.NewEngine(s, policy.Config{Placed: func(devices []string) {
			mu.Lock()
			defer mu.Unlock()
			placed = append(placed, devices...)
		}})
		k := policy.NewKeeper(e, policy.KeeperOptions{Batch: 2})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			k.Run(ctx)
			close(done)
		}()
		synctest.Wait()
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(placed)
			if !slices.Equal(placed, want) {
				t.Errorf("%s: commands were placed for %v, want %v", what, placed, want)
			}
			placed = nil
		}
		apply := func(base int64, data string) {
			t.Helper()
			_, err := e.Apply(ctx, policy.Document{
				Sets:  []policy.Set{{Name: "base", Settings: []policy.Setting{{URI: "./A", Data: data}}}},
				Links: []policy.Link{{Set: "base", Order: 1}},
			}, base, "alice", "")
			if err != nil {
				t.Fatal(err)
			}
		}
		expect("without a document")
		apply(0, "one")
		k.Poke()
		k.Poke()
		expect("poked", "a", "b", "c")
		apply(1, "one")
		k.Poke()
		expect("the same once more")
		apply(2, "two")
		expect("not poked")
		time.Sleep(time.Second)
		expect("a second later", "a", "b", "c")
		stop()
		<-done
	})
}
