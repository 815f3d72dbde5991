package userspace

import (
	"encoding/binary"

	"github.com/roamgate/roamgate/dataplane/checksum"
	"github.com/roamgate/roamgate/dataplane/tun"
)

const (
	icmpUnreachable    = 3
	icmpFragNeeded     = 4 // code
	icmpSourceQuench   = 4
	icmpRedirect       = 5
	icmpTimeExceeded   = 11
	icmpParameter      = 12
	icmp6PacketTooBig  = 2
	icmp6Informational = 128 // types from here on are not errors

	icmpHeaderLen = 8
	icmpTTL       = 64
	// An ICMP error quotes as much as fits into these sizes (RFC 1812 section
	// 4.3.2.3, RFC 4443 section 2.4).
	icmpMaxLen  = 576
	icmp6MaxLen = 1280
	// tooBigFrameLen has room for each of them and the virtio header.
	tooBigFrameLen = tun.HeaderLen + icmp6MaxLen
)

// tooBig writes the frame into dst that tells the sender of packet b that only
// mtu octets fit (RFC 1191 section 4, RFC 4443 section 3.2), and returns its
// length, 0 where no answer is allowed. Its source is the address that the
// sender wanted to reach: the gateway's own ones are not known here, and the
// kernel expects this one from the tunnel.
func tooBig(dst, b []byte, p *packet, mtu int) int {
	if !answerable(b, p) {
		return 0
	}
	clear(dst[:tun.HeaderLen])
	ip := dst[tun.HeaderLen:]
	if p.v6 {
		return tun.HeaderLen + tooBig6(ip, b[:p.length], mtu)
	}
	return tun.HeaderLen + tooBig4(ip, b[:p.length], mtu)
}

// answerable follows RFC 1122 section 3.2.2 and RFC 4443 section 2.4: never
// answer an error, a later fragment, or what came from or went to no host.
func answerable(b []byte, p *packet) bool {
	if p.transport == 0 || !p.src.IsValid() || p.src.IsUnspecified() || p.src.IsMulticast() || p.src.IsLoopback() || p.dst.IsMulticast() {
		return false
	}
	if !p.hasPorts {
		return p.protocol != protoICMP && p.protocol != protoICMPv6
	}
	kind := b[p.transport]
	switch {
	case p.protocol == protoICMPv6:
		return kind >= icmp6Informational
	case p.protocol == protoICMP:
		switch kind {
		case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameter:
			return false
		}
	}
	return true
}

func tooBig4(dst, b []byte, mtu int) int {
	const headers = ipv4HeaderLen + icmpHeaderLen
	n := headers + copy(dst[headers:icmpMaxLen], b)
	dst = dst[:n]
	clear(dst[:headers])
	dst[0] = 0x45
	binary.BigEndian.PutUint16(dst[2:], uint16(n))
	dst[8], dst[9] = icmpTTL, protoICMP
	copy(dst[12:16], b[16:20])
	copy(dst[16:20], b[12:16])
	checksum.Put(dst[10:12], checksum.Sum(dst[:ipv4HeaderLen], 0))
	icmp := dst[ipv4HeaderLen:]
	icmp[0], icmp[1] = icmpUnreachable, icmpFragNeeded
	binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	checksum.Put(icmp[2:4], checksum.Sum(icmp, 0))
	return n
}

func tooBig6(dst, b []byte, mtu int) int {
	const headers = ipv6HeaderLen + icmpHeaderLen
	n := headers + copy(dst[headers:icmp6MaxLen], b)
	dst = dst[:n]
	clear(dst[:headers])
	dst[0] = 0x60
	binary.BigEndian.PutUint16(dst[4:], uint16(n-ipv6HeaderLen))
	dst[6], dst[7] = protoICMPv6, icmpTTL
	copy(dst[8:24], b[24:40])
	copy(dst[24:40], b[8:24])
	icmp := dst[ipv6HeaderLen:]
	icmp[0] = icmp6PacketTooBig
	binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
	checksum.Put(icmp[2:4], checksum.Sum(icmp, checksum.Pseudo(dst[8:40], protoICMPv6, len(icmp))))
	return n
}
