package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/link"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// The tests play the data plane: they write what a device sent to the TUN
// device of a gateway whose host package link has set up, and read what the
// kernel gives back.

const tunName = "rgdhcp"

var (
	serverPool   = netip.MustParsePrefix("10.98.0.0/16")
	internalAddr = netip.MustParseAddr("10.20.0.1")
)

// gatewayHost makes, in a new network namespace that ends with the test, a host
// as gatewayd sets it up, and runs f there. TUN has the given addresses; every
// interface filters reverse paths strictly.
func gatewayHost(t *testing.T, addresses []netip.Prefix, f func(*tun.Device)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace and a TUN device")
	}
	journal := filepath.Join(t.TempDir(), "link.json")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		for _, sysctl := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+sysctl+"/rp_filter", []byte("1"), 0); err != nil {
				t.Error(err)
				return
			}
		}
		for name, address := range map[string]string{"rgext": "192.0.2.1/24", "rgint": internalAddr.String() + "/24"} {
			if err := addInterface(name, address); err != nil {
				t.Error(err)
				return
			}
		}
		device, err := tun.Create(tun.Config{Name: tunName, MTU: 1400})
		if err != nil {
			t.Error(err)
			return
		}
		defer device.Close()
		host, err := link.Setup(link.Config{
			TUN: tunName, Addresses: addresses, Pools: []netip.Prefix{serverPool},
			External: "rgext", Internal: "rgint", Journal: journal,
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer host.Close()
		f(device)
	}()
	<-done
}

func addInterface(name, address string) error {
	l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-peer"}
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
}

// datagram is a frame for TUN with a UDP datagram without checksum (RFC 768).
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, tun.HeaderLen+28, tun.HeaderLen+28+len(payload))
	ip := b[tun.HeaderLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(payload)))
	copy(ip[12:], from.Addr().AsSlice())
	copy(ip[16:], to.Addr().AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum))
	binary.BigEndian.PutUint16(ip[20:], from.Port())
	binary.BigEndian.PutUint16(ip[22:], to.Port())
	binary.BigEndian.PutUint16(ip[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

// received waits for the next IPv4 UDP packet that the kernel sends into the
// tunnel.
func received(t *testing.T, d *tun.Device) (from, to netip.AddrPort, payload []byte) {
	t.Helper()
	frame, packet := make([]byte, tun.MaxFrame), make([]byte, tun.MaxFrame)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		n, err := d.Read(frame)
		if errors.Is(err, unix.EAGAIN) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}, 100)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var s tun.Segmenter
		if err := s.Reset(frame[:n]); err != nil {
			t.Fatal(err)
		}
		p := packet[:s.Next(packet)]
		if p[0] != 0x45 || p[9] != unix.IPPROTO_UDP {
			continue // IPv6 neighbour discovery and the like
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:])), binary.BigEndian.Uint16(p[20:])),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:])), binary.BigEndian.Uint16(p[22:])), p[28:]
	}
	t.Error("no packet from the kernel")
	return
}

// serve starts a Server, after changes, and returns it and what ends it.
func serve(t *testing.T, c ServerConfig, change ...func(*Server)) (*Server, func()) {
	t.Helper()
	s, err := Listen(c)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	for _, f := range change {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("it never came to: %s", what)
			return
		}
	}
}

// A device asks the broadcast address, or the server's, and is answered through
// the tunnel: with an address on TUN, and with none where the server identifier
// is that of another interface.
func TestServerAnswersThroughTheTunnel(t *testing.T) {
	for _, c := range []struct {
		name      string
		server    netip.Addr
		addresses []netip.Prefix
	}{
		{"address on TUN", server, []netip.Prefix{netip.PrefixFrom(server, 32)}},
		{"TUN without an address", internalAddr, nil},
	} {
		for _, to := range []netip.Addr{broadcast, c.server} {
			t.Run(c.name+", to "+to.String(), func(t *testing.T) {
				gatewayHost(t, c.addresses, func(d *tun.Device) {
					cfg := testConfig()
					cfg.Server = c.server
					s, stop := serve(t, ServerConfig{Interface: tunName, Pools: []netip.Prefix{serverPool}, Answers: cfg})
					if s == nil {
						return
					}
					defer stop()
					request := informFrom(device, windowsAsks)
					if err := d.Write(datagram(netip.AddrPortFrom(device, 68), netip.AddrPortFrom(to, 67), request)); err != nil {
						t.Error(err)
						return
					}
					from, dst, payload := received(t, d)
					if from != netip.AddrPortFrom(c.server, 67) || dst != netip.AddrPortFrom(device, 68) {
						t.Errorf("an answer from %v to %v", from, dst)
					}
					want, _ := mustAnswer(t, cfg, request)
					if !slices.Equal(payload, want) {
						t.Errorf("answer % x, want % x", payload, want)
					}
					eventually(t, "one answer", func() bool { return s.Stats().Answered == 1 })
				})
			})
		}
	}
}

