package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// transform is an algorithm by its name as swanctl users write it, and its IANA
// number ("Transform Type 1" to "Transform Type 4" of IKEv2).
type transform struct {
	name string
	id   uint16
	bits uint16 // Key Length attribute, encryption only
	aead bool
}

var (
	encryptions = []transform{
		{"aes128gcm16", ikewire.EncrAESGCM16, 128, true},
		{"aes192gcm16", ikewire.EncrAESGCM16, 192, true},
		{"aes256gcm16", ikewire.EncrAESGCM16, 256, true},
		{"aes128", ikewire.EncrAESCBC, 128, false},
		{"aes192", ikewire.EncrAESCBC, 192, false},
		{"aes256", ikewire.EncrAESCBC, 256, false},
	}
	integrities = []transform{{name: "sha256", id: ikewire.IntegHMACSHA256}, {name: "sha384", id: ikewire.IntegHMACSHA384}, {name: "sha512", id: ikewire.IntegHMACSHA512}}
	prfs        = []transform{{name: "prfsha256", id: ikewire.PRFHMACSHA256}, {name: "prfsha384", id: ikewire.PRFHMACSHA384}, {name: "prfsha512", id: ikewire.PRFHMACSHA512}}
	groups      = []transform{{name: "x25519", id: ikewire.GroupCurve25519}, {name: "ecp256", id: ikewire.GroupECP256}, {name: "ecp384", id: ikewire.GroupECP384}}
)

func names(list []transform) string {
	s := make([]string, len(list))
	for i, t := range list {
		s[i] = t.name
	}
	return strings.Join(s, "|")
}

// pop takes the first name off parts if it is in the list.
func pop(parts *[]string, list []transform) (transform, bool) {
	if len(*parts) == 0 {
		return transform{}, false
	}
	i := slices.IndexFunc(list, func(t transform) bool { return t.name == (*parts)[0] })
	if i < 0 {
		return transform{}, false
	}
	*parts = (*parts)[1:]
	return list[i], true
}

var errProposal = errors.New("not a proposal")

// IKEProposal is one suite for the IKE SA.
type IKEProposal struct {
	ikecrypto.Suite
	name string
}

// UnmarshalText reads encryption[-integrity][-prf]-group. Without a PRF it is
// the one of the integrity algorithm's hash.
func (p *IKEProposal) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), "-")
	enc, ok := pop(&parts, encryptions)
	if !ok {
		return errProposal
	}
	integ, hasInteg := pop(&parts, integrities)
	prf, hasPRF := pop(&parts, prfs)
	if !hasPRF && hasInteg {
		prf = prfs[slices.Index(integrities, integ)]
	}
	group, hasGroup := pop(&parts, groups)
	if len(parts) > 0 || enc.aead == hasInteg || prf.id == 0 || !hasGroup {
		return errProposal
	}
	p.Suite = ikecrypto.Suite{Encryption: enc.id, KeyBits: enc.bits, PRF: prf.id, Integrity: integ.id, Group: group.id}
	p.name = string(b)
	return nil
}

// MarshalText writes it as it was read.
func (p IKEProposal) MarshalText() ([]byte, error) { return []byte(p.name), nil }

func (IKEProposal) expected() string {
	return "ENCRYPTION[-INTEGRITY][-PRF]-GROUP such as aes128gcm16-prfsha256-x25519 or aes256-sha256-ecp256, of " +
		names(encryptions) + ", " + names(integrities) + " (not with gcm), " + names(prfs) + " (needed with gcm), " + names(groups)
}

// ESPProposal is one algorithm for Child SAs.
type ESPProposal struct {
	dataplane.Algorithm
	name string
}

// UnmarshalText reads encryption[-integrity].
func (p *ESPProposal) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), "-")
	enc, ok := pop(&parts, encryptions)
	if !ok {
		return errProposal
	}
	integ, hasInteg := pop(&parts, integrities)
	if len(parts) > 0 || enc.aead == hasInteg {
		return errProposal
	}
	p.Algorithm = dataplane.Algorithm{Encryption: enc.id, KeyBits: enc.bits, Integrity: integ.id}
	p.name = string(b)
	return nil
}

// MarshalText writes it as it was read.
func (p ESPProposal) MarshalText() ([]byte, error) { return []byte(p.name), nil }

func (ESPProposal) expected() string {
	return "ENCRYPTION[-INTEGRITY] such as aes128gcm16 or aes256-sha256, of " +
		names(encryptions) + ", " + names(integrities) + " (not with gcm)"
}

// mustIKE and mustESP are for the defaults, which a test parses.
func mustIKE(proposals ...string) []IKEProposal {
	list := make([]IKEProposal, len(proposals))
	for i, p := range proposals {
		if err := list[i].UnmarshalText([]byte(p)); err != nil {
			panic(p)
		}
	}
	return list
}

func mustESP(proposals ...string) []ESPProposal {
	list := make([]ESPProposal, len(proposals))
	for i, p := range proposals {
		if err := list[i].UnmarshalText([]byte(p)); err != nil {
			panic(p)
		}
	}
	return list
}
