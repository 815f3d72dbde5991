package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
)

// Numbers of DHCP (RFC 2131, RFC 2132, RFC 3442), written here again: the test
// reads and writes octets as a Windows client does, without our code.
const (
	dhcpDiscover, dhcpACK, dhcpInform = 1, 5, 8

	dhcpFixed = 236 // octets before the magic cookie
)

var dhcpCookie = []byte{0x63, 0x82, 0x53, 0x63}

// A Windows client that is connected asks by DHCPINFORM which networks lie
// behind the gateway, to the broadcast address and through the tunnel, and is
// told; that is how it learns its routes. A DHCPDISCOVER, which asks for an
// address, is not answered and counted.
//
//	dev1 (simulated) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd, 10.9.0.1 in the tunnel) -- lan
//	     10.9.0.x:68 .......... 255.255.255.255:67
func TestInformTellsTheRoutes(t *testing.T) { informTellsTheRoutes(t, newScenario) }

// The same where the kernel opens what comes through the tunnel.
func TestXFRMInformTellsTheRoutes(t *testing.T) { informTellsTheRoutes(t, inKernel) }

func informTellsTheRoutes(t *testing.T, start func(*testing.T, options) *scenario) {
	t.Helper()
	server := netip.MustParseAddr("10.9.0.1")
	s := start(t, options{configure: func(s *scenario) {
		s.conf.Extra = fmt.Sprintf("  tunnel: {address: %s}\n", server)
		s.conf.Networks = append(s.conf.Networks, netip.MustParsePrefix("10.40.0.0/13"))
		s.conf.DNS = []netip.Addr{netip.MustParseAddr("10.2.0.53")}
		s.conf.Domains = []string{"corp.example", "lab.example"}
	}})
	d, address := s.simulate(t, s.simulatedConfig(s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t))))
	if address == server {
		t.Fatalf("the device was given the gateway's own address %s", server)
	}

	const first, discover, second = 0x1001, 0x1002, 0x1003
	for _, m := range []struct {
		kind byte
		xid  uint32
	}{{dhcpInform, first}, {dhcpDiscover, discover}, {dhcpInform, second}} {
		if err := d.Send(dhcpAsk(address, m.kind, m.xid)); err != nil {
			t.Fatal(err)
		}
	}
	// The tunnel and the server keep the order: were the DISCOVER answered, that
	// would come between the two others.
	want := map[byte][]byte{
		53:  {dhcpACK},
		54:  server.AsSlice(),
		249: {24, 10, 2, 0, 0, 0, 0, 0, 13, 10, 40, 0, 0, 0, 0},
		6:   {10, 2, 0, 53},
		15:  []byte("corp.example"),
	}
	want[121] = want[249]
	for _, xid := range []uint32{first, second} {
		got := dhcpAnswer(t, s.ctx, d, server, address)
		if got.xid != xid || got.ciaddr != address {
			t.Errorf("answer to %#x for %s, want one to %#x for %s", got.xid, got.ciaddr, xid, address)
		}
		for code, value := range want {
			if !bytes.Equal(got.options[code], value) {
				t.Errorf("option %d is % x, want % x", code, got.options[code], value)
			}
		}
		if len(got.options) != len(want) {
			t.Errorf("options %v, want those and no others: %v", got.options, want)
		}
	}
	if n, err := s.gw.Dropped(s.ctx, "dhcp", "type"); err != nil || n != 1 {
		t.Errorf("%d DHCP messages dropped for their type, %v; want the DISCOVER", n, err)
	}
	if n := s.metric(t, "dhcp_answers_total"); n != 2 {
		t.Errorf("%v answers counted, want 2", n)
	}
	s.pingsThrough(t, d)
}

// dhcpAsk is an IP packet to the broadcast address with a DHCP message as a
// Windows client sends it over a tunnel.
func dhcpAsk(from netip.Addr, kind byte, xid uint32) []byte {
	m := make([]byte, dhcpFixed, 300)
	m[0], m[1], m[2] = 1, 8, 6 // BOOTREQUEST; no Ethernet
	binary.BigEndian.PutUint32(m[4:], xid)
	copy(m[12:], from.AsSlice()) // ciaddr
	copy(m[28:], "RAS \x01\x02") // chaddr
	m = append(m, dhcpCookie...)
	m = append(m, 53, 1, kind)
	m = append(m, 60, 8)
	m = append(m, "MSFT 5.0"...)
	m = append(m, 55, 4, 249, 121, 6, 15, 255)
	m = m[:cap(m)]

	p := make([]byte, 28, 28+len(m))
	p[0], p[8], p[9] = 0x45, 128, 17
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(m)))
	copy(p[12:], from.AsSlice())
	copy(p[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(p[10:], internetSum(p[:20]))
	binary.BigEndian.PutUint16(p[20:], 68)
	binary.BigEndian.PutUint16(p[22:], 67)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(m)))
	p = append(p, m...)
	binary.BigEndian.PutUint16(p[26:], udpSum(p))
	return p
}

// internetSum is that of RFC 1071: 0 over what has a right one in it.
func internetSum(b []byte) uint16 {
	var sum uint32
	for i, octet := range b {
		sum += uint32(octet) << (8 * ((i + 1) % 2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// udpSum of an IPv4 packet without options, pseudo-header included (RFC 768).
func udpSum(p []byte) uint16 {
	pseudo := append([]byte{0, 17, p[24], p[25]}, p[12:20]...)
	return internetSum(append(pseudo, p[20:]...))
}

type dhcpAnswered struct {
	xid     uint32
	ciaddr  netip.Addr
	options map[byte][]byte
}

// dhcpAnswer is the next DHCP message that comes to a device.
func dhcpAnswer(t *testing.T, ctx context.Context, d *device.Device, from, to netip.Addr) dhcpAnswered {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		p, err := d.Receive(ctx)
		if err != nil {
			t.Fatalf("no answer to a DHCPINFORM: %v", err)
		}
		if len(p) < 28+dhcpFixed+4 || p[0] != 0x45 || p[9] != 17 || binary.BigEndian.Uint16(p[22:]) != 68 {
			continue // other traffic
		}
		src, dst := netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
		if src != from || dst != to || binary.BigEndian.Uint16(p[20:]) != 67 {
			t.Errorf("the answer came from %s:%d to %s, want it from %s:67 to %s", src, binary.BigEndian.Uint16(p[20:]), dst, from, to)
		}
		if internetSum(p[:20]) != 0 || udpSum(p) != 0 {
			t.Error("the answer has a wrong checksum")
		}
		m := p[28:]
		if m[0] != 2 || !bytes.Equal(m[dhcpFixed:dhcpFixed+4], dhcpCookie) {
			t.Fatalf("not a BOOTREPLY: % x", m)
		}
		a := dhcpAnswered{
			xid: binary.BigEndian.Uint32(m[4:]), ciaddr: netip.AddrFrom4([4]byte(m[12:])), options: map[byte][]byte{},
		}
		for o := m[dhcpFixed+4:]; len(o) >= 2 && o[0] != 255 && len(o) >= 2+int(o[1]); o = o[2+int(o[1]):] {
			a.options[o[0]] = o[2 : 2+int(o[1])]
		}
		return a
	}
}
