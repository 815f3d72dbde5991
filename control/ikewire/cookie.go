package ikewire

import "encoding/binary"

// notifyHeaderLen: generic header, protocol, length of the SPI, type (RFC 7296
// section 3.10).
const notifyHeaderLen = 8

// WithoutCookie is a first request as it was before its sender was asked for a
// cookie and put that before everything else (RFC 7296 section 2.6): a copy,
// appended to dst. What has no cookie there, or is no message, is returned itself.
func WithoutCookie(dst, message []byte) []byte {
	if len(message) < HeaderLen+notifyHeaderLen || PayloadType(message[16]) != PayloadNotify {
		return message
	}
	n := message[HeaderLen:]
	length := int(binary.BigEndian.Uint16(n[2:]))
	if length < notifyHeaderLen || length > len(n) || n[5] != 0 || NotifyType(binary.BigEndian.Uint16(n[6:])) != NotifyCookie {
		return message
	}
	at := len(dst)
	dst = append(dst, message[:HeaderLen]...)
	dst[at+16] = n[0]
	binary.BigEndian.PutUint32(dst[at+24:], binary.BigEndian.Uint32(message[24:])-uint32(length))
	return append(dst, n[length:]...)[at:]
}
