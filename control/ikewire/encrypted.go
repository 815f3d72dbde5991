package ikewire

import "encoding/binary"

// Encrypted is a sealed payload: SK (RFC 7296 section 3.14), or SKF, one
// fragment of it (RFC 7383 section 2.5).
type Encrypted struct {
	// First is the type of the first payload inside. Of the fragments of a
	// message only number 1 tells it.
	First PayloadType
	// Fragment counts from 1 to Total; both are 0 in SK.
	Fragment, Total uint16
	// Body from the IV to the integrity checksum. It ends the message, so what
	// is authenticated besides is all that comes before it.
	Body []byte
}

// Type is PayloadFragment if Total is set, otherwise PayloadEncrypted.
func (p *Encrypted) Type() PayloadType {
	if p.Total != 0 {
		return PayloadFragment
	}
	return PayloadEncrypted
}

func parseFragment(first PayloadType, b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "fragment header", ErrTruncated)
	}
	p := &Encrypted{
		First:    first,
		Fragment: binary.BigEndian.Uint16(b),
		Total:    binary.BigEndian.Uint16(b[2:]),
		Body:     b[4:],
	}
	if err := p.checkFragment(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Encrypted) checkFragment() error {
	if p.Fragment == 0 || p.Fragment > p.Total {
		return fieldError(0, "fragment number", ErrSyntax)
	}
	if p.Fragment > 1 && p.First != PayloadNone {
		return fieldError(0, "next payload of a later fragment", ErrSyntax)
	}
	return nil
}

func (p *Encrypted) appendBody(dst []byte) ([]byte, error) {
	if p.Total != 0 || p.Fragment != 0 {
		if err := p.checkFragment(); err != nil {
			return dst, err
		}
		dst = binary.BigEndian.AppendUint16(dst, p.Fragment)
		dst = binary.BigEndian.AppendUint16(dst, p.Total)
	}
	return append(dst, p.Body...), nil
}
