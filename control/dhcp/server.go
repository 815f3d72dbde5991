package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports (RFC 2131 section 4.1).
const (
	serverPort = 67
	clientPort = 68
)

// ServerConfig is what stays for the life of a Server.
type ServerConfig struct {
	// Interface is the name of the TUN interface.
	Interface string
	// Pools of virtual addresses: others are not answered.
	Pools []netip.Prefix
	// Answers; Update replaces it.
	Answers Config
}

// Server answers on one interface. Its methods are safe for concurrent use.
type Server struct {
	conn   *net.UDPConn
	pools  []netip.Prefix
	config atomic.Pointer[Config]
	limit  limiter // Run's

	answered, leftOut atomic.Uint64
	drops             [NumReasons]atomic.Uint64
}

// Stats since the start.
type Stats struct {
	Answered uint64
	// LeftOut counts routes and other options that had no room in an answer.
	LeftOut uint64
	// Drops counts messages without an answer; the index is a Reason.
	Drops [NumReasons]uint64
}

// Listen opens the socket; Run answers. It needs CAP_NET_BIND_SERVICE. Errors:
// ErrConfig, and those of the kernel: EADDRNOTAVAIL if Answers.Server is not an
// address of the host, ENODEV if there is no such interface, EADDRINUSE if a
// DHCP server that doesn't share has port 67 of all interfaces.
//
// The socket is bound to the interface, and to every address: a broadcast is
// received only so. It has no SO_BROADCAST: whatever the request says, the
// kernel lets no answer go to a broadcast address.
func Listen(c ServerConfig) (*Server, error) {
	s := &Server{pools: slices.Clone(c.Pools)}
	if c.Interface == "" {
		return nil, fmt.Errorf("%w: no interface", ErrConfig)
	}
	if err := s.Update(c.Answers); err != nil {
		return nil, err
	}
	if err := isLocal(c.Answers.Server); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.BindToDevice(int(fd), c.Interface))
		}); e != nil {
			return e
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", serverPort))
	if err != nil {
		return nil, fmt.Errorf("DHCP socket on %q: %w", c.Interface, err)
	}
	s.conn = conn.(*net.UDPConn)
	return s, nil
}

// isLocal finds out beforehand what every answer would fail with.
func isLocal(server netip.Addr) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(server.Unmap(), 0)))
	if err != nil {
		return fmt.Errorf("DHCP server identifier: %w", err)
	}
	return conn.Close()
}

// Update replaces what answers say; with an error, which is ErrConfig, nothing
// has changed.
func (s *Server) Update(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	s.config.Store(c.clone())
	return nil
}

// Run answers until the context is done or Close is called, and then returns
// nil. It is called once. With an error the socket is of no more use.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	buffer := make([]byte, maxRequest+1)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("DHCP socket: %w", err)
		}
		if r := s.handle(time.Now(), buffer[:n], from.Addr().Unmap()); r != ReasonNone {
			s.drops[r].Add(1)
		}
	}
}

func (s *Server) handle(now time.Time, request []byte, from netip.Addr) Reason {
	if !slices.ContainsFunc(s.pools, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return ReasonPool
	}
	if r := s.limit.allow(now, from); r != ReasonNone {
		return r
	}
	cfg := s.config.Load()
	answer, leftOut, reason := Answer(*cfg, request, from)
	if reason != ReasonNone {
		return reason
	}
	// The source is pinned: the kernel's choice could lie outside the traffic
	// selectors, and would contradict the server identifier.
	source := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: cfg.Server.Unmap().As4()})
	if _, _, err := s.conn.WriteMsgUDPAddrPort(answer, source, netip.AddrPortFrom(from, clientPort)); err != nil {
		return ReasonSend
	}
	s.answered.Add(1)
	s.leftOut.Add(uint64(leftOut))
	return ReasonNone
}

// Stats are a snapshot.
func (s *Server) Stats() Stats {
	stats := Stats{Answered: s.answered.Load(), LeftOut: s.leftOut.Load()}
	for r := range stats.Drops {
		stats.Drops[r] = s.drops[r].Load()
	}
	return stats
}

// Close ends Run. It is safe to call twice.
func (s *Server) Close() error {
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
