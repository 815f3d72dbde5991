// Package flow offers UDP datagrams at a rate and counts what arrives: lost,
// reordered, how long they took. Both ends have to have one clock, which is so
// in namespaces of one machine.
//
// What lives here: the plain traffic inside a tunnel. What doesn't: the tunnel.
package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A datagram begins with 16 octets, big endian: its number from 0 on, and when
// it was sent, in nanoseconds of the monotonic clock of the machine.
const headerLen = 16

// Sizes of inner packets, IP and UDP headers counted.
const (
	MinSize = 20 + 8 + headerLen
	MaxSize = 9000
)

// Mix is sizes of IP packets that are sent in turn.
type Mix []int

// IMIX is the simple Internet mix, 7:4:1.
var IMIX = Mix{64, 64, 594, 64, 64, 594, 64, 1400, 64, 594, 64, 594}

// Validate checks every size.
func (m Mix) Validate() error {
	if len(m) == 0 {
		return errors.New("no packet size")
	}
	for _, n := range m {
		if n < MinSize || n > MaxSize {
			return fmt.Errorf("packets of %d octets, must be %d to %d", n, MinSize, MaxSize)
		}
	}
	return nil
}

// Mean size of a packet in octets.
func (m Mix) Mean() float64 {
	sum := 0
	for _, n := range m {
		sum += n
	}
	return float64(sum) / float64(len(m))
}

// Put writes the header of a datagram into its payload.
func Put(b []byte, number uint64, at time.Duration) {
	binary.BigEndian.PutUint64(b, number)
	binary.BigEndian.PutUint64(b[8:], uint64(at))
}

// A question is a datagram of this number: the receiver answers it with what it
// counted so far, as JSON, to where it came from.
const question = ^uint64(0)

// Question makes one.
func Question() []byte {
	b := make([]byte, headerLen)
	Put(b, question, 0)
	return b
}

// header reads it; false for a datagram that isn't ours.
func header(b []byte) (number uint64, at time.Duration, ok bool) {
	if len(b) < headerLen {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b), time.Duration(binary.BigEndian.Uint64(b[8:])), true
}

// Now is the monotonic time of the machine, the same in all its namespaces.
func Now() time.Duration {
	var ts unix.Timespec
	// It fails for clocks that don't exist only.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// Received is what arrived of one flow.
type Received struct {
	Packets uint64 `json:"packets"`
	// Late datagrams came after one with a higher number; Twice is how many of
	// those had come before, as far as the last 1,024 tell.
	Late  uint64 `json:"late"`
	Twice uint64 `json:"twice"`
	// Highest number that came, plus one.
	Highest uint64 `json:"highest"`
	// Foreign datagrams weren't ours.
	Foreign uint64 `json:"foreign"`
	// Span from the first to the last.
	Span time.Duration `json:"span_ns"`
}

// tally keeps Received.
type tally struct {
	Received
	first time.Duration
	seen  [1024 / 64]uint64
}

func (t *tally) take(number uint64) {
	t.Packets++
	if number >= t.Highest {
		for n := max(t.Highest, number+1-min(number+1, 1024)); n < number; n++ {
			t.clear(n)
		}
		t.Highest = number + 1
		t.set(number)
		return
	}
	t.Late++
	if t.Highest-number <= 1024 {
		if t.has(number) {
			t.Twice++
		}
		t.set(number)
	}
}

func (t *tally) bit(n uint64) (*uint64, uint64) {
	return &t.seen[n/64%uint64(len(t.seen))], 1 << (n % 64)
}

func (t *tally) set(n uint64) {
	word, bit := t.bit(n)
	*word |= bit
}

func (t *tally) clear(n uint64) {
	word, bit := t.bit(n)
	*word &^= bit
}

func (t *tally) has(n uint64) bool {
	word, bit := t.bit(n)
	return *word&bit != 0
}
