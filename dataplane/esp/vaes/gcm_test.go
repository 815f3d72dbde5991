//go:build amd64 && !purego

package vaes

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Without such a processor nothing here can be tried; package esp then uses
// crypto/cipher, and its tests that.
func TestMain(m *testing.M) {
	if !Supported() {
		fmt.Println("this processor has no AVX-512 with VAES and VPCLMULQDQ")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func octets(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func reference(t testing.TB, raw []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func expanded(t testing.TB, raw []byte) *Key {
	t.Helper()
	k := new(Key)
	if err := k.Expand(raw); err != nil {
		t.Fatal(err)
	}
	return k
}

// guarded is memory with a page before and behind it that nobody may touch.
func guarded(t testing.TB, length int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	length = (length + page - 1) &^ (page - 1)
	all, err := unix.Mmap(-1, 0, length+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(all) })
	for _, edge := range [][]byte{all[:page], all[page+length:]} {
		if err := unix.Mprotect(edge, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return all[page : page+length : page+length]
}

// packet is one that this and crypto/cipher seal and open.
type packet struct {
	theirs cipher.AEAD
	own    *Key
	nonce  [NonceLen]byte
	aad    []byte
	plain  []byte
}

// check seals and opens in place, in memory of len(p.plain)+ICVLen octets.
func (p *packet) check(t testing.TB, memory []byte) {
	t.Helper()
	want := p.theirs.Seal(nil, p.nonce[:], p.plain, p.aad)
	copy(memory, p.plain)
	p.own.Seal(memory, &p.nonce, p.aad)
	if !bytes.Equal(memory, want) {
		t.Fatalf("%d octets with %d: sealed differently", len(p.plain), len(p.aad))
	}
	if !p.own.Open(memory, &p.nonce, p.aad) || !bytes.Equal(memory[:len(p.plain)], p.plain) {
		t.Fatalf("%d octets with %d: not opened", len(p.plain), len(p.aad))
	}
}

// TestLikeCryptoCipher: all lengths that a packet has, each right before and right
// behind memory that faults, and in the middle, where nothing around it may change.
func TestLikeCryptoCipher(t *testing.T) {
	const longest = 4096
	memory := guarded(t, longest+ICVLen)
	middle := make([]byte, longest+ICVLen+256)
	for _, keyLen := range []int{16, 24, 32} {
		raw := octets(keyLen)
		p := packet{theirs: reference(t, raw), own: expanded(t, raw)}
		text, aad := octets(longest), octets(MaxAAD)
		for n := range longest + 1 {
			p.nonce = [NonceLen]byte(octets(NonceLen))
			p.plain = text[:n]
			p.aad = aad[:[]int{8, 12, n % (MaxAAD + 1)}[n%3]]
			p.check(t, memory[:n+ICVLen])
			p.check(t, memory[len(memory)-n-ICVLen:])
			around := bytes.Clone(middle)
			from := mrand.IntN(128)
			p.check(t, middle[from:][:n+ICVLen])
			if !bytes.Equal(middle[:from], around[:from]) || !bytes.Equal(middle[from+n+ICVLen:], around[from+n+ICVLen:]) {
				t.Fatalf("%d octets: what is around the packet changed", n)
			}
		}
	}
}

// TestLong: counters whose octets carry, and the longest datagram.
func TestLong(t *testing.T) {
	for _, keyLen := range []int{16, 24, 32} {
		raw := octets(keyLen)
		p := packet{theirs: reference(t, raw), own: expanded(t, raw), aad: octets(8)}
		for _, n := range []int{4095, 4096, 8192, 65535, 65536, 1<<20 + 1} {
			p.plain = octets(n)
			p.check(t, make([]byte, n+ICVLen))
		}
	}
}

// TestRefusesEveryChange: of text, ICV, AAD, nonce and lengths. What was refused is
// zero, and its ICV as it came.
func TestRefusesEveryChange(t *testing.T) {
	for _, keyLen := range []int{16, 24, 32} {
		own := expanded(t, octets(keyLen))
		for _, n := range []int{0, 1, 15, 16, 17, 63, 64, 65, 128, 192, 193, 255, 256, 257, 511, 512, 700} {
			nonce, aad := [NonceLen]byte(octets(NonceLen)), octets(12)
			sealed := octets(n + ICVLen)
			own.Seal(sealed, &nonce, aad)
			refused := func(what string, packet []byte, nonce [NonceLen]byte, aad []byte) {
				t.Helper()
				icv := bytes.Clone(packet[len(packet)-ICVLen:])
				if own.Open(packet, &nonce, aad) {
					t.Fatalf("%d octets with another %s are authentic", n, what)
				}
				if text := packet[:len(packet)-ICVLen]; !bytes.Equal(text, make([]byte, len(text))) || !bytes.Equal(packet[len(text):], icv) {
					t.Fatalf("%d octets with another %s: not erased", n, what)
				}
			}
			for i := range sealed {
				packet := bytes.Clone(sealed)
				packet[i] ^= 1 << mrand.IntN(8)
				refused("text or ICV", packet, nonce, aad)
			}
			for i := range aad {
				other := bytes.Clone(aad)
				other[i] ^= 1 << mrand.IntN(8)
				refused("AAD", bytes.Clone(sealed), nonce, other)
			}
			for i := range nonce {
				other := nonce
				other[i] ^= 1 << mrand.IntN(8)
				refused("nonce", bytes.Clone(sealed), other, aad)
			}
			refused("length of AAD", bytes.Clone(sealed), nonce, aad[:8])
			refused("length", append(bytes.Clone(sealed), 0), nonce, aad)
			if n > 0 {
				refused("length", bytes.Clone(sealed[1:]), nonce, aad)
			}
		}
	}
}

func TestExpand(t *testing.T) {
	var k Key
	if err := k.Expand(octets(17)); !errors.Is(err, ErrKeyLength) {
		t.Error(err)
	}
	// A key that had more rounds leaves none behind.
	if err := k.Expand(octets(32)); err != nil {
		t.Fatal(err)
	}
	raw := octets(16)
	if err := k.Expand(raw); err != nil {
		t.Fatal(err)
	}
	if k != *expanded(t, raw) {
		t.Error("depends on what was there")
	}
	k.Erase()
	if k != (Key{}) {
		t.Error("not erased")
	}
}

func TestPanics(t *testing.T) {
	k := expanded(t, octets(16))
	for name, f := range map[string]func(){
		"a packet without ICV": func() { k.Seal(make([]byte, ICVLen-1), new([NonceLen]byte), nil) },
		"an erased key": func() {
			erased := *k
			erased.Erase()
			erased.Seal(make([]byte, 2*ICVLen), new([NonceLen]byte), nil)
		},
		"too much AAD": func() { k.Open(make([]byte, ICVLen), new([NonceLen]byte), make([]byte, MaxAAD+1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error(name)
				}
			}()
			f()
		}()
	}
}

func TestNoAllocations(t *testing.T) {
	k, memory := expanded(t, octets(16)), make([]byte, 1500)
	nonce, aad := [NonceLen]byte{}, octets(8)
	if n := testing.AllocsPerRun(100, func() {
		k.Seal(memory, &nonce, aad)
		k.Open(memory, &nonce, aad)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzLikeCryptoCipher(f *testing.F) {
	f.Add(make([]byte, 16), make([]byte, NonceLen), make([]byte, 8), make([]byte, 100), uint8(3))
	f.Add(make([]byte, 32), bytes.Repeat([]byte{0xFF}, NonceLen), make([]byte, 12), make([]byte, 300), uint8(0))
	memory := guarded(f, 1<<16)
	f.Fuzz(func(t *testing.T, raw, nonce, aad, plain []byte, before uint8) {
		if n := len(raw); n != 16 && n != 24 && n != 32 || len(nonce) != NonceLen || len(aad) > MaxAAD || len(plain)+ICVLen > len(memory)-int(before) {
			t.Skip()
		}
		p := packet{theirs: reference(t, raw), own: expanded(t, raw), nonce: [NonceLen]byte(nonce), aad: aad, plain: plain}
		p.check(t, memory[before:][:len(plain)+ICVLen])
		p.check(t, memory[len(memory)-len(plain)-ICVLen:])
	})
}
