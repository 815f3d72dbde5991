package guard

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// testKeys of a period and its neighbours.
func testKeys(period uint64) (keys []CookieKey) {
	for p := period - 1; p != period+2; p++ {
		keys = append(keys, CookieKey{Period: p, Key: [16]byte{byte(p), 1, 2, 3, 15: 0x81}})
	}
	return keys
}

func setKeys(t testing.TB, g *Guard, period uint64) {
	t.Helper()
	if err := g.SetCookieKeys(period, testKeys(period), time.Hour); err != nil {
		t.Fatal(err)
	}
}

// sipHash is SipHash-2-4, written from the paper.
func sipHash(key [16]byte, b []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0], v[2] = v[0]+v[1], v[2]+v[3]
			v[1], v[3] = bits.RotateLeft64(v[1], 13)^v[0], bits.RotateLeft64(v[3], 16)^v[2]
			v[0] = bits.RotateLeft64(v[0], 32)
			v[2], v[0] = v[2]+v[1], v[0]+v[3]
			v[1], v[3] = bits.RotateLeft64(v[1], 17)^v[2], bits.RotateLeft64(v[3], 21)^v[0]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	padded := append(slices.Clone(b), make([]byte, 8-len(b)%8)...)
	padded[len(padded)-1] = byte(len(b))
	for ; len(padded) > 0; padded = padded[8:] {
		m := binary.LittleEndian.Uint64(padded)
		v[3] ^= m
		rounds(2)
		v[0] ^= m
	}
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// referenceCookie by the layout that control/gate documents.
func referenceCookie(period uint64, from netip.AddrPort, nonce []byte) []byte {
	in := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	address := from.Addr().As16()
	in = append(in, address[:]...)
	in = binary.BigEndian.AppendUint16(in, from.Port())
	in = append(in, byte(period), 0)
	in = binary.BigEndian.AppendUint16(in, uint16(len(nonce)))
	in = append(append(in, 0, 0), nonce...)
	key := CookieKey{}
	for _, k := range testKeys(period) {
		if k.Period == period {
			key = k
		}
	}
	return binary.BigEndian.AppendUint64([]byte{byte(period)}, sipHash(key.Key, in))
}

// answered has a frame answered, checks the way back and the checksums, and
// returns the IKE message.
func answered(t *testing.T, g *Guard, f frame) []byte {
	t.Helper()
	request := f.bytes()
	verdict, reply := run(t, g, request)
	if verdict != CookieSent {
		t.Fatalf("%v, want an answer", verdict)
	}
	tags := 4 * len(f.vlan)
	if !bytes.Equal(reply[:6], request[6:12]) || !bytes.Equal(reply[6:12], request[:6]) {
		t.Errorf("addresses of Ethernet % x, asked % x", reply[:12], request[:12])
	}
	if !bytes.Equal(reply[12:14+tags], request[12:14+tags]) {
		t.Errorf("tags % x, asked % x", reply[12:14+tags], request[12:14+tags])
	}
	ip := reply[14+tags:]
	var from, to netip.Addr
	var datagram []byte
	if f.to.Addr().Is4() {
		if onesSum(0, ip[:20]) != 0xffff || ip[0] != 0x45 || ip[9] != protocolUDP || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
			t.Errorf("IPv4 header % x, %d octets in all", ip[:20], len(ip))
		}
		from, to, datagram = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), ip[20:]
	} else {
		if ip[0] != 0x60 || ip[6] != protocolUDP || int(binary.BigEndian.Uint16(ip[4:])) != len(ip)-40 {
			t.Errorf("IPv6 header % x, %d octets in all", ip[:40], len(ip))
		}
		from, to, datagram = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), ip[40:]
	}
	if from != f.to.Addr() || to != f.from.Addr() {
		t.Errorf("from %v to %v", from, to)
	}
	if udpSum(from, to, datagram) != 0xffff {
		t.Errorf("checksum of the datagram % x is wrong", datagram)
	}
	if got := binary.BigEndian.Uint16(datagram); got != f.to.Port() {
		t.Errorf("source port %d", got)
	}
	if got := binary.BigEndian.Uint16(datagram[2:]); got != f.from.Port() {
		t.Errorf("destination port %d", got)
	}
	if int(binary.BigEndian.Uint16(datagram[4:])) != len(datagram) {
		t.Errorf("UDP length of %d octets: % x", len(datagram), datagram[:8])
	}
	message := datagram[8:]
	if f.to.Port() == 4500 {
		if !bytes.Equal(message[:4], make([]byte, 4)) {
			t.Errorf("marker % x", message[:4])
		}
		message = message[4:]
	}
	return message
}

