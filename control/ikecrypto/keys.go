package ikecrypto

import (
	"encoding/binary"
	"slices"
)

// Keys of an IKE SA (RFC 7296 section 2.14).
type Keys struct {
	// D derives the keys of Child SAs and of the IKE SA that replaces this.
	D []byte
	// Ai and Ar protect the integrity of what the initiator and the responder
	// send; empty for AEAD algorithms.
	Ai, Ar []byte
	// Ei and Er encrypt it; for AEAD algorithms the salt is at the end.
	Ei, Er []byte
	// Pi and Pr go into AUTH.
	Pi, Pr []byte
}

// DeriveKeys computes the keys of a new IKE SA (RFC 7296 section 2.14). shared
// is g^ir; it stays the caller's, to be erased. Errors: those of Suite.Check.
func DeriveKeys(s Suite, shared, ni, nr []byte, spiI, spiR uint64) (*Keys, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	skeyseed := PRF(s.PRF).Sum(slices.Concat(ni, nr), shared)
	return expand(s, skeyseed, ni, nr, spiI, spiR)
}

// RekeyKeys computes the keys of the IKE SA that replaces another (RFC 7296
// section 2.18): oldD is SK_d of the old one and oldPRF its pseudorandom
// function; the rest is of the new one.
func RekeyKeys(s Suite, oldPRF uint16, oldD, shared, ni, nr []byte, spiI, spiR uint64) (*Keys, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if PRFLen(oldPRF) == 0 {
		return nil, ErrAlgorithm
	}
	skeyseed := PRF(oldPRF).Sum(oldD, shared, ni, nr)
	return expand(s, skeyseed, ni, nr, spiI, spiR)
}

// expand cuts prf+(SKEYSEED, Ni | Nr | SPIi | SPIr) into keys and erases
// skeyseed. Every key gets its own memory, none more than it needs.
func expand(s Suite, skeyseed, ni, nr []byte, spiI, spiR uint64) (*Keys, error) {
	defer clear(skeyseed)
	encLen, integLen, err := s.keyLens()
	if err != nil {
		return nil, err
	}
	prfLen := PRFLen(s.PRF)
	spis := binary.BigEndian.AppendUint64(make([]byte, 0, 16), spiI)
	spis = binary.BigEndian.AppendUint64(spis, spiR)
	stream := PRFPlus(s.PRF, skeyseed, 3*prfLen+2*integLen+2*encLen, ni, nr, spis)
	c := cutter{stream}
	return &Keys{
		D:  c.take(prfLen),
		Ai: c.take(integLen),
		Ar: c.take(integLen),
		Ei: c.take(encLen),
		Er: c.take(encLen),
		Pi: c.take(prfLen),
		Pr: c.take(prfLen),
	}, nil
}

// Erase zeroes all keys.
func (k *Keys) Erase() {
	for _, b := range [][]byte{k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr} {
		clear(b)
	}
	*k = Keys{}
}

// ChildSAKeys are those of one direction of a Child SA.
type ChildSAKeys struct{ Encryption, Integrity []byte }

// Erase zeroes both keys.
func (k *ChildSAKeys) Erase() {
	clear(k.Encryption)
	clear(k.Integrity)
	*k = ChildSAKeys{}
}

// ChildKeys computes the keys of a Child SA (RFC 7296 section 2.17): those of
// what the initiator of the exchange sends, and of what the responder sends.
// shared is that of the exchange's own key exchange, nil without one. encLen
// includes the salt of an AEAD algorithm, whose integLen is 0; lengths are in
// octets. It panics if the function isn't here.
func ChildKeys(prf uint16, skD, ni, nr, shared []byte, encLen, integLen int) (initiator, responder ChildSAKeys) {
	c := cutter{PRFPlus(prf, skD, 2*(encLen+integLen), shared, ni, nr)}
	initiator = ChildSAKeys{Encryption: c.take(encLen), Integrity: c.take(integLen)}
	responder = ChildSAKeys{Encryption: c.take(encLen), Integrity: c.take(integLen)}
	return initiator, responder
}

// cutter hands out consecutive parts of key material as slices that can't
// grow into each other.
type cutter struct{ stream []byte }

func (c *cutter) take(n int) []byte {
	k := c.stream[:n:n]
	c.stream = c.stream[n:]
	return k
}
