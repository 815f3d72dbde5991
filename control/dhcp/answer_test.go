package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var (
	device = netip.MustParseAddr("10.98.1.7")
	server = netip.MustParseAddr("10.98.0.1")
)

func testConfig() Config {
	return Config{
		Server:   server,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd20::/64"), netip.MustParsePrefix("192.168.7.0/24")},
		DNS:      []netip.Addr{netip.MustParseAddr("10.20.0.53"), netip.MustParseAddr("fd20::53"), netip.MustParseAddr("10.20.0.54")},
		WINS:     []netip.Addr{netip.MustParseAddr("10.20.0.44")},
		Domain:   "corp.example",
	}
}

// windowsAsks for what a Windows VPN connection asks for.
var windowsAsks = []byte{optDNS, optWINS, 43, 1, optRoutesMS, optDomain}

// informFrom makes a DHCPINFORM as Windows sends it over a tunnel: hardware
// type 8 and an address that begins with "RAS ", 300 octets at least.
func informFrom(ciaddr netip.Addr, asked []byte, more ...[]byte) []byte {
	m := make([]byte, fixedLen)
	m[0], m[1], m[2] = bootRequest, 8, 6
	binary.BigEndian.PutUint32(m[xidAt:], 0x1a2b3c4d)
	copy(m[ciaddrAt:], ciaddr.AsSlice())
	copy(m[chaddrAt:], "RAS \x01\x02")
	binary.BigEndian.PutUint32(m[cookieAt:], magicCookie)
	m = appendOption(m, optMessageType, []byte{typeInform})
	m = appendOption(m, 60, []byte("MSFT 5.0"))
	if len(asked) > 0 {
		m = appendOption(m, optRequested, asked)
	}
	for _, o := range more {
		m = append(m, o...)
	}
	m = append(m, optEnd)
	for len(m) < minMessage {
		m = append(m, optPad)
	}
	return m
}

type option struct {
	code  byte
	value []byte
}

// readOptions of an answer as a client does it, pieces joined (RFC 3396).
func readOptions(t testing.TB, answer []byte) []option {
	t.Helper()
	var list []option
	for b := answer[fixedLen:]; ; {
		switch {
		case len(b) == 0:
			t.Fatalf("no End option: % x", answer[fixedLen:])
		case b[0] == optPad:
			b = b[1:]
			continue
		case b[0] == optEnd:
			if len(bytes.Trim(b[1:], "\x00")) != 0 {
				t.Fatalf("octets behind the End option: % x", b)
			}
			return list
		case len(b) < 2 || len(b) < 2+int(b[1]):
			t.Fatalf("an option is cut: % x", b)
		}
		value := b[2 : 2+int(b[1])]
		if n := len(list); n > 0 && list[n-1].code == b[0] {
			list[n-1].value = append(slices.Clone(list[n-1].value), value...)
		} else {
			list = append(list, option{b[0], value})
		}
		b = b[2+len(value):]
	}
}

func valueOf(list []option, code byte) []byte {
	for _, o := range list {
		if o.code == code {
			return o.value
		}
	}
	return nil
}

func mustAnswer(t testing.TB, cfg Config, request []byte) ([]byte, int) {
	t.Helper()
	answer, leftOut, reason := Answer(cfg, request, device)
	if reason != ReasonNone {
		t.Fatalf("not answered: %v", reason)
	}
	return answer, leftOut
}

func TestWindowsAsksForItsRoutes(t *testing.T) {
	request := informFrom(device, windowsAsks)
	answer, leftOut := mustAnswer(t, testConfig(), request)

	if answer[0] != bootReply || !bytes.Equal(answer[1:3], request[1:3]) || !bytes.Equal(answer[xidAt:xidAt+4], request[xidAt:xidAt+4]) {
		t.Errorf("header % x", answer[:12])
	}
	if !bytes.Equal(answer[ciaddrAt:ciaddrAt+4], device.AsSlice()) || !bytes.Equal(answer[chaddrAt:snameAt], request[chaddrAt:snameAt]) {
		t.Errorf("ciaddr or chaddr is not the client's: % x", answer[ciaddrAt:snameAt])
	}
	if !bytes.Equal(answer[16:chaddrAt], make([]byte, 12)) {
		t.Errorf("yiaddr, siaddr, giaddr are % x, must be zero", answer[16:chaddrAt])
	}
	want := []option{
		{optMessageType, []byte{typeACK}},
		{optServerID, []byte{10, 98, 0, 1}},
		{optDNS, []byte{10, 20, 0, 53, 10, 20, 0, 54}},
		{optWINS, []byte{10, 20, 0, 44}},
		{optRoutesMS, []byte{16, 10, 20, 0, 0, 0, 0, 24, 192, 168, 7, 0, 0, 0, 0}},
		{optDomain, []byte("corp.example")},
	}
	got := readOptions(t, answer)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("options %v, want %v", got, want)
	}
	if len(answer) != minMessage || leftOut != 0 {
		t.Errorf("%d octets, %d left out", len(answer), leftOut)
	}
}

