package acltest

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/bpf/acl"
)

// Addresses of the tests: two devices, and a host and a network behind the
// gateway.
var (
	Device4 = netip.MustParseAddr("10.9.0.7")
	Device6 = netip.MustParseAddr("2001:db8:9::7")
	Open4   = netip.MustParseAddr("10.9.0.8")
	Open6   = netip.MustParseAddr("2001:db8:9::8")
	Host4   = netip.MustParseAddr("10.2.0.5")
	Host6   = netip.MustParseAddr("2001:db8:2::5")
)

// List of rules as they are written.
func List(t testing.TB, lines ...string) *acl.List {
	t.Helper()
	var rules []acl.Rule
	for _, line := range lines {
		r, err := acl.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r...)
	}
	l, err := acl.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var randomProtocols = []uint8{acl.TCP, acl.UDP, acl.ICMP, acl.ICMPv6, acl.SCTP, 0, 0}

// RandomList has networks in each other and ports beside each other.
func RandomList(t testing.TB, random *rand.Rand) *acl.List {
	t.Helper()
	var rules []acl.Rule
	for range 1 + random.IntN(24) {
		r := acl.Rule{Allow: random.IntN(3) > 0, Last: 65535, Protocol: randomProtocols[random.IntN(len(randomProtocols))]}
		r.Remote, _ = randomHost(random).Prefix(0)
		if host := randomHost(random); random.IntN(8) > 0 {
			r.Remote, _ = host.Prefix(host.BitLen() - random.IntN(10))
		}
		if acl.HasPorts(r.Protocol) && random.IntN(3) > 0 {
			r.First = uint16(random.IntN(8))
			r.Last = r.First + uint16(random.IntN(4))
		}
		rules = append(rules, r)
	}
	l, err := acl.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func randomHost(random *rand.Rand) netip.Addr {
	base := Host4
	if random.IntN(2) == 0 {
		base = Host6
	}
	b := base.AsSlice()
	b[len(b)-1] = byte(random.IntN(16))
	b[len(b)-2] = byte(random.IntN(2))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// RandomPacket is near to what random lists speak of.
func RandomPacket(random *rand.Rand) Packet {
	p := Packet{Device: Device4, Remote: randomHost(random), Port: uint16(random.IntN(12)), Payload: make([]byte, random.IntN(64))}
	if p.Remote.Is6() {
		p.Device = Device6
	}
	p.Protocol = randomProtocols[random.IntN(5)]
	if random.IntN(10) == 0 {
		p.Protocol = 99
	}
	if random.IntN(3) == 0 {
		p.Fragment = uint16(1 + random.IntN(8000))
		p.Payload = make([]byte, 8)
	}
	return p
}
