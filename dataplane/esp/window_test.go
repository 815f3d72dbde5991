package esp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// referenceWindow remembers everything: a map of what was accepted, and the
// inference of RFC 4303 appendix A2.2 done by trying all high halves near by.
type referenceWindow struct {
	highest uint64
	seen    map[uint64]bool
}

// infer finds the only number with that low half in the 2^32 numbers that begin
// at the left end of the window.
func (r *referenceWindow) infer(seq32 uint32) (seq uint64, ok bool) {
	left := int64(r.highest) - (WindowSize - 1)
	for high := int64(r.highest>>32) - 1; high <= int64(r.highest>>32)+1; high++ {
		candidate := high<<32 | int64(seq32)
		if candidate >= left && candidate < left+1<<32 {
			return uint64(candidate), candidate >= 0
		}
	}
	panic("no candidate")
}

func (r *referenceWindow) check(seq uint64) Verdict {
	switch {
	case seq == 0 || r.seen[seq]:
		if seq+WindowSize > r.highest {
			return Replayed
		}
		return TooOld
	case seq+WindowSize <= r.highest:
		return TooOld
	default:
		return Fresh
	}
}

func (r *referenceWindow) advance(seq uint64) bool {
	r.seen[seq] = true
	if seq <= r.highest {
		return false
	}
	r.highest = seq
	return true
}

// Random walks round interesting places: every answer is the reference's.
func TestWindowIsReference(t *testing.T) {
	for name, c := range map[string]struct {
		start uint64
		esn   bool
	}{
		"from nothing":               {0, false},
		"from nothing, ESN":          {0, true},
		"middle":                     {1 << 20, false},
		"end of 32 bits":             {1<<32 - 3000, true},
		"end of 32 bits, second run": {5<<32 - 3000, true},
		"begin of 32 bits":           {1 << 32, true},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var w Window
			w.Import(c.start, make([]uint64, windowWords))
			r := referenceWindow{highest: c.start, seen: map[uint64]bool{c.start: c.start > 0}}
			counts := map[Verdict]int{}
			for range 20000 {
				seq := r.highest + 1
				switch rng.IntN(10) {
				case 0, 1, 2: // again, late or lost
					seq -= min(seq, rng.Uint64N(1200))
				case 3:
					seq += rng.Uint64N(70)
				case 4:
					if rng.IntN(20) == 0 {
						seq += 900 + rng.Uint64N(300)
					}
				case 5: // at the edges of the window
					seq -= min(seq, WindowSize-2+rng.Uint64N(5))
				}
				wantSeq := seq & 0xffffffff
				inferred := true
				if c.esn {
					wantSeq, inferred = r.infer(uint32(seq))
				}
				got, verdict := w.Check(uint32(seq), c.esn)
				counts[verdict]++
				if !inferred {
					if verdict != TooOld {
						t.Fatalf("highest %#x: %#x would be before the first number, verdict %v", r.highest, uint32(seq), verdict)
					}
					continue
				}
				// Number 0 is Replayed wherever the window stands.
				want := r.check(wantSeq)
				if got != wantSeq || (verdict != want && wantSeq != 0) {
					t.Fatalf("highest %#x: Check(%#x) = %#x, %v, want %#x, %v", r.highest, uint32(seq), got, verdict, wantSeq, want)
				}
				// A number left of the window is taken for one of the next run with
				// ESN; its packet isn't authentic then.
				if verdict != Fresh || wantSeq != seq || rng.IntN(8) == 0 {
					continue
				}
				if got, want := w.Advance(wantSeq), r.advance(wantSeq); got != want {
					t.Fatalf("Advance(%#x) = %v, want %v", wantSeq, got, want)
				}
				if rng.IntN(50) == 0 { // another process goes on
					highest, bitmap := w.Export()
					if bits := exported(&r); highest != r.highest || !slices.Equal(bitmap, bits) {
						t.Fatalf("Export() = %#x, %x\nwant %#x, %x", highest, bitmap, r.highest, bits)
					}
					w = Window{}
					w.Import(highest, bitmap)
				}
			}
			if counts[Fresh] < 5000 || counts[Replayed] < 500 || (counts[TooOld] < 100 && !c.esn) {
				t.Errorf("the walk missed something: %v", counts)
			}
		})
	}
}

