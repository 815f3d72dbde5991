package ikecrypto

import (
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
	// derivation wants. The caller erases it. Success ends the life of the
	// private key; after an error another value can be tried. Errors:
	// ErrPublicValue, ErrErased.
	Shared(peer []byte) ([]byte, error)
}

// SupportsGroup says whether NewKeyExchange knows the group.
func SupportsGroup(group uint16) bool {
	t := ikewire.Transform{Type: ikewire.TransformKE, ID: group}
	return PublicLen(group) != 0 && LegacyTransform(t) == Legacy{}
}

// PublicLen is the length in octets of the group's public values, 0 if the
// group isn't here. Legacy groups are.
func PublicLen(group uint16) int {
	switch group {
	case ikewire.GroupCurve25519:
		return 32
	case ikewire.GroupECP256:
		return 2 * 32
	case ikewire.GroupECP384:
		return 2 * 48
	case ikewire.GroupECP521:
		return 2 * 66
	}
	if g := modpGroups[group]; g != nil {
		return g.bits / 8
	}
	return 0
}

// NewKeyExchange draws a private key from rand; the same octets give the same
// key. Legacy groups are refused: they are there by Legacy.NewKeyExchange.
// Errors: ErrAlgorithm, ErrLegacy, those of rand.
func NewKeyExchange(group uint16, rand io.Reader) (KeyExchange, error) {
	return Legacy{}.NewKeyExchange(group, rand)
}

func newKeyExchange(group uint16, rand io.Reader) (KeyExchange, error) {
	if c := curve(group); c != nil {
		return newECDH(group, c, rand)
	}
	if g := modpGroups[group]; g != nil {
		return newMODP(group, g, rand)
	}
	return nil, fmt.Errorf("%w: %s", ErrAlgorithm, ikewire.TransformName(ikewire.TransformKE, group))
}
