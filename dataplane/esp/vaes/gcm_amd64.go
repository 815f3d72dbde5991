//go:build !purego

package vaes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/cpu"
)

const (
	// NonceLen and ICVLen of AES-GCM in ESP, and the most AAD that a packet may have,
	// in octets.
	NonceLen = 12
	ICVLen   = 16
	MaxAAD   = 16

	blockLen = 16
	// maxText of one nonce (NIST SP 800-38D section 5.2.1.1), in octets.
	maxText = 1<<36 - 32
)

// ErrKeyLength: a key of neither 16, 24 nor 32 octets.
var ErrKeyLength = errors.New("vaes: no such key length")

var supported = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasBMI2 &&
	cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL &&
	cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ

// Supported says whether processor and system have what all else here needs.
func Supported() bool { return supported }

// Key of AES-GCM, expanded: no pointers, some 500 octets. The zero value is none. It
// may be used by many at a time once it is expanded. The assembler knows its layout.
type Key struct {
	// powers of H: H^17, H^16, ... H^1, each as multiply takes them.
	powers [17][blockLen]byte
	// rounds are the round keys, count+1 of them (FIPS 197 section 5.2).
	rounds [15][blockLen]byte
	count  uint64
}

// Four powers are loaded also from the last one on: round keys have to stand behind it.
var _ = [1]struct{}{}[unsafe.Offsetof(Key{}.rounds)-unsafe.Sizeof(Key{}.powers)]

// Expand makes k of a key, which stays the caller's. Errors: ErrKeyLength.
func (k *Key) Expand(key []byte) error {
	if n := len(key); n != 16 && n != 24 && n != 32 {
		return fmt.Errorf("%w: %d octets", ErrKeyLength, n)
	}
	words := len(key) / 4
	k.count = uint64(words + 6)
	// FIPS 197 section 5.2, algorithm 2; words are little-endian here.
	var w [4 * len(k.rounds)]uint32
	for i := range words {
		w[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	rcon := uint32(1)
	for i := words; i < 4*int(k.count+1); i++ {
		t := w[i-1]
		switch {
		case i%words == 0:
			t = bits.RotateLeft32(subWord(t), -8) ^ rcon
			rcon = rcon<<1 ^ rcon>>7*0x11B
		case words == 8 && i%words == 4:
			t = subWord(t)
		}
		w[i] = w[i-words] ^ t
	}
	for i := range w {
		binary.LittleEndian.PutUint32(k.rounds[i/4][i%4*4:], w[i])
	}
	clear(w[:])
	hashKeys(k)
	return nil
}

// Erase the key.
func (k *Key) Erase() { *k = Key{} }

// Seal encrypts in place all of packet but its last ICVLen octets, into which the ICV
// goes. aad has MaxAAD octets at most. It panics where there is no room for an ICV, too
// much AAD, or no key.
func (k *Key) Seal(packet []byte, nonce *[NonceLen]byte, aad []byte) {
	n := k.check(packet)
	high, low := integers(aad)
	j0High, j0Low := counterBlock(nonce)
	seal(k, &packet[0], n, j0High, j0Low, high, low, uint64(len(aad))*8)
}

// Open authenticates packet, whose last ICVLen octets are the ICV, decrypts the others
// in place, and says whether they are authentic. If not, they are zero. It panics as
// Seal does.
func (k *Key) Open(packet []byte, nonce *[NonceLen]byte, aad []byte) bool {
	n := k.check(packet)
	high, low := integers(aad)
	j0High, j0Low := counterBlock(nonce)
	if !open(k, &packet[0], n, j0High, j0Low, high, low, uint64(len(aad))*8) {
		clear(packet[:n]) // nobody may see what wasn't authentic
		return false
	}
	return true
}

// check returns the length of the text.
func (k *Key) check(packet []byte) int {
	n := len(packet) - ICVLen
	if n < 0 || n > maxText {
		panic("vaes: packet of a wrong length")
	}
	if k.count == 0 {
		panic("vaes: no key") // with what Erase leaves anybody could read
	}
	return n
}

// counterBlock is J0 (NIST SP 800-38D section 7.1, step 2), a big-endian integer.
func counterBlock(nonce *[NonceLen]byte) (high, low uint64) {
	salt, iv := binary.BigEndian.Uint32(nonce[:]), binary.BigEndian.Uint64(nonce[4:])
	return uint64(salt)<<32 | iv>>32, iv<<32 | 1
}

// integers are the big-endian ones of aad, padded with zeros.
func integers(aad []byte) (high, low uint64) {
	switch len(aad) {
	case 8: // RFC 4106 section 5
		return binary.BigEndian.Uint64(aad), 0
	case 12: // with ESN
		return binary.BigEndian.Uint64(aad), uint64(binary.BigEndian.Uint32(aad[8:])) << 32
	}
	if len(aad) > MaxAAD {
		panic("vaes: too much AAD")
	}
	var b [MaxAAD]byte
	copy(b[:], aad)
	return binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
}

// subWord is SubWord of FIPS 197 section 5.2.
//
//go:noescape
func subWord(w uint32) uint32

// hashKeys sets powers of a key whose rounds are there.
//
//go:noescape
func hashKeys(k *Key)

//go:noescape
func seal(k *Key, text *byte, n int, j0High, j0Low, aadHigh, aadLow, aadBits uint64)

// open says whether the ICV behind text is right; text is decrypted in any case.
//
//go:noescape
func open(k *Key, text *byte, n int, j0High, j0Low, aadHigh, aadLow, aadBits uint64) bool
