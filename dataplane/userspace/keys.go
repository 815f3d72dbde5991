package userspace

import "github.com/roamgate/roamgate/dataplane"

// keyArena holds the raw keys of children, both directions of one in a piece, in
// memory without pointers. What was freed is erased.
type keyArena struct{ sizes [2]keySize }

// keyRef is a piece: its size in the highest bit, then its number.
type keyRef uint32

const (
	keySizeShift = 31
	// smallKeys has room for two AEAD keys of 32 octets with their salts, largeKeys
	// for two of any algorithm: 32 octets for AES-CBC and 64 for HMAC-SHA2-512.
	smallKeys, largeKeys = 72, 192
	keysAtOnce           = 512
)

// keySize is the pieces of one size.
type keySize struct {
	chunks [][]byte
	next   uint32
	free   []uint32
}

func pieceLen(size keyRef) int {
	if size == 0 {
		return smallKeys
	}
	return largeKeys
}

// put copies the keys of a child.
func (a *keyArena) put(c *dataplane.Child) keyRef {
	in, out := c.Inbound.Keys, c.Outbound.Keys
	size := keyRef(0)
	if len(in.Encryption)+len(in.Integrity)+len(out.Encryption)+len(out.Integrity) > smallKeys {
		size = 1
	}
	z := &a.sizes[size]
	if last := len(z.free) - 1; last >= 0 {
		at := z.free[last]
		z.free = z.free[:last]
		return a.fill(size<<keySizeShift|keyRef(at), in, out)
	}
	if z.next%keysAtOnce == 0 {
		z.chunks = append(z.chunks, make([]byte, keysAtOnce*pieceLen(size)))
	}
	z.next++
	return a.fill(size<<keySizeShift|keyRef(z.next-1), in, out)
}

func (a *keyArena) fill(ref keyRef, in, out dataplane.Keys) keyRef {
	b := a.piece(ref)[:0]
	for _, k := range [][]byte{in.Encryption, in.Integrity, out.Encryption, out.Integrity} {
		b = append(b, k...)
	}
	return ref
}

func (a *keyArena) piece(ref keyRef) []byte {
	size, at := ref>>keySizeShift, int(ref&(1<<keySizeShift-1))
	n := pieceLen(size)
	from := at % keysAtOnce * n
	return a.sizes[size].chunks[at/keysAtOnce][from : from+n : from+n]
}

// get returns the keys of a child of that algorithm, slices of the arena.
func (a *keyArena) get(ref keyRef, alg dataplane.Algorithm) (in, out dataplane.Keys) {
	e, i, _ := alg.KeyLengths()
	b := a.piece(ref)
	in = dataplane.Keys{Encryption: b[:e:e], Integrity: b[e : e+i : e+i]}
	b = b[e+i:]
	out = dataplane.Keys{Encryption: b[:e:e], Integrity: b[e : e+i : e+i]}
	return in, out
}

// free erases a piece.
func (a *keyArena) free(ref keyRef) {
	clear(a.piece(ref))
	z := &a.sizes[ref>>keySizeShift]
	z.free = append(z.free, uint32(ref&(1<<keySizeShift-1)))
}
