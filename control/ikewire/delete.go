package ikewire

import (
	"encoding/binary"
	"math"
)

// MaxDeleteSPIs in one delete payload. A device has a few Child SAs; a gateway
// that ends more sends more payloads.
const MaxDeleteSPIs = 256

// Delete is the delete payload (RFC 7296 section 3.11).
type Delete struct {
	// Protocol is ProtocolIKE, which deletes the IKE SA and has no SPIs, or
	// ProtocolAH or ProtocolESP.
	Protocol ProtocolID
	// SPIs under which the sender expects inbound packets.
	SPIs []uint32
}

func (*Delete) Type() PayloadType { return PayloadDelete }

func (p *Delete) spiLen() (int, error) {
	switch p.Protocol {
	case ProtocolIKE:
		return 0, nil
	case ProtocolAH, ProtocolESP:
		return 4, nil
	case ProtocolNone:
	}
	return 0, fieldError(0, "protocol", ErrSyntax)
}

func parseDelete(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "delete header", ErrTruncated)
	}
	p := &Delete{Protocol: ProtocolID(b[0])}
	size, err := p.spiLen()
	if err != nil {
		return nil, err
	}
	count, spis := int(binary.BigEndian.Uint16(b[2:])), b[4:]
	if int(b[1]) != size {
		return nil, fieldError(1, "SPI size", ErrSyntax)
	}
	if size == 0 && count != 0 {
		return nil, fieldError(2, "number of SPIs", ErrSyntax)
	}
	if len(spis) != count*size {
		return nil, fieldError(2, "SPIs", ErrLength)
	}
	if count > MaxDeleteSPIs {
		return nil, fieldError(2, "SPIs", ErrTooMany)
	}
	for ; len(spis) > 0; spis = spis[4:] {
		p.SPIs = append(p.SPIs, binary.BigEndian.Uint32(spis))
	}
	return p, nil
}

func (p *Delete) appendBody(dst []byte) ([]byte, error) {
	size, err := p.spiLen()
	if err != nil {
		return dst, err
	}
	if size == 0 && len(p.SPIs) != 0 {
		return dst, fieldError(0, "SPIs of an IKE SA", ErrSyntax)
	}
	if len(p.SPIs) > math.MaxUint16 {
		return dst, fieldError(0, "number of SPIs", ErrLength)
	}
	dst = append(dst, byte(p.Protocol), byte(size))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.SPIs)))
	for _, spi := range p.SPIs {
		dst = binary.BigEndian.AppendUint32(dst, spi)
	}
	return dst, nil
}
