package guard

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

const knownSPI = 0xc0ffee01

// plenty lets everything pass that a test doesn't limit.
var plenty = Rate{PerSecond: 1_000_000, Burst: 1_000_000}

func plentiful() Rates {
	return Rates{Init: plenty, InitWide: plenty, InitNarrow: plenty, Cookie: plenty, CookieNarrow: plenty, Fragment: plenty, Report: plenty}
}

// exhausted: the first one passes, and no other for 1,000 s (see slow).
var exhausted = Rate{PerSecond: 1, Burst: 1}

// slow makes of one a second one in 1,000 s, which is too slow for a
// configuration: nothing comes back while a test runs.
func (g *Guard) slow() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := g.settings
	for i := range next.Rates {
		if r := &next.Rates[i]; r.Interval == uint64(time.Second) {
			r.Interval, r.Burst = 1000*r.Interval, 1000*r.Burst
		}
	}
	return g.write(next)
}

func testConfig() Config {
	return Config{
		Interface: 1, Locals: []netip.Addr{gateway4, gateway6}, IKEPort: 500, EncapPort: 4500,
		SPIs: 1000, Sources: 1000, Settings: Settings{Rates: plentiful()},
	}
}

// needRoot skips what loads programs.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("BPF programs are for root")
	}
}

// loaded is a guard that isn't attached; it knows knownSPI.
func loaded(t testing.TB, change ...func(*Config)) *Guard {
	t.Helper()
	needRoot(t)
	cfg := testConfig()
	for _, c := range change {
		c(&cfg)
	}
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	g, err := load(&cfg)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.slow(); err != nil {
		t.Fatal(err)
	}
	for _, err := range g.Add([]uint32{knownSPI}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return g
}

const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

// run gives a frame to the program and returns its verdict, which must be
// counted once, and what it made of the frame.
func run(t testing.TB, g *Guard, frame []byte) (Verdict, []byte) {
	t.Helper()
	before, err := g.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(frame)+256)
	options := &ebpf.RunOptions{Data: frame, DataOut: out}
	action, err := g.objects.Guard.Run(options)
	if err != nil {
		t.Fatal(err)
	}
	after, err := g.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	var verdict, counted = Verdict(0), uint64(0)
	for v := range after {
		if n := after[v] - before[v]; n != 0 {
			verdict, counted = Verdict(v), counted+n
		}
	}
	if counted != 1 {
		t.Fatalf("a packet was counted %d times", counted)
	}
	want := uint32(xdpPass)
	switch {
	case verdict == CookieSent:
		want = xdpTX
	case verdict.Drops():
		want = xdpDrop
	}
	if action != want {
		t.Fatalf("%v: XDP action %d, want %d", verdict, action, want)
	}
	return verdict, options.DataOut
}

type verdictCase struct {
	name  string
	frame frame
	want  Verdict
}

