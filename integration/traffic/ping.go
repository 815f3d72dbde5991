package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// ErrNoReply says that echo requests found no answer.
var ErrNoReply = errors.New("no echo reply")

// Ping sends ICMP echo requests (RFC 792) with a payload of size octets, from
// source, until one is answered or ctx ends, and returns the round-trip time.
func Ping(ctx context.Context, from *netns.Namespace, source, to netip.Addr, size int) (time.Duration, error) {
	conn, err := from.ListenPacket("ip4:icmp", source)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	id := uint16(os.Getpid())
	reply := make([]byte, 65536)
	for seq := uint16(1); ctx.Err() == nil; seq++ {
		sent := time.Now()
		request := echoRequest(id, seq, size)
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
			if isReply(reply[:n], request) {
				return time.Since(sent), nil
			}
		}
	}
	return 0, fmt.Errorf("%w from %s: %w", ErrNoReply, to, ctx.Err())
}

func echoRequest(id, seq uint16, size int) []byte {
	m := make([]byte, 8+size)
	m[0] = 8
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], seq)
	for i := range m[8:] {
		m[8+i] = byte(i)
	}
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return m
}

// isReply: the same identifier, sequence number and payload come back.
func isReply(m, request []byte) bool {
	return len(m) == len(request) && m[0] == 0 && string(m[4:]) == string(request[4:])
}

// checksum of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
