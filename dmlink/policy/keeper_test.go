package policy_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/policy/policytest"
	"github.com/roamgate/roamgate/dmlink/session"
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

// Who is let out of quarantine: devices that have done all that was asked, not
// those that refuse; and a change that waits for a device doesn't put it there.
func TestSettled(t *testing.T) {
	ctx := t.Context()
	s := policytest.NewMemory()
	s.PutDevice(t, policy.Facts{ID: "a"})
	s.PutDevice(t, policy.Facts{ID: "b"})
	told := map[string]bool{}
	var trouble error
	e := policy.NewEngine(s, policy.Config{Settled: func(_ context.Context, devices map[string]bool) error {
		maps.Copy(told, devices)
		return trouble
	}})
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
	expect := func(what string, want map[string]bool) {
		t.Helper()
		for {
			if n, err := e.Refresh(ctx, 10); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				break
			}
		}
		if !maps.Equal(told, want) {
			t.Errorf("%s: %v, want %v", what, told, want)
		}
		clear(told)
	}
	answer := func(device string, code int) {
		t.Helper()
		for _, k := range s.Waiting(t, device) {
			s.Claim(t, device, k.ID)
			s.Answer(t, device, time.Now(), session.Outcome{Task: k.ID, Code: code})
		}
	}
	apply(0, "one")
	expect("nobody has answered", map[string]bool{})
	answer("a", 200)
	answer("b", 500)
	trouble = errors.New("no gateway")
	if _, err := e.Refresh(ctx, 10); !errors.Is(err, trouble) {
		t.Errorf("got %v", err)
	}
	trouble = nil
	expect("one did it, one refused", map[string]bool{"a": true, "b": false})
	apply(1, "two")
	expect("something new waits", map[string]bool{})
	answer("a", 200)
	answer("b", 200)
	expect("both did it", map[string]bool{"b": true})
	// Nothing is asked of a new device.
	apply(2, "two")
	if _, err := e.Apply(ctx, policy.Document{}, 3, "alice", ""); err != nil {
		t.Fatal(err)
	}
	s.PutDevice(t, policy.Facts{ID: "c"})
	expect("without policies", map[string]bool{"c": true})
	// Nor is it of one that filters don't mean, which isn't known before it was
	// surveyed.
	if _, err := e.Apply(ctx, policy.Document{
		Sets:  []policy.Set{{Name: "x1", Filter: `inventory.value("./DevInfo/Mod") == "X1"`, Settings: []policy.Setting{{URI: "./A", Data: "1"}}}},
		Links: []policy.Link{{Set: "x1", Order: 1}},
	}, 4, "alice", ""); err != nil {
		t.Fatal(err)
	}
	s.PutDevice(t, policy.Facts{ID: "d"})
	s.PutDevice(t, policy.Facts{ID: "e"})
	expect("nobody knows what they are", map[string]bool{})
	s.PutDevice(t, policy.Facts{ID: "d", Surveyed: true, Inventory: map[string]string{"./DevInfo/Mod": "X2"}})
	s.PutDevice(t, policy.Facts{ID: "e", Surveyed: true, Inventory: map[string]string{"./DevInfo/Mod": "X1"}})
	expect("one isn't meant", map[string]bool{"d": true})
	answer("e", 200)
	expect("one did it", map[string]bool{"e": true})
}
