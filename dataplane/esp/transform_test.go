package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/roamgate/roamgate/dataplane"
)

// testKeys are of the right length and differ in each octet.
func testKeys(t testing.TB, alg dataplane.Algorithm) dataplane.Keys {
	t.Helper()
	encryption, integrity, err := KeyLen(alg)
	if err != nil {
		t.Fatal(err)
	}
	material := make([]byte, encryption+integrity)
	for i := range material {
		material[i] = byte(i*7 + 3)
	}
	return dataplane.Keys{Encryption: material[:encryption:encryption], Integrity: material[encryption:]}
}

func newTransform(t testing.TB, alg dataplane.Algorithm, esn bool) Transform {
	t.Helper()
	tr, err := New(alg, testKeys(t, alg), esn)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// forEach runs f for each algorithm without and with ESN.
func forEach(t *testing.T, f func(t *testing.T, alg dataplane.Algorithm, esn bool)) {
	for _, alg := range Supported() {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d-%d-%d-esn=%v", alg.Encryption, alg.KeyBits, alg.Integrity, esn), func(t *testing.T) {
				if alg.Encryption != dataplane.EncryptionAESGCM16 {
					f(t, alg, esn)
					return
				}
				eachGCM(t, func(t *testing.T) { f(t, alg, esn) })
			})
		}
	}
}

// eachGCM runs f with each implementation of AES-GCM that this processor has.
func eachGCM(t *testing.T, f func(t *testing.T)) {
	defer func(before bool) { vectors = before }(vectors)
	for _, vectors = range []bool{false, true} {
		if !vectors || vectorsSupported() {
			t.Run(GCM(), f)
		}
	}
}

// referenceSeal is ESP written down from the RFCs in the plainest way, with a
// plaintext that holds its own trailer, right or wrong.
func referenceSeal(t testing.TB, alg dataplane.Algorithm, esn bool, spi uint32, seq uint64, iv, plaintext []byte) []byte {
	t.Helper()
	keys := testKeys(t, alg)
	packet := binary.BigEndian.AppendUint32(nil, spi)
	aad := binary.BigEndian.AppendUint32(nil, spi)
	if esn {
		aad = binary.BigEndian.AppendUint32(aad, uint32(seq>>32))
	}
	aad = binary.BigEndian.AppendUint32(aad, uint32(seq))
	packet = binary.BigEndian.AppendUint32(packet, uint32(seq))
	packet = append(packet, iv...)

	if alg.Integrity == 0 {
		n := len(keys.Encryption) - 4
		nonce := append(bytes.Clone(keys.Encryption[n:]), iv...)
		return referenceAEAD(t, alg, keys.Encryption[:n]).Seal(packet, nonce, plaintext, aad)
	}
	newCipher := aes.NewCipher
	if alg.Encryption == dataplane.EncryptionTripleDES {
		newCipher = des.NewTripleDESCipher
	}
	block, err := newCipher(keys.Encryption)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext := make([]byte, len(plaintext))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, plaintext)
	packet = append(packet, ciphertext...)
	covered := bytes.Clone(packet)
	if esn {
		covered = binary.BigEndian.AppendUint32(covered, uint32(seq>>32))
	}
	h := hmac.New(macs[alg.Integrity].hash, keys.Integrity)
	h.Write(covered)
	icvLen := h.Size() / 2
	if alg.Integrity == dataplane.IntegrityHMACSHA1 {
		icvLen = 96 / 8
	}
	return append(packet, h.Sum(nil)[:icvLen]...)
}