// Beyond the rate everybody is asked for a cookie, and comes in with it.
func TestCookieRoundTrip(t *testing.T) {
	period := uint64(0x1ff) // the next one has another low octet, and carries
	for name, f := range map[string]frame{
		"IPv4":             udp4(500, first()),
		"IPv4, marker":     udp4(4500, marked(first())),
		"IPv6":             udp6(500, first()),
		"IPv6, marker":     udp6(4500, marked(first())),
		"IPv4, VLAN":       udp4(500, first()).with(func(f *frame) { f.vlan = []uint16{5} }),
		"IPv6, QinQ":       udp6(4500, marked(first())).with(func(f *frame) { f.vlan = []uint16{5, 6} }),
		"IPv4, padding":    udp4(500, ikeMessage(34, 0x08, 0, payload{40, make([]byte, 16)})).with(func(f *frame) { f.padding = 30 }),
		"longest nonce":    udp6(500, ikeMessage(34, 0x08, 0, payload{33, nil}, payload{40, bytes.Repeat([]byte{9}, 256)})),
		"session resuming": udp4(500, ikeMessage(38, 0x08, 0, nonce)),
	} {
		t.Run(name, func(t *testing.T) {
			g := loaded(t, func(c *Config) { c.Rates.Init = exhausted })
			setKeys(t, g, period)
			if got, _ := run(t, g, f.bytes()); got != Init {
				t.Fatalf("within the rate: %v", got)
			}
			message := answered(t, g, f)
			marker := 0
			if f.to.Port() == 4500 {
				marker = 4
			}
			request := f.payload[marker:]
			nonce := nonceOf(request)
			cookie := referenceCookie(period, f.from, nonce)
			want := ikeMessage(request[18], 0x20, 0, cookieNotify(cookie))
			if !bytes.Equal(message, want) {
				t.Fatalf("answer\n% x, want\n% x", message, want)
			}
			again := answered(t, g, f)
			if !bytes.Equal(again, message) {
				t.Errorf("repeated, it gets % x", again)
			}
			for name, c := range map[string]struct {
				cookie []byte
				want   Verdict
			}{
				"its cookie":                  {cookie, InitCookie},
				"its cookie, again":           {cookie, InitCookie},
				"of the period before":        {referenceCookie(period-1, f.from, nonce), InitCookie},
				"of the period that comes":    {referenceCookie(period+1, f.from, nonce), InitCookie},
				"of two periods before":       {append([]byte{byte(period - 2)}, cookie[1:]...), CookieSent},
				"another's":                   {referenceCookie(period, netip.AddrPortFrom(f.from.Addr().Next(), f.from.Port()), nonce), CookieSent},
				"of another port":             {referenceCookie(period, netip.AddrPortFrom(f.from.Addr(), 1), nonce), CookieSent},
				"of another nonce":            {referenceCookie(period, f.from, nonce[1:]), CookieSent},
				"one bit wrong":               {edit(cookie, 8, cookie[8]^1), CookieSent},
				"cut off":                     {cookie[:8], CookieSent},
				"one octet more":              {append(slices.Clone(cookie), 0), CookieSent},
				"none in a notify of its own": {nil, CookieSent},
			} {
				with := f.with(func(f *frame) {
					f.payload = append(make([]byte, marker), prepend(request, cookieNotify(c.cookie))...)
				})
				if got, _ := run(t, g, with.bytes()); got != c.want {
					t.Errorf("%s: %v, want %v", name, got, c.want)
				}
			}
		})
	}
}

// nonceOf a message.
func nonceOf(m []byte) []byte {
	next, rest := m[16], m[28:]
	for next != 0 {
		n := binary.BigEndian.Uint16(rest[2:])
		if next == 40 {
			return rest[4:n]
		}
		next, rest = rest[0], rest[n:]
	}
	return nil
}

// prepend a payload to a message.
func prepend(m []byte, p payload) []byte {
	out := slices.Clone(m[:28])
	out = append(out, m[16], 0)
	out = binary.BigEndian.AppendUint16(out, uint16(4+len(p.body)))
	out = append(append(out, p.body...), m[28:]...)
	out[16] = p.kind
	binary.BigEndian.PutUint32(out[24:], uint32(len(out)))
	return out
}

