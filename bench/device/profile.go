package device

import (
	"fmt"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// Profile is how the client of some maker speaks, as data.
type Profile struct {
	Name string
	// Source of the offer: where it is documented.
	Source string
	// IKE and ESP are the proposals in the notation of swanctl.conf,
	// "aes256-sha256-modp2048": algorithms of a kind in the client's order, PRFs
	// those of the integrity algorithms where none stands there.
	IKE, ESP []string
	// Separate: each combination goes into a proposal of its own, as Windows
	// does it, rather than all into one.
	Separate bool
	// Legacy algorithms that the client would take.
	Legacy ikecrypto.Legacy
	// VendorIDs in IKE_SA_INIT.
	VendorIDs [][]byte
	// SendIDr: the client names the gateway that it wants.
	SendIDr bool
	// IPv6: it asks for an IPv6 address too.
	IPv6 bool
	// MOBIKE is announced (RFC 4555).
	MOBIKE bool
	// FragmentSize of IKE messages in octets (RFC 7383); 0 knows no fragments.
	FragmentSize int

	parsed *parsed
}

// parsed are the proposals of a profile that is read once for many devices.
type parsed struct {
	suites     []ikecrypto.Suite
	algorithms []dataplane.Algorithm
}

// Parsed is a copy whose proposals were read already, and aren't changed any more.
// Errors: ErrConfig.
func (p *Profile) Parsed() (*Profile, error) {
	own := *p
	own.parsed = nil
	suites, err := own.Suites()
	if err != nil {
		return nil, err
	}
	algorithms, err := own.Algorithms()
	if err != nil {
		return nil, err
	}
	own.parsed = &parsed{suites, algorithms}
	return &own, nil
}

// maxSuites of one offer: what ikewire takes in one SA payload.
const maxSuites = ikewire.MaxProposals

// Offer is the SA payload of IKE_SA_INIT as the client sends it, algorithms
// that the machine doesn't know included. Errors: ErrConfig.
func (p *Profile) Offer() (*ikewire.SA, error) {
	sa := &ikewire.SA{}
	add := func(transforms []ikewire.Transform) {
		sa.Proposals = append(sa.Proposals, ikewire.Proposal{
			Number: uint8(len(sa.Proposals) + 1), Protocol: ikewire.ProtocolIKE, Transforms: transforms,
		})
	}
	for _, text := range p.IKE {
		kinds, err := parseProposal(text)
		if err != nil {
			return nil, err
		}
		if p.Separate {
			for _, s := range kinds.suites() {
				add(suiteTransforms(s))
			}
			continue
		}
		add(slices.Concat(kinds.encryption, kinds.prf, kinds.integrity, kinds.groups))
	}
	return sa, nil
}

// Suites are those of the offer that the machine can do, the client's first
// choice first. The machine offers a proposal for each: of a list too long for
// one payload, keys of 192 bits are left out and all groups but four. Errors:
// ErrConfig.
func (p *Profile) Suites() ([]ikecrypto.Suite, error) {
	if p.parsed != nil {
		return p.parsed.suites, nil
	}
	var all []ikecrypto.Suite
	for _, text := range p.IKE {
		kinds, err := parseProposal(text)
		if err != nil {
			return nil, err
		}
		for _, s := range kinds.suites() {
			if s.Allow = p.Legacy; s.Check() == nil {
				all = append(all, s)
			}
		}
	}
	if len(all) > maxSuites {
		all = slices.DeleteFunc(all, func(s ikecrypto.Suite) bool { return s.KeyBits == 192 })
	}
	if len(all) > maxSuites {
		var groups []uint16
		all = slices.DeleteFunc(all, func(s ikecrypto.Suite) bool {
			if !slices.Contains(groups, s.Group) {
				groups = append(groups, s.Group)
			}
			return slices.Index(groups, s.Group) >= 4
		})
	}
	if len(all) == 0 || len(all) > maxSuites {
		return nil, fmt.Errorf("%w: %d suites of profile %s can be offered", ErrConfig, len(all), p.Name)
	}
	return all, nil
}

// Algorithms are those of the ESP offer that package esp can do. Errors:
// ErrConfig.
func (p *Profile) Algorithms() ([]dataplane.Algorithm, error) {
	if p.parsed != nil {
		return p.parsed.algorithms, nil
	}
	var out []dataplane.Algorithm
	for _, text := range p.ESP {
		kinds, err := parseProposal(text)
		if err != nil {
			return nil, err
		}
		for _, e := range kinds.encryption {
			for _, i := range kinds.integrities(e) {
				a := dataplane.Algorithm{Encryption: e.ID, KeyBits: e.KeyBits, Integrity: i}
				if slices.Contains(esp.Supported(), a) {
					out = append(out, a)
				}
			}
		}
	}
	// A client that offers nothing of ours is refused at IKE_SA_INIT, if it is
	// at all; something has to be configured until then.
	if len(out) == 0 && p.Legacy == (ikecrypto.Legacy{}) {
		return nil, fmt.Errorf("%w: no ESP algorithm of profile %s is known", ErrConfig, p.Name)
	}
	return out, nil
}

// kinds are the transforms of a proposal by type.
type kinds struct{ encryption, prf, integrity, groups []ikewire.Transform }

// isAEAD says whether an encryption algorithm needs no integrity algorithm.
func isAEAD(t ikewire.Transform) bool {
	switch t.ID {
	case ikewire.EncrAESGCM8, ikewire.EncrAESGCM12, ikewire.EncrAESGCM16, ikewire.EncrChaCha20Poly1305:
		return true
	}
	return false
}

// integrities that go with an encryption algorithm.
func (k kinds) integrities(encryption ikewire.Transform) []uint16 {
	if isAEAD(encryption) {
		return []uint16{ikewire.IntegNone}
	}
	var ids []uint16
	for _, t := range k.integrity {
		ids = append(ids, t.ID)
	}
	return ids
}

// suites are all combinations, but for one thing: beside an integrity algorithm
// the PRF is of the same hash.
func (k kinds) suites() []ikecrypto.Suite {
	var out []ikecrypto.Suite
	for _, g := range k.groups {
		for _, e := range k.encryption {
			for _, i := range k.integrities(e) {
				for _, prf := range k.prf {
					if i == ikewire.IntegNone || prf.ID == prfOf[i] {
						out = append(out, ikecrypto.Suite{Encryption: e.ID, KeyBits: e.KeyBits, Integrity: i, PRF: prf.ID, Group: g.ID})
					}
				}
			}
		}
	}
	return out
}

func suiteTransforms(s ikecrypto.Suite) []ikewire.Transform {
	ts := []ikewire.Transform{
		{Type: ikewire.TransformENCR, ID: s.Encryption, KeyBits: s.KeyBits},
		{Type: ikewire.TransformPRF, ID: s.PRF},
	}
	if s.Integrity != ikewire.IntegNone {
		ts = append(ts, ikewire.Transform{Type: ikewire.TransformINTEG, ID: s.Integrity})
	}
	return append(ts, ikewire.Transform{Type: ikewire.TransformKE, ID: s.Group})
}

// prfOf is the PRF of the same algorithm as an integrity algorithm.
var prfOf = map[uint16]uint16{
	ikewire.IntegHMACSHA1:   ikewire.PRFHMACSHA1,
	ikewire.IntegHMACSHA256: ikewire.PRFHMACSHA256,
	ikewire.IntegHMACSHA384: ikewire.PRFHMACSHA384,
	ikewire.IntegHMACSHA512: ikewire.PRFHMACSHA512,
	ikewire.IntegAESXCBC:    ikewire.PRFAESXCBC,
	ikewire.IntegAESCMAC:    ikewire.PRFAESCMAC,
}

// parseProposal reads "aes128-sha256-modp2048".
func parseProposal(text string) (kinds, error) {
	var k kinds
	aead := false
	for word := range strings.SplitSeq(text, "-") {
		t, ok := keywords[word]
		if !ok {
			return kinds{}, fmt.Errorf("%w: algorithm %q", ErrConfig, word)
		}
		switch t.Type {
		case ikewire.TransformENCR:
			k.encryption = append(k.encryption, t)
			aead = aead || isAEAD(t)
		case ikewire.TransformPRF:
			k.prf = append(k.prf, t)
		case ikewire.TransformINTEG:
			k.integrity = append(k.integrity, t)
		default:
			k.groups = append(k.groups, t)
		}
	}
	if len(k.prf) == 0 {
		for _, i := range k.integrity {
			k.prf = append(k.prf, ikewire.Transform{Type: ikewire.TransformPRF, ID: prfOf[i.ID]})
		}
	}
	if aead {
		k.integrity = nil
	}
	return k, nil
}

// keywords of swanctl.conf.
var keywords = func() map[string]ikewire.Transform {
	words := map[string]ikewire.Transform{}
	add := func(typ ikewire.TransformType, ids map[string]uint16, bits ...uint16) {
		for word, id := range ids {
			if len(bits) == 0 {
				words[word] = ikewire.Transform{Type: typ, ID: id}
			}
			for _, b := range bits {
				words[fmt.Sprintf(word, b)] = ikewire.Transform{Type: typ, ID: id, KeyBits: b}
			}
		}
	}
	add(ikewire.TransformENCR, map[string]uint16{
		"3des": ikewire.Encr3DES, "des": 2, "null": ikewire.EncrNULL, "chacha20poly1305": ikewire.EncrChaCha20Poly1305,
	})
	add(ikewire.TransformENCR, map[string]uint16{
		"aes%d": ikewire.EncrAESCBC, "aes%dctr": ikewire.EncrAESCTR,
		"aes%dgcm8": ikewire.EncrAESGCM8, "aes%dgcm12": ikewire.EncrAESGCM12, "aes%dgcm16": ikewire.EncrAESGCM16,
	}, 128, 192, 256)
	add(ikewire.TransformPRF, map[string]uint16{
		"prfsha1": ikewire.PRFHMACSHA1, "prfsha256": ikewire.PRFHMACSHA256, "prfsha384": ikewire.PRFHMACSHA384,
		"prfsha512": ikewire.PRFHMACSHA512, "prfaesxcbc": ikewire.PRFAESXCBC, "prfaescmac": ikewire.PRFAESCMAC,
	})
	add(ikewire.TransformINTEG, map[string]uint16{
		"sha1": ikewire.IntegHMACSHA1, "sha256": ikewire.IntegHMACSHA256, "sha384": ikewire.IntegHMACSHA384,
		"sha512": ikewire.IntegHMACSHA512, "aesxcbc": ikewire.IntegAESXCBC, "aescmac": ikewire.IntegAESCMAC,
	})
	add(ikewire.TransformKE, map[string]uint16{
		"modp1024": ikewire.GroupMODP1024, "modp2048": ikewire.GroupMODP2048, "modp3072": ikewire.GroupMODP3072,
		"modp4096": ikewire.GroupMODP4096, "modp6144": ikewire.GroupMODP6144, "modp8192": ikewire.GroupMODP8192,
		"ecp256": ikewire.GroupECP256, "ecp384": ikewire.GroupECP384, "ecp521": ikewire.GroupECP521,
		"curve25519": ikewire.GroupCurve25519,
	})
	return words
}()
