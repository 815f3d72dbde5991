package ikewire

import "encoding/binary"

// KE is the key exchange payload (RFC 7296 section 3.4).
type KE struct {
	// Group is a transform ID of type 4.
	Group uint16
	// Data is the public value in the format of the group.
	Data []byte
}

func (*KE) Type() PayloadType { return PayloadKE }

func parseKE(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "key exchange header", ErrTruncated)
	}
	return &KE{Group: binary.BigEndian.Uint16(b), Data: b[4:]}, nil
}

func (p *KE) appendBody(dst []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint16(dst, p.Group)
	dst = append(dst, 0, 0)
	return append(dst, p.Data...), nil
}
