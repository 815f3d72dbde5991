package ikecrypto

import (
	"encoding/binary"
	"errors"
	"io"
)

// errState is what Restore says of anything that AppendState didn't write.
var errState = errors.New("ikecrypto: not the state of a Protector of this suite")

// AppendState writes the IV that is next, 8 octets, big-endian, 0 for CBC; then
// the keys. After Erase it writes nothing.
func (p *protector) AppendState(dst []byte) []byte {
	if p.transform == nil {
		return dst
	}
	return p.transform.appendState(dst)
}

func (a *aead) appendState(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, a.next), a.key[:a.keyLen]...)
}

func (c *cbc) appendState(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, 0), c.keys...)
}

// Restore makes the Protector whose AppendState is at the beginning of state, and
// returns what follows. The one that it was taken from seals nothing any more,
// nor is anything made of the same state again: both would use the same IVs.
// Keys are copied.
func Restore(s Suite, state []byte, rand io.Reader) (p Protector, rest []byte, err error) {
	encLen, integLen, err := s.keyLens()
	if err != nil {
		return nil, nil, err
	}
	const nextLen = 8
	n := nextLen + encLen + integLen
	if len(state) < n {
		return nil, nil, errState
	}
	p, err = NewProtector(s, state[nextLen:nextLen+encLen], state[nextLen+encLen:n], rand)
	if err != nil {
		return nil, nil, err
	}
	if a, ok := p.(*protector).transform.(*aead); ok {
		a.next = binary.BigEndian.Uint64(state)
	}
	return p, state[n:], nil
}