// The inference at its edges: where the window touches the end of a run, and
// where the number is at the edge of the window.
func TestWindowInference(t *testing.T) {
	for _, run := range []uint64{1 << 32, 7 << 32} {
		for low := uint64(WindowSize - 3); low < WindowSize+3; low++ {
			r := referenceWindow{highest: run + low, seen: map[uint64]bool{}}
			var w Window
			w.Import(r.highest, make([]uint64, windowWords))
			for _, base := range []uint64{run, r.highest, r.highest - WindowSize} {
				for seq := base - 3; seq <= base+3; seq++ {
					want, _ := r.infer(uint32(seq))
					if got, _ := w.Check(uint32(seq), true); got != want {
						t.Errorf("highest %#x: %#x is %#x, want %#x", r.highest, uint32(seq), got, want)
					}
				}
			}
		}
	}
}

// Advancing to a number left of the window marks no other one.
func TestWindowAdvanceTooOld(t *testing.T) {
	var w Window
	w.Import(5000, make([]uint64, windowWords))
	before := w
	for _, seq := range []uint64{5000 - WindowSize, 5000 - WindowSize - 1, 1} {
		if w.Advance(seq) || w != before {
			t.Errorf("Advance(%d) changed the window", seq)
		}
	}
}

// exported is the bitmap as dataplane.ChildState describes it.
func exported(r *referenceWindow) []uint64 {
	bitmap := make([]uint64, windowWords)
	for below := range min(uint64(WindowSize), r.highest+1) {
		if r.seen[r.highest-below] {
			bitmap[below/64] |= 1 << (below % 64)
		}
	}
	return bitmap
}

func TestWindowZeroNumberIsNeverFresh(t *testing.T) {
	var w Window
	if _, v := w.Check(0, true); v != Replayed {
		t.Errorf("number 0: %v", v)
	}
	// With ESN the low half 0 is a number like any other, once the high half is not 0.
	w.Import(1<<32-1, nil)
	if seq, v := w.Check(0, true); seq != 1<<32 || v != Fresh {
		t.Errorf("number 2^32: %#x, %v", seq, v)
	}
	// Without, the end is the end.
	if _, v := w.Check(0, false); v == Fresh {
		t.Error("number 0 after 2^32-1 without ESN is fresh")
	}
}

func TestWindowEndOf64Bits(t *testing.T) {
	var w Window
	w.Import(1<<64-10, []uint64{^uint64(0)})
	if _, v := w.Check(5, true); v != TooOld {
		t.Errorf("a number beyond 64 bits: %v", v)
	}
	if seq, v := w.Check(1<<32-1, true); seq != 1<<64-1 || v != Fresh {
		t.Errorf("the last number: %#x, %v", seq, v)
	}
	if !w.Advance(1<<64 - 1) {
		t.Error("the last number doesn't advance")
	}
	if _, v := w.Check(1<<32-1, true); v != Replayed {
		t.Errorf("the last number again: %v", v)
	}
}

// What a predecessor didn't tell may have been accepted.
func TestWindowImportOfShortBitmap(t *testing.T) {
	var w Window
	w.Import(10_000, []uint64{0b101})
	for seq, want := range map[uint32]Verdict{
		10_000: Replayed, 9_999: Fresh, 9_998: Replayed, 9_997: Fresh, 9_937: Fresh,
		9_936: Replayed, 8_977: Replayed, 8_976: TooOld, 10_001: Fresh,
	} {
		if _, v := w.Check(seq, false); v != want {
			t.Errorf("%d: %v, want %v", seq, v, want)
		}
	}
	w.Import(10_000, make([]uint64, 4*windowWords))
	if _, v := w.Check(8_977, false); v != Fresh {
		t.Errorf("longer bitmap: %v", v)
	}
}

func TestWindowNoAllocations(t *testing.T) {
	var w Window
	var next uint32
	if n := testing.AllocsPerRun(1000, func() {
		next++
		seq, v := w.Check(next, true)
		if v != Fresh || !w.Advance(seq) {
			t.Fatal(seq, v)
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
