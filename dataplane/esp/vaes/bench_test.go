//go:build amd64 && !purego

package vaes

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"
)

// Packets of each length, by this and by crypto/cipher. lowest-ns is of a packet in the
// fastest round of 32: what else runs on the machine doesn't make it lower.
func BenchmarkPackets(b *testing.B) {
	for _, keyLen := range []int{16, 32} {
		raw := octets(keyLen)
		theirs, own := reference(b, raw), expanded(b, raw)
		for _, n := range []int{64, 594, 1404, 16384} {
			const packets = 32
			var plain, sealed [packets][]byte
			aad := octets(8)
			nonce := func(i int) (nonce [NonceLen]byte) {
				binary.BigEndian.PutUint64(nonce[4:], uint64(i))
				return nonce
			}
			for i := range packets {
				plain[i] = octets(n + ICVLen)
				iv := nonce(i)
				sealed[i] = theirs.Seal(nil, iv[:], plain[i][:n], aad)
			}
			buffer := make([]byte, n+ICVLen)
			run := func(name string, each func(i int, iv *[NonceLen]byte)) {
				b.Run(fmt.Sprintf("AES-%d/%d/%s", keyLen*8, n, name), func(b *testing.B) {
					lowest := time.Duration(math.MaxInt64)
					for b.Loop() {
						start := time.Now()
						for i := range packets {
							iv := nonce(i)
							each(i, &iv)
						}
						lowest = min(lowest, time.Since(start))
					}
					b.ReportMetric(float64(lowest.Nanoseconds())/packets, "lowest-ns")
					b.ReportMetric(0, "ns/op")
				})
			}
			run("seal/crypto-cipher", func(i int, iv *[NonceLen]byte) {
				theirs.Seal(plain[i][:0], iv[:], plain[i][:n], aad)
			})
			run("seal/vaes", func(i int, iv *[NonceLen]byte) { own.Seal(plain[i], iv, aad) })
			run("open/crypto-cipher", func(i int, iv *[NonceLen]byte) {
				copy(buffer, sealed[i])
				if _, err := theirs.Open(buffer[:0], iv[:], buffer, aad); err != nil {
					b.Fatal(err)
				}
			})
			run("open/vaes", func(i int, iv *[NonceLen]byte) {
				copy(buffer, sealed[i])
				if !own.Open(buffer, iv, aad) {
					b.Fatal("not authentic")
				}
			})
		}
	}
}

func BenchmarkExpand(b *testing.B) {
	raw := octets(16)
	b.Run("crypto-cipher", func(b *testing.B) {
		for b.Loop() {
			reference(b, raw)
		}
	})
	b.Run("vaes", func(b *testing.B) {
		for b.Loop() {
			expanded(b, raw)
		}
	})
}
