package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
)

// What a device says of itself, something else in each session, doesn't fill the
// disk: the newest updates are kept.
func TestHistoryOfOneIsBounded(t *testing.T) {
	ctx, clock := t.Context(), storetest.NewClock()
	s := storetest.SQLite(t, clock)
	if err := s.Enroll(ctx, store.Device{Name: "a", Enrolled: clock.Now()}); err != nil {
		t.Fatal(err)
	}
	const updates = 520
	for n := range updates {
		clock.Add(time.Second)
		if err := s.Record(ctx, "a", session.Report{At: clock.Now(), DevInfo: []session.Value{{URI: "./DevInfo/Mod", Data: fmt.Append(nil, n)}}}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Inventories().History(ctx, "a", 0, 2*updates)
	if err != nil || len(all) != 500 || string(all[0].After.Data) != fmt.Sprint(updates-1) {
		t.Errorf("%d changes, %v", len(all), err)
	}
}
