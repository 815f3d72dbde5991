package agent

import (
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
)

// Whoever has stolen a manager's key can't take the last epoch there is, and
// where that was gone as far as it goes, the gateway's administrator opens the
// way for the next manager, over a restart too.
func TestStolenEpoch(t *testing.T) {
	g, id, file := new(gateway), install(t).identity(t), filepath.Join(t.TempDir(), "agent.db")
	a := open(t, g.config(file, id))
	mine := newSet(t, gcm.Devices, gcm.Version{Epoch: 3, Number: 7}, device(1))
	if _, err := a.Replace(mine.Clone()); err != nil {
		t.Fatal(err)
	}
	const bound = 3 + gcm.MaxEpochStep
	for _, epoch := range []uint64{math.MaxUint64, bound + 1} {
		if _, err := a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: epoch, Number: 1})); !errors.Is(err, gcm.ErrEpoch) {
			t.Errorf("a snapshot of epoch %d: %v", epoch, err)
		}
		if _, err := a.Patch(commit(t, mine.Clone(), gcm.Version{Epoch: epoch, Number: 1}, device(2))); !errors.Is(err, gcm.ErrEpoch) {
			t.Errorf("a delta of epoch %d: %v", epoch, err)
		}
		// A section that is still empty is no way around it.
		if _, err := a.Replace(newSet(t, gcm.Access, gcm.Version{Epoch: epoch, Number: 1})); !errors.Is(err, gcm.ErrEpoch) {
			t.Errorf("another section of epoch %d: %v", epoch, err)
		}
	}
	if v := a.Sections()[gcm.Devices].Version; v != mine.Version() {
		t.Errorf("now it has %v", v)
	}
	stolen := newSet(t, gcm.Devices, gcm.Version{Epoch: bound, Number: math.MaxUint64}, device(66))
	if _, err := a.Replace(stolen); err != nil {
		t.Fatal(err)
	}
	next := newSet(t, gcm.Devices, gcm.Version{Epoch: 4 * bound, Number: 8}, device(1))
	if _, err := a.Replace(next.Clone()); !errors.Is(err, gcm.ErrEpoch) {
		t.Errorf("further than a manager goes: %v", err)
	}
	next = newSet(t, gcm.Devices, gcm.Version{Epoch: 4, Number: 8}, device(1))
	if _, err := a.Replace(next.Clone()); !errors.Is(err, gcm.ErrStale) {
		t.Errorf("before versions were forgotten: %v", err)
	}
	if err := a.ForgetVersions(); err != nil {
		t.Fatal(err)
	}
	g.take()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, g.config(file, id))
	defer a.Close()
	has := a.Sections()
	if s := has[gcm.Devices]; s.Version != forgotten || s.Hash != stolen.Hash() || !s.Applied || len(g.take()) != 1 {
		t.Errorf("what is in force stays so: %+v", s)
	}
	if s := has[gcm.Access]; s.Version != (gcm.Version{}) {
		t.Errorf("of nothing there is %v", s.Version)
	}
	if s, err := a.Replace(next.Clone()); err != nil || s.Hash != next.Hash() {
		t.Errorf("%+v, %v", s, err)
	}
	// The epoch of the fleet may have come further than one step.
	if err := a.ForgetVersions(); err != nil {
		t.Fatal(err)
	}
	fleet := newSet(t, gcm.Devices, gcm.Version{Epoch: 4 * bound, Number: 9}, device(1))
	if _, err := a.Replace(fleet); err != nil {
		t.Errorf("a fleet's epoch after versions were forgotten: %v", err)
	}
}

// A gateway that joins late takes the epoch that its fleet has by then, and is
// bound to it from the first section on.
func TestFirstEpoch(t *testing.T) {
	g := new(gateway)
	a := open(t, g.config(filepath.Join(t.TempDir(), "agent.db"), install(t).identity(t)))
	defer a.Close()
	const late = 7 * gcm.MaxEpochStep
	if _, err := a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: late, Number: 1}, device(1))); err != nil {
		t.Errorf("the first section: %v", err)
	}
	if _, err := a.Replace(newSet(t, gcm.Access, gcm.Version{Epoch: late - 3, Number: 5})); err != nil {
		t.Errorf("another section: %v", err)
	}
	if _, err := a.Replace(newSet(t, gcm.Addresses, gcm.Version{Epoch: late + gcm.MaxEpochStep + 1, Number: 1})); !errors.Is(err, gcm.ErrEpoch) {
		t.Errorf("further than that: %v", err)
	}
}
