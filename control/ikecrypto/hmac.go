package ikecrypto

import (
	"crypto"
	"hash"
	"sync"
)

// keyed is HMAC (RFC 2104). One of crypto/hmac has its key for life; this takes
// another when it is done with one, so the dozen of a handshake need no memory of
// their own.
type keyed struct {
	hash hash.Hash
	of   crypto.Hash
	// inner and outer are the key, xored with what tells them apart, one block of
	// the hash each.
	inner, outer [maxBlock]byte
	sum          [maxSum]byte
}

// Of SHA-512, in octets.
const (
	maxBlock = 128
	maxSum   = 64
)

// Pools by hash: SHA-1 and SHA-2, whose numbers are small.
var keyedPools [crypto.SHA512 + 1]sync.Pool

// newKeyed is to be released by who has it.
func newKeyed(of crypto.Hash, key []byte) *keyed {
	k, _ := keyedPools[of].Get().(*keyed)
	if k == nil {
		k = &keyed{hash: of.New(), of: of}
	}
	if len(key) > k.hash.BlockSize() {
		k.hash.Reset()
		k.hash.Write(key)
		key = k.hash.Sum(k.sum[:0])
	}
	copy(k.inner[:], key)
	copy(k.outer[:], key)
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	k.begin()
	return k
}

// begin another message under the same key.
func (k *keyed) begin() {
	k.hash.Reset()
	k.hash.Write(k.inner[:k.hash.BlockSize()])
}

// end appends the MAC of what was written since begin.
func (k *keyed) end(dst []byte) []byte {
	inner := k.hash.Sum(k.sum[:0])
	k.hash.Reset()
	k.hash.Write(k.outer[:k.hash.BlockSize()])
	k.hash.Write(inner)
	return k.hash.Sum(dst)
}

// release erases the key and what was made of it, and the part of a block that the
// hash keeps.
func (k *keyed) release() {
	clear(k.inner[:])
	clear(k.outer[:])
	clear(k.sum[:])
	k.hash.Reset()
	k.hash.Write(k.inner[:k.hash.BlockSize()-1])
	k.hash.Reset()
	keyedPools[k.of].Put(k)
}
