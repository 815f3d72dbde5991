package ike

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Negotiation of algorithms (RFC 7296 sections 2.7 and 3.3): we choose, in our
// order, the first that one of the peer's proposals allows.

// chooseSuite prefers suites of the group whose key exchange was sent already;
// any other costs a round trip (INVALID_KE_PAYLOAD).
func chooseSuite(ours []ikecrypto.Suite, offer *ikewire.SA, group uint16) (suite ikecrypto.Suite, number uint8, ok bool) {
	for _, sameGroup := range []bool{true, false} {
		for _, s := range ours {
			if (s.Group == group) != sameGroup {
				continue
			}
			for i := range offer.Proposals {
				if p := &offer.Proposals[i]; p.Protocol == ikewire.ProtocolIKE && len(p.SPI) == 0 && allowsSuite(p, s) {
					return s, p.Number, true
				}
			}
		}
	}
	return ikecrypto.Suite{}, 0, false
}

func allowsSuite(p *ikewire.Proposal, s ikecrypto.Suite) bool {
	return understood(p) &&
		offers(p, ikewire.TransformENCR, s.Encryption, s.KeyBits) &&
		offers(p, ikewire.TransformPRF, s.PRF, 0) &&
		offersIntegrity(p, s.Integrity) &&
		offers(p, ikewire.TransformKE, s.Group, 0)
}

// understood: a proposal with a transform type that we don't know can't be
// chosen (RFC 7296 section 3.3.6).
func understood(p *ikewire.Proposal) bool {
	for _, t := range p.Transforms {
		switch t.Type {
		case ikewire.TransformENCR, ikewire.TransformPRF, ikewire.TransformINTEG,
			ikewire.TransformKE, ikewire.TransformESN:
		default:
			return false
		}
	}
	return true
}

func offers(p *ikewire.Proposal, typ ikewire.TransformType, id, bits uint16) bool {
	return slices.Contains(p.Transforms, ikewire.Transform{Type: typ, ID: id, KeyBits: bits})
}

func offersType(p *ikewire.Proposal, typ ikewire.TransformType) bool {
	return slices.ContainsFunc(p.Transforms, func(t ikewire.Transform) bool { return t.Type == typ })
}

// offersIntegrity: with AEAD the proposal has no integrity transform, or NONE.
func offersIntegrity(p *ikewire.Proposal, id uint16) bool {
	if id == 0 && !offersType(p, ikewire.TransformINTEG) {
		return true
	}
	return offers(p, ikewire.TransformINTEG, id, 0)
}

// chosenSuite is the answer to proposal number; a number of our own for an
// offer.
func chosenSuite(s ikecrypto.Suite, number uint8) ikewire.Proposal {
	p := ikewire.Proposal{Number: number, Protocol: ikewire.ProtocolIKE}
	p.Transforms = append(p.Transforms,
		ikewire.Transform{Type: ikewire.TransformENCR, ID: s.Encryption, KeyBits: s.KeyBits},
		ikewire.Transform{Type: ikewire.TransformPRF, ID: s.PRF})
	if s.Integrity != 0 {
		p.Transforms = append(p.Transforms, ikewire.Transform{Type: ikewire.TransformINTEG, ID: s.Integrity})
	}
	p.Transforms = append(p.Transforms, ikewire.Transform{Type: ikewire.TransformKE, ID: s.Group})
	return p
}

// offerSuites is the initiator's offer: a proposal for each suite.
func offerSuites(suites []ikecrypto.Suite) *ikewire.SA {
	sa := &ikewire.SA{}
	for i, s := range suites {
		sa.Proposals = append(sa.Proposals, chosenSuite(s, uint8(i+1)))
	}
	return sa
}

// espChoice is the outcome of negotiating a Child SA.
type espChoice struct {
	algorithm dataplane.Algorithm
	peerSPI   dataplane.SPI
	number    uint8
	// sayESN: the offer had ESN transforms, so the answer needs one.
	sayESN bool
}

// chooseESP picks an algorithm. Extended sequence numbers are not negotiated
// yet: the peer has to offer the 32-bit ones (RFC 7296 section 3.3.2).
func chooseESP(ours []dataplane.Algorithm, offer *ikewire.SA) (espChoice, bool) {
	for _, a := range ours {
		for i := range offer.Proposals {
			p := &offer.Proposals[i]
			if p.Protocol != ikewire.ProtocolESP || len(p.SPI) != 4 || !understood(p) ||
				!offers(p, ikewire.TransformENCR, a.Encryption, a.KeyBits) ||
				!offersIntegrity(p, a.Integrity) {
				continue
			}
			c := espChoice{algorithm: a, peerSPI: dataplane.SPI(binary.BigEndian.Uint32(p.SPI)), number: p.Number}
			c.sayESN = offersType(p, ikewire.TransformESN)
			if c.peerSPI < 256 || (c.sayESN && !offers(p, ikewire.TransformESN, ikewire.ESNNo, 0)) {
				continue
			}
			return c, true
		}
	}
	return espChoice{}, false
}

// espProposal is an answer, or with a number of our own an offer.
func espProposal(a dataplane.Algorithm, number uint8, spi dataplane.SPI, sayESN bool) ikewire.Proposal {
	p := ikewire.Proposal{
		Number: number, Protocol: ikewire.ProtocolESP,
		SPI: binary.BigEndian.AppendUint32(nil, uint32(spi)),
	}
	p.Transforms = append(p.Transforms, ikewire.Transform{Type: ikewire.TransformENCR, ID: a.Encryption, KeyBits: a.KeyBits})
	if a.Integrity != 0 {
		p.Transforms = append(p.Transforms, ikewire.Transform{Type: ikewire.TransformINTEG, ID: a.Integrity})
	}
	if sayESN {
		p.Transforms = append(p.Transforms, ikewire.Transform{Type: ikewire.TransformESN, ID: ikewire.ESNNo})
	}
	return p
}

// describe is an offer for the log, so that an administrator sees what to
// allow. Its length is bounded.
func describe(sa *ikewire.SA) string {
	var b strings.Builder
	for i, p := range sa.Proposals {
		if i > 0 {
			b.WriteString(", ")
		}
		for j, t := range p.Transforms {
			if j > 0 {
				b.WriteByte('/')
			}
			b.WriteString(t.String())
			if b.Len() > 400 {
				b.WriteString(" ...")
				return b.String()
			}
		}
	}
	return b.String()
}