func referenceAEAD(t testing.TB, alg dataplane.Algorithm, key []byte) cipher.AEAD {
	if alg.Encryption == dataplane.EncryptionChaCha20Poly1305 {
		aead, err := chacha20poly1305.New(key)
		if err != nil {
			t.Fatal(err)
		}
		return aead
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func withTrailer(inner []byte, padLen int, nextHeader byte) []byte {
	p := bytes.Clone(inner)
	for i := range padLen {
		p = append(p, byte(i+1))
	}
	return append(p, byte(padLen), nextHeader)
}

func align(alg dataplane.Algorithm) int {
	switch {
	case alg.Integrity == 0:
		return 4
	case alg.Encryption == dataplane.EncryptionTripleDES:
		return 8
	}
	return 16
}

// Sealing gives what the reference gives, in place, and opening takes it back.
func TestSealIsReferenceAndOpens(t *testing.T) {
	const spi, nextHeader = 0xc0ffee01, 4
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
		out, in := newTransform(t, alg, esn), newTransform(t, alg, esn)
		seqs := []uint64{1, 0xffffffff}
		if esn {
			seqs = append(seqs, 0x1_0000_0000, 0x7_1234_5678)
		}
		buf := make([]byte, 2048)
		for _, seq := range seqs {
			for _, n := range []int{0, 1, 2, 3, 13, 14, 15, 16, 20, 64, 1399, 1400} {
				inner := make([]byte, n)
				for i := range inner {
					inner[i] = byte(i)
				}
				for i := range buf {
					buf[i] = 0xee // an earlier packet's octets
				}
				copy(buf[out.HeaderLen():], inner)
				packet := out.Seal(buf[:0], n, nextHeader, spi, seq)
				if len(packet) != out.SealedLen(n) || &packet[0] != &buf[0] {
					t.Fatalf("n=%d: sealed %d octets, SealedLen is %d, in place: %v",
						n, len(packet), out.SealedLen(n), &packet[0] == &buf[0])
				}
				padLen := (align(alg) - (n+2)%align(alg)) % align(alg)
				want := referenceSeal(t, alg, esn, spi, seq, packet[8:out.HeaderLen()], withTrailer(inner, padLen, nextHeader))
				if !bytes.Equal(packet, want) {
					t.Fatalf("n=%d seq=%#x: sealed\n%x, want\n%x", n, seq, packet, want)
				}
				got, next, err := in.Open(packet, seq)
				if err != nil || next != nextHeader || !bytes.Equal(got, inner) {
					t.Fatalf("n=%d seq=%#x: opened %x, next header %d, %v", n, seq, got, next, err)
				}
			}
		}
	})
}

// Whoever changes one bit, or cuts, gets nothing in.
func TestOpenRefusesEveryChange(t *testing.T) {
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
		tr := newTransform(t, alg, esn)
		inner := []byte("the quick brown fox jumps over the lazy dog")
		buf := make([]byte, tr.SealedLen(len(inner)))
		copy(buf[tr.HeaderLen():], inner)
		sealed := bytes.Clone(tr.Seal(buf, len(inner), 4, 0x1234, 9))
		for i := range sealed {
			packet := bytes.Clone(sealed)
			packet[i] ^= 1 << (i % 8)
			if _, _, err := tr.Open(packet, 9); !errors.Is(err, ErrIntegrity) {
				t.Fatalf("octet %d changed: %v", i, err)
			}
			if bytes.Contains(packet, inner[:16]) {
				t.Fatalf("octet %d changed: the plaintext was left behind", i)
			}
		}
		for n := range sealed {
			if _, _, err := tr.Open(bytes.Clone(sealed[:n]), 9); err == nil {
				t.Fatalf("cut to %d octets: accepted", n)
			}
		}
		_, _, err := tr.Open(bytes.Clone(sealed), 9|1<<32)
		if esn && !errors.Is(err, ErrIntegrity) {
			t.Errorf("another high half: %v", err)
		}
		if !esn && err != nil {
			t.Errorf("the high half must not matter without ESN: %v", err)
		}
	})
}

// A peer that holds the keys may still write any trailer.
func TestOpenRefusesWrongPadding(t *testing.T) {
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
		tr := newTransform(t, alg, esn)
		iv := bytes.Repeat([]byte{5}, tr.HeaderLen()-fixedLen)
		inner := bytes.Repeat([]byte{0xaa}, 48)
		for name, plaintext := range map[string][]byte{
			"pad length beyond the packet": append(append(bytes.Clone(inner), make([]byte, 14)...), 255, 4),
			"pad length of all and more":   append(append(bytes.Clone(inner), make([]byte, 14)...), 63, 4),
			"zeros":                        append(append(bytes.Clone(inner), make([]byte, 14)...), 14, 4),
			"first octet":                  append(append(bytes.Clone(inner), 9, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14), 14, 4),
			"last octet":                   append(append(bytes.Clone(inner), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0), 14, 4),
		} {
			packet := referenceSeal(t, alg, esn, 77, 5, iv, plaintext)
			if _, _, err := tr.Open(packet, 5); !errors.Is(err, ErrPadding) {
				t.Errorf("%s: %v", name, err)
			}
			if bytes.Contains(packet, inner[:16]) {
				t.Errorf("%s: the plaintext was left behind", name)
			}
		}
		// Authentic, but without room for a trailer.
		if _, _, err := tr.Open(referenceSeal(t, alg, esn, 77, 5, iv, nil), 5); !errors.Is(err, ErrShort) {
			t.Errorf("no trailer: %v", err)
		}
		// Padding beyond what alignment asks for is allowed (RFC 4303 section 2.4).
		packet := referenceSeal(t, alg, esn, 77, 5, iv, withTrailer(inner, 254, 4))
		if got, _, err := tr.Open(packet, 5); err != nil || !bytes.Equal(got, inner) {
			t.Errorf("254 octets of padding: %x, %v", got, err)
		}
	})
}

