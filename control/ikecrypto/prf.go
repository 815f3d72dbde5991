package ikecrypto

import (
	"crypto"
	"crypto/hmac"
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
	mac := hmac.New(p.hash().New, key)
	for _, d := range data {
		mac.Write(d)
	}
	return mac.Sum(nil)
}

// PRFPlus is the first n octets of prf+(key, seed) (RFC 7296 section 2.13). It
// panics if the function isn't here, or n is more than 255 times its output.
func PRFPlus(prf uint16, key, seed []byte, n int) []byte {
	size := PRFLen(prf)
	if n > 255*size {
		panic("ikecrypto: prf+ longer than RFC 7296 section 2.13 allows")
	}
	out := make([]byte, 0, (n+size-1)/size*size)
	mac := hmac.New(PRF(prf).hash().New, key)
	var last []byte
	for i := byte(1); len(out) < n; i++ {
		mac.Reset()
		mac.Write(last)
		mac.Write(seed)
		mac.Write([]byte{i})
		out = mac.Sum(out)
		last = out[len(out)-size:]
	}
	clear(out[n:])
	return out[:n]
}
