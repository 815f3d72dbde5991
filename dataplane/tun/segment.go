package tun

import (
	"encoding/binary"

	"github.com/roamgate/roamgate/dataplane/checksum"
)

// Values of the virtio header (virtio 1.2 section 5.1.6).
const (
	flagNeedsCsum = 1

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5    // UDP_L4: datagrams, not fragments
	gsoECN   = 0x80 // beside a TCP type: the first segment has CWR
)

const (
	protoTCP = 6
	protoUDP = 17

	tcpHeaderLen = 20 // without options
	tcpFlagsAt   = 13
	tcpFIN       = 0x01
	tcpPSH       = 0x08
	tcpCWR       = 0x80
	tcpCsumAt    = 16

	udpHeaderLen = 8
	udpCsumAt    = 6
)

// Segmenter turns a frame into IP packets: a super-packet into its segments, a
// packet whose checksum was left to us into a complete one, any other packet
// into its copy. The zero value works; nothing is allocated.
//
//	if err := s.Reset(frame); err != nil { ... }
//	for n := s.Next(dst); n > 0; n = s.Next(dst) { ... }
//
// All segments have the headers of the super-packet. As the kernel does it,
// IPv4 identifications and TCP sequence numbers count up, CWR stays on the
// first segment, FIN and PSH on the last.
type Segmenter struct {
	packet []byte // IP packet of the frame, never changed; nil when all is given
	maxLen int

	// Without GSO: what the checksum covers and where it stands; field is 0
	// where it is complete.
	csumStart, csumField int

	// With GSO; size is 0 without.
	size      int // octets of payload of a segment
	transport int // offset of the TCP or UDP header
	payload   int // offset of the payload
	proto     byte
	headerSum uint64 // of the IPv4 header but its length, identification and checksum
	pseudoSum uint64 // of the pseudo-header but its length
	at        int    // offset of the payload that comes next
	index     int    // of the segment that comes next
}

// Reset takes a frame as Device.Read returned it and keeps it until Next
// returned 0. It finds out beforehand whether the frame can be segmented; if
// not, the error is ErrMalformed and Next returns 0.
//
// hdr_len is not used: it is a hint (virtio 1.2 section 5.1.6.2), and for
// forwarded packets the kernel's is wrong. Frames with GSO must leave their
// checksum to us (section 5.1.6.2.1), since every segment needs another.
func (s *Segmenter) Reset(frame []byte) error {
	*s = Segmenter{}
	if len(frame) < HeaderLen {
		return ErrMalformed
	}
	packet := frame[HeaderLen:]
	ipHeader, ok := networkHeader(packet)
	if !ok {
		return ErrMalformed
	}
	needsCsum := frame[0]&flagNeedsCsum != 0
	csumStart := int(binary.LittleEndian.Uint16(frame[6:]))
	csumField := csumStart + int(binary.LittleEndian.Uint16(frame[8:]))
	if needsCsum && (csumStart < ipHeader || csumField+2 > len(packet)) {
		return ErrMalformed
	}
	if gsoType := frame[1]; gsoType != gsoNone {
		size := int(binary.LittleEndian.Uint16(frame[4:]))
		if !needsCsum || size == 0 || !s.parseSuperPacket(packet, gsoType) ||
			csumStart != s.transport || csumField != s.transport+csumOffset(s.proto) {
			*s = Segmenter{}
			return ErrMalformed
		}
		s.size = size
		s.at = s.payload
		s.sumHeaders(packet)
		s.maxLen = min(s.payload+size, len(packet))
	} else {
		if needsCsum {
			s.csumStart, s.csumField = csumStart, csumField
		}
		s.maxLen = len(packet)
	}
	s.packet = packet
	return nil
}

// sumHeaders sums what all segments have in common; both sums have room for more.
func (s *Segmenter) sumHeaders(packet []byte) {
	if packet[0]>>4 != 4 {
		s.pseudoSum = uint64(checksum.Fold(checksum.Pseudo(packet[8:40], s.proto, 0)))
		return
	}
	s.pseudoSum = uint64(checksum.Fold(checksum.Pseudo(packet[12:20], s.proto, 0)))
	header := packet[:int(packet[0]&0xf)*4]
	acc := checksum.Sum(header[12:], checksum.Sum(header[6:10], checksum.Sum(header[:2], 0)))
	s.headerSum = uint64(checksum.Fold(acc))
}

func csumOffset(proto byte) int {
	if proto == protoTCP {
		return tcpCsumAt
	}
	return udpCsumAt
}

