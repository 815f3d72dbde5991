package userspace

import (
	"encoding/binary"
	"math/bits"
)

const (
	tcpSYN = 0x02

	optionEnd  = 0
	optionNone = 1
	optionMSS  = 2
)

// clampMSS lowers the MSS option of a SYN so that segments of the other side
// fit through the tunnel, as if its sender's MTU were mtu (RFC 9293 section
// 3.7.1), for paths on which ICMP gets lost. It corrects the TCP checksum. b is the whole packet and nothing behind it. It has to be called
// for both directions; mtu is that of inner packets.
func clampMSS(b []byte, p *packet, mtu int) {
	if p.protocol != protoTCP || p.transport == 0 || len(b) < p.transport+tcpHeaderLen {
		return
	}
	tcp := b[p.transport:]
	header := int(tcp[12]>>4) * 4
	if tcp[13]&tcpSYN == 0 || header > len(tcp) {
		return
	}
	limit := mtu - tcpHeaderLen - ipv4HeaderLen
	if p.v6 {
		limit = mtu - tcpHeaderLen - ipv6HeaderLen
	}
	at := mssOption(tcp[:header])
	if at == 0 || int(binary.BigEndian.Uint16(tcp[at:])) <= limit {
		return
	}
	before, after := binary.BigEndian.Uint16(tcp[at:]), uint16(limit)
	binary.BigEndian.PutUint16(tcp[at:], after)
	if at%2 != 0 { // the value is the halves of two words of the sum
		before, after = bits.ReverseBytes16(before), bits.ReverseBytes16(after)
	}
	updateChecksum(tcp[16:18], before, after)
}

// mssOption returns the offset of the value of the MSS option in a TCP header
// (RFC 9293 section 3.2), 0 if there is none.
func mssOption(header []byte) int {
	for at := tcpHeaderLen; at+1 < len(header); {
		kind, length := header[at], int(header[at+1])
		switch {
		case kind == optionEnd:
			return 0
		case kind == optionNone:
			at++
			continue
		case length < 2 || at+length > len(header):
			return 0
		case kind == optionMSS && length == 4:
			return at + 2
		}
		at += length
	}
	return 0
}
