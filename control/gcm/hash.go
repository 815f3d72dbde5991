package gcm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Hash of a section's content, see the package comment.
type Hash [sha256.Size]byte

// String is hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText makes JSON show what String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hexadecimal.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("%w: a hash has %d hexadecimal digits", ErrMalformed, 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// sum is a number modulo 2^256, least significant word first.
type sum [4]uint64

func (s *sum) add(r sum) {
	var carry uint64
	for i := range s {
		s[i], carry = bits.Add64(s[i], r[i], carry)
	}
}

func (s *sum) sub(r sum) {
	var borrow uint64
	for i := range s {
		s[i], borrow = bits.Sub64(s[i], r[i], borrow)
	}
}

// recordSum is what a record adds to its section's sum.
func recordSum(key, value []byte) sum {
	var lengths [8]byte
	binary.BigEndian.PutUint32(lengths[:4], uint32(len(key)))
	binary.BigEndian.PutUint32(lengths[4:], uint32(len(value)))
	d := sha256.New()
	d.Write(lengths[:])
	d.Write(key)
	d.Write(value)
	var digest [sha256.Size]byte
	d.Sum(digest[:0])
	var s sum
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(digest[8*i:])
	}
	return s
}

// hash closes a sum over the section's name and the number of its records.
func (s sum) hash(section Section, records int) Hash {
	d := sha256.New()
	fmt.Fprintf(d, "roamgate section %s %d ", section, records)
	var b [sha256.Size]byte
	for i, w := range s {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	d.Write(b[:])
	var h Hash
	d.Sum(h[:0])
	return h
}
