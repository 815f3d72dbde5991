package store_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// Where filters decide by inventories, nobody is let out of quarantine before it
// was surveyed: a new one, one that isn't there any more as it was, and one about
// which the survey found nothing new.
func TestSettledAfterSurvey(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, open func(testing.TB) *database.DB) {
		ctx := t.Context()
		clock := storetest.NewClock()
		s := storetest.Store(t, open(t), clock)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		told := map[string]bool{}
		e := policy.NewEngine(s.Policies(), policy.Config{Now: clock.Now, Settled: func(_ context.Context, devices map[string]bool) error {
			maps.Copy(told, devices)
			return nil
		}})
		expect := func(what string, want map[string]bool) {
			t.Helper()
			for {
				n, err := e.Refresh(ctx, 10)
				must(err)
				if n == 0 {
					break
				}
			}
			if !maps.Equal(told, want) {
				t.Errorf("%s: %v, want %v", what, told, want)
			}
			clear(told)
		}
		survey := func(begun int) {
			t.Helper()
			n, err := s.Inventories().BeginSurveys(ctx, 24*time.Hour, 10, inventory.Root{URI: "./DevInfo/Mod"})
			must(err)
			if n != begun {
				t.Errorf("%d surveys begin, want %d", n, begun)
			}
		}
		answer := func(device string) {
			t.Helper()
			tasks, err := s.Next(ctx, device, nil, 10)
			must(err)
			for _, k := range tasks {
				_, err := s.Claim(ctx, device, []session.Claim{{Task: k.ID, Attempt: k.Attempt}})
				must(err)
				must(s.Record(ctx, device, session.Report{At: clock.Now(), Outcomes: []session.Outcome{{Task: k.ID, Code: 200,
					Results: []session.Value{{URI: "./DevInfo/Mod", Data: []byte("X2")}}}}}))
			}
		}
		_, err := e.Apply(ctx, policy.Document{
			Sets:  []policy.Set{{Name: "x1", Filter: `inventory.value("./DevInfo/Mod") == "X1"`, Settings: []policy.Setting{{URI: "./A", Data: "1"}}}},
			Links: []policy.Link{{Set: "x1", Order: 1}},
		}, 0, "alice", "")
		must(err)
		must(s.Enroll(ctx, store.Device{Name: "a", Enrolled: clock.Now()}))
		expect("it is new", map[string]bool{})
		survey(1)
		expect("it is asked", map[string]bool{})
		answer("a")
		expect("the filter doesn't mean it", map[string]bool{"a": true})
		clock.Add(time.Hour)
		must(s.Enroll(ctx, store.Device{Name: "a", Enrolled: clock.Now()}))
		expect("it has enrolled anew", map[string]bool{})
		survey(1)
		answer("a")
		expect("nothing is new about it", map[string]bool{"a": true})
		clock.Add(25 * time.Hour)
		survey(1)
		answer("a")
		expect("another day", map[string]bool{})
	})
}
