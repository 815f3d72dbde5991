package lease

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"strings"
	"testing"
)

const testLife = 0x0123456789abcdef

// written is a journal of some batches, one of them longer than a block, with
// where each ends and what is to be read when it is the last one.
func written(t testing.TB, life uint64, start int64) (journal []byte, ends []int, want []map[key]change) {
	t.Helper()
	address := func(i int) key { return keyOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})) }
	all := make(map[key]change)
	want = append(want, maps.Clone(all))
	for i := range 4 {
		batch := map[key]change{
			address(i):                  {entry: entry{live: true, since: start, used: int64(i), device: fmt.Sprint("device-", i)}},
			address(i - 1):              {gone: true},
			keyOf(netip.IPv6Loopback()): {entry: entry{used: start + int64(i)}},
		}
		if i == 1 {
			for n := range 5 {
				batch[address(100+n)] = change{entry: entry{used: start, device: strings.Repeat(string(rune('a'+n)), maxDevice)}}
			}
		}
		journal = appendFrame(journal, life, uint64(11+i), batch, start+int64(i))
		ends = append(ends, len(journal))
		journal = append(journal, make([]byte, aligned(len(journal))-len(journal))...)
		maps.Copy(all, batch)
		want = append(want, maps.Clone(all))
	}
	return journal, ends, want
}

var after10 = position{life: testLife, sequence: 10}

// A journal that is cut at any octet, whatever lies behind the cut, has the
// batches that are there as a whole.
func TestJournalCutAtEachOctet(t *testing.T) {
	journal, ends, want := written(t, testLife, 1000)
	stale, _, _ := written(t, testLife-1, 500)
	for cut := range len(journal) + 1 {
		for name, behind := range map[string][]byte{"nothing": nil, "zeros": make([]byte, len(journal)-cut), "an earlier life": stale[cut:]} {
			b := append(bytes.Clone(journal[:cut]), behind...)
			whole := 0 // what was cut off may be the same in the earlier life
			for whole < len(ends) && len(b) >= ends[whole] && bytes.Equal(b[:ends[whole]], journal[:ends[whole]]) {
				whole++
			}
			got, last, err := readFrames(b, after10)
			if err != nil || !maps.Equal(got, want[whole]) || whole > 0 && last != int64(999+whole) {
				t.Fatalf("cut at %d with %s behind it: %d changes, time %d, %v; want %d of %d batches", cut, name, len(got), last, err, whole, len(ends))
			}
		}
	}
}

// An octet that is wrong in a batch with others behind it is noticed; in the last
// one it is a write that was cut.
func TestJournalDamage(t *testing.T) {
	journal, ends, want := written(t, testLife, 1000)
	start := 0
	for i, end := range ends {
		for at := start; at < end; at++ {
			bad := bytes.Clone(journal)
			bad[at] ^= 0x10
			got, _, err := readFrames(bad, after10)
			if last := i == len(ends)-1; last && (err != nil || !maps.Equal(got, want[i])) || !last && err == nil {
				t.Fatalf("octet %d, in batch %d: %v", at, i, err)
			}
		}
		start = aligned(end)
	}
	// What the file has already may be damaged or missing.
	if got, _, err := readFrames(journal[aligned(ends[1]):], position{life: testLife, sequence: 12}); err != nil || len(got) == 0 {
		t.Fatal(err)
	}
	// A batch that comes twice with different content can't be.
	if _, _, err := readFrames(append(bytes.Clone(journal), journal[:frameAlign]...), after10); err == nil {
		t.Fatal("a batch twice")
	}
	if got, _, err := readFrames(journal, position{life: testLife + 1, sequence: 0}); err != nil || len(got) != 0 {
		t.Fatalf("another life's: %d changes, %v", len(got), err)
	}
}

// Whatever a journal holds: an error, or changes that can be written and read
// again.
func FuzzJournal(f *testing.F) {
	journal, ends, _ := written(f, testLife, 1000)
	f.Add(journal, uint64(10))
	f.Add(journal[:ends[0]-1], uint64(10))
	f.Add(journal[aligned(ends[0]):], uint64(11))
	f.Add([]byte(frameMagic), uint64(0))
	f.Add([]byte{}, uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, b []byte, sequence uint64) {
		// Most of what a fuzzer makes has a wrong checksum: its records are
		// looked at for themselves, too.
		records := make(map[key]change)
		if (frame{records: b}).apply(records) == nil {
			again(t, records)
		}
		if changes, _, err := readFrames(b, position{life: testLife, sequence: sequence}); err == nil {
			again(t, changes)
		}
	})
}

func again(t *testing.T, changes map[key]change) {
	t.Helper()
	b := appendFrame(nil, 1, 1, changes, 5)
	got, last, err := readFrames(b, position{life: 1})
	if err != nil || !maps.Equal(got, changes) || last != 5 {
		t.Fatalf("%d changes became %d, %v", len(changes), len(got), err)
	}
}
