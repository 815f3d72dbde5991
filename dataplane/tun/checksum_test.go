package tun

import "testing"

func BenchmarkSum(b *testing.B) {
	packet := make([]byte, 1400)
	for i := range packet {
		packet[i] = byte(i * 7)
	}
	b.SetBytes(int64(len(packet)))
	var acc uint64
	for b.Loop() {
		acc += sum(packet, acc)
	}
	_ = acc
}
