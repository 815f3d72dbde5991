//go:build amd64 && !purego

package vaes

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"
)

// Packets of each length, by this and by crypto/cipher.
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
					lowest(b, packets, func(i int) {
						iv := nonce(i)
						each(i, &iv)
					})
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

// What a key costs before its first packet.
func BenchmarkExpand(b *testing.B) {
	raw := octets(16)
	run := func(name string, each func()) {
		b.Run(name, func(b *testing.B) { lowest(b, 32, func(int) { each() }) })
	}
	var k Key
	run("vaes", func() {
		if k.Expand(raw) != nil {
			b.Fatal("not expanded")
		}
	})
	run("crypto-cipher", func() {
		block, err := aes.NewCipher(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := cipher.NewGCM(block); err != nil {
			b.Fatal(err)
		}
	})
}

// lowest reports the time of each in the fastest round of n: what else runs on the
// machine doesn't make it lower.
func lowest(b *testing.B, n int, each func(i int)) {
	least := time.Duration(math.MaxInt64)
	for b.Loop() {
		start := time.Now()
		for i := range n {
			each(i)
		}
		least = min(least, time.Since(start))
	}
	b.ReportMetric(float64(least.Nanoseconds())/float64(n), "lowest-ns")
	b.ReportMetric(0, "ns/op")
}