// Only what is asked for is told, and never a lease (options 51, 58, 59).
func TestAnswersWhatIsAsked(t *testing.T) {
	all := make([]byte, 0, 254)
	for c := 1; c < 255; c++ {
		all = append(all, byte(c))
	}
	for _, c := range []struct {
		name        string
		asked, want []byte
	}{
		{"nothing", nil, nil},
		{"other things", []byte{1, 3, 43}, nil},
		{"121", []byte{optRoutes}, []byte{optRoutes}},
		{"249 before 121", []byte{optRoutesMS, optRoutes}, []byte{optRoutesMS, optRoutes}},
		{"one thing twice", []byte{optDNS, optDNS}, []byte{optDNS}},
		{"everything", all, []byte{optDNS, optDomain, optWINS, optRoutes, optRoutesMS}},
	} {
		answer, leftOut := mustAnswer(t, testConfig(), informFrom(device, c.asked))
		var got []byte
		for _, o := range readOptions(t, answer) {
			got = append(got, o.code)
		}
		if want := append([]byte{optMessageType, optServerID}, c.want...); !bytes.Equal(got, want) || leftOut != 0 {
			t.Errorf("%s: options %v, want %v; %d left out", c.name, got, want, leftOut)
		}
	}
	empty := Config{Server: server}
	answer, _ := mustAnswer(t, empty, informFrom(device, windowsAsks))
	if got := readOptions(t, answer); len(got) != 2 {
		t.Errorf("nothing is configured, options %v", got)
	}
}

func TestClientIdentifierIsEchoed(t *testing.T) {
	id := []byte{1, 2, 3, 4}
	for _, asked := range [][]byte{nil, {optClientID}} {
		answer, _ := mustAnswer(t, testConfig(), informFrom(device, asked, appendOption(nil, optClientID, id)))
		if got := readOptions(t, answer); len(got) != 3 || !bytes.Equal(valueOf(got, optClientID), id) {
			t.Errorf("options %v", got)
		}
	}
}

