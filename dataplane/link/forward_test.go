package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Topology:
//
//	TUN (the test is the device 10.98.0.9, fd98::9) -- gateway -- rgint0 10.97.2.1, fd97:2::1 -- veth -- lan .2

// TestForwards: with what Setup put in place, and no more, packets cross the
// host both ways.
func TestForwards(t *testing.T) {
	newNamespace(t)
	addVeth(t, external, "10.97.1.1/24")
	lan := newLAN(t)
	d := createTUN(t)
	h, err := Setup(dualStack(journalPath(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()

	for server, device := range map[string]string{
		"10.97.2.2:7":   "10.98.0.9:5000",
		"[fd97:2::2]:7": "[fd98::9]:5000",
	} {
		from, to := netip.MustParseAddrPort(device), netip.MustParseAddrPort(server)
		conn := lan(to)
		ask := udpPacket(from, to, []byte("there"))
		buf := make([]byte, 100)
		var n int
		var source netip.AddrPort
		// Some get lost before the host's own address on the link is settled (RFC 4862
		// section 5.4): until then it asks for no neighbour.
		for range 50 {
			if err = d.Write(append(make([]byte, tun.HeaderLen), ask...)); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if n, source, err = conn.ReadFromUDPAddrPort(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
		}
		if err != nil || string(buf[:n]) != "there" || source != from {
			t.Fatalf("%s got %q from %v, %v", server, buf[:n], source, err)
		}
		if _, err := conn.WriteToUDPAddrPort([]byte("and back"), source); err != nil {
			t.Fatal(err)
		}
		if !arrives(d, []byte("and back")) {
			t.Errorf("%s: the answer doesn't come out of TUN", server)
		}
	}
}

// newLAN makes the host behind the gateway, in a namespace of its own, and
// returns a func that opens a socket there.
func newLAN(t *testing.T) func(netip.AddrPort) *net.UDPConn {
	t.Helper()
	type result struct {
		conn *net.UDPConn
		err  error
	}
	namespace, requests, results := make(chan int), make(chan netip.AddrPort), make(chan result)
	t.Cleanup(func() { close(requests) })
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			namespace <- -1
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			namespace <- -1
			return
		}
		namespace <- fd
		configured := false
		for at := range requests {
			var r result
			if !configured {
				r.err = configureLAN()
				configured = true
			}
			if r.err == nil {
				r.conn, r.err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			}
			results <- r
		}
	}()
	fd := <-namespace
	if fd < 0 {
		t.Fatal("no namespace for the LAN")
	}
	defer os.NewFile(uintptr(fd), "netns").Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: internal}, PeerName: "rglan0", PeerNamespace: netlink.NsFd(fd),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	if err := bringUp(internal, "10.97.2.1/24", "fd97:2::1/64"); err != nil {
		t.Fatal(err)
	}
	return func(at netip.AddrPort) *net.UDPConn {
		requests <- at
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		t.Cleanup(func() { r.conn.Close() })
		return r.conn
	}
}

func configureLAN() error {
	err := bringUp("rglan0", "10.97.2.2/24", "fd97:2::2/64")
	for _, gateway := range []string{"10.97.2.1", "fd97:2::1"} {
		err = errors.Join(err, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}))
	}
	return err
}

func bringUp(name string, addresses ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	for _, s := range addresses {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return fmt.Errorf("%s on %s: %w", s, name, err)
		}
	}
	return nil
}

// udpPacket is a whole IP packet with checksums.
func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	addresses := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	pseudo := append(bytes.Clone(addresses), 0, unix.IPPROTO_UDP, 0, byte(len(udp)))
	binary.BigEndian.PutUint16(udp[6:], checksum(append(pseudo, udp...)))

	var ip []byte
	if from.Addr().Is4() {
		ip = append([]byte{0x45, 0, 0, byte(20 + len(udp)), 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, addresses...)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	} else {
		ip = append([]byte{0x60, 0, 0, 0, 0, byte(len(udp)), unix.IPPROTO_UDP, 64}, addresses...)
	}
	return append(ip, udp...)
}

func checksum(b []byte) uint16 {
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var acc uint32
	for i := 0; i < len(b); i += 2 {
		acc += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	acc = acc>>16 + acc&0xffff
	return ^uint16(acc>>16 + acc&0xffff)
}

// arrives waits for a frame that ends with payload.
func arrives(d *tun.Device, payload []byte) bool {
	buf := make([]byte, tun.MaxFrame)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		n, err := d.Read(buf)
		if errors.Is(err, unix.EAGAIN) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}, 50)
			continue
		}
		if err != nil {
			return false
		}
		if bytes.HasSuffix(buf[:n], payload) {
			return true
		}
	}
	return false
}
