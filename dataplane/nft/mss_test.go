package nft

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/netns"
)

// Whoever begins, both ends of a connection through the interface are told of
// segments that fit, of both families. One that asked for less keeps it, and so
// does what goes elsewhere once the table is gone.
//
//	dev 10.9.0.1 -- "tunnel" gw "lan" -- host 10.2.0.2
func TestMSSIsClamped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	dev, gw, host := newNamespace(t, "dev"), newNamespace(t, "gw"), newNamespace(t, "host")
	prefix := netip.MustParsePrefix
	check(t,
		netns.Connect(dev, "tunnel", prefix("10.9.0.1/24"), gw, "tunnel", prefix("10.9.0.254/24")),
		netns.Connect(host, "lan", prefix("10.2.0.2/24"), gw, "lan", prefix("10.2.0.1/24")),
		dev.AddAddress("tunnel", prefix("fd00:9::1/64")), gw.AddAddress("tunnel", prefix("fd00:9::fe/64")),
		host.AddAddress("lan", prefix("fd00:2::2/64")), gw.AddAddress("lan", prefix("fd00:2::1/64")),
		dev.AddRoute(prefix("0.0.0.0/0"), netip.MustParseAddr("10.9.0.254")), dev.AddRoute(prefix("::/0"), netip.MustParseAddr("fd00:9::fe")),
		host.AddRoute(prefix("0.0.0.0/0"), netip.MustParseAddr("10.2.0.1")), host.AddRoute(prefix("::/0"), netip.MustParseAddr("fd00:2::1")))
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		_, err := gw.Sysctl(key, "1")
		check(t, err)
	}
	for _, end := range []*netns.Namespace{dev, host} {
		_, err := end.Sysctl("net/ipv4/tcp_timestamps", "0") // they take from each segment
		check(t, err)
	}
	const mtu = 1380
	expect := func(from, to *netns.Namespace, at string, asked int, want int) {
		t.Helper()
		if got := announced(t, from, to, netip.MustParseAddr(at), asked); got != [2]int{want, want} {
			t.Errorf("segments of a connection to %s, which asked for %d: %v, want %d", at, asked, got, want)
		}
	}
	expect(dev, host, "10.2.0.2", 0, 1460)
	check(t, gw.Do(func() error { return ClampMSS("tunnel", mtu) }))
	check(t, gw.Do(func() error { return ClampMSS("tunnel", mtu) })) // of an earlier run
	expect(dev, host, "10.2.0.2", 0, mtu-40)
	expect(host, dev, "10.9.0.1", 0, mtu-40)
	expect(dev, host, "fd00:2::2", 0, mtu-60)
	expect(host, dev, "fd00:9::1", 0, mtu-60)
	expect(dev, host, "10.2.0.2", 700, 700)
	check(t, gw.Do(func() error { return UnclampMSS("tunnel") }))
	check(t, gw.Do(func() error { return UnclampMSS("tunnel") })) // there is none
	expect(dev, host, "10.2.0.2", 0, 1460)
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newNamespace(t *testing.T, role string) *netns.Namespace {
	t.Helper()
	n, err := netns.New(fmt.Sprintf("rgmss-%s-%d", role, os.Getpid()))
	check(t, err)
	t.Cleanup(func() { check(t, n.Close()) })
	return n
}

// announced connects, with a lower MSS of its own unless asked is 0, and returns
// how long the segments are that each end may send, options not counted.
func announced(t *testing.T, from, to *netns.Namespace, at netip.Addr, asked int) (mss [2]int) {
	t.Helper()
	limit := func(_, _ string, c syscall.RawConn) (err error) {
		if asked == 0 {
			return nil
		}
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, asked) })
		if failed != nil {
			return failed
		}
		return err
	}
	var listener net.Listener
	check(t, to.Do(func() (err error) {
		config := net.ListenConfig{Control: limit}
		config.SetMultipathTCP(false)
		listener, err = config.Listen(t.Context(), "tcp", netip.AddrPortFrom(at, 0).String())
		return err
	}))
	defer listener.Close()
	var conn net.Conn
	check(t, from.Do(func() (err error) {
		dialer := net.Dialer{Control: limit, Timeout: 10 * time.Second}
		dialer.SetMultipathTCP(false)
		conn, err = dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
		return err
	}))
	defer conn.Close()
	accepted, err := listener.Accept()
	check(t, err)
	defer accepted.Close()
	for i, c := range []net.Conn{conn, accepted} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		check(t, err)
		check(t, raw.Control(func(fd uintptr) { mss[i], err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }), err)
	}
	return mss
}

// The name of the table fits where nf_tables wants it.
func TestClampTableName(t *testing.T) {
	if name := clampTable(strings.Repeat("x", unix.IFNAMSIZ-1)); len(name) > unix.NFT_TABLE_MAXNAMELEN-1 {
		t.Errorf("%q is too long", name)
	}
}
