package gcm

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Packed records are what a map would be, through overwriting, removal, copies,
// long ones, and keys of the same hash.
func TestPackedRecords(t *testing.T) {
	for _, mask := range []uint64{math.MaxUint64, 0xff} {
		r := rand.New(rand.NewPCG(1, 7))
		rs, want := newRecords(), map[string]string{}
		rs.mask = mask
		key := func() []byte { return fmt.Appendf(nil, "key-%d", r.IntN(3000)) }
		check := func(step int) {
			t.Helper()
			if rs.len() != len(want) {
				t.Fatalf("step %d: %d records, want %d", step, rs.len(), len(want))
			}
			got := map[string]string{}
			for k, v := range rs.all() {
				if _, twice := got[string(k)]; twice {
					t.Fatalf("step %d: %q comes twice", step, k)
				}
				got[string(k)] = string(v)
			}
			if !maps.Equal(got, want) {
				t.Fatalf("step %d: other records", step)
			}
			var keys []string
			for k, v := range rs.sorted() {
				keys = append(keys, string(k))
				if want[string(k)] != string(v) {
					t.Fatalf("step %d: %q sorted", step, k)
				}
			}
			if !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
				t.Fatalf("step %d: not sorted", step)
			}
		}
		for step := range 60000 {
			k := key()
			switch r.IntN(5) {
			case 0, 1:
				rs.remove(k)
				delete(want, string(k))
			default:
				v := bytes.Repeat([]byte{byte(step)}, r.IntN(200))
				if r.IntN(2000) == 0 {
					v = bytes.Repeat(v, 1000)
				}
				rs.put(Record{k, v})
				want[string(k)] = string(v)
			}
			is, there := want[string(k)]
			if v, ok := rs.get(k); ok != there || string(v) != is {
				t.Fatalf("step %d: %q is %d octets, %t", step, k, len(v), ok)
			}
			if step%5000 == 0 {
				check(step)
				before, copied := rs, rs.clone()
				rs = copied
				before.put(Record{[]byte("elsewhere"), nil})
				check(step)
			}
		}
		dead, octets := 0, 0
		for _, c := range rs.chunks {
			dead, octets = dead+c.dead, octets+len(c.octets)
		}
		if dead > octets/2+chunkOctets {
			t.Errorf("%d octets of %d are dead", dead, octets)
		}
	}
}

// A ticket key that was deleted isn't among the octets that are kept.
func TestSecretsThatAreGone(t *testing.T) {
	s, err := NewSet(Tickets)
	if err != nil {
		t.Fatal(err)
	}
	secret := [32]byte([]byte("an old secret of thirty-two octs"))
	old := TicketKey{ID: [8]byte{1}, Secret: secret, From: noon}.Record()
	put := []Record{old}
	for n := range byte(10) {
		put = append(put, TicketKey{ID: [8]byte{2, n}, Secret: [32]byte{n}, From: noon}.Record())
	}
	if _, err := s.Commit(Version{1, 1}, put, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(Version{1, 2}, nil, [][]byte{old.Key}); err != nil {
		t.Fatal(err)
	}
	if s.Len() != 10 {
		t.Errorf("%d records", s.Len())
	}
	for _, c := range s.Clone().records.chunks {
		if bytes.Contains(c.octets, secret[:]) {
			t.Error("it is kept")
		}
	}
}