func verdictCases() []verdictCase {
	optionHeader := []byte{0, 0, 1, 4, 0, 0, 0, 0} // next header is filled in, PadN
	stranger := func(f *frame) { f.to = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.2"), f.to.Port()) }
	resume := ikeMessage(38, 0x08, 0, nonce, payload{41, make([]byte, 40)})
	cases := []verdictCase{
		{"DNS to the gateway", udp4(53, make([]byte, 40)), Other},
		{"TCP to port 4500", udp4(4500, make([]byte, 40)).with(func(f *frame) { f.protocol = protocolTCP }), Other},
		{"IKE to another address", udp4(500, first()).with(stranger), Other},
		{"ESP to another address", udp4(4500, esp(1<<20)).with(stranger), Other},
		{"ESP in UDP to port 500", udp4(500, esp(1<<20)), IKE}, // IKE has no marker there: for gate to judge
		{"three octets to 4500", udp4(4500, []byte{1, 2, 3}), Other},
		{"one other octet", udp4(4500, []byte{0xfe}), Other},
		{"two octets of ones", udp4(4500, []byte{0xff, 0xff}), Other},
		{"marker and nothing more", udp4(4500, marked(nil)), Other},
		{"IKE too short", udp4(500, make([]byte, 27)), Other},
		{"IKEv1", udp4(500, edit(first(), 17, 0x10)), IKE},
	}
	for name, udp := range map[string]func(uint16, []byte) frame{"IPv4": udp4, "IPv6": udp6} {
		raw := func(spi uint32) frame {
			return udp(0, esp(spi)).with(func(f *frame) { f.protocol = protocolESP })
		}
		family := []verdictCase{
			{"ESP", raw(knownSPI), ESP},
			{"ESP of an unknown SPI", raw(knownSPI + 1), ESPUnknown},
			{"ESP in UDP", udp(4500, esp(knownSPI)), ESP},
			{"ESP in UDP of an unknown SPI", udp(4500, esp(knownSPI^1<<31)), ESPUnknown},
			{"reserved SPI", udp(4500, esp(1)), ESPUnknown},
			{"keepalive", udp(4500, []byte{0xff}), Keepalive},
			{"keepalive with padding", udp(4500, []byte{0xff}).with(func(f *frame) { f.padding = 17 }), Keepalive},
			{"IKE_SA_INIT", udp(500, first()), Init},
			{"IKE_SA_INIT with a marker", udp(4500, marked(first())), Init},
			{"IKE_SA_INIT with a foreign cookie", udp(500, first(cookieNotify([]byte("nine octs")))), Init},
			{"IKE_SESSION_RESUME", udp(500, resume), Init},
			{"IKE_AUTH", udp(4500, marked(ikeMessage(35, 0x08, 7, payload{46, make([]byte, 100)}))), IKE},
			{"INFORMATIONAL answer", udp(500, ikeMessage(37, 0x28, 7, payload{46, make([]byte, 60)})), IKE},
			{"first fragment of IKE_AUTH", udp(4500, marked(ikeMessage(35, 0x08, 7, payload{46, make([]byte, 100)}))).with(func(f *frame) { f.fragment = 0x2000 }), IKE},
			{"first fragment of ESP", raw(knownSPI).with(func(f *frame) { f.fragment = 0x2000 }), ESP},
			{"first fragment of unknown ESP", raw(7000).with(func(f *frame) { f.fragment = 0x2000 }), ESPUnknown},
			{"later fragment of UDP", udp(4500, esp(7000)).with(func(f *frame) { f.fragment = 0x2001 }), Fragment},
			{"last fragment of ESP", raw(7000).with(func(f *frame) { f.fragment = 100 }), Fragment},
			{"later fragment of TCP", udp(4500, esp(7000)).with(func(f *frame) { f.fragment, f.protocol = 100, protocolTCP }), Other},
		}
		for _, c := range family {
			c.name = name + " " + c.name
			cases = append(cases, c)
			cases = append(cases,
				verdictCase{c.name + ", VLAN", c.frame.with(func(f *frame) { f.vlan = []uint16{7} }), c.want},
				verdictCase{c.name + ", QinQ", c.frame.with(func(f *frame) { f.vlan = []uint16{7, 8} }), c.want},
				verdictCase{c.name + ", three tags", c.frame.with(func(f *frame) { f.vlan = []uint16{7, 8, 9} }), Other})
		}
	}
	for _, c := range []verdictCase{
		{"known", udp4(4500, esp(knownSPI)), ESP}, {"unknown", udp4(4500, esp(5000)), ESPUnknown},
	} {
		cases = append(cases,
			verdictCase{"IPv4 options, " + c.name, c.frame.with(func(f *frame) { f.options = 40 }), c.want},
			verdictCase{"IPv6 options, " + c.name, udp6(4500, c.frame.payload).with(func(f *frame) {
				f.kinds, f.headers = []uint8{0, 60, 43}, [][]byte{optionHeader, optionHeader, {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
			}), c.want},
			verdictCase{"six IPv6 extensions, " + c.name, udp6(4500, c.frame.payload).with(func(f *frame) {
				f.kinds, f.headers = slices.Repeat([]uint8{60}, 6), slices.Repeat([][]byte{optionHeader}, 6)
			}), c.want},
			verdictCase{"seven IPv6 extensions, " + c.name, udp6(4500, c.frame.payload).with(func(f *frame) {
				f.kinds, f.headers = slices.Repeat([]uint8{60}, 7), slices.Repeat([][]byte{optionHeader}, 7)
			}), Other})
	}
	return cases
}

func edit(b []byte, at int, to byte) []byte {
	b = slices.Clone(b)
	b[at] = to
	return b
}

func TestVerdicts(t *testing.T) {
	g := loaded(t)
	for _, c := range verdictCases() {
		if got, _ := run(t, g, c.frame.bytes()); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A frame that is cut off is nobody's: the kernel judges it. And no length makes
// the program fail.
func TestTruncatedFramesPass(t *testing.T) {
	g := loaded(t)
	for _, c := range verdictCases() {
		whole := c.frame.bytes()
		whole = whole[:len(whole)-c.frame.padding]
		for n := 14; n < len(whole); n += 1 + n/60*3 {
			if got, _ := run(t, g, whole[:n]); got != Other {
				t.Fatalf("%s: %d of %d octets: %v", c.name, n, len(whole), got)
			}
		}
	}
}

// Payloads of every length in a packet that is whole: what isn't ours passes,
// what is ours is judged by what can be read.
func TestShortPayloads(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Rates.Init = exhausted })
	setKeys(t, g, 7)
	run(t, g, udp4(500, first()).bytes())
	for _, udp := range []func(uint16, []byte) frame{udp4, udp6} {
		for _, port := range []uint16{500, 4500} {
			message := first()
			if port == 4500 {
				message = marked(message)
			}
			short := port - 500
			for n := range message {
				got, _ := run(t, g, udp(port, message[:n]).bytes())
				want := InitMalformed
				if n < 28 || short > 0 && n < 32 {
					want = Other
				}
				if got != want {
					t.Fatalf("port %d, %d octets: %v, want %v", port, n, got, want)
				}
				foreign := udp(port, message[:n]).with(func(f *frame) { f.to = netip.AddrPortFrom(f.from.Addr(), port) })
				if got, _ := run(t, g, foreign.bytes()); got != Other {
					t.Fatalf("to another host, %d octets: %v", n, got)
				}
			}
		}
	}
}

// Lengths that contradict each other.
func TestLyingLengths(t *testing.T) {
	g := loaded(t)
	v4, v6 := udp4(4500, esp(9000)).bytes(), udp6(4500, esp(9000)).bytes()
	for name, b := range map[string][]byte{
		"IPv4 header of 16 octets":      edit(v4, 14, 0x44),
		"IPv4 header behind the packet": edit(edit(v4, 14, 0x4f), 17, 50),
		"IPv4 total length 0":           edit(edit(v4, 16, 0), 17, 0),
		"IPv4 longer than the frame":    edit(v4, 16, 9),
		"IPv4 that says 5":              edit(v4, 14, 0x55),
		"IPv6 longer than the frame":    edit(v6, 18, 9),
		"IPv6 that says 5":              edit(v6, 14, 0x50),
		"UDP length 0":                  edit(v4, 39, 0),
		"UDP length 7":                  edit(v4, 39, 7),
		"UDP longer than IP":            edit(v4, 38, 1),
	} {
		if got, _ := run(t, g, b); got != Other {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFragmentsHaveARate(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Rates.Fragment = Rate{PerSecond: 1, Burst: 3} })
	later := udp4(4500, esp(7000)).with(func(f *frame) { f.fragment = 100 }).bytes()
	var got []Verdict
	for range 5 {
		v, _ := run(t, g, later)
		got = append(got, v)
	}
	if want := []Verdict{Fragment, Fragment, Fragment, FragmentLimited, FragmentLimited}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestShield(t *testing.T) {
	g := loaded(t, func(c *Config) {
		c.Shield = true
		c.Allow = []Allow{
			{Remote: netip.MustParsePrefix("192.0.2.0/24"), Protocol: protocolTCP, Port: 22},
			{Remote: netip.MustParsePrefix("2001:db8:7::/48"), Protocol: protocolTCP, Port: 22},
			{Protocol: protocolUDP, RemotePort: 53},
			{Protocol: 89},
		}
	})
	tcp := func(f frame, port uint16) frame {
		head := []byte{200, 1, byte(port >> 8), byte(port)}
		return f.with(func(f *frame) { f.protocol, f.payload = protocolTCP, append(head, make([]byte, 16)...) })
	}
	icmp := func(f frame, kind byte) frame {
		protocol := uint8(protocolICMP)
		if f.to.Addr().Is6() {
			protocol = protocolICMPv6
		}
		return f.with(func(f *frame) { f.protocol, f.payload = protocol, append([]byte{kind}, make([]byte, 15)...) })
	}
	from := func(f frame, a string, port uint16) frame {
		return f.with(func(f *frame) { f.from = netip.AddrPortFrom(netip.MustParseAddr(a), port) })
	}
	v4, v6 := udp4(9, nil), udp6(9, nil)
	for _, c := range []verdictCase{
		{"ESP", udp4(4500, esp(knownSPI)), ESP},
		{"IKE", udp6(500, first()), Init},
		{"SSH", tcp(v4, 22), Other},
		{"SSH over IPv6", tcp(v6, 22), Other},
		{"SSH from elsewhere", tcp(from(v4, "198.51.100.1", 200), 22), Shield},
		{"SSH over IPv6 from elsewhere", tcp(from(v6, "2001:db8:8::1", 200), 22), Shield},
		{"HTTP", tcp(v4, 80), Shield},
		{"later fragment of SSH", tcp(v4, 22).with(func(f *frame) { f.fragment = 9 }), Shield},
		{"DNS answer", from(udp4(3000, make([]byte, 30)), "198.51.100.1", 53), Other},
		{"DNS question", udp4(53, make([]byte, 30)), Shield},
		{"OSPF", v4.with(func(f *frame) { f.protocol, f.payload = 89, make([]byte, 30) }), Other},
		{"IGMP", v4.with(func(f *frame) { f.protocol, f.payload = 2, make([]byte, 8) }), Shield},
		{"unreachable", icmp(v4, 3), Other},
		{"echo", icmp(v4, 8), Other},
		{"redirect", icmp(v4, 5), Shield},
		{"fragment of echo", icmp(v4, 8).with(func(f *frame) { f.fragment = 3 }), Shield},
		{"packet too big", icmp(v6, 2), Other},
		{"neighbour solicitation", icmp(v6, 135), Other},
		{"router advertisement", icmp(v6, 134), Other},
		{"node information", icmp(v6, 139), Shield},
		{"DHCP", from(udp4(68, make([]byte, 240)), "192.0.2.1", 67), Other},
		{"DHCPv6", from(udp6(546, make([]byte, 40)), "fe80::1", 547), Other},
	} {
		if got, _ := run(t, g, c.frame.bytes()); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for name, kind := range map[string]uint16{"ARP": 0x0806, "LLDP": 0x88cc, "EAPOL": 0x888e, "802.3": 38} {
		b := edit(edit(v4.bytes(), 12, byte(kind>>8)), 13, byte(kind))
		if got, _ := run(t, g, b); got != Other {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Off again: everything is left alone.
	if err := g.Update(Settings{Rates: plentiful()}); err != nil {
		t.Fatal(err)
	}
	if got, _ := run(t, g, tcp(v4, 80).bytes()); got != Other {
		t.Errorf("HTTP without shield: %v", got)
	}
}

func TestVerdictNames(t *testing.T) {
	names := map[string]bool{}
	for v := range Verdict(NumVerdicts) {
		if name := v.String(); name == "" || names[name] {
			t.Errorf("verdict %d has no name of its own: %q", v, name)
		}
		names[v.String()] = true
	}
	if got := fmt.Sprint(Verdict(200)); got != "unknown" {
		t.Errorf("verdict 200 is called %q", got)
	}
}
