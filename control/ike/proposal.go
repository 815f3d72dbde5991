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

// chooseRekeySuite is chooseSuite for an IKE SA in place of this one, with the
// peer's new SPI.
func chooseRekeySuite(ours []ikecrypto.Suite, offer *ikewire.SA, group uint16) (suite ikecrypto.Suite, number uint8, spi uint64, ok bool) {
	bare := &ikewire.SA{}
	spis := map[uint8]uint64{}
	for _, p := range offer.Proposals {
		if len(p.SPI) != 8 || binary.BigEndian.Uint64(p.SPI) == 0 {
			continue
		}
		spis[p.Number] = binary.BigEndian.Uint64(p.SPI)
		p.SPI = nil
		bare.Proposals = append(bare.Proposals, p)
	}
	suite, number, ok = chooseSuite(ours, bare, group)
	return suite, number, spis[number], ok
}

// espChoice is the outcome of negotiating a Child SA.
type espChoice struct {
	algorithm dataplane.Algorithm
	peerSPI   dataplane.SPI
	number    uint8
	// sayESN: the offer had ESN transforms, so the answer needs one.
	sayESN, esn bool
	group       uint16 // of a key exchange of its own; 0: none
}

// chooseESP picks an algorithm. Key exchange transforms are passed over: in
// IKE_AUTH they have no meaning (RFC 7296 section 1.2), and in an answer of the
// peer they say what we asked for.
func (m *Machine) chooseESP(offer *ikewire.SA) (espChoice, bool) {
	for _, a := range m.cfg.ESP {
		for i := range offer.Proposals {
			if c, ok := m.allowsESP(&offer.Proposals[i], a); ok {
				return c, true
			}
		}
	}
	return espChoice{}, false
}

func (m *Machine) allowsESP(p *ikewire.Proposal, a dataplane.Algorithm) (espChoice, bool) {
	if p.Protocol != ikewire.ProtocolESP || len(p.SPI) != 4 || !understood(p) ||
		!offers(p, ikewire.TransformENCR, a.Encryption, a.KeyBits) || !offersIntegrity(p, a.Integrity) {
		return espChoice{}, false
	}
	c := espChoice{algorithm: a, peerSPI: dataplane.SPI(binary.BigEndian.Uint32(p.SPI)), number: p.Number}
	c.sayESN = offersType(p, ikewire.TransformESN)
	c.esn = m.cfg.ESN && offers(p, ikewire.TransformESN, ikewire.ESNYes, 0)
	// Without ESN transforms the 32-bit numbers are meant (section 3.3.2).
	short := !c.sayESN || offers(p, ikewire.TransformESN, ikewire.ESNNo, 0)
	return c, c.peerSPI >= 256 && (c.esn || short)
}

// espProposal is an answer, or with a number of our own an offer.
func espProposal(c espChoice, number uint8, spi dataplane.SPI) ikewire.Proposal {
	p := ikewire.Proposal{
		Number: number, Protocol: ikewire.ProtocolESP,
		SPI: binary.BigEndian.AppendUint32(nil, uint32(spi)),
	}
	add := func(t ikewire.TransformType, id, bits uint16) {
		p.Transforms = append(p.Transforms, ikewire.Transform{Type: t, ID: id, KeyBits: bits})
	}
	add(ikewire.TransformENCR, c.algorithm.Encryption, c.algorithm.KeyBits)
	if c.algorithm.Integrity != 0 {
		add(ikewire.TransformINTEG, c.algorithm.Integrity, 0)
	}
	if c.group != 0 {
		add(ikewire.TransformKE, c.group, 0)
	}
	if c.esn {
		add(ikewire.TransformESN, ikewire.ESNYes, 0)
	} else if c.sayESN {
		add(ikewire.TransformESN, ikewire.ESNNo, 0)
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
