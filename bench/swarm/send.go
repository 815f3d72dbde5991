package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/dataplane"
)

// Plan of what is sent.
type Plan struct {
	// To is the receiver behind the gateway.
	To  netip.AddrPort
	Mix flow.Mix
	// Rate in packets a second of all tunnels; 0: as fast as it goes.
	Rate     float64
	Duration time.Duration
	// Burst is how many packets of one tunnel come one after the other.
	Burst int
	// GSO: each burst is one message, of packets of one size, by the socket of its
	// device, which the kernel cuts as late as it can (UDP_SEGMENT).
	GSO bool
	// Note, if set, sees each packet of ESP in UDP before it is sent.
	Note func(packet []byte, from, to netip.AddrPort)
}

func (p *Plan) note(packet []byte, m *Member) {
	if p.Note != nil {
		p.Note(packet, m.path.Local, m.path.Remote)
	}
}

// Swarm is members that send by one raw socket, each from its own outer address
// and port, so that one system call carries packets of many tunnels.
type Swarm struct {
	members  []*Member
	raw      *ipv4.RawConn
	messages []ipv4.Message
	bundle   []byte // see gso
	numbers  uint64
	at, run  int // whose turn it is, and how many packets it has had
	size     int // index into the mix
}

const (
	batchLen = 64
	// room for an outer header, the longest inner packet and what ESP adds.
	room = ipUDPLen + flow.MaxSize + 128
)

// New opens the raw socket, which needs CAP_NET_RAW. Every member is up.
func New(members []*Member) (*Swarm, error) {
	for i, m := range members {
		if err := m.ready(); err != nil {
			return nil, fmt.Errorf("device %d: %w", i, err)
		}
		if !m.path.Remote.Addr().Is4() || m.path.Remote != members[0].path.Remote || m.path.Encapsulation != dataplane.EncapsulationUDP {
			return nil, fmt.Errorf("device %d: outer packets are sent as ESP in UDP over IPv4 to one gateway, not to %v", i, m.path.Remote)
		}
	}
	if len(members) == 0 {
		return nil, errors.New("no devices")
	}
	conn, err := net.ListenPacket("ip4:255", "")
	if err != nil {
		return nil, err
	}
	raw, err := ipv4.NewRawConn(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &Swarm{members: members, raw: raw, messages: make([]ipv4.Message, batchLen)}
	gateway := &net.IPAddr{IP: members[0].path.Remote.Addr().AsSlice()}
	for i := range s.messages {
		s.messages[i].Buffers, s.messages[i].Addr = [][]byte{make([]byte, room)}, gateway
	}
	return s, s.roomForBursts(conn)
}

// roomForBursts in the socket, beyond net.core.wmem_max where that is allowed.
func (s *Swarm) roomForBursts(conn net.PacketConn) error {
	ip, ok := conn.(*net.IPConn)
	if !ok {
		return fmt.Errorf("%T is no raw socket", conn)
	}
	c, err := ip.SyscallConn()
	if err != nil {
		return err
	}
	return c.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<20)
		}
	})
}

// Close the socket. The members' keys are theirs.
func (s *Swarm) Close() error { return s.raw.Close() }

// Send until the duration is over or ctx ends. Numbers go on from call to call.
func (s *Swarm) Send(ctx context.Context, p Plan) (sent flow.Sent, err error) {
	if err := p.Mix.Validate(); err != nil {
		return sent, err
	}
	if p.Duration <= 0 || p.Burst < 1 {
		return sent, errors.New("no duration, or no burst")
	}
	pace := flow.Pace{Rate: p.Rate, Duration: p.Duration, Least: 1, Most: batchLen}
	if !p.GSO {
		return pace.Run(ctx, func(n int) (done, refused int, err error) { return s.batch(p, n) })
	}
	if err := s.prepareGSO(p); err != nil {
		return sent, err
	}
	pace.Least, pace.Most = p.Burst, p.Burst
	return pace.Run(ctx, func(int) (done, refused int, err error) { return s.gso(p) })
}

// batch seals and sends n packets, of one tunnel after the other.
func (s *Swarm) batch(p Plan, n int) (done, refused int, err error) {
	at := flow.Now()
	for i := range n {
		m := s.members[s.at]
		if s.run++; s.run >= p.Burst {
			s.run, s.at = 0, (s.at+1)%len(s.members)
		}
		size := p.Mix[s.size]
		s.size = (s.size + 1) % len(p.Mix)
		buffer := s.messages[i].Buffers[0][:room]
		packet := m.put(buffer[ipUDPLen:], size, p.To, func(payload []byte) { flow.Put(payload, s.numbers, at) })
		s.numbers++
		p.note(packet, m)
		outer := buffer[:ipUDPLen+len(packet)]
		// ESP in UDP has no use for a UDP checksum (RFC 3948 section 2.1).
		ipUDP(outer, m.path.Local.Addr(), m.path.Remote, m.path.Local.Port(), false)
		s.messages[i].Buffers[0] = outer
	}
	return flow.WriteAll(s.raw, s.messages[:n])
}
