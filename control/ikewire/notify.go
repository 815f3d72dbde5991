package ikewire

import (
	"encoding/binary"
	"math"
)

// Notify is the notify payload (RFC 7296 section 3.10).
type Notify struct {
	// Protocol of the SPI; ProtocolNone if there is none.
	Protocol ProtocolID
	// SPI of the SA that is meant, at most 255 octets.
	SPI        []byte
	NotifyType NotifyType
	Data       []byte
}

func (*Notify) Type() PayloadType { return PayloadNotify }

func parseNotify(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "notify header", ErrTruncated)
	}
	n := 4 + int(b[1])
	if n > len(b) {
		return nil, fieldError(1, "SPI", ErrTruncated)
	}
	return &Notify{
		Protocol:   ProtocolID(b[0]),
		SPI:        b[4:n:n],
		NotifyType: NotifyType(binary.BigEndian.Uint16(b[2:])),
		Data:       b[n:],
	}, nil
}

func (p *Notify) appendBody(dst []byte) ([]byte, error) {
	if len(p.SPI) > math.MaxUint8 {
		return dst, fieldError(0, "SPI", ErrLength)
	}
	dst = append(dst, byte(p.Protocol), byte(len(p.SPI)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(p.NotifyType))
	dst = append(dst, p.SPI...)
	return append(dst, p.Data...), nil
}

// FindNotify returns the first notify payload of a type, or nil.
func FindNotify(ps []Payload, t NotifyType) *Notify {
	for _, p := range ps {
		if n, ok := p.(*Notify); ok && n.NotifyType == t {
			return n
		}
	}
	return nil
}
