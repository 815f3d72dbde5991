package session

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unique"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// evidence is admit.Evidence as it is kept for decisions to come: the device's
// own certificate, and those that it has in common with others once for all. When
// it was found good, the certificate is kept as what tells it from another one of
// the same issuer: names, extensions and algorithms are the same in all.
type evidence struct {
	given bool
	// differs: leaf is how the certificate differs from another device's, which is
	// like.
	differs bool
	idType  uint8
	idLen   uint16
	own     slab.Piece // identification and leaf
	like    unique.Handle[string]
	issuers unique.Handle[string] // as appendPart writes them
}

func keepEvidence(e ike.AskAdmit, in *slab.Octets) evidence {
	kept := evidence{given: true, idType: uint8(e.ID.IDType)}
	var leaf, issuers []byte
	for i, der := range e.Chain {
		if i == 0 {
			leaf = der
			continue
		}
		issuers = appendPart(issuers, string(der))
	}
	kept.issuers = unique.Make(string(issuers))
	kept.idLen = uint16(len(e.ID.Data)) // of a payload
	kept.own = in.Put(slices.Concat(e.ID.Data, leaf))
	return kept
}

// id and leaf are octets of the evidence.
func (e *evidence) id() []byte   { return e.own.Octets()[:e.idLen] }
func (e *evidence) leaf() []byte { return e.own.Octets()[e.idLen:] }

// erase it: there is none from now on.
func (e *evidence) erase() {
	e.own.Erase()
	*e = evidence{}
}

// present is a copy of the evidence, for a decision.
func (e *evidence) present() admit.Evidence {
	out := admit.Evidence{IDType: e.idType, ID: bytes.Clone(e.id())}
	if leaf := e.certificate(); len(leaf) > 0 {
		out.Chain = append(out.Chain, leaf)
	}
	if e.issuers != (unique.Handle[string]{}) {
		for _, issuer := range parts(e.issuers.Value()) {
			out.Chain = append(out.Chain, []byte(issuer))
		}
	}
	return out
}

func (e *evidence) certificate() []byte {
	if e.differs {
		return patched(e.like.Value(), string(e.leaf()))
	}
	return bytes.Clone(e.leaf())
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
func (m models) compact(e *evidence, issuer []byte, in *slab.Octets) {
	leaf := e.leaf()
	if e.differs || len(leaf) > maxModelled {
		return
	}
	to := m[string(issuer)]
	if to == nil {
		if len(m) == maxModels {
			clear(m)
		}
		to = newModel(string(leaf))
		m[string(issuer)] = to
	}
	if p := to.difference(string(leaf)); len(p) < len(leaf) {
		own := in.Put(append(bytes.Clone(e.id()), p...))
		e.own.Erase()
		e.like, e.differs, e.own = to.whole, true, own
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
