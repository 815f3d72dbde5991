package device

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4).
const (
	protoICMP   = 1
	protoICMPv6 = 58

	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129

	ip4Len, ip6Len, echoLen = 20, 40, 8
)

// Echo is an ICMP echo request or reply, of the family of its addresses.
type Echo struct {
	Src, Dst   netip.Addr
	ID, Number uint16
	Reply      bool
	Data       []byte
}

// Append appends the IP packet to dst.
func (e Echo) Append(dst []byte) []byte {
	size := echoLen + len(e.Data)
	at := len(dst)
	if e.Src.Is4() {
		dst = append(dst, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protoICMP, 0, 0)
		dst = append(append(dst, e.Src.AsSlice()...), e.Dst.AsSlice()...)
		binary.BigEndian.PutUint16(dst[at+2:], uint16(ip4Len+size))
		binary.BigEndian.PutUint16(dst[at+10:], checksum(0, dst[at:]))
	} else {
		dst = append(dst, 0x60, 0, 0, 0, 0, 0, protoICMPv6, 64)
		dst = append(append(dst, e.Src.AsSlice()...), e.Dst.AsSlice()...)
		binary.BigEndian.PutUint16(dst[at+4:], uint16(size))
	}
	at = len(dst)
	dst = append(dst, e.kind(), 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, e.ID)
	dst = binary.BigEndian.AppendUint16(dst, e.Number)
	dst = append(dst, e.Data...)
	binary.BigEndian.PutUint16(dst[at+2:], checksum(e.pseudo(size), dst[at:]))
	return dst
}

func (e Echo) kind() byte {
	switch {
	case e.Src.Is4() && e.Reply:
		return echoReply4
	case e.Src.Is4():
		return echoRequest4
	case e.Reply:
		return echoReply6
	}
	return echoRequest6
}

// pseudo is the sum of the pseudo-header, which only ICMPv6 has (RFC 8200
// section 8.1).
func (e Echo) pseudo(size int) uint32 {
	if e.Src.Is4() {
		return 0
	}
	return sum(sum(uint32(size)+protoICMPv6, e.Src.AsSlice()), e.Dst.AsSlice())
}

// Answer is the reply to a request.
func (e Echo) Answer() Echo {
	e.Src, e.Dst, e.Reply = e.Dst, e.Src, true
	return e
}

// ParseEcho reads a whole IP packet without options or extension headers; Data
// is a slice of it. ok is false for anything but an echo with right checksums.
func ParseEcho(packet []byte) (e Echo, ok bool) {
	var icmp []byte
	switch {
	case len(packet) >= ip4Len+echoLen && packet[0] == 0x45 && packet[9] == protoICMP &&
		int(binary.BigEndian.Uint16(packet[2:])) == len(packet) && checksum(0, packet[:ip4Len]) == 0:
		e.Src, _ = netip.AddrFromSlice(packet[12:16])
		e.Dst, _ = netip.AddrFromSlice(packet[16:20])
		icmp = packet[ip4Len:]
		e.Reply = icmp[0] == echoReply4
	case len(packet) >= ip6Len+echoLen && packet[0]>>4 == 6 && packet[6] == protoICMPv6 &&
		int(binary.BigEndian.Uint16(packet[4:])) == len(packet)-ip6Len:
		e.Src, _ = netip.AddrFromSlice(packet[8:24])
		e.Dst, _ = netip.AddrFromSlice(packet[24:40])
		icmp = packet[ip6Len:]
		e.Reply = icmp[0] == echoReply6
	default:
		return Echo{}, false
	}
	if icmp[0] != e.kind() || icmp[1] != 0 || checksum(e.pseudo(len(icmp)), icmp) != 0 {
		return Echo{}, false
	}
	e.ID, e.Number = binary.BigEndian.Uint16(icmp[4:]), binary.BigEndian.Uint16(icmp[6:])
	e.Data = icmp[echoLen:]
	return e, true
}

// sum adds b to the sum of an internet checksum (RFC 1071).
func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

// checksum is 0 over something that has a right one in it.
func checksum(s uint32, b []byte) uint16 {
	s = sum(s, b)
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// pingKey tells the replies that are waited for apart from other traffic.
type pingKey struct {
	from       netip.Addr
	id, number uint16
}

// pingID is the identifier of Ping's requests.
const pingID = 0x7069

// Ping sends an echo request through the tunnel, from the device's address of
// the family of to, and returns how long the reply took. A request that gets
// lost is not repeated. Errors: ErrState, ErrGone, ctx.Err.
func (d *Device) Ping(ctx context.Context, to netip.Addr, data []byte) (time.Duration, error) {
	key := pingKey{from: to, id: pingID}
	replied := make(chan struct{})
	began := time.Now()
	err := d.orderUp(func(time.Time) error {
		for _, own := range d.info.Summary.VirtualIPs {
			if own.Is4() != to.Is4() {
				continue
			}
			d.pingNumber++
			key.number = d.pingNumber
			if d.pings == nil {
				d.pings = make(map[pingKey]chan<- struct{})
			}
			d.pings[key] = replied
			d.transmit(packetBuffer(Echo{Src: own, Dst: to, ID: key.id, Number: key.number, Data: data}.Append(nil)))
			return nil
		}
		return fmt.Errorf("%w: no inner address of the family of %v", ErrState, to)
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-replied:
		return time.Since(began), nil
	case <-d.done:
		return 0, ErrGone
	case <-ctx.Done():
		_ = d.order(func(time.Time) { delete(d.pings, key) })
		return 0, ctx.Err()
	}
}

// pong says whether a packet is the reply to a Ping.
func (d *Device) pong(packet []byte) bool {
	e, ok := ParseEcho(packet)
	if !ok || !e.Reply {
		return false
	}
	key := pingKey{from: e.Src, id: e.ID, number: e.Number}
	replied := d.pings[key]
	if replied == nil {
		return false
	}
	delete(d.pings, key)
	close(replied)
	return true
}
