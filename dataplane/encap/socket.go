package encap

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelBuffer is what a socket asks for in each direction, in octets: about
// 2,000 packets of full size, so that a burst survives a busy moment.
const kernelBuffer = 4 << 20

// Socket is a non-blocking UDP socket bound to one unicast address.
type Socket struct {
	fd    int
	local netip.AddrPort
}

// Listen binds a socket. Port 0 draws one, see [Socket.Local]. The address must
// be a specific one, because it becomes the source of what is sent: ErrAddress.
// Link-local IPv6 addresses are not supported.
//
// With the name of an interface the socket is bound to that too (socket(7)
// SO_BINDTODEVICE): what came in elsewhere, from a tunnel for instance, is not
// received, and nothing is sent elsewhere, wherever the routes lead. This takes
// no privilege since Linux 5.7, CAP_NET_RAW before. An empty name binds to none.
//
// Outer packets carry no DF bit and learn no path MTU from ICMP, which anybody
// could forge: a large IKE message may be fragmented by IP, and ESP is kept
// below a configured path MTU by its sender.
func Listen(local netip.AddrPort, device string) (*Socket, error) {
	return bind(local, device, false)
}

// ListenGroup binds n sockets to one address and port, among which the kernel
// spreads what comes, by addresses and ports if nobody tells it otherwise
// (socket(7) SO_REUSEPORT). A group of one is what Listen gives: nobody else can
// have the port.
func ListenGroup(local netip.AddrPort, device string, n int) (group []*Socket, err error) {
	for range n {
		s, err := bind(local, device, n > 1)
		if err != nil {
			for _, s := range group {
				s.Close()
			}
			return nil, err
		}
		group = append(group, s)
		local = s.local
	}
	return group, nil
}

func bind(local netip.AddrPort, device string, shared bool) (*Socket, error) {
	addr := local.Addr().Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" || addr.Is6() && addr.IsLinkLocalUnicast() {
		return nil, fmt.Errorf("listen on %v: %w", local, ErrAddress)
	}
	local = netip.AddrPortFrom(addr, local.Port())
	domain := unix.AF_INET
	if addr.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", local, err)
	}
	s := &Socket{fd: fd, local: local}
	if err := s.setup(device, shared); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %v: %w", local, err)
	}
	return s, nil
}

func (s *Socket) setup(device string, shared bool) error {
	type option struct{ level, name, value int }
	options := []option{
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
	}
	if s.local.Addr().Is6() {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT},
		}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(s.fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	// Datagrams of one length that follow each other come as one (Linux 5.0 and
	// above); without, one by one.
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	// Beyond net.core.[rw]mem_max only with CAP_NET_ADMIN; what is allowed
	// otherwise has to do.
	for _, name := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, name[0], kernelBuffer) != nil {
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, name[1], kernelBuffer); err != nil {
				return err
			}
		}
	}
	if device != "" {
		if err := unix.BindToDevice(s.fd, device); err != nil {
			return fmt.Errorf("bind to interface %s: %w", device, err)
		}
	}
	share := func() error {
		if !shared {
			return nil
		}
		return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if s.local.Port() != 0 {
		if err := share(); err != nil {
			return err
		}
	}
	if err := unix.Bind(s.fd, sockaddr(s.local)); err != nil {
		return err
	}
	if s.local.Port() == 0 {
		// Asked for any port, the kernel gives a shared socket also one that another
		// group of the same user has, and part of what comes there to it.
		if err := share(); err != nil {
			return err
		}
	}
	bound, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(s.local.Addr(), uint16(a.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(s.local.Addr(), uint16(a.Port))
	}
	return nil
}

// FD is the descriptor to poll.
func (s *Socket) FD() int { return s.fd }

// Local is the bound address, with the port that was drawn if 0 was asked for.
func (s *Socket) Local() netip.AddrPort { return s.local }

// Send sends one datagram made of parts. It may be called from any goroutine
// and is for IKE messages; ESP goes by a Sender. Errors: ErrAddress, and those
// of sendmsg(2).
func (s *Socket) Send(parts [][]byte, remote netip.AddrPort) error {
	if !s.Reaches(remote) {
		return fmt.Errorf("send to %v: %w", remote, ErrAddress)
	}
	for {
		_, err := unix.SendmsgBuffers(s.fd, parts, nil, sockaddr(remote), unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("send to %v: %w", remote, err)
		}
		return nil
	}
}

// Reaches says whether remote is an address that the socket can send to: of its
// family and with a port.
func (s *Socket) Reaches(remote netip.AddrPort) bool {
	return remote.Port() != 0 && remote.Addr().BitLen() == s.local.Addr().BitLen() && remote.Addr().Zone() == ""
}

// Lost is how many datagrams the kernel has dropped at the socket since it was made,
// because its buffer had no room or, seldom, their checksum was wrong (SO_MEMINFO of
// Linux 4.12). It wraps at 2^32.
func (s *Socket) Lost() (uint32, error) {
	// include/uapi/linux/sock_diag.h, SK_MEMINFO_DROPS is the last one.
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("SO_MEMINFO: %w", errno)
	}
	return info[len(info)-1], nil
}

// Close closes the descriptor. Nobody may use the socket any more.
func (s *Socket) Close() error { return unix.Close(s.fd) }

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
