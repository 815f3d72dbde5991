package ikewire

import (
	"encoding/binary"
	"math"
)

const (
	// MaxProposals in one SA payload. Windows sends 18, others fewer than ten.
	MaxProposals = 64
	// MaxTransforms in all proposals of one SA payload. strongSwan's defaults
	// have about 80.
	MaxTransforms = 512
)

// SA is the security association payload (RFC 7296 section 3.3).
type SA struct{ Proposals []Proposal }

// Proposal is one set of algorithms to choose from (RFC 7296 section 3.3.1).
type Proposal struct {
	Number   uint8
	Protocol ProtocolID
	// SPI of the sender: empty in IKE_SA_INIT, 8 octets when an IKE SA is
	// rekeyed, 4 for ESP and AH.
	SPI        []byte
	Transforms []Transform
}

// Transform is one algorithm (RFC 7296 section 3.3.2). Transforms can be
// compared.
type Transform struct {
	Type TransformType
	ID   uint16
	// KeyBits is the Key Length attribute; 0 if there is none.
	KeyBits uint16
	// Attributes as received, if they are anything but one Key Length that
	// isn't zero; KeyBits is then 0. Such a transform is not understood and
	// must not be chosen (RFC 7296 section 3.3.6). Only parsing sets it.
	Attributes string
}

func (*SA) Type() PayloadType { return PayloadSA }

const (
	moreProposals  = 2
	moreTransforms = 3
	proposalLen    = 8 // without SPI and transforms
	transformLen   = 8 // without attributes
	attrTV         = 0x8000
	attrKeyLength  = 14
)

func parseSA(b []byte) (Payload, error) {
	p := &SA{}
	transforms := 0
	for offset, more := 0, true; more; {
		rest := b[offset:]
		if len(rest) < proposalLen {
			return nil, fieldError(offset, "proposal header", ErrTruncated)
		}
		n, spiLen := int(binary.BigEndian.Uint16(rest[2:])), int(rest[6])
		if n < proposalLen+spiLen {
			return nil, fieldError(offset+2, "proposal length", ErrLength)
		}
		if n > len(rest) {
			return nil, fieldError(offset+2, "proposal", ErrTruncated)
		}
		if more = rest[0] == moreProposals; !more && rest[0] != 0 {
			return nil, fieldError(offset, "last substructure", ErrSyntax)
		}
		if transforms += int(rest[7]); transforms > MaxTransforms || len(p.Proposals) == MaxProposals {
			return nil, fieldError(offset, "proposals", ErrTooMany)
		}
		body := offset + proposalLen + spiLen
		ts, err := parseTransforms(b[:offset+n], body, int(rest[7]))
		if err != nil {
			return nil, err
		}
		p.Proposals = append(p.Proposals, Proposal{
			Number:     rest[4],
			Protocol:   ProtocolID(rest[5]),
			SPI:        b[offset+proposalLen : body : body],
			Transforms: ts,
		})
		if offset += n; !more && offset != len(b) {
			return nil, fieldError(offset, "octets after the last proposal", ErrLength)
		}
	}
	return p, nil
}

// parseTransforms reads count transforms that fill b[offset:].
func parseTransforms(b []byte, offset, count int) ([]Transform, error) {
	if count*transformLen > len(b)-offset {
		return nil, fieldError(offset, "transforms", ErrTruncated)
	}
	if count == 0 && offset == len(b) {
		return nil, nil
	}
	ts := make([]Transform, 0, count)
	for i := range count {
		rest := b[offset:]
		if len(rest) < transformLen {
			return nil, fieldError(offset, "transform header", ErrTruncated)
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < transformLen {
			return nil, fieldError(offset+2, "transform length", ErrLength)
		}
		if n > len(rest) {
			return nil, fieldError(offset+2, "transform", ErrTruncated)
		}
		want := byte(moreTransforms)
		if i == count-1 {
			want = 0
		}
		if rest[0] != want {
			return nil, fieldError(offset, "last substructure", ErrSyntax)
		}
		t := Transform{Type: TransformType(rest[4]), ID: binary.BigEndian.Uint16(rest[6:])}
		if err := t.parseAttributes(rest[transformLen:n], offset+transformLen); err != nil {
			return nil, err
		}
		ts = append(ts, t)
		offset += n
	}
	if offset != len(b) {
		return nil, fieldError(offset, "octets after the last transform", ErrLength)
	}
	return ts, nil
}

// parseAttributes reads the data attributes that fill b (RFC 7296 section
// 3.3.5).
func (t *Transform) parseAttributes(b []byte, offset int) error {
	if len(b) == 4 && binary.BigEndian.Uint16(b) == attrTV|attrKeyLength {
		if t.KeyBits = binary.BigEndian.Uint16(b[2:]); t.KeyBits != 0 {
			return nil
		}
	}
	for rest := b; len(rest) > 0; {
		if len(rest) < 4 {
			return fieldError(offset, "attribute", ErrTruncated)
		}
		n := 4
		if binary.BigEndian.Uint16(rest)&attrTV == 0 {
			n += int(binary.BigEndian.Uint16(rest[2:]))
		}
		if n > len(rest) {
			return fieldError(offset, "attribute value", ErrTruncated)
		}
		rest, offset = rest[n:], offset+n
	}
	t.Attributes = string(b)
	return nil
}

func (p *SA) appendBody(dst []byte) ([]byte, error) {
	if len(p.Proposals) == 0 {
		return dst, fieldError(0, "no proposal", ErrSyntax)
	}
	for i := range p.Proposals {
		pr := &p.Proposals[i]
		if len(pr.SPI) > math.MaxUint8 || len(pr.Transforms) > math.MaxUint8 {
			return dst, fieldError(0, "SPI or number of transforms", ErrLength)
		}
		more := byte(moreProposals)
		if i == len(p.Proposals)-1 {
			more = 0
		}
		start := len(dst)
		dst = append(dst, more, 0, 0, 0, pr.Number, byte(pr.Protocol), byte(len(pr.SPI)), byte(len(pr.Transforms)))
		dst = append(dst, pr.SPI...)
		for j, t := range pr.Transforms {
			dst = t.append(dst, j == len(pr.Transforms)-1)
		}
		n := len(dst) - start
		if n > math.MaxUint16 {
			return dst, fieldError(0, "proposal", ErrLength)
		}
		binary.BigEndian.PutUint16(dst[start+2:], uint16(n))
	}
	return dst, nil
}

func (t *Transform) append(dst []byte, last bool) []byte {
	more := byte(moreTransforms)
	if last {
		more = 0
	}
	n := transformLen + len(t.Attributes)
	if t.KeyBits != 0 {
		n += 4
	}
	dst = append(dst, more, 0, byte(n>>8), byte(n), byte(t.Type), 0)
	dst = binary.BigEndian.AppendUint16(dst, t.ID)
	if t.KeyBits != 0 {
		dst = binary.BigEndian.AppendUint16(dst, attrTV|attrKeyLength)
		dst = binary.BigEndian.AppendUint16(dst, t.KeyBits)
	}
	return append(dst, t.Attributes...)
}