// What gate would drop isn't answered either: an answer to an answer would make
// rings.
func TestOnlyFirstMessagesAreAnswered(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Rates.Init = exhausted })
	setKeys(t, g, 7)
	run(t, g, udp4(500, first()).bytes())
	ok := first()
	for name, c := range map[string]struct {
		message []byte
		want    Verdict
	}{
		"in order":             {ok, CookieSent},
		"an answer":            {edit(ok, 19, 0x20), InitMalformed},
		"of both sides":        {edit(ok, 19, 0x28), InitMalformed},
		"of the responder":     {edit(ok, 19, 0), InitMalformed},
		"responder's SPI":      {edit(ok, 15, 1), InitMalformed},
		"message ID 1":         {edit(ok, 23, 1), InitMalformed},
		"length field":         {edit(ok, 27, ok[27]+1), InitMalformed},
		"octets behind":        {append(slices.Clone(ok), 0), InitMalformed},
		"first payload SK":     {edit(ok, 16, 46), InitMalformed},
		"without payloads":     {ikeMessage(34, 8, 0), InitMalformed},
		"without nonce":        {ikeMessage(34, 8, 0, payload{33, make([]byte, 40)}), InitMalformed},
		"two nonces":           {ikeMessage(34, 8, 0, nonce, nonce), InitMalformed},
		"short nonce":          {ikeMessage(34, 8, 0, payload{40, make([]byte, 15)}), InitMalformed},
		"long nonce":           {ikeMessage(34, 8, 0, payload{40, make([]byte, 257)}), InitMalformed},
		"payload of 3 octets":  {edit(ok, 31, 3), InitMalformed},
		"payload too long":     {edit(ok, 30, 9), InitMalformed},
		"48 payloads":          {ikeMessage(34, 8, 0, append(slices.Repeat([]payload{{43, nil}}, 47), nonce)...), CookieSent},
		"49 payloads":          {ikeMessage(34, 8, 0, append(slices.Repeat([]payload{{43, nil}}, 48), nonce)...), InitMalformed},
		"3,000 octets":         {ikeMessage(34, 8, 0, nonce, payload{43, make([]byte, 3000-28-35-4)}), CookieSent},
		"no initiator's SPI":   {append(make([]byte, 8), ok[8:]...), InitMalformed},
		"notify of no content": {ikeMessage(34, 8, 0, payload{41, nil}, nonce), CookieSent},
	} {
		if got, _ := run(t, g, udp4(500, c.message).bytes()); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for name, f := range map[string]frame{
		"IPv4 options":       udp4(500, ok).with(func(f *frame) { f.options = 4 }),
		"an IPv6 extension":  udp6(500, ok).with(func(f *frame) { f.kinds, f.headers = []uint8{60}, [][]byte{make([]byte, 8)} }),
		"an atomic fragment": udp6(500, ok).with(func(f *frame) { f.kinds, f.headers = []uint8{44}, [][]byte{make([]byte, 8)} }),
	} {
		if got, _ := run(t, g, f.bytes()); got != InitLimited {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, _ := run(t, g, udp4(500, ok).with(func(f *frame) { f.fragment = 0x2000 }).bytes()); got != InitMalformed {
		t.Errorf("first fragment: %v", got)
	}
}

// Without keys, or when nobody renews them, the guard only limits.
func TestCookiesEndWithTheirKeys(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Rates.Init = exhausted })
	f := udp4(500, first())
	run(t, g, f.bytes())
	if got, _ := run(t, g, f.bytes()); got != InitLimited {
		t.Errorf("without keys: %v", got)
	}
	setKeys(t, g, 7)
	answered(t, g, f)
	if err := g.SetCookieKeys(7, testKeys(7), 0); err != nil {
		t.Fatal(err)
	}
	if got, _ := run(t, g, f.bytes()); got != InitLimited {
		t.Errorf("with keys that nobody renewed: %v", got)
	}
	with := udp4(500, first(cookieNotify(referenceCookie(7, f.from, nonce.body))))
	if got, _ := run(t, g, with.bytes()); got != InitLimited {
		t.Errorf("with a cookie of such keys: %v", got)
	}
}

