package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/roamgate/roamgate/integration/netns"
)

// ErrNoReply says that echo requests found no answer.
var ErrNoReply = errors.New("no echo reply")

// Ping sends ICMP echo requests (RFC 792, RFC 4443) with a payload of size octets, from
// source, until one is answered or ctx ends, and returns the round-trip time.
func Ping(ctx context.Context, from *netns.Namespace, source, to netip.Addr, size int) (time.Duration, error) {
	network, echo := "ip4:icmp", echo4
	if to.Is6() {
		network, echo = "ip6:ipv6-icmp", echo6
	}
	conn, err := from.ListenPacket(network, source)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	id := uint16(os.Getpid())
	reply := make([]byte, 65536)
	for seq := uint16(1); ctx.Err() == nil; seq++ {
		sent := time.Now()
		request, err := echo.request(id, seq, size)
		if err != nil {
			return 0, err
		}
		if _, err := conn.WriteTo(request, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return 0, fmt.Errorf("echo request to %s: %w", to, err)
		}
		if err := conn.SetReadDeadline(sent.Add(500 * time.Millisecond)); err != nil {
			return 0, err
		}
		for {
			n, _, err := conn.ReadFrom(reply)
			if err != nil {
				break
			}
			if echo.isReply(reply[:n], request) {
				return time.Since(sent), nil
			}
		}
	}
	return 0, fmt.Errorf("%w from %s: %w", ErrNoReply, to, ctx.Err())
}

// echo is a family's ICMP types of echo requests and replies.
type echo struct{ requestType, replyType byte }

var (
	echo4 = echo{layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply}
	echo6 = echo{layers.ICMPv6TypeEchoRequest, layers.ICMPv6TypeEchoReply}
)

// request has ICMP's checksum; that of ICMPv6, which covers addresses, is left
// to the kernel. Both headers look the same otherwise.
func (e echo) request(id, seq uint16, size int) ([]byte, error) {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{ComputeChecksums: true},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(e.requestType, 0), Id: id, Seq: seq},
		gopacket.Payload(payload))
	return b.Bytes(), err
}

// isReply: the same identifier, sequence number and payload come back.
func (e echo) isReply(m, request []byte) bool {
	return len(m) == len(request) && m[0] == e.replyType && string(m[4:]) == string(request[4:])
}