// parseSuperPacket finds the headers of a super-packet whose network header was
// checked, and says whether they agree with its GSO type.
func (s *Segmenter) parseSuperPacket(packet []byte, gsoType byte) bool {
	var ok bool
	if packet[0]>>4 == 4 {
		s.proto, s.transport, ok = transportIPv4(packet)
	} else {
		s.proto, s.transport, ok = transportIPv6(packet)
	}
	if !ok {
		return false
	}
	segment := packet[s.transport:]
	switch gsoType {
	case gsoTCPv4, gsoTCPv4 | gsoECN:
		ok = packet[0]>>4 == 4 && s.proto == protoTCP
	case gsoTCPv6, gsoTCPv6 | gsoECN:
		ok = packet[0]>>4 == 6 && s.proto == protoTCP
	case gsoUDP:
		ok = s.proto == protoUDP
	default:
		ok = false
	}
	if !ok {
		return false
	}
	var header int
	if s.proto == protoTCP {
		if len(segment) < tcpHeaderLen {
			return false
		}
		header = int(segment[12]>>4) * 4
		ok = header >= tcpHeaderLen
	} else {
		if len(segment) < udpHeaderLen {
			return false
		}
		header = udpHeaderLen
		ok = int(binary.BigEndian.Uint16(segment[4:])) == len(segment)
	}
	s.payload = s.transport + header
	return ok && header < len(segment) // there is something to segment
}

// MaxLen is the length of the longest packet that Next will give for the
// frame; 0 before a frame was taken.
func (s *Segmenter) MaxLen() int { return s.maxLen }

// Next writes the next IP packet to dst and returns its length, 0 when there
// are no more. dst has MaxLen octets at least and doesn't overlap the frame.
func (s *Segmenter) Next(dst []byte) int {
	switch {
	case s.packet == nil:
		return 0
	case s.size == 0:
		return s.copyPacket(dst)
	default:
		return s.cutSegment(dst)
	}
}

func (s *Segmenter) copyPacket(dst []byte) int {
	n := copy(dst[:len(s.packet)], s.packet)
	if s.csumField != 0 {
		// The field holds the sum of the pseudo-header.
		checksum.Put(dst[s.csumField:s.csumField+2], checksum.Sum(dst[s.csumStart:n], 0))
	}
	s.packet = nil
	return n
}

func (s *Segmenter) cutSegment(dst []byte) int {
	end := min(s.at+s.size, len(s.packet))
	n := s.payload + end - s.at
	dst = dst[:n]
	copy(dst, s.packet[:s.payload])
	copy(dst[s.payload:], s.packet[s.at:end])
	last := end == len(s.packet)

	var pseudo uint64
	if dst[0]>>4 == 4 {
		pseudo = s.finishIPv4(dst)
	} else {
		pseudo = s.finishIPv6(dst)
	}
	segment := dst[s.transport:]
	if s.proto == protoTCP {
		s.finishTCP(segment, pseudo, last)
	} else {
		finishUDP(segment, pseudo)
	}

	s.at = end
	s.index++
	if last {
		s.packet = nil
	}
	return n
}

// finishIPv4 completes the IPv4 header and returns the sum of the pseudo-header
// (RFC 9293 section 3.1).
func (s *Segmenter) finishIPv4(packet []byte) uint64 {
	length, id := uint16(len(packet)), binary.BigEndian.Uint16(packet[4:])+uint16(s.index)
	binary.BigEndian.PutUint16(packet[2:], length)
	binary.BigEndian.PutUint16(packet[4:], id)
	checksum.Put(packet[10:12], s.headerSum+checksum.Word(length)+checksum.Word(id))
	return s.pseudoOf(packet)
}

// finishIPv6 completes the IPv6 header and returns the sum of the pseudo-header
// (RFC 8200 section 8.1).
func (s *Segmenter) finishIPv6(packet []byte) uint64 {
	binary.BigEndian.PutUint16(packet[4:], uint16(len(packet)-ipv6HeaderLen))
	return s.pseudoOf(packet)
}

// pseudoOf: the length of a segment fits in 16 bits because that of the super-packet
// did.
func (s *Segmenter) pseudoOf(packet []byte) uint64 {
	return s.pseudoSum + checksum.Word(uint16(len(packet)-s.transport))
}

func (s *Segmenter) finishTCP(segment []byte, pseudo uint64, last bool) {
	seq := binary.BigEndian.Uint32(segment[4:])
	binary.BigEndian.PutUint32(segment[4:], seq+uint32(s.at-s.payload))
	if s.index > 0 {
		segment[tcpFlagsAt] &^= tcpCWR
	}
	if !last {
		segment[tcpFlagsAt] &^= tcpFIN | tcpPSH
	}
	field := segment[tcpCsumAt : tcpCsumAt+2]
	clear(field)
	checksum.Put(field, checksum.Sum(segment, pseudo))
}

func finishUDP(segment []byte, pseudo uint64) {
	binary.BigEndian.PutUint16(segment[4:], uint16(len(segment)))
	field := segment[udpCsumAt : udpCsumAt+2]
	clear(field)
	checksum.Put(field, checksum.Sum(segment, pseudo))
}