// Each source prefix has its share, and nobody else's.
func TestInitRatesByPrefix(t *testing.T) {
	at := func(f frame, address string) []byte {
		return f.with(func(f *frame) { f.from = netip.AddrPortFrom(netip.MustParseAddr(address), 500) }).bytes()
	}
	for name, c := range map[string]struct {
		narrow, wide Rate
		f            frame
		steps        []string // addresses that come, the last of them too often
		stranger     string
	}{
		"IPv4 address": {exhausted, plenty, udp4(500, first()), []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"}, "192.0.2.3"},
		"IPv4 /24":     {plenty, exhausted, udp4(500, first()), []string{"192.0.2.1", "192.0.2.2"}, "192.0.3.1"},
		"IPv6 /64":     {exhausted, plenty, udp6(500, first()), []string{"2001:db8::1", "2001:db8::2"}, "2001:db8:0:1::1"},
		"IPv6 /56":     {plenty, exhausted, udp6(500, first()), []string{"2001:db8::1", "2001:db8:0:ff::1"}, "2001:db8:0:100::1"},
	} {
		t.Run(name, func(t *testing.T) {
			g := loaded(t, func(cfg *Config) { cfg.Rates.InitNarrow, cfg.Rates.InitWide = c.narrow, c.wide })
			setKeys(t, g, 7)
			for i, a := range c.steps {
				want := Init
				if i == len(c.steps)-1 {
					want = CookieSent
				}
				if got, _ := run(t, g, at(c.f, a)); got != want {
					t.Errorf("%s: %v, want %v", a, got, want)
				}
			}
			if got, _ := run(t, g, at(c.f, c.stranger)); got != Init {
				t.Errorf("%s: %v", c.stranger, got)
			}
		})
	}
}

// What one source sends too much takes nothing from its neighbours.
func TestInitRateOfANeighbour(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Rates.InitNarrow, c.Rates.InitWide = exhausted, Rate{PerSecond: 1, Burst: 2} })
	setKeys(t, g, 7)
	for i, c := range []struct {
		address string
		want    Verdict
	}{
		{"192.0.2.1", Init}, {"192.0.2.1", CookieSent}, {"192.0.2.1", CookieSent}, {"192.0.2.2", Init}, {"192.0.2.3", CookieSent},
	} {
		from := netip.AddrPortFrom(netip.MustParseAddr(c.address), 500)
		if got, _ := run(t, g, udp4(500, first()).with(func(f *frame) { f.from = from }).bytes()); got != c.want {
			t.Errorf("%d, %s: %v, want %v", i, c.address, got, c.want)
		}
	}
}

// A valid cookie has buckets of its own: a flood without doesn't touch them, and
// one source can't take all.
func TestValidCookiesHaveTheirRates(t *testing.T) {
	g := loaded(t, func(c *Config) {
		c.Rates.Init, c.Rates.CookieNarrow, c.Rates.Cookie = exhausted, exhausted, Rate{PerSecond: 1, Burst: 2}
	})
	setKeys(t, g, 7)
	for range 10 {
		run(t, g, udp4(500, first()).bytes())
	}
	with := func(address string) []byte {
		from := netip.AddrPortFrom(netip.MustParseAddr(address), 500)
		return udp4(500, first(cookieNotify(referenceCookie(7, from, nonce.body)))).with(func(f *frame) { f.from = from }).bytes()
	}
	for i, c := range []struct {
		address string
		want    Verdict
	}{
		{"192.0.2.1", InitCookie}, {"192.0.2.1", InitLimited}, {"192.0.2.2", InitCookie}, {"192.0.2.3", InitLimited},
	} {
		if got, _ := run(t, g, with(c.address)); got != c.want {
			t.Errorf("%d, %s: %v, want %v", i, c.address, got, c.want)
		}
	}
}

// The table of sources is bounded: a flood from everywhere ends at the global
// bucket, whatever the table forgot.
func TestFloodFromEverywhere(t *testing.T) {
	g := loaded(t, func(c *Config) { c.Sources, c.Rates.Init = 64, Rate{PerSecond: 1, Burst: 500} })
	setKeys(t, g, 7)
	counts := map[Verdict]int{}
	for i := range 2000 {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		v, _ := run(t, g, udp4(500, first()).with(func(f *frame) { f.from = netip.AddrPortFrom(from, 500) }).bytes())
		counts[v]++
	}
	if counts[Init] != 500 || counts[CookieSent] != 1500 {
		t.Errorf("verdicts %v, want 500 to pass and the others answered", counts)
	}
}
