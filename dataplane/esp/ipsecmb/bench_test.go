//go:build ipsecmb && cgo && amd64 && !purego

package ipsecmb

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane/esp/vaes"
)

// Opening, as a packet loop would: in batches, and by crypto/cipher and package vaes
// one by one. lowest-ns is of a packet in the fastest round of 64: what else runs on the
// machine doesn't make it lower.
func BenchmarkOpen(b *testing.B) {
	const packets = 64
	key := octets(16)
	theirs, own := gcm(b, key), newKey(b, key)
	var vector vaes.Key
	if err := vector.Expand(key); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{64, 594, 1404, 16384} {
		sealed := make([]byte, packets*(size+ICVLen))
		jobs := make([]Job, packets)
		for i := range jobs {
			jobs[i] = Job{Offset: uint32(i * (size + ICVLen)), Length: uint32(size), AADLen: 8}
			binary.BigEndian.PutUint64(jobs[i].Nonce[4:], uint64(i))
			jobs[i].Use(own)
		}
		if err := Seal(sealed, jobs); err != nil {
			b.Fatal(err)
		}
		buffer := make([]byte, len(sealed))
		run := func(name string, all func()) {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				lowest := time.Duration(math.MaxInt64)
				for b.Loop() {
					copy(buffer, sealed)
					start := time.Now()
					all()
					lowest = min(lowest, time.Since(start))
				}
				b.ReportMetric(float64(lowest.Nanoseconds())/packets, "lowest-ns")
				b.ReportMetric(0, "ns/op")
			})
		}
		run("crypto-cipher", func() {
			for i := range jobs {
				text := buffer[jobs[i].Offset:][:size+ICVLen]
				if _, err := theirs.Open(text[:0], jobs[i].Nonce[:], text, jobs[i].AAD[:8]); err != nil {
					b.Fatal(err)
				}
			}
		})
		run("vaes", func() {
			if !vaes.Supported() {
				return
			}
			for i := range jobs {
				if !vector.Open(buffer[jobs[i].Offset:][:size+ICVLen], &jobs[i].Nonce, jobs[i].AAD[:8]) {
					b.Fatal("not authentic")
				}
			}
		})
		for _, batch := range []int{1, 8, packets} {
			run(fmt.Sprintf("batch-%d", batch), func() {
				for from := 0; from < packets; from += batch {
					if err := Open(buffer, jobs[from:from+batch]); err != nil || !jobs[from].Good() {
						b.Fatal(err, jobs[from].Good())
					}
				}
			})
		}
	}
}