// Never the same IV twice, and for CBC none that counts.
func TestIVs(t *testing.T) {
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
		tr := newTransform(t, alg, esn)
		buf := make([]byte, tr.SealedLen(20))
		seen := map[string]bool{}
		for seq := uint64(1); seq <= 200; seq++ {
			iv := string(tr.Seal(buf, 20, 4, 1, seq)[fixedLen:tr.HeaderLen()])
			if seen[iv] {
				t.Fatalf("IV of sequence number %d was used before", seq)
			}
			seen[iv] = true
		}
		if alg.Integrity == 0 {
			return
		}
		a := bytes.Clone(tr.Seal(buf, 20, 4, 1, 1))
		b := newTransform(t, alg, esn).Seal(buf, 20, 4, 1, 1)
		if bytes.Equal(a[fixedLen:tr.HeaderLen()], b[fixedLen:tr.HeaderLen()]) {
			t.Error("two SAs with the same keys have the same first IV: it can be foreseen")
		}
	})
}

// The best come first and the legacy ones last, and each is one of the
// contract's.
func TestSupported(t *testing.T) {
	seen := make(map[dataplane.Algorithm]bool)
	legacy := false
	for _, alg := range Supported() {
		if _, _, ok := alg.KeyLengths(); !ok || seen[alg] {
			t.Errorf("%v: an algorithm %t, listed before %t", alg, ok, seen[alg])
		}
		layout, err := LayoutOf(alg)
		if tr := newTransform(t, alg, false); err != nil || layout.HeaderLen() != tr.HeaderLen() || layout.SealedLen(1001) != tr.SealedLen(1001) {
			t.Errorf("%v: layout %+v, %v differs from the transform's", alg, layout, err)
		}
		seen[alg] = true
		if legacy && !alg.Legacy() {
			t.Errorf("%v stands behind legacy algorithms", alg)
		}
		legacy = alg.Legacy()
	}
	if !legacy {
		t.Error("the last algorithm isn't a legacy one")
	}
}

