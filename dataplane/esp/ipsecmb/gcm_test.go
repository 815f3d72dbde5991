//go:build ipsecmb && cgo

package ipsecmb

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	mrand "math/rand/v2"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

func gcm(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func octets(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func newKey(t testing.TB, key []byte) *Key {
	t.Helper()
	k, err := NewKey(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Erase)
	return k
}

// Whatever the key, the length and what is authenticated with it, it seals as
// crypto/cipher does, opens what that sealed, and refuses what was changed.
func TestLikeCryptoCipher(t *testing.T) {
	const packets = 200
	for _, keyLen := range []int{16, 24, 32} {
		keys := [][]byte{octets(keyLen), octets(keyLen)}
		own := []*Key{newKey(t, keys[0]), newKey(t, keys[1])}
		var jobs []Job
		var buffer []byte
		var plain [][]byte
		for i := range packets {
			text := octets(mrand.IntN(1500))
			if i < 40 {
				text = text[:min(i, len(text))]
			}
			j := Job{Offset: uint32(len(buffer)), Length: uint32(len(text)), AADLen: []uint32{8, 12}[i%2]}
			copy(j.Nonce[:], octets(12))
			copy(j.AAD[:], octets(12))
			j.Use(own[i%2])
			buffer = append(append(buffer, text...), make([]byte, ICVLen)...)
			jobs, plain = append(jobs, j), append(plain, text)
		}
		if err := Seal(buffer, jobs); err != nil {
			t.Fatal(err)
		}
		for i, j := range jobs {
			want := gcm(t, keys[i%2]).Seal(nil, j.Nonce[:], plain[i], j.AAD[:j.AADLen])
			if got := buffer[j.Offset:][:j.Length+ICVLen]; !bytes.Equal(got, want) {
				t.Fatalf("key of %d octets, packet %d of %d: sealed differently", keyLen, i, j.Length)
			}
		}
		for i := range jobs {
			if i%5 == 0 { // text or ICV, or what is authenticated with it
				j := &jobs[i]
				if at := mrand.IntN(int(j.Length + ICVLen + j.AADLen)); at < int(j.Length+ICVLen) {
					buffer[int(j.Offset)+at] ^= 1
				} else {
					j.AAD[at-int(j.Length+ICVLen)] ^= 1
				}
			}
		}
		if err := Open(buffer, jobs); err != nil {
			t.Fatal(err)
		}
		for i, j := range jobs {
			want := plain[i]
			if i%5 == 0 {
				want = make([]byte, j.Length)
			}
			if j.Good() != (i%5 != 0) || !bytes.Equal(buffer[j.Offset:][:j.Length], want) {
				t.Fatalf("key of %d octets, packet %d of %d: good %v", keyLen, i, j.Length, j.Good())
			}
		}
	}
}

// What package esp sealed is opened.
func TestOpensESP(t *testing.T) {
	key := octets(20) // with the salt (RFC 4106)
	transform, err := esp.New(dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}, dataplane.Keys{Encryption: key}, false)
	if err != nil {
		t.Fatal(err)
	}
	inner := octets(100)
	packet := make([]byte, 256)
	copy(packet[transform.HeaderLen():], inner)
	packet = transform.Seal(packet, len(inner), 4, 0xC0FFEE, 7)
	header := transform.HeaderLen()
	j := Job{Offset: uint32(header), Length: uint32(len(packet) - header - ICVLen), AADLen: 8}
	copy(j.Nonce[:], key[16:])
	copy(j.Nonce[4:], packet[8:16])
	copy(j.AAD[:], packet[:8])
	j.Use(newKey(t, key[:16]))
	jobs := []Job{j}
	if err := Open(packet, jobs); err != nil || !jobs[0].Good() || !bytes.Equal(packet[header:][:len(inner)], inner) {
		t.Errorf("%v, good %v", err, jobs[0].Good())
	}
}

func TestRefusals(t *testing.T) {
	if _, err := NewKey(octets(17)); !errors.Is(err, ErrKeyLength) {
		t.Error(err)
	}
	k := newKey(t, octets(16))
	for _, j := range []Job{{Offset: 1, Length: 16}, {Length: 1<<32 - 1}, {Offset: 1<<32 - 1}, {AADLen: 13}} {
		j.Use(k)
		if err := Open(make([]byte, 32), []Job{j}); !errors.Is(err, ErrBounds) {
			t.Errorf("%+v: %v", j, err)
		}
	}
	if err := Seal(make([]byte, 32), []Job{{}}); !errors.Is(err, ErrBounds) {
		t.Errorf("without a key: %v", err)
	}
	if err := Open(nil, nil); err != nil {
		t.Error(err)
	}
}
