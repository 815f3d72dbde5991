package tun

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkSegmenter and BenchmarkCoalescer tell what a packet of 1,400 octets of
// payload costs that is cut out of a super-packet or joined to one.
func BenchmarkSegmenter(b *testing.B) {
	frame := frameSpec{proto: protoTCP, payload: 45 * 1400, gsoType: gsoTCPv4, gsoSize: 1400}.build()
	var s Segmenter
	dst := make([]byte, 1500)
	packets := 0
	for b.Loop() {
		if err := s.Reset(frame); err != nil {
			b.Fatal(err)
		}
		for s.Next(dst) > 0 {
			packets++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
}

func BenchmarkCoalescer(b *testing.B) {
	frame := frameSpec{proto: protoTCP, payload: 45 * 1400, gsoType: gsoTCPv4, gsoSize: 1400}.build()
	var s Segmenter
	if err := s.Reset(frame); err != nil {
		b.Fatal(err)
	}
	var cut [][]byte
	for {
		dst := make([]byte, HeaderLen+1500)
		n := s.Next(dst[HeaderLen:])
		if n == 0 {
			break
		}
		cut = append(cut, dst[:HeaderLen+n])
	}
	head := append([]byte{}, cut[0]...)
	var w sink
	c := NewCoalescer(&w, true)
	packets := 0
	for b.Loop() {
		copy(cut[0], head) // it becomes that of the super-packet
		for _, p := range cut {
			c.Add(p)
			packets++
		}
		c.Flush()
	}
	if w == 0 || packets/int(w) != len(cut) {
		b.Fatalf("%d packets were written as %d", packets, w)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
}

// sink counts the frames that it takes.
type sink int

func (s *sink) Write([]byte) error             { *s++; return nil }
func (s *sink) WriteVector([]unix.Iovec) error { *s++; return nil }
