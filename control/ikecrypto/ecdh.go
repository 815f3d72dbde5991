package ikecrypto

import (
	"crypto/ecdh"
	"fmt"
	"io"

	"github.com/roamgate/roamgate/control/ikewire"
)

func curve(group uint16) ecdh.Curve {
	switch group {
	case ikewire.GroupCurve25519:
		return ecdh.X25519()
	case ikewire.GroupECP256:
		return ecdh.P256()
	case ikewire.GroupECP384:
		return ecdh.P384()
	case ikewire.GroupECP521:
		return ecdh.P521()
	}
	return nil
}

// ecdhExchange is a group of RFC 5903 or RFC 8031. crypto/ecdh keeps the
// private key where it can't be zeroed; it is left to the garbage collector.
type ecdhExchange struct {
	group  uint16
	key    *ecdh.PrivateKey // nil after use
	public []byte
}

const uncompressedPoint = 4 // SEC 1 section 2.3.3; not on the wire of IKE

func newECDH(group uint16, c ecdh.Curve, rand io.Reader) (*ecdhExchange, error) {
	size := PublicLen(group)
	if group != ikewire.GroupCurve25519 {
		size /= 2
	}
	private := make([]byte, size)
	defer clear(private)
	// A scalar of an ECP group that isn't below the order, or is zero, is
	// refused by NewPrivateKey and drawn again: the orders are so near to a
	// power of two that this practically never happens. The bound is for a
	// source that is stuck.
	for range 64 {
		if _, err := io.ReadFull(rand, private); err != nil {
			return nil, fmt.Errorf("ikecrypto: private key: %w", err)
		}
		if group == ikewire.GroupECP521 {
			private[0] &= 1 // 521 bits in 66 octets
		}
		key, err := c.NewPrivateKey(private)
		if err != nil {
			continue
		}
		public := key.PublicKey().Bytes()
		if group != ikewire.GroupCurve25519 {
			public = public[1:] // x | y, RFC 5903 section 7
		}
		return &ecdhExchange{group: group, key: key, public: public}, nil
	}
	return nil, errNoScalar
}

func (e *ecdhExchange) Group() uint16  { return e.group }
func (e *ecdhExchange) Public() []byte { return e.public }

func (e *ecdhExchange) Shared(peer []byte) ([]byte, error) {
	if e.key == nil {
		return nil, ErrErased
	}
	if len(peer) != len(e.public) {
		return nil, fmt.Errorf("%w: %d octets", ErrPublicValue, len(peer))
	}
	if e.group != ikewire.GroupCurve25519 {
		peer = append([]byte{uncompressedPoint}, peer...)
	}
	public, err := e.key.Curve().NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPublicValue, err)
	}
	// The x coordinate for ECP (RFC 5903 section 7); for Curve25519 all zeros
	// are refused (RFC 8031 section 2).
	shared, err := e.key.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPublicValue, err)
	}
	e.key = nil
	return shared, nil
}