func TestEverythingIsTwoHalves(t *testing.T) {
	cfg := Config{Server: server, Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	answer, _ := mustAnswer(t, cfg, informFrom(device, windowsAsks))
	want := []byte{1, 0, 0, 0, 0, 0, 1, 128, 0, 0, 0, 0}
	if got := valueOf(readOptions(t, answer), optRoutesMS); !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
}

func manyNetworks(n int) []netip.Prefix {
	list := make([]netip.Prefix, n)
	for i := range list {
		list[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 24)
	}
	return list
}

// A client that said nothing is given 576 octets at most, headers included:
// 548 of UDP payload; fixed part, 53, 54 and End leave 298. A /24 takes 8.
func TestRoomForRoutes(t *testing.T) {
	maximum := func(n uint16) []byte {
		return appendOption(nil, optMaxMessage, binary.BigEndian.AppendUint16(nil, n))
	}
	for _, c := range []struct {
		name             string
		networks         int
		asked            []byte
		more             [][]byte
		msRoutes, routes int
		leftOut          int
	}{
		{name: "one option", networks: 31, asked: []byte{optRoutesMS}, msRoutes: 31},
		{name: "in two pieces", networks: 36, asked: []byte{optRoutesMS}, msRoutes: 36},
		{name: "full", networks: 37, asked: []byte{optRoutesMS}, msRoutes: 36, leftOut: 1},
		{name: "both fit", networks: 18, asked: []byte{optRoutes, optRoutesMS}, msRoutes: 18, routes: 18},
		{name: "both don't fit, 249 first", networks: 19, asked: []byte{optRoutesMS, optRoutes}, msRoutes: 19},
		{name: "both don't fit, 121 first", networks: 40, asked: []byte{optRoutes, optRoutesMS}, routes: 36, leftOut: 4},
		{name: "client takes more", networks: 100, asked: []byte{optRoutesMS}, more: [][]byte{maximum(1280)}, msRoutes: 100},
		{name: "client takes more than we give", networks: 150, asked: []byte{optRoutesMS}, more: [][]byte{maximum(65535)}, msRoutes: 124, leftOut: 26},
		{name: "client claims less than it must take", networks: 36, asked: []byte{optRoutesMS}, more: [][]byte{maximum(100)}, msRoutes: 36},
		{name: "identifier takes the room", networks: 5, asked: []byte{optRoutesMS},
			more: [][]byte{appendOption(nil, optClientID, make([]byte, 255))}, msRoutes: 4, leftOut: 1},
		{name: "identifier has no room", networks: 5, asked: []byte{optRoutesMS},
			more: [][]byte{appendOption(nil, optClientID, make([]byte, 400))}, msRoutes: 5, leftOut: 1},
	} {
		cfg := Config{Server: server, Networks: manyNetworks(c.networks)}
		answer, leftOut := mustAnswer(t, cfg, informFrom(device, c.asked, c.more...))
		got := readOptions(t, answer)
		for code, n := range map[byte]int{optRoutesMS: c.msRoutes, optRoutes: c.routes} {
			var want []byte
			for _, p := range cfg.Networks[:n] {
				want = appendRoute(want, p, onLink)
			}
			if !bytes.Equal(valueOf(got, code), want) {
				t.Errorf("%s: option %d has %d octets, want %d", c.name, code, len(valueOf(got, code)), len(want))
			}
		}
		if leftOut != c.leftOut || len(answer) > maxDatagram-headers || len(c.more) == 0 && len(answer) > minDatagram-headers {
			t.Errorf("%s: %d octets, %d left out, want %d", c.name, len(answer), leftOut, c.leftOut)
		}
	}
}

// The list of what is asked for, and the identifier, may come in pieces.
func TestPiecesAreJoined(t *testing.T) {
	request := informFrom(device, []byte{optDNS},
		appendOption(nil, optClientID, []byte{1, 2}), appendOption(nil, optRequested, []byte{optWINS}), appendOption(nil, optClientID, []byte{3}))
	answer, _ := mustAnswer(t, testConfig(), request)
	got := readOptions(t, answer)
	if len(got) != 5 || valueOf(got, optWINS) == nil || valueOf(got, optDNS) == nil || !bytes.Equal(valueOf(got, optClientID), []byte{1, 2, 3}) {
		t.Errorf("options %v", got)
	}
}

func TestWhatIsDropped(t *testing.T) {
	change := func(f func(m []byte) []byte) []byte { return f(informFrom(device, windowsAsks)) }
	typed := func(code byte) []byte {
		return change(func(m []byte) []byte { m[fixedLen+2] = code; return m })
	}
	for _, c := range []struct {
		name    string
		request []byte
		from    netip.Addr
		want    Reason
	}{
		{name: "nothing", want: ReasonShort},
		{name: "cut", request: informFrom(device, nil)[:fixedLen-1], want: ReasonShort},
		{name: "jumbo", request: make([]byte, maxRequest+1), want: ReasonLong},
		{name: "an answer", request: change(func(m []byte) []byte { m[0] = bootReply; return m }), want: ReasonReply},
		{name: "BOOTP", request: change(func(m []byte) []byte { m[cookieAt] = 0; return m }), want: ReasonCookie},
		{name: "hardware address longer than its field", request: change(func(m []byte) []byte { m[hlenAt] = 17; return m }), want: ReasonMalformed},
		{name: "no options", request: informFrom(device, nil)[:fixedLen], want: ReasonMalformed},
		{name: "option without a length", request: informFrom(device, nil)[:fixedLen+4], want: ReasonMalformed},
		{name: "option longer than the message", request: informFrom(device, nil)[:fixedLen+8], want: ReasonMalformed},
		{name: "two message types", request: informFrom(device, nil, appendOption(nil, optMessageType, []byte{typeInform})), want: ReasonMalformed},
		{name: "maximum of one octet", request: informFrom(device, nil, appendOption(nil, optMaxMessage, []byte{1})), want: ReasonMalformed},
		{name: "DISCOVER", request: typed(1), want: ReasonType},
		{name: "REQUEST", request: typed(3), want: ReasonType},
		{name: "DECLINE", request: typed(4), want: ReasonType},
		{name: "RELEASE", request: typed(7), want: ReasonType},
		{name: "relayed", request: change(func(m []byte) []byte { m[giaddrAt] = 10; return m }), want: ReasonRelayed},
		{name: "for another device", request: informFrom(netip.MustParseAddr("10.98.1.8"), nil), want: ReasonAddress},
		{name: "without ciaddr", request: informFrom(netip.IPv4Unspecified(), nil), want: ReasonAddress},
		{name: "from nowhere", request: informFrom(netip.IPv4Unspecified(), nil), from: netip.IPv4Unspecified(), want: ReasonAddress},
		{name: "from IPv6", request: informFrom(device, nil), from: netip.MustParseAddr("fd98::7"), want: ReasonAddress},
	} {
		if !c.from.IsValid() {
			c.from = device
		}
		if answer, _, got := Answer(testConfig(), c.request, c.from); got != c.want || answer != nil {
			t.Errorf("%s: %v, want %v; %d octets of answer", c.name, got, c.want, len(answer))
		}
	}
}

func TestConfigValidate(t *testing.T) {
	good := testConfig()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no server":         func(c *Config) { c.Server = netip.Addr{} },
		"server of IPv6":    func(c *Config) { c.Server = netip.MustParseAddr("fd98::1") },
		"server everywhere": func(c *Config) { c.Server = netip.IPv4Unspecified() },
		"broadcast server":  func(c *Config) { c.Server = broadcast },
		"many networks":     func(c *Config) { c.Networks = make([]netip.Prefix, maxNetworks+1) },
		"invalid network":   func(c *Config) { c.Networks = []netip.Prefix{{}} },
		"many DNS servers":  func(c *Config) { c.DNS = make([]netip.Addr, maxServers+1) },
		"domain of two":     func(c *Config) { c.Domain = "a.example b.example" },
		"long domain":       func(c *Config) { c.Domain = strings.Repeat("a", maxDomain+1) },
	} {
		c := testConfig()
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reason(NumReasons) {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d is named %q", r, name)
		} else {
			seen[name] = true
		}
	}
	if Reason(NumReasons).String() != "unknown" {
		t.Error("a reason that isn't one has a name")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(informFrom(device, windowsAsks), 3)
	f.Add(informFrom(device, []byte{optRoutes, optRoutesMS}, appendOption(nil, optClientID, make([]byte, 300))), 100)
	f.Add(informFrom(device, []byte{optRoutesMS}, []byte{optMaxMessage, 2, 5, 0}), 256)
	f.Add(informFrom(device, nil)[:fixedLen+8], 0)
	f.Fuzz(func(t *testing.T, request []byte, networks int) {
		cfg := testConfig()
		cfg.Networks = manyNetworks(min(max(networks, 0), maxNetworks))
		before := bytes.Clone(request)
		answer, leftOut, reason := Answer(cfg, request, device)
		if !bytes.Equal(before, request) {
			t.Fatal("the request was changed")
		}
		if reason != ReasonNone {
			if answer != nil || leftOut != 0 {
				t.Fatalf("%v, and an answer", reason)
			}
			return
		}
		if len(answer) < minMessage || len(answer) > maxDatagram-headers || leftOut < 0 {
			t.Fatalf("%d octets, %d left out", len(answer), leftOut)
		}
		seen := map[byte]bool{}
		for _, o := range readOptions(t, answer) {
			if seen[o.code] {
				t.Fatalf("option %d twice, apart", o.code)
			}
			seen[o.code] = true
			if !slices.Contains([]byte{optMessageType, optServerID, optDNS, optDomain, optWINS, optRoutes, optRoutesMS, optClientID}, o.code) {
				t.Fatalf("option %d in the answer", o.code)
			}
		}
		// Nobody takes an answer for a question.
		if _, _, reason := Answer(cfg, answer, device); reason != ReasonReply {
			t.Fatalf("the answer as a request: %v", reason)
		}
	})
}