func TestNewErrors(t *testing.T) {
	gcm128 := dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}
	cbc128 := dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA256}
	chacha := dataplane.Algorithm{Encryption: dataplane.EncryptionChaCha20Poly1305}
	tripleDES := dataplane.Algorithm{Encryption: dataplane.EncryptionTripleDES, Integrity: dataplane.IntegrityHMACSHA1}
	for name, c := range map[string]struct {
		alg  dataplane.Algorithm
		keys dataplane.Keys
		want error
	}{
		"no encryption":     {dataplane.Algorithm{Encryption: 11, Integrity: dataplane.IntegrityHMACSHA256}, dataplane.Keys{Encryption: []byte{}, Integrity: make([]byte, 32)}, dataplane.ErrAlgorithm},
		"nothing at all":    {dataplane.Algorithm{Encryption: 11}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"single DES":        {dataplane.Algorithm{Encryption: 2, Integrity: dataplane.IntegrityHMACSHA1}, dataplane.Keys{Encryption: make([]byte, 8), Integrity: make([]byte, 20)}, dataplane.ErrAlgorithm},
		"no key length":     {dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"CBC without HMAC":  {dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128}, dataplane.Keys{Encryption: make([]byte, 16)}, dataplane.ErrAlgorithm},
		"GCM with HMAC":     {dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA256}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"CBC with MD5":      {dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: 1}, dataplane.Keys{Encryption: make([]byte, 16), Integrity: make([]byte, 16)}, dataplane.ErrAlgorithm},
		"GCM without salt":  {gcm128, dataplane.Keys{Encryption: make([]byte, 16)}, dataplane.ErrKeyLength},
		"GCM and a MAC key": {gcm128, dataplane.Keys{Encryption: make([]byte, 20), Integrity: make([]byte, 32)}, dataplane.ErrKeyLength},
		"CBC, short MAC":    {cbc128, dataplane.Keys{Encryption: make([]byte, 16), Integrity: make([]byte, 20)}, dataplane.ErrKeyLength},
		"CBC, long key":     {cbc128, dataplane.Keys{Encryption: make([]byte, 32), Integrity: make([]byte, 32)}, dataplane.ErrKeyLength},
		"ChaCha, no salt":   {chacha, dataplane.Keys{Encryption: make([]byte, 32)}, dataplane.ErrKeyLength},
		"ChaCha and a size": {dataplane.Algorithm{Encryption: dataplane.EncryptionChaCha20Poly1305, KeyBits: 256}, dataplane.Keys{Encryption: make([]byte, 36)}, dataplane.ErrAlgorithm},
		"ChaCha with HMAC":  {dataplane.Algorithm{Encryption: dataplane.EncryptionChaCha20Poly1305, Integrity: dataplane.IntegrityHMACSHA256}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"3DES and a size":   {dataplane.Algorithm{Encryption: dataplane.EncryptionTripleDES, KeyBits: 192, Integrity: dataplane.IntegrityHMACSHA1}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"3DES without HMAC": {dataplane.Algorithm{Encryption: dataplane.EncryptionTripleDES}, dataplane.Keys{Encryption: make([]byte, 24)}, dataplane.ErrAlgorithm},
		"3DES, short key":   {tripleDES, dataplane.Keys{Encryption: make([]byte, 16), Integrity: make([]byte, 20)}, dataplane.ErrKeyLength},
		"3DES is DES, 1=2":  {tripleDES, dataplane.Keys{Encryption: []byte("abcdefghabcdefgh12345678"), Integrity: make([]byte, 20)}, dataplane.ErrInvalid},
		"3DES is DES, 2=3":  {tripleDES, dataplane.Keys{Encryption: []byte("12345678abcdefghabcdefgh"), Integrity: make([]byte, 20)}, dataplane.ErrInvalid},
		"3DES, only parity": {tripleDES, dataplane.Keys{Encryption: []byte("abcdefgh`ccedgfi12345678"), Integrity: make([]byte, 20)}, dataplane.ErrInvalid},
		"3DES of two keys":  {tripleDES, dataplane.Keys{Encryption: []byte("abcdefgh12345678abcdefgh"), Integrity: make([]byte, 20)}, nil},
	} {
		if _, err := New(c.alg, c.keys, false); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// The caller erases its keys after New.
func TestNewKeepsNoKeys(t *testing.T) {
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
		keys := testKeys(t, alg)
		tr, err := New(alg, keys, esn)
		if err != nil {
			t.Fatal(err)
		}
		clear(keys.Encryption)
		clear(keys.Integrity)
		packet := newTransform(t, alg, esn).Seal(make([]byte, tr.SealedLen(40)), 40, 4, 1, 1)
		if _, _, err := tr.Open(packet, 1); err != nil {
			t.Error(err)
		}
	})
}

// TestNoAllocations: none a packet, whatever the algorithm, and none that isn't the
// library's own where there is no assembler (chachaAllocates).
func TestNoAllocations(t *testing.T) {
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
		const operations = 3
		most := 0
		if alg.Encryption == dataplane.EncryptionChaCha20Poly1305 {
			most = operations * chachaAllocates
		}
		tr := newTransform(t, alg, esn)
		buf := make([]byte, tr.SealedLen(1400))
		seq := uint64(0)
		if n := testing.AllocsPerRun(100, func() {
			seq++
			packet := tr.Seal(buf, 1400, 4, 1, seq)
			if _, _, err := tr.Open(packet, seq); err != nil {
				t.Fatal(err)
			}
			if _, _, err := tr.Open(packet, seq); err == nil {
				t.Fatal("a decrypted packet authenticates again")
			}
		}); n > float64(most) {
			t.Errorf("%v allocations in %d operations, at most %d", n, operations, most)
		}
	})
}

// FuzzOpen gives Open what an attacker sends, and what a peer that holds the
// keys sends.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 36))
	f.Add(withTrailer(bytes.Repeat([]byte{0x45}, 20), 2, 4))
	f.Add(withTrailer(nil, 14, 59))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		defer func(before bool) { vectors = before }(vectors)
		for i, alg := range []dataplane.Algorithm{
			Supported()[0], Supported()[0], {Encryption: dataplane.EncryptionChaCha20Poly1305},
			{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA384},
			{Encryption: dataplane.EncryptionTripleDES, Integrity: dataplane.IntegrityHMACSHA1},
		} {
			vectors = i > 0 && vectorsSupported()
			tr := newTransform(t, alg, true)
			if _, _, err := tr.Open(bytes.Clone(data), 1); err == nil {
				t.Fatal("a packet that nobody sealed was accepted")
			}
			if len(data) == 0 || len(data)%align(alg) != 0 {
				continue
			}
			packet := referenceSeal(t, alg, true, 300, 1, make([]byte, tr.HeaderLen()-fixedLen), data)
			inner, next, err := tr.Open(packet, 1)
			n := len(data) - 2 - int(data[len(data)-2])
			valid := n >= 0 && bytes.Equal(data, withTrailer(data[:max(n, 0)], int(data[len(data)-2]), data[len(data)-1]))
			switch {
			case valid && (err != nil || next != data[len(data)-1] || !bytes.Equal(inner, data[:n])):
				t.Fatalf("opened %x, next header %d, %v", inner, next, err)
			case !valid && !errors.Is(err, ErrPadding):
				t.Fatalf("wrong trailer: %v", err)
			}
		}
	})
}
