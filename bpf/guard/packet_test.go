package guard

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// frame builds an Ethernet frame from the inside out.
type frame struct {
	from, to netip.AddrPort
	protocol uint8  // of IP
	payload  []byte // of UDP, or of IP if the protocol is another
	vlan     []uint16
	options  int      // octets of IPv4 options
	headers  [][]byte // IPv6 extensions; the first octet of each is filled in
	kinds    []uint8  // of the headers
	fragment uint16   // as in IPv4: 0x2000 more follow, offset in units of 8
	padding  int
}

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolESP    = 50
	protocolICMPv6 = 58
)

var (
	gateway4 = netip.MustParseAddr("203.0.113.1")
	gateway6 = netip.MustParseAddr("2001:db8:1::1")
	peer4    = netip.MustParseAddr("192.0.2.7")
	peer6    = netip.MustParseAddr("2001:db8:7::9")
)

// udp4 and udp6 are datagrams from a peer to a port of the gateway.
func udp4(port uint16, payload []byte) frame {
	return frame{from: netip.AddrPortFrom(peer4, 40000), to: netip.AddrPortFrom(gateway4, port), protocol: protocolUDP, payload: payload}
}

func udp6(port uint16, payload []byte) frame {
	return frame{from: netip.AddrPortFrom(peer6, 40000), to: netip.AddrPortFrom(gateway6, port), protocol: protocolUDP, payload: payload}
}

func (f frame) with(change func(*frame)) frame {
	f.headers, f.kinds = slices.Clone(f.headers), slices.Clone(f.kinds)
	change(&f)
	return f
}

func (f frame) bytes() []byte {
	body := f.payload
	if f.protocol == protocolUDP && f.fragment&0x1fff == 0 {
		udp := binary.BigEndian.AppendUint16(nil, f.from.Port())
		udp = binary.BigEndian.AppendUint16(udp, f.to.Port())
		udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(body)))
		body = append(append(udp, 0, 0), body...)
	}
	if f.to.Addr().Is4() {
		body = f.ipv4(body)
	} else {
		body = f.ipv6(body)
	}
	eth := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for i, id := range f.vlan {
		kind := uint16(0x8100)
		if i < len(f.vlan)-1 {
			kind = 0x88a8
		}
		eth = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(eth, kind), id)
	}
	kind := uint16(0x0800)
	if f.to.Addr().Is6() {
		kind = 0x86dd
	}
	eth = append(binary.BigEndian.AppendUint16(eth, kind), body...)
	return append(eth, make([]byte, f.padding)...)
}

func (f frame) ipv4(body []byte) []byte {
	length := 20 + f.options
	h := make([]byte, length)
	h[0], h[8], h[9] = byte(4<<4|length/4), 63, f.protocol
	binary.BigEndian.PutUint16(h[2:], uint16(length+len(body)))
	binary.BigEndian.PutUint16(h[6:], f.fragment)
	copy(h[12:], f.from.Addr().AsSlice())
	copy(h[16:], f.to.Addr().AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^onesSum(0, h))
	return append(h, body...)
}

func (f frame) ipv6(body []byte) []byte {
	kinds, headers := f.kinds, f.headers
	if f.fragment != 0 {
		more := f.fragment>>13 | f.fragment&0x1fff<<3
		headers = append(headers, []byte{0, 0, byte(more >> 8), byte(more), 0, 0, 0, 1})
		kinds = append(kinds, 44)
	}
	next := append(slices.Clone(kinds), f.protocol)
	var extensions []byte
	for i, h := range headers {
		h = slices.Clone(h)
		h[0] = next[i+1]
		extensions = append(extensions, h...)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next[0], 63
	binary.BigEndian.PutUint16(h[4:], uint16(len(extensions)+len(body)))
	copy(h[8:], f.from.Addr().AsSlice())
	copy(h[24:], f.to.Addr().AsSlice())
	return append(append(h, extensions...), body...)
}

func onesSum(sum uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// udpSum is 0xffff where the checksum of a UDP datagram is right.
func udpSum(from, to netip.Addr, datagram []byte) uint16 {
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(datagram)))
	pseudo = append(pseudo, 0, 0, 0, protocolUDP)
	return onesSum(uint32(onesSum(0, pseudo)), datagram)
}

// esp is a packet of an SPI, or what is in UDP.
func esp(spi uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, spi), make([]byte, 60)...)
}

type payload struct {
	kind uint8
	body []byte
}

var nonce = payload{40, []byte("0123456789abcdef0123456789abcde")} // 31 octets: four words, not all whole

func cookieNotify(cookie []byte) payload {
	return payload{41, append([]byte{0, 0, 16390 >> 8, 16390 & 0xff}, cookie...)}
}

// ikeMessage of an exchange; SPIi is 0x0102030405060708.
func ikeMessage(exchange, flags uint8, spiR uint64, payloads ...payload) []byte {
	m := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	m = binary.BigEndian.AppendUint64(m, spiR)
	m = append(m, 0, 0x20, exchange, flags, 0, 0, 0, 0, 0, 0, 0, 0)
	at := 16
	for _, p := range payloads {
		m[at] = p.kind
		at = len(m)
		m = append(m, 0, 0)
		m = binary.BigEndian.AppendUint16(m, uint16(4+len(p.body)))
		m = append(m, p.body...)
	}
	binary.BigEndian.PutUint32(m[24:], uint32(len(m)))
	return m
}

// first message of an IKE SA, as clients send it.
func first(payloads ...payload) []byte {
	rest := []payload{{33, make([]byte, 44)}, {34, make([]byte, 36)}, nonce, {41, make([]byte, 24)}, {43, make([]byte, 16)}}
	return ikeMessage(34, 0x08, 0, append(payloads, rest...)...)
}

func marked(message []byte) []byte { return append(make([]byte, 4), message...) }
