package ikecrypto

import (
	"crypto/ecdh"
	"fmt"
	"io"

	"github.com/roamgate/roamgate/control/ikewire"
)

// KeyExchange is one side of a Diffie-Hellman exchange: an ephemeral private
// key that is used once.
type KeyExchange interface {
	// Group is a transform ID of type 4.
	Group() uint16
	// Public value as it goes into a KE payload.
	Public() []byte
	// Shared secret with the peer's public value, in the format that key
	// derivation wants. The caller erases it. Errors: ErrPublicValue.
	Shared(peer []byte) ([]byte, error)
}

// SupportsGroup says whether NewKeyExchange knows the group.
func SupportsGroup(group uint16) bool { return curve(group) != nil }

// PublicLen is the length in octets of the group's public values, 0 if the
// group isn't here.
func PublicLen(group uint16) int {
	switch group {
	case ikewire.GroupCurve25519:
		return 32
	case ikewire.GroupECP256:
		return 2 * 32
	case ikewire.GroupECP384:
		return 2 * 48
	}
	return 0
}

func curve(group uint16) ecdh.Curve {
	switch group {
	case ikewire.GroupCurve25519:
		return ecdh.X25519()
	case ikewire.GroupECP256:
		return ecdh.P256()
	case ikewire.GroupECP384:
		return ecdh.P384()
	}
	return nil
}

// NewKeyExchange draws a private key from rand; the same octets give the same
// key. Errors: ErrAlgorithm, those of rand.
func NewKeyExchange(group uint16, rand io.Reader) (KeyExchange, error) {
	c := curve(group)
	if c == nil {
		return nil, fmt.Errorf("%w: %s", ErrAlgorithm, ikewire.TransformName(ikewire.TransformKE, group))
	}
	size := PublicLen(group)
	if group != ikewire.GroupCurve25519 {
		size /= 2
	}
	private := make([]byte, size)
	defer clear(private)
	// A scalar of an ECP group that isn't below the order, or is zero, is
	// refused by NewPrivateKey and drawn again: the orders of P-256 and P-384
	// are so near to a power of two that this practically never happens. The
	// bound is for a source that is stuck.
	for range 64 {
		if _, err := io.ReadFull(rand, private); err != nil {
			return nil, fmt.Errorf("ikecrypto: private key: %w", err)
		}
		if key, err := c.NewPrivateKey(private); err == nil {
			return &ecdhExchange{group: group, key: key}, nil
		}
	}
	return nil, fmt.Errorf("ikecrypto: private key: random source gives no usable scalar")
}

// ecdhExchange is a group of RFC 5903 or RFC 8031. crypto/ecdh keeps the
// private key where it can't be zeroed; it is left to the garbage collector.
type ecdhExchange struct {
	group uint16
	key   *ecdh.PrivateKey
}

const uncompressedPoint = 4 // SEC 1 section 2.3.3; not on the wire of IKE

func (e *ecdhExchange) Group() uint16 { return e.group }

func (e *ecdhExchange) Public() []byte {
	public := e.key.PublicKey().Bytes()
	if e.group != ikewire.GroupCurve25519 {
		public = public[1:] // x | y, RFC 5903 section 7
	}
	return public
}

func (e *ecdhExchange) Shared(peer []byte) ([]byte, error) {
	if len(peer) != PublicLen(e.group) {
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
	return shared, nil
}
