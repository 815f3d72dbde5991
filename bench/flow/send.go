package flow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// SendConfig of a flow.
type SendConfig struct {
	// To is where it goes; Local where it comes from, the zero value: wherever.
	To, Local netip.AddrPort
	Mix       Mix
	// Rate in packets a second; 0: as fast as the socket takes them.
	Rate float64
	// GSO has the kernel cut datagrams out of bigger ones (UDP_SEGMENT), where
	// the mix has one size.
	GSO      bool
	Duration time.Duration
}

// Sent is what a sender did.
type Sent struct {
	Packets uint64        `json:"packets"`
	Refused uint64        `json:"refused"` // by the socket: no room
	Took    time.Duration `json:"took_ns"`
}

const (
	batchLen = 64
	// gsoMax datagrams are made of one, and not more than fit into 64 KiB.
	gsoMax = 64
	gsoLen = 65000
)

// Send offers datagrams until the duration is over or ctx ends.
func Send(ctx context.Context, c SendConfig) (sent Sent, err error) {
	if err := c.Mix.Validate(); err != nil {
		return sent, err
	}
	if c.Duration <= 0 {
		return sent, errors.New("no duration")
	}
	conn, err := net.DialUDP("udp", udpAddr(c.Local), net.UDPAddrFromAddrPort(c.To))
	if err != nil {
		return sent, err
	}
	defer conn.Close()
	if err := conn.SetWriteBuffer(4 << 20); err != nil {
		return sent, err
	}
	s := sender{conn: ipv4.NewPacketConn(conn), mix: c.Mix, overhead: overhead(c.To.Addr())}
	if c.GSO {
		if err := s.segment(conn); err != nil {
			return sent, err
		}
	}
	s.prepare()
	pace := Pace{Rate: c.Rate, Duration: c.Duration, Least: s.each, Most: batchLen * s.each}
	return pace.Run(ctx, s.batch)
}

func udpAddr(a netip.AddrPort) *net.UDPAddr {
	if !a.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(a)
}

// overhead of IP and UDP headers.
func overhead(a netip.Addr) int {
	if a.Is4() {
		return 28
	}
	return 48
}

type sender struct {
	conn     *ipv4.PacketConn
	mix      Mix
	overhead int
	each     int // datagrams a message: more than one with GSO
	number   uint64
	at       int // in mix
	messages []ipv4.Message
}

// segment has the kernel cut messages into datagrams.
func (s *sender) segment(conn *net.UDPConn) error {
	for _, n := range s.mix {
		if n != s.mix[0] {
			return errors.New("GSO needs packets of one size")
		}
	}
	size := s.mix[0] - s.overhead
	s.each = min(gsoMax, gsoLen/size)
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("UDP_SEGMENT: %w", failed)
	}
	return nil
}

func (s *sender) prepare() {
	s.each = max(s.each, 1)
	s.messages = make([]ipv4.Message, batchLen)
	for i := range s.messages {
		s.messages[i].Buffers = [][]byte{make([]byte, max(MaxSize, s.each*s.mix[0]))}
	}
}

// batch sends about n datagrams in one system call.
func (s *sender) batch(n int) (done, refused int, err error) {
	count := min((n+s.each-1)/s.each, batchLen)
	at := Now()
	for i := range count {
		m := &s.messages[i]
		b := m.Buffers[0][:cap(m.Buffers[0])]
		size := max(s.mix[s.at]-s.overhead, headerLen)
		s.at = (s.at + 1) % len(s.mix)
		for k := range s.each {
			Put(b[k*size:], s.number, at)
			s.number++
		}
		m.Buffers[0] = b[:s.each*size]
	}
	done, refused, err = WriteAll(s.conn, s.messages[:count])
	return done * s.each, refused * s.each, err
}
