package esp

import "math/bits"

// WindowSize is the number of sequence numbers that a Window remembers: the
// highest that was accepted and those below it.
const WindowSize = 1024

const windowWords = WindowSize / 64

// Verdict of Window.Check.
type Verdict uint8

const (
	// Fresh: neither seen nor too old; if it authenticates, accept it.
	Fresh Verdict = iota
	// Replayed: accepted before, or 0, which no sender uses (RFC 4303 section 2.2).
	Replayed
	// TooOld: left of the window, so nobody knows.
	TooOld
)

// Window finds replayed packets (RFC 4303 section 3.4.3). It is used by one
// goroutine at a time; the zero value has accepted nothing.
type Window struct {
	highest uint64
	// seen is a ring: the bit of a sequence number is its rest by WindowSize.
	// Bits of numbers left of the window are reused as it advances.
	seen [windowWords]uint64
}

// Check infers the whole sequence number of a packet from the 32 bits that it
// carries and says whether the packet may be fresh. It changes nothing: only
// once the packet is authenticated for seq may Advance be told.
//
// With ESN, the high half is the one that puts seq into the window or right of
// it (RFC 4303 appendix A2.2). Without, seq is seq32.
func (w *Window) Check(seq32 uint32, esn bool) (seq uint64, v Verdict) {
	seq = uint64(seq32)
	if esn {
		var ok bool
		if seq, ok = w.infer(seq32); !ok {
			return seq, TooOld
		}
	}
	switch {
	case seq == 0:
		return seq, Replayed
	case seq > w.highest:
		return seq, Fresh
	case w.highest-seq >= WindowSize:
		return seq, TooOld
	case w.seen[seq/64%windowWords]>>(seq%64)&1 != 0:
		return seq, Replayed
	default:
		return seq, Fresh
	}
}

// infer is RFC 4303 appendix A2.2. It fails where the high half would be below
// zero or above 32 bits.
func (w *Window) infer(seq32 uint32) (seq uint64, ok bool) {
	high, low := uint32(w.highest>>32), uint32(w.highest)
	bottom := low - (WindowSize - 1) // modulo 2^32, as the RFC has it
	if low >= WindowSize-1 {
		// The window lies within one run of the low half (case A).
		if seq32 < bottom {
			high++
			if high == 0 {
				return 0, false
			}
		}
	} else if seq32 >= bottom {
		// It begins in the run before (case B).
		if high == 0 {
			return 0, false
		}
		high--
	}
	return uint64(high)<<32 | uint64(seq32), true
}

// Advance notes that the packet with seq was authenticated, and says whether it
// is the highest yet. Call it for a seq that Check found fresh, before the next
// Check.
func (w *Window) Advance(seq uint64) (advanced bool) {
	if seq > w.highest {
		w.forget(seq)
		w.highest = seq
		advanced = true
	} else if w.highest-seq >= WindowSize {
		return false
	}
	w.seen[seq/64%windowWords] |= 1 << (seq % 64)
	return advanced
}

// forget clears the bits of the numbers above highest up to seq, which stood
// for numbers that leave the window.
func (w *Window) forget(seq uint64) {
	if seq-w.highest >= WindowSize {
		clear(w.seen[:])
		return
	}
	at, left := w.highest+1, seq-w.highest
	for left > 0 {
		n := min(64-at%64, left) // to the end of the word, or of the range
		w.seen[at/64%windowWords] &^= (1<<n - 1) << (at % 64)
		at += n
		left -= n
	}
}

// Export returns the highest sequence number that was accepted and the bitmap
// of dataplane.ChildState: bit i of word j is the number 64j+i below highest.
func (w *Window) Export() (highest uint64, bitmap []uint64) {
	bitmap = make([]uint64, windowWords)
	for j := range bitmap {
		// The 64 numbers of the word, the lowest in bit 0, then turned round.
		lowest := w.highest - uint64(j)*64 - 63
		at, shift := lowest/64%windowWords, lowest%64
		word := w.seen[at]>>shift | w.seen[(at+1)%windowWords]<<(64-shift)
		bitmap[j] = bits.Reverse64(word)
	}
	return w.highest, bitmap
}

// Import replaces the window by one that was exported. Whatever a shorter
// bitmap doesn't tell counts as seen, and so does highest itself.
func (w *Window) Import(highest uint64, bitmap []uint64) {
	*w = Window{highest: highest}
	for below := range min(uint64(WindowSize), highest) {
		told := below/64 < uint64(len(bitmap))
		if below == 0 || !told || bitmap[below/64]>>(below%64)&1 != 0 {
			seq := highest - below
			w.seen[seq/64%windowWords] |= 1 << (seq % 64)
		}
	}
}