// What must not be answered isn't, and is counted; an honest device in between
// gets its answer, which is the only packet that enters the tunnel.
func TestServerDropsAndCounts(t *testing.T) {
	gatewayHost(t, []netip.Prefix{netip.PrefixFrom(server, 32)}, func(d *tun.Device) {
		pool := netip.MustParsePrefix("10.98.1.0/24") // one of the host's pools, narrower
		s, stop := serve(t, ServerConfig{Interface: tunName, Pools: []netip.Prefix{pool}, Answers: testConfig()}, func(s *Server) {
			// The limiter's window lasts longer than the test.
			s.limit = limiter{began: time.Now().Add(time.Hour), count: make(map[[4]byte]uint8)}
		})
		if s == nil {
			return
		}
		defer stop()
		send := func(from, ciaddr netip.Addr) {
			m := informFrom(ciaddr, windowsAsks)
			if err := d.Write(datagram(netip.AddrPortFrom(from, 68), netip.AddrPortFrom(broadcast, 67), m)); err != nil {
				t.Error(err)
			}
		}
		other, stranger := netip.MustParseAddr("10.98.1.9"), netip.MustParseAddr("10.98.2.9")
		send(stranger, stranger)
		send(other, device)
		for range perSource + 3 {
			send(device, device)
		}
		// Reverse path: this source isn't behind TUN, the kernel drops it.
		send(netip.MustParseAddr("10.20.0.77"), netip.MustParseAddr("10.20.0.77"))
		eventually(t, "all handled", func() bool { return s.Stats().Drops[ReasonRate] == 3 })
		for range perSource {
			if _, to, _ := received(t, d); to.Addr() != device {
				t.Errorf("an answer to %v", to)
			}
		}
		if n, err := d.Read(make([]byte, tun.MaxFrame)); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("one more packet of %d octets, %v", n, err)
		}
		want := Stats{Answered: perSource}
		want.Drops[ReasonPool], want.Drops[ReasonAddress], want.Drops[ReasonRate] = 1, 1, 3
		if got := s.Stats(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// Another DHCP server of the host lives beside ours: bound to its own interface
// it doesn't see what comes through the tunnel; one that listens on all, and
// shares the port, as dnsmasq does, doesn't take it away.
func TestServerBesideAnother(t *testing.T) {
	for _, c := range []struct {
		name   string
		option func(fd int) error
		sees   error
	}{
		{"on its own interface", func(fd int) error { return unix.BindToDevice(fd, "rgint") }, unix.EAGAIN},
		{"on all interfaces", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			gatewayHost(t, []netip.Prefix{netip.PrefixFrom(server, 32)}, func(d *tun.Device) {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer unix.Close(fd)
				if err := errors.Join(c.option(fd), unix.Bind(fd, &unix.SockaddrInet4{Port: serverPort})); err != nil {
					t.Error(err)
					return
				}
				s, stop := serve(t, ServerConfig{Interface: tunName, Pools: []netip.Prefix{serverPool}, Answers: testConfig()})
				if s == nil {
					return
				}
				defer stop()
				if err := d.Write(datagram(netip.AddrPortFrom(device, 68), netip.AddrPortFrom(broadcast, 67), informFrom(device, nil))); err != nil {
					t.Error(err)
				}
				received(t, d)
				if n, _, err := unix.Recvfrom(fd, make([]byte, 2000), 0); !errors.Is(err, c.sees) {
					t.Errorf("the other server got %d octets, %v", n, err)
				}
			})
		})
	}
}

func TestServerFollowsUpdate(t *testing.T) {
	gatewayHost(t, []netip.Prefix{netip.PrefixFrom(server, 32)}, func(d *tun.Device) {
		cfg := testConfig()
		s, stop := serve(t, ServerConfig{Interface: tunName, Pools: []netip.Prefix{serverPool}, Answers: cfg})
		if s == nil {
			return
		}
		defer stop()
		if err := s.Update(Config{}); !errors.Is(err, ErrConfig) {
			t.Errorf("a configuration without a server: %v", err)
		}
		cfg.Domain = "new.example"
		if err := s.Update(cfg); err != nil {
			t.Error(err)
		}
		if err := d.Write(datagram(netip.AddrPortFrom(device, 68), netip.AddrPortFrom(broadcast, 67), informFrom(device, windowsAsks))); err != nil {
			t.Error(err)
		}
		if _, _, payload := received(t, d); len(payload) < fixedLen || string(valueOf(readOptions(t, payload), optDomain)) != "new.example" {
			t.Errorf("answer % x", payload)
		}
	})
}

func TestListenErrors(t *testing.T) {
	gatewayHost(t, nil, func(*tun.Device) {
		good := testConfig()
		good.Server = internalAddr
		for _, c := range []struct {
			name string
			cfg  ServerConfig
			want error
		}{
			{"no interface", ServerConfig{Answers: good}, ErrConfig},
			{"no server", ServerConfig{Interface: tunName}, ErrConfig},
			{"server is not of this host", ServerConfig{Interface: tunName, Answers: testConfig()}, unix.EADDRNOTAVAIL},
			{"interface doesn't exist", ServerConfig{Interface: "rgnone", Answers: good}, unix.ENODEV},
		} {
			if _, err := Listen(c.cfg); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		s, err := Listen(ServerConfig{Interface: tunName, Answers: good})
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if err := s.Run(context.Background()); err != nil {
			t.Errorf("Run after Close: %v", err)
		}
		if _, err := s.conn.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the socket is open: %v", err)
		}
	})
}
