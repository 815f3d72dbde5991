package ikecrypto

import (
	"crypto"
	_ "crypto/sha1" // crypto.Hash finds what is linked in
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/roamgate/roamgate/control/ikewire"
)

// PRF is a pseudorandom function by its transform ID (RFC 7296 section 2.13).
type PRF uint16

// hash is 0 if the function isn't here.
func (p PRF) hash() crypto.Hash {
	switch uint16(p) {
	case ikewire.PRFHMACSHA1:
		return crypto.SHA1
	case ikewire.PRFHMACSHA256:
		return crypto.SHA256
	case ikewire.PRFHMACSHA384:
		return crypto.SHA384
	case ikewire.PRFHMACSHA512:
		return crypto.SHA512
	}
	return 0
}

// PRFLen is the length of output and preferred key in octets, 0 if the
// function isn't here. Legacy ones are.
func PRFLen(id uint16) int {
	if h := PRF(id).hash(); h != 0 {
		return h.Size()
	}
	return 0
}

// Sum is prf(key, data[0] | data[1] | ...). It panics if the function isn't
// here: Suite.Check comes first.
func (p PRF) Sum(key []byte, data ...[]byte) []byte {
	mac := newKeyed(p.hash(), key)
	defer mac.release()
	for _, d := range data {
		mac.hash.Write(d)
	}
	return mac.end(make([]byte, 0, p.hash().Size()))
}

// PRFPlus is the first n octets of prf+(key, seed[0] | seed[1] | ...) (RFC 7296
// section 2.13). It panics if the function isn't here, or n is more than 255 times
// its output.
func PRFPlus(prf uint16, key []byte, n int, seed ...[]byte) []byte {
	size := PRFLen(prf)
	if n > 255*size {
		panic("ikecrypto: prf+ longer than RFC 7296 section 2.13 allows")
	}
	out := make([]byte, 0, (n+size-1)/size*size)
	mac := newKeyed(PRF(prf).hash(), key)
	defer mac.release()
	number := []byte{0}
	for len(out) < n {
		mac.begin()
		mac.hash.Write(out[max(0, len(out)-size):])
		for _, s := range seed {
			mac.hash.Write(s)
		}
		number[0]++
		mac.hash.Write(number)
		out = mac.end(out)
	}
	clear(out[n:])
	return out[:n]
}
