package push

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// TestBatch: from each content of a random past a gateway gets to what was
// committed last, by documents that are as few as their length allows.
func TestBatch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	d, err := NewDocuments()
	if err != nil {
		t.Fatal(err)
	}
	empty, _ := gcm.NewSet(gcm.Settings)
	past := []*gcm.Set{empty}
	for n := 1; n <= 300; n++ {
		var put []gcm.Record
		var del [][]byte
		for k := range 12 {
			switch random.IntN(6) {
			case 0:
				put = append(put, setting(k, 1+random.IntN(900)))
			case 1:
				del = append(del, setting(k, 1).Key)
			}
		}
		if n%50 == 0 { // as a manager that had missed some
			next := d.sections[gcm.Settings].set.Clone()
			if _, err := next.Commit(number(n), put, del); err != nil {
				t.Fatal(err)
			}
			if err := d.Replace(next); err != nil {
				t.Fatal(err)
			}
		} else if err := d.Commit(gcm.Settings, number(n), put, del); err != nil {
			t.Fatal(err)
		}
		past = append(past, d.sections[gcm.Settings].set.Clone())
	}
	want := past[len(past)-1]
	for from, s := range past[:len(past)-1] {
		rest, ok := d.since(gcm.Settings, s.Version(), s.Hash())
		if !ok {
			t.Fatalf("from %d: no deltas", from)
		}
		// A piece at a time, too.
		for len(rest) > 0 {
			some := rest[:1+random.IntN(len(rest))]
			rest = rest[len(some):]
			e, left, err := batch(some)
			if err != nil || len(left) > 0 {
				t.Fatalf("from %d: %d are left, %v", from, len(left), err)
			}
			change, err := gcm.ReadDelta(bytes.NewReader(e.octets))
			if err == nil {
				err = s.Apply(change)
			}
			if err != nil || s.Version() != e.version || s.Hash() != e.hash {
				t.Fatalf("from %d to %v: %v", from, e.version, err)
			}
		}
		if s.Hash() != want.Hash() || s.Version() != want.Version() {
			t.Fatalf("from %d to %v, not %v", from, s.Version(), want.Version())
		}
	}
}

// TestBatchIsBounded in octets, and a delta that is longer goes by itself.
func TestBatchIsBounded(t *testing.T) {
	d, err := NewDocuments()
	if err != nil {
		t.Fatal(err)
	}
	start, _ := gcm.NewSet(gcm.Settings)
	n := 0
	commit := func(records, octets int) {
		n++
		var put []gcm.Record
		for k := range records {
			put = append(put, gcm.Setting{Name: fmt.Sprintf("s-%d-%d", n, k), Value: strings.Repeat("x", octets)}.Record())
		}
		mustCommit(t, d, n, put...)
	}
	for range 30 {
		commit(1, 60<<10)
	}
	commit(20, 60<<10)
	commit(1, 1)
	rest, _ := d.since(gcm.Settings, start.Version(), start.Hash())
	var versions []uint64
	for len(rest) > 0 {
		var e encoded
		if e, rest, err = batch(rest); err != nil {
			t.Fatal(err)
		}
		if len(e.octets) > maxBatch && e.version.Number != 31 {
			t.Errorf("%d octets", len(e.octets))
		}
		versions = append(versions, e.version.Number)
	}
	if got := fmt.Sprint(versions); got != "[17 30 31 32]" {
		t.Errorf("documents lead to %s", got)
	}
}

// TestBehind is since the first commit that a gateway doesn't have.
func TestBehind(t *testing.T) {
	d, err := NewDocuments()
	if err != nil {
		t.Fatal(err)
	}
	var at []time.Time
	for n := 1; n <= 3; n++ {
		mustCommit(t, d, n, setting(1, n))
		at = append(at, d.sections[gcm.Settings].at)
	}
	for has, want := range at {
		if got := d.behind(gcm.Settings, number(has)); !got.Equal(want) {
			t.Errorf("who has %d is behind since %v, want %v", has, got, want)
		}
	}
}

// TestRefusals are bounded at once and over time.
func TestRefusals(t *testing.T) {
	var r refusals
	now := time.Now()
	allowed := func(of int) (n int) {
		for range of {
			if r.allow(now) {
				n++
			}
		}
		return n
	}
	if n := allowed(1000); n != maxRefusals {
		t.Errorf("%d at once, want %d", n, maxRefusals)
	}
	now = now.Add(3*refusalTime + refusalTime/2)
	if n := allowed(1000); n != 3 {
		t.Errorf("%d after %v", n, 3*refusalTime)
	}
	now = now.Add(refusalTime / 2)
	if n := allowed(1000); n != 1 {
		t.Errorf("%d after another one", n)
	}
	now = now.Add(1000 * refusalTime)
	if n := allowed(1000); n != maxRefusals {
		t.Errorf("%d after a long time", n)
	}
}
