package push

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
)

func setting(n, octets int) gcm.Record {
	return gcm.Setting{Name: fmt.Sprintf("setting-%d", n), Value: strings.Repeat("x", octets)}.Record()
}

func number(n int) gcm.Version { return gcm.Version{Epoch: 1, Number: uint64(n)} }

func mustCommit(t *testing.T, d *Documents, n int, put ...gcm.Record) {
	t.Helper()
	if err := d.Commit(gcm.Settings, number(n), put, nil); err != nil {
		t.Fatal(err)
	}
}

// follow applies what a gateway would be sent.
func follow(t *testing.T, d *Documents, s *gcm.Set) (deltas int, ok bool) {
	t.Helper()
	all, ok := d.since(gcm.Settings, s.Version(), s.Hash())
	for _, e := range all {
		change, err := gcm.ReadDelta(bytes.NewReader(e.octets))
		if err == nil {
			err = s.Apply(change)
		}
		if err != nil || s.Version() != e.version || s.Hash() != e.hash {
			t.Fatalf("%v: %v", e.version, err)
		}
	}
	return len(all), ok
}

// TestSince: each content of the past leads to what was committed last, by the
// fewest deltas.
func TestSince(t *testing.T) {
	d, err := NewDocuments()
	if err != nil {
		t.Fatal(err)
	}
	empty, _ := gcm.NewSet(gcm.Settings)
	_, _, changed := d.Version(gcm.Settings)
	past := []*gcm.Set{empty}
	for n := 1; n <= 6; n++ {
		// The fourth brings back the second.
		mustCommit(t, d, n, setting(1, []int{1, 2, 3, 2, 5, 6}[n-1]))
		past = append(past, d.sections[gcm.Settings].set.Clone())
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	for n, want := range []int{6, 5, 2, 3, 2, 1, 1} {
		if n == 6 {
			// The gateway has the content, by another way, but not the version.
			s, err := gcm.Restore(gcm.Settings, number(5), past[6].Hash(), past[6].All())
			if err != nil {
				t.Fatal(err)
			}
			past[6] = s
		}
		if got, ok := follow(t, d, past[n]); !ok || got != want {
			t.Errorf("from %d: %d deltas, want %d", n, got, want)
		}
		if v, h, _ := d.Version(gcm.Settings); past[n].Version() != v || past[n].Hash() != h {
			t.Errorf("from %d to %v", n, past[n].Version())
		}
	}
	other, _ := gcm.NewSet(gcm.Settings)
	if _, err := other.Commit(number(3), []gcm.Record{setting(9, 9)}, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := follow(t, d, other); ok {
		t.Error("from something that never was")
	}
	if err := d.Commit(gcm.Settings, number(6), nil, nil); !errors.Is(err, gcm.ErrStale) {
		t.Errorf("the same number again: %v", err)
	}
}

// TestPastIsBounded in number and octets, and a delta that is too long for the
// wire is a gap.
func TestPastIsBounded(t *testing.T) {
	d, err := NewDocuments()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	commit := func(put ...gcm.Record) { n++; mustCommit(t, d, n, put...) }
	commit(setting(0, 1))
	start := d.sections[gcm.Settings].set.Clone()
	for k := range maxDeltas + 5 {
		commit(setting(0, 2+k%3))
	}
	doc := d.sections[gcm.Settings]
	if len(doc.deltas) != maxDeltas {
		t.Errorf("%d deltas, want %d", len(doc.deltas), maxDeltas)
	}
	if _, ok := follow(t, d, start); ok {
		t.Error("one that was away for too long gets deltas")
	}
	recent := doc.set.Clone()
	commit(setting(1, 1))
	if got, ok := follow(t, d, recent.Clone()); !ok || got != 1 {
		t.Errorf("%d deltas, %t", got, ok)
	}
	var all []gcm.Record
	for k := range 255 {
		all = append(all, setting(k, 64<<10))
	}
	commit(all...)
	commit(setting(255, 64<<10))
	for k := range 3 {
		for i := range all {
			all[i] = setting(i, 64<<10-1-k)
		}
		commit(all...)
		if doc.octets > maxDeltaOctets {
			t.Errorf("%d octets are kept, at most %d", doc.octets, maxDeltaOctets)
		}
	}
	for i := range all {
		all[i] = gcm.Setting{Name: fmt.Sprintf("setting-%d", i), Value: strings.Repeat("y", 64<<10)}.Record()
	}
	commit(append(all, gcm.Setting{Name: "setting-255", Value: strings.Repeat("y", 64<<10)}.Record())...)
	if len(doc.deltas) != 0 {
		t.Errorf("%d deltas lead over one that can't be sent", len(doc.deltas))
	}
	e, err := d.snapshot(gcm.Settings)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gcm.ReadSnapshot(bytes.NewReader(e.octets))
	if err != nil || s.Version() != number(n) || s.Hash() != doc.set.Hash() {
		t.Errorf("%v", err)
	}
	again, err := d.snapshot(gcm.Settings)
	if err != nil || &again.octets[0] != &e.octets[0] {
		t.Errorf("it was made twice: %v", err)
	}
}

// TestTwoSets of one section, and one of none.
func TestTwoSets(t *testing.T) {
	a, _ := gcm.NewSet(gcm.Access)
	if _, err := NewDocuments(a, a.Clone()); !errors.Is(err, gcm.ErrMalformed) {
		t.Errorf("two sets: %v", err)
	}
	d, err := NewDocuments(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit("other", number(1), nil, nil); !errors.Is(err, gcm.ErrMalformed) {
		t.Errorf("no section: %v", err)
	}
	if err := d.Commit(gcm.Access, number(1), []gcm.Record{gcm.AccessGroup{Name: "staff"}.Record()}, nil); err != nil {
		t.Fatal(err)
	}
	if !d.Has(gcm.Access, []byte("staff")) || d.Has(gcm.Access, []byte("other")) {
		t.Error("Has doesn't say what is there")
	}
}
