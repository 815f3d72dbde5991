package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

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
			t.Run(fmt.Sprintf("%d-%d-%d-esn=%v", alg.Encryption, alg.KeyBits, alg.Integrity, esn),
				func(t *testing.T) { f(t, alg, esn) })
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
		block, err := aes.NewCipher(keys.Encryption[:n])
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		nonce := append(bytes.Clone(keys.Encryption[n:]), iv...)
		return aead.Seal(packet, nonce, plaintext, aad)
	}
	block, err := aes.NewCipher(keys.Encryption)
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
	return append(packet, h.Sum(nil)[:h.Size()/2]...)
}

func withTrailer(inner []byte, padLen int, nextHeader byte) []byte {
	p := bytes.Clone(inner)
	for i := range padLen {
		p = append(p, byte(i+1))
	}
	return append(p, byte(padLen), nextHeader)
}

func align(alg dataplane.Algorithm) int {
	if alg.Integrity == 0 {
		return 4
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
		if bytes.Equal(a[fixedLen:cbcHeaderLen], b[fixedLen:cbcHeaderLen]) {
			t.Error("two SAs with the same keys have the same first IV: it can be foreseen")
		}
	})
}

func TestNewErrors(t *testing.T) {
	gcm128 := dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}
	cbc128 := dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA256}
	for name, c := range map[string]struct {
		alg  dataplane.Algorithm
		keys dataplane.Keys
		want error
	}{
		"3DES":              {dataplane.Algorithm{Encryption: 3, Integrity: 2}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"no key length":     {dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"CBC without HMAC":  {dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128}, dataplane.Keys{Encryption: make([]byte, 16)}, dataplane.ErrAlgorithm},
		"GCM with HMAC":     {dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA256}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"CBC with SHA1":     {dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: 2}, dataplane.Keys{}, dataplane.ErrAlgorithm},
		"GCM without salt":  {gcm128, dataplane.Keys{Encryption: make([]byte, 16)}, dataplane.ErrKeyLength},
		"GCM and a MAC key": {gcm128, dataplane.Keys{Encryption: make([]byte, 20), Integrity: make([]byte, 32)}, dataplane.ErrKeyLength},
		"CBC, short MAC":    {cbc128, dataplane.Keys{Encryption: make([]byte, 16), Integrity: make([]byte, 20)}, dataplane.ErrKeyLength},
		"CBC, long key":     {cbc128, dataplane.Keys{Encryption: make([]byte, 32), Integrity: make([]byte, 32)}, dataplane.ErrKeyLength},
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

func TestNoAllocations(t *testing.T) {
	forEach(t, func(t *testing.T, alg dataplane.Algorithm, esn bool) {
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
		}); n != 0 {
			t.Errorf("%v allocations a packet", n)
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
		for _, alg := range []dataplane.Algorithm{Supported()[0], {Encryption: dataplane.EncryptionAESCBC, KeyBits: 128, Integrity: dataplane.IntegrityHMACSHA384}} {
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
