package gate

import "encoding/binary"

// appendNotify writes a whole message with one notify payload, which has no
// SPI (RFC 7296 section 3.10).
func appendNotify(dst []byte, h *Header, notify uint16, data []byte) []byte {
	dst = appendHeader(dst, h, notifyLen+len(data))
	return appendPayload(dst, 0, 0, notify, data)
}

// appendHeader of a message that begins with a notify payload.
func appendHeader(dst []byte, h *Header, payloads int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, h.InitiatorSPI)
	dst = binary.BigEndian.AppendUint64(dst, h.ResponderSPI)
	dst = append(dst, payloadNotify, version2, h.exchange, h.flags)
	dst = binary.BigEndian.AppendUint32(dst, h.messageID)
	return binary.BigEndian.AppendUint32(dst, uint32(headerLen+payloads))
}

// appendPayload writes a notify payload.
func appendPayload(dst []byte, next, protocol uint8, notify uint16, data []byte) []byte {
	dst = append(dst, next, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(notifyLen+len(data)))
	dst = append(dst, protocol, 0)
	dst = binary.BigEndian.AppendUint16(dst, notify)
	return append(dst, data...)
}

// appendResponse answers the request that h heads.
func appendResponse(dst []byte, h *Header, notify uint16, data []byte) []byte {
	answer := *h
	answer.flags = flagResponse | ^h.flags&flagInitiator
	return appendNotify(dst, &answer, notify, data)
}

// AppendInvalidSPI writes the one-way message that tells somebody without an
// IKE SA that the SPI of its ESP packet is unknown (RFC 7296 section 1.5): not
// protected, so a hint only; SPIs zero, which is allowed here.
func AppendInvalidSPI(dst []byte, spi uint32) []byte {
	h := Header{exchange: exchangeInformational, flags: flagInitiator}
	return appendNotify(dst, &h, notifyInvalidSPI, binary.BigEndian.AppendUint32(make([]byte, 0, 4), spi))
}
