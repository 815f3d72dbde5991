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
		{"chacha20poly1305", ikewire.EncrChaCha20Poly1305, 0, true},
		{"aes128", ikewire.EncrAESCBC, 128, false},
		{"aes192", ikewire.EncrAESCBC, 192, false},
		{"aes256", ikewire.EncrAESCBC, 256, false},
	}
	integrities = []transform{{name: "sha256", id: ikewire.IntegHMACSHA256}, {name: "sha384", id: ikewire.IntegHMACSHA384}, {name: "sha512", id: ikewire.IntegHMACSHA512}}
	// prfs stand at the places of the integrity algorithms of the same hash.
	prfs   = []transform{{name: "prfsha256", id: ikewire.PRFHMACSHA256}, {name: "prfsha384", id: ikewire.PRFHMACSHA384}, {name: "prfsha512", id: ikewire.PRFHMACSHA512}}
	groups = []transform{
		{name: "x25519", id: ikewire.GroupCurve25519},
		{name: "ecp256", id: ikewire.GroupECP256},
		{name: "ecp384", id: ikewire.GroupECP384},
		{name: "ecp521", id: ikewire.GroupECP521},
		{name: "modp2048", id: ikewire.GroupMODP2048},
		{name: "modp3072", id: ikewire.GroupMODP3072},
		{name: "modp4096", id: ikewire.GroupMODP4096},
	}
)

func names(list []transform) string {
	s := make([]string, len(list))
	for i, t := range list {
		s[i] = t.name
	}
	return strings.Join(s, "|")
}

// pop takes the names off the front of parts that are in the list.
func pop(parts *[]string, list []transform) (found []transform) {
	for len(*parts) > 0 {
		i := slices.IndexFunc(list, func(t transform) bool { return t.name == (*parts)[0] })
		if i < 0 || slices.Contains(found, list[i]) {
			break
		}
		found = append(found, list[i])
		*parts = (*parts)[1:]
	}
	return found
}

var errProposal = errors.New("not a proposal")

// popEncryption takes encryption and integrity algorithms; AEAD algorithms have
// a proposal of their own (RFC 7296 section 3.3).
func popEncryption(parts *[]string) (encryption, integrity []transform, err error) {
	encryption, integrity = pop(parts, encryptions), pop(parts, integrities)
	if len(encryption) == 0 {
		return nil, nil, errProposal
	}
	for _, e := range encryption {
		if e.aead == (len(integrity) > 0) {
			return nil, nil, errProposal
		}
	}
	return encryption, integrity, nil
}

// IKEProposal stands for a suite of the IKE SA, or where it names several
// algorithms of a kind, for all combinations of them.
type IKEProposal struct {
	// Suites, best first: the order of the names counts, the first kind most.
	Suites []ikecrypto.Suite
	name   string
}

// UnmarshalText reads encryption[-integrity][-prf]-group. Without a PRF it is
// the one of the integrity algorithm's hash.
func (p *IKEProposal) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), "-")
	encryption, integrity, err := popEncryption(&parts)
	prf, group := pop(&parts, prfs), pop(&parts, groups)
	if err != nil || len(parts) > 0 || len(group) == 0 || len(prf) == 0 && len(integrity) == 0 {
		return errProposal
	}
	p.name, p.Suites = string(b), nil
	for _, e := range encryption {
		for _, f := range functions(integrity, prf) {
			for _, g := range group {
				p.Suites = append(p.Suites, ikecrypto.Suite{Encryption: e.id, KeyBits: e.bits, Integrity: f.integrity, PRF: f.prf, Group: g.id})
			}
		}
	}
	return nil
}

// function is an integrity algorithm, 0 beside an AEAD algorithm, and a PRF.
type function struct{ integrity, prf uint16 }

func functions(integrity, prf []transform) (list []function) {
	if len(integrity) == 0 {
		integrity = []transform{{}}
	}
	for _, i := range integrity {
		if len(prf) == 0 {
			list = append(list, function{i.id, prfs[slices.Index(integrities, i)].id})
		}
		for _, f := range prf {
			list = append(list, function{i.id, f.id})
		}
	}
	return list
}

// MarshalText writes it as it was read.
func (p IKEProposal) MarshalText() ([]byte, error) { return []byte(p.name), nil }

func (IKEProposal) expected() string {
	return "ENCRYPTION[-INTEGRITY][-PRF]-GROUP such as aes128gcm16-prfsha256-x25519 or aes256-aes128-sha256-ecp256-modp2048, of " +
		names(encryptions) + ", " + names(integrities) + " (not with gcm or chacha20poly1305), " + names(prfs) + " (needed with those), " + names(groups)
}

// ESPProposal stands for an algorithm of Child SAs, or for all combinations of
// those that it names.
type ESPProposal struct {
	// Algorithms, best first.
	Algorithms []dataplane.Algorithm
	name       string
}

// UnmarshalText reads encryption[-integrity].
func (p *ESPProposal) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), "-")
	encryption, integrity, err := popEncryption(&parts)
	if err != nil || len(parts) > 0 {
		return errProposal
	}
	if len(integrity) == 0 {
		integrity = []transform{{}}
	}
	p.name, p.Algorithms = string(b), nil
	for _, e := range encryption {
		for _, i := range integrity {
			p.Algorithms = append(p.Algorithms, dataplane.Algorithm{Encryption: e.id, KeyBits: e.bits, Integrity: i.id})
		}
	}
	return nil
}

// MarshalText writes it as it was read.
func (p ESPProposal) MarshalText() ([]byte, error) { return []byte(p.name), nil }

func (ESPProposal) expected() string {
	return "ENCRYPTION[-INTEGRITY] such as aes128gcm16 or aes256-aes128-sha256, of " +
		names(encryptions) + ", " + names(integrities) + " (not with gcm or chacha20poly1305)"
}

// appendNew appends what is not in the list yet.
func appendNew[T comparable](list []T, values ...T) []T {
	for _, v := range values {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
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
