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
	next := newSet(t, gcm.Devices, gcm.Version{Epoch: 4, Number: 8}, device(1))
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
}
