package dhcp

import (
	"encoding/binary"
	"net/netip"
)

// Fixed part of a message (RFC 2131 section 2), network byte order:
//
//	| op 1 | htype 1 | hlen 1 | hops 1 | xid 4 | secs 2 | flags 2 |
//	| ciaddr 4 | yiaddr 4 | siaddr 4 | giaddr 4 |
//	| chaddr 16 | sname 64 | file 128 | magic cookie 4 | options
const (
	opAt     = 0
	hlenAt   = 2
	xidAt    = 4
	flagsAt  = 10
	ciaddrAt = 12
	giaddrAt = 24
	chaddrAt = 28
	snameAt  = 44
	cookieAt = 236
	fixedLen = 240

	magicCookie = 0x63825363
)

const (
	bootRequest = 1
	bootReply   = 2
)

// Message types (RFC 2132 section 9.6).
const (
	typeInform = 8
	typeACK    = 5
)

const (
	// minMessage is what BOOTP pads to (RFC 951 section 3; RFC 1542 section
	// 2.1): some clients insist on it.
	minMessage = 300
	// maxRequest in octets. More than any client sends through a tunnel.
	maxRequest = 1500
	// IP and UDP headers, which option 57 and the minimum of 576 octets count.
	headers = 28
	// Every client takes a datagram of 576 octets (RFC 2131 section 2), and
	// none is given more than what every IPv6 path carries, be it told to.
	minDatagram = 576
	maxDatagram = 1280
)

// inform is what the answer needs of a DHCPINFORM.
type inform struct {
	header   []byte // fixed part; lies in the message
	asked    []byte // option codes, in the client's order, none twice
	clientID []byte // option 61; nil: none
	limit    int    // longest answer in octets of UDP payload
}

// parseInform reads a message whose source is from. Options in the fields sname
// and file (RFC 2132 section 9.3) are not looked at: they are empty in a
// DHCPINFORM that has no more to say than 300 octets hold.
func parseInform(message []byte, from netip.Addr) (inform, Reason) {
	switch {
	case len(message) > maxRequest:
		return inform{}, ReasonLong
	case len(message) < fixedLen:
		return inform{}, ReasonShort
	case message[opAt] != bootRequest:
		return inform{}, ReasonReply
	case binary.BigEndian.Uint32(message[cookieAt:]) != magicCookie:
		return inform{}, ReasonCookie
	case int(message[hlenAt]) > snameAt-chaddrAt:
		return inform{}, ReasonMalformed
	}
	in := inform{header: message[:fixedLen], limit: minDatagram - headers}
	if r := in.parseOptions(message[fixedLen:]); r != ReasonNone {
		return inform{}, r
	}
	ciaddr := netip.AddrFrom4([4]byte(message[ciaddrAt:]))
	switch {
	case binary.BigEndian.Uint32(message[giaddrAt:]) != 0:
		return inform{}, ReasonRelayed
	case ciaddr != from || ciaddr.IsUnspecified() || ciaddr.IsMulticast() || ciaddr == broadcast:
		return inform{}, ReasonAddress
	}
	return in, ReasonNone
}

// parseOptions joins options that come in several pieces (RFC 3396).
// The message may end without an End option.
func (in *inform) parseOptions(options []byte) Reason {
	var messageType, maximum []byte
	var seen [256]bool
	for len(options) > 0 && options[0] != optEnd {
		code := options[0]
		if code == optPad {
			options = options[1:]
			continue
		}
		if len(options) < 2 || len(options) < 2+int(options[1]) {
			return ReasonMalformed
		}
		value := options[2 : 2+int(options[1])]
		options = options[2+len(value):]
		switch code {
		case optMessageType:
			messageType = append(messageType, value...)
		case optMaxMessage:
			maximum = append(maximum, value...)
		case optClientID:
			in.clientID = append(in.clientID, value...)
		case optRequested:
			for _, c := range value {
				if !seen[c] {
					seen[c] = true
					in.asked = append(in.asked, c)
				}
			}
		}
	}
	switch {
	case len(messageType) != 1, len(maximum) != 0 && len(maximum) != 2:
		return ReasonMalformed
	case messageType[0] != typeInform:
		return ReasonType
	}
	if len(maximum) == 2 {
		n := int(binary.BigEndian.Uint16(maximum))
		in.limit = min(max(n, minDatagram), maxDatagram) - headers
	}
	return ReasonNone
}

// appendHeader writes the fixed part of a DHCPACK that answers a DHCPINFORM
// (RFC 2131 table 3, section 4.3.5): yiaddr and siaddr are zero.
func (in *inform) appendHeader(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, fixedLen)...)
	h := b[at:]
	h[opAt] = bootReply
	copy(h[opAt+1:hlenAt+1], in.header[opAt+1:]) // htype, hlen
	copy(h[xidAt:xidAt+4], in.header[xidAt:])
	copy(h[flagsAt:flagsAt+2], in.header[flagsAt:])
	copy(h[ciaddrAt:ciaddrAt+4], in.header[ciaddrAt:])
	copy(h[chaddrAt:snameAt], in.header[chaddrAt:])
	binary.BigEndian.PutUint32(h[cookieAt:], magicCookie)
	return b
}
