package inventorytest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/session"
)

// Run the suite on what open makes; each call makes an empty one.
func Run(t *testing.T, open func(t *testing.T) inventory.Store) {
	t.Run("a snapshot and its history", func(t *testing.T) { testHistory(t, open(t)) })
	t.Run("old versions lose", func(t *testing.T) { testVersions(t, open(t)) })
	t.Run("pages", func(t *testing.T) { testPages(t, open(t)) })
	t.Run("prune", func(t *testing.T) { testPrune(t, open(t)) })
	t.Run("updates that race are all there", func(t *testing.T) { testRace(t, open(t)) })
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func update(after time.Duration, pairs ...string) inventory.Update {
	u := inventory.Update{At: noon.Add(after)}
	for i := 0; i < len(pairs); i += 2 {
		u.Values = append(u.Values, session.Value{URI: pairs[i], Data: []byte(pairs[i+1])})
	}
	return u
}

func record(t *testing.T, s inventory.Store, device string, u inventory.Update) []string {
	t.Helper()
	uris, err := inventory.NewKeeper(s).Record(t.Context(), device, u)
	if err != nil {
		t.Fatal(err)
	}
	return uris
}

func told(t *testing.T, s inventory.Store, device string, before int64, n int) (out []string, last int64) {
	t.Helper()
	all, err := s.History(t.Context(), device, before, n)
	if err != nil {
		t.Fatal(err)
	}
	data := func(v *inventory.Value) string {
		if v == nil {
			return "nothing"
		}
		return string(v.Data)
	}
	for _, c := range all {
		out = append(out, fmt.Sprintf("%s %s: %s, then %s", c.At.Format("15:04"), c.URI, data(c.Before), data(c.After)))
		last = c.Number
	}
	return out, last
}

func testHistory(t *testing.T, s inventory.Store) {
	if v, err := s.Snapshot(t.Context(), "a"); err != nil || v.Version != 0 || len(v.Nodes) != 0 {
		t.Errorf("of an unknown device: %+v, %v", v, err)
	}
	if got := record(t, s, "a", update(0, "./DevInfo/Mod", "X", "./DevDetail/FwV", "1")); !slices.Equal(got, []string{"./DevDetail/FwV", "./DevInfo/Mod"}) {
		t.Errorf("changed: %v", got)
	}
	if got := record(t, s, "a", update(time.Minute, "./DevInfo/Mod", "X")); len(got) != 0 {
		t.Errorf("the same again changed %v", got)
	}
	u := update(2*time.Minute, "./DevDetail/FwV", "2")
	u.Gone = []string{"./DevInfo"}
	record(t, s, "a", u)
	record(t, s, "b", update(0, "./DevInfo/Mod", "Y"))
	want := []string{"12:02 ./DevInfo/Mod: X, then nothing", "12:02 ./DevDetail/FwV: 1, then 2", "12:00 ./DevInfo/Mod: nothing, then X", "12:00 ./DevDetail/FwV: nothing, then 1"}
	if got, _ := told(t, s, "a", 0, 10); !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
	v, err := s.Snapshot(t.Context(), "a")
	if err != nil || v.Version != 2 || len(v.Nodes) != 1 || string(v.Nodes["./DevDetail/FwV"].Data) != "2" || !v.Nodes["./DevDetail/FwV"].Since.Equal(u.At) || !v.Updated.Equal(u.At) {
		t.Errorf("snapshot %+v, %v", v, err)
	}
}

func testVersions(t *testing.T, s inventory.Store) {
	ctx := t.Context()
	record(t, s, "a", update(0, "./A", "1"))
	old, err := s.Snapshot(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	record(t, s, "a", update(0, "./A", "2"))
	next, changes := old.Apply(update(0, "./A", "3"))
	if err := s.Put(ctx, "a", next, changes); !errors.Is(err, inventory.ErrChanged) {
		t.Errorf("a change of an old version: %v", err)
	}
	if err := s.Put(ctx, "a", old, nil); !errors.Is(err, inventory.ErrChanged) {
		t.Errorf("an old version: %v", err)
	}
	if got, _ := told(t, s, "a", 0, 10); len(got) != 2 {
		t.Errorf("history %q", got)
	}
}

func testPages(t *testing.T, s inventory.Store) {
	for i := range 7 {
		record(t, s, "a", update(0, "./A", fmt.Sprint(i)))
		record(t, s, "b", update(0, "./A", fmt.Sprint(i)))
	}
	var all []string
	for before := int64(0); ; {
		page, last := told(t, s, "a", before, 3)
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		before = last
	}
	if len(all) != 7 || all[0] != "12:00 ./A: 5, then 6" || all[6] != "12:00 ./A: nothing, then 0" {
		t.Errorf("%q", all)
	}
}

func testPrune(t *testing.T, s inventory.Store) {
	for i := range 6 {
		record(t, s, "a", update(time.Duration(i)*time.Minute, "./A", fmt.Sprint(i)))
	}
	for i, want := range []int{2, 1, 0} {
		if n, err := s.Prune(t.Context(), noon.Add(3*time.Minute), 2); err != nil || n != want {
			t.Errorf("time %d: %d, %v, want %d", i, n, err, want)
		}
	}
	if got, _ := told(t, s, "a", 0, 10); len(got) != 3 || got[2] != "12:03 ./A: 2, then 3" {
		t.Errorf("what is left: %q", got)
	}
	if v, err := s.Snapshot(t.Context(), "a"); err != nil || string(v.Nodes["./A"].Data) != "5" {
		t.Errorf("snapshot %+v, %v", v, err)
	}
}

func testRace(t *testing.T, s inventory.Store) {
	const racers = 4
	var group sync.WaitGroup
	for i := range racers {
		group.Go(func() {
			if _, err := inventory.NewKeeper(s).Record(t.Context(), "a", update(0, fmt.Sprint("./A/", i), "1")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	v, err := s.Snapshot(t.Context(), "a")
	if got, _ := told(t, s, "a", 0, 10); err != nil || len(v.Nodes) != racers || v.Version != racers || len(got) != racers {
		t.Errorf("%+v, %v, %q", v, err, got)
	}
}
