package session

import (
	"encoding/binary"
	"unique"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
)

// evidence is admit.Evidence as it is kept for decisions to come: the device's
// own certificate, and those that it has in common with others once for all. When
// it was found good, the certificate is kept as what tells it from another one of
// the same issuer: names, extensions and algorithms are the same in all.
type evidence struct {
	idType uint8
	// like is the certificate of another device, if leaf is how it differs.
	like     unique.Handle[string]
	differs  bool
	id, leaf string
	issuers  []unique.Handle[string]
}

func keepEvidence(e ike.AskAdmit) *evidence {
	kept := &evidence{idType: uint8(e.ID.IDType), id: string(e.ID.Data)}
	for i, der := range e.Chain {
		if i == 0 {
			kept.leaf = string(der)
			continue
		}
		kept.issuers = append(kept.issuers, unique.Make(string(der)))
	}
	return kept
}

// present is the evidence for a decision.
func (e *evidence) present() admit.Evidence {
	out := admit.Evidence{IDType: e.idType, ID: []byte(e.id)}
	if leaf := e.certificate(); len(leaf) > 0 {
		out.Chain = append(out.Chain, leaf)
	}
	for _, issuer := range e.issuers {
		out.Chain = append(out.Chain, []byte(issuer.Value()))
	}
	return out
}

func (e *evidence) certificate() []byte {
	if e.differs {
		return patched(e.like.Value(), e.leaf)
	}
	return []byte(e.leaf)
}

// maxModels are of how many issuers a shard has a certificate to compare with.
const maxModels = 64

// models are certificates of devices that were admitted, by their issuers' DER
// names. One goroutine uses them.
type models map[string]*model

// model is a certificate, and where in it four octets of each hash stand, plus 1.
type model struct {
	whole unique.Handle[string]
	at    [1 << seedBits]uint16
}

// compact keeps the difference of a certificate that was found good. The first
// one of an issuer is the one that others are compared with.
func (m models) compact(e *evidence, issuer []byte) {
	if e.differs || len(e.leaf) > maxModelled {
		return
	}
	to := m[string(issuer)]
	if to == nil {
		if len(m) == maxModels {
			clear(m)
		}
		to = newModel(e.leaf)
		m[string(issuer)] = to
	}
	if p := to.difference(e.leaf); len(p) < len(e.leaf) {
		e.like, e.differs, e.leaf = to.whole, true, p
	}
}

const (
	// maxModelled is the longest certificate, in octets, that is compared.
	maxModelled = 8 << 10
	// seed is how many octets are looked for, worth of them what a copy has to have
	// at least.
	seed     = 4
	seedBits = 10
	worth    = 6
)

func newModel(whole string) *model {
	m := &model{whole: unique.Make(whole)}
	for i := 0; i+seed <= len(whole); i++ {
		m.at[seedOf(whole[i:])] = uint16(i) + 1
	}
	return m
}

// seedOf is a hash of the first four octets, by Knuth's multiplication.
func seedOf(s string) uint32 {
	v := uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
	return v * 2654435761 >> (32 - seedBits)
}

// difference of s from the model: octets that are new and places to copy from, in
// turn, as patched reads them.
func (m *model) difference(s string) string {
	whole := m.whole.Value()
	var out []byte
	fresh := 0 // where what is new begins
	for i := 0; i+seed <= len(s); {
		at := int(m.at[seedOf(s[i:])]) - 1
		if i < len(whole) && len(s) == len(whole) && whole[i:min(i+worth, len(whole))] == s[i:min(i+worth, len(s))] {
			at = i // the same place first
		}
		n := 0
		for at >= 0 && i+n < len(s) && at+n < len(whole) && s[i+n] == whole[at+n] {
			n++
		}
		if n < worth {
			i++
			continue
		}
		out = appendPiece(out, s[fresh:i], at, n)
		i += n
		fresh = i
	}
	if fresh < len(s) {
		out = appendPiece(out, s[fresh:], 0, 0)
	}
	return string(out)
}

func appendPiece(out []byte, fresh string, at, n int) []byte {
	out = binary.AppendUvarint(out, uint64(len(fresh)))
	out = append(out, fresh...)
	out = binary.AppendUvarint(out, uint64(at))
	return binary.AppendUvarint(out, uint64(n))
}

// patched is what difference was made of. Only its own work is read.
func patched(whole, difference string) []byte {
	var out []byte
	for b := []byte(difference); len(b) > 0; {
		number := func() int {
			v, n := binary.Uvarint(b)
			b = b[n:]
			return int(v)
		}
		n := number()
		out = append(out, b[:n]...)
		b = b[n:]
		at := number()
		out = append(out, whole[at:at+number()]...)
	}
	return out
}
