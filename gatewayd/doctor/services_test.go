package doctor

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// host writes an address as the kernel does: words in host order.
func host(address string) string {
	b := netip.MustParseAddr(address).AsSlice()
	var s strings.Builder
	for i := 0; i < len(b); i += 4 {
		fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b[i:]))
	}
	return s.String()
}

func TestWaiting(t *testing.T) {
	table := "  sl  local_address rem_address   st tx_queue rx_queue\n" +
		"   0: " + host("0.0.0.0") + ":0016 " + host("0.0.0.0") + ":0000 0A 0:0 ...\n" +
		"   1: " + host("127.0.0.53") + ":0035 " + host("0.0.0.0") + ":0000 0A 0:0 ...\n" +
		"   2: " + host("10.2.0.1") + ":0016 " + host("10.2.0.2") + ":C000 01 0:0 ...\n" + // established
		"   3: " + host("10.2.0.1") + ":1F90 " + host("0.0.0.0") + ":0000 0A 0:0 ...\n" +
		"   4: " + host("::1") + ":0050 " + host("::") + ":0000 0A 0:0 ...\n" +
		"   5: " + host("::ffff:127.0.0.1") + ":0051 " + host("::") + ":0000 0A 0:0 ...\n" +
		"   6: " + host("2001:db8::7") + ":01BB " + host("::") + ":0000 0A 0:0 ...\n" +
		"   7: nonsense 0A 0A 0A\n   8: 00:FFFFF x 0A\n   9:\n"
	want := []netip.AddrPort{
		netip.MustParseAddrPort("0.0.0.0:22"), netip.MustParseAddrPort("10.2.0.1:8080"), netip.MustParseAddrPort("[2001:db8::7]:443"),
	}
	if got := waiting([]byte(table), tcpListen); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A service at all addresses is a warning; the gateway's own are none.
func TestServices(t *testing.T) {
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	c := find(t, services(Config{}), "services of this host")
	if name := fmt.Sprintf("%d/tcp", at.Port()); c.State != Warn || !strings.Contains(c.Found, name) || c.Do == "" {
		t.Errorf("without %s: %+v", name, c)
	}
	c = find(t, services(Config{Metrics: netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())}), "services of this host")
	if strings.Contains(c.Found, fmt.Sprintf("%d/tcp", at.Port())) {
		t.Errorf("our own: %+v", c)
	}
}
