package checksum

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// told is RFC 1071 as it is told: words in network order, their carries added.
func told(b []byte) uint16 {
	var acc uint32
	for i, v := range b {
		if i%2 == 0 {
			acc += uint32(v) << 8
		} else {
			acc += uint32(v)
		}
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc>>16 + acc&0xffff)
}

// check compares what there is to sum b with RFC 1071; acc is any running sum.
func check(t *testing.T, b []byte, acc uint64) {
	t.Helper()
	var field [2]byte
	binary.NativeEndian.PutUint16(field[:], Fold(Sum(b, 0)))
	if got, want := binary.BigEndian.Uint16(field[:]), told(b); got != want {
		t.Fatalf("sum of %d octets: %04x, want %04x", len(b), got, want)
	}
	if got, want := Fold(Sum(b, acc)), Fold(sumWords(b, acc)); got != want {
		t.Fatalf("%d octets added to %x: %04x, in words %04x", len(b), acc, got, want)
	}
}

// guarded is n octets, behind which there is no memory that may be read.
func guarded(tb testing.TB, n int) []byte {
	tb.Helper()
	page := unix.Getpagesize()
	most := (n + page - 1) / page * page
	mapped, err := unix.Mmap(-1, 0, most+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unix.Munmap(mapped); err != nil {
			tb.Error(err)
		}
	})
	if err := unix.Mprotect(mapped[most:], unix.PROT_NONE); err != nil {
		tb.Fatal(err)
	}
	return mapped[most-n : most : most]
}

// fills are the octets that a carry could be lost over, and any.
var fills = map[string]func(b []byte, r *rand.Rand){
	"zeros": func(b []byte, _ *rand.Rand) { clear(b) },
	"ones": func(b []byte, _ *rand.Rand) {
		for i := range b {
			b[i] = 0xff
		}
	},
	"random": func(b []byte, r *rand.Rand) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	},
}

func TestSum(t *testing.T) {
	const most = 70_000
	for name, fill := range fills {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			b := guarded(t, most)
			fill(b, r)
			accs := []uint64{0, 1, 0xffff, 1<<32 - 1, 1<<64 - 1, r.Uint64()}
			for n := range 600 {
				check(t, b[most-n:], accs[n%len(accs)]) // ends where memory ends, begins anywhere
				check(t, b[n%67:][:n], accs[n%len(accs)])
			}
			for range 400 {
				n := r.IntN(most + 1)
				check(t, b[most-n:], r.Uint64())
				at := r.IntN(most - n + 1)
				check(t, b[at:at+n], r.Uint64())
			}
			check(t, b, 1<<64-1)
		})
	}
}

// TestSumInParts: all but the last part are even.
func TestSumInParts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 9001)
	fills["random"](b, r)
	for range 500 {
		n := r.IntN(len(b))
		cut := r.IntN(n/2+1) * 2
		if got, want := Fold(Sum(b[cut:n], Sum(b[:cut], 0))), Fold(Sum(b[:n], 0)); got != want {
			t.Fatalf("%d octets in parts of %d and the rest: %04x, at once %04x", n, cut, got, want)
		}
	}
}

func TestPut(t *testing.T) {
	// The header of RFC 1071's example would do; this one is of an IPv4 packet.
	header := []byte{0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7}
	Put(header[10:12], Sum(header, 0))
	if got := binary.BigEndian.Uint16(header[10:]); got != 0xb861 {
		t.Errorf("checksum of the header: %04x, want b861", got)
	}
	if got := Fold(Sum(header, 0)); got != 0xffff {
		t.Errorf("sum of a header with its checksum: %04x", got)
	}
	field := make([]byte, 2)
	for _, acc := range []uint64{0xffff, 1<<64 - 1} {
		if Put(field, acc); field[0] != 0xff || field[1] != 0xff {
			t.Errorf("checksum of the sum %x: %x, want its form that isn't zero", acc, field)
		}
	}
}

func TestPseudo(t *testing.T) {
	for _, n := range []int{8, 32} {
		addresses := make([]byte, n)
		fills["random"](addresses, rand.New(rand.NewPCG(5, 6)))
		want := told(append(append([]byte{}, addresses...), 0, 17, 0xab, 0xcd))
		var field [2]byte
		binary.NativeEndian.PutUint16(field[:], Fold(Pseudo(addresses, 17, 0xabcd)))
		if got := binary.BigEndian.Uint16(field[:]); got != want {
			t.Errorf("pseudo-header with %d octets of addresses: %04x, want %04x", n, got, want)
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add([]byte{1, 2, 3}, uint64(1<<64-1))
	f.Add(make([]byte, 1400), uint64(0xffff))
	f.Fuzz(func(t *testing.T, b []byte, acc uint64) {
		g := guarded(t, len(b))
		copy(g, b)
		check(t, g, acc)
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 40, 64, 594, 1400, 65535} {
		packet := make([]byte, n)
		for i := range packet {
			packet[i] = byte(i * 7)
		}
		for _, way := range []struct {
			name string
			sum  func([]byte, uint64) uint64
		}{{"words", sumWords}, {"any", Sum}} {
			b.Run(fmt.Sprintf("%d/%s", n, way.name), func(b *testing.B) {
				b.SetBytes(int64(n))
				var acc uint64
				for b.Loop() {
					acc = way.sum(packet, acc)
				}
				if acc == 1 {
					b.Fatal("the sum wasn't made") // it is used
				}
			})
		}
	}
}
