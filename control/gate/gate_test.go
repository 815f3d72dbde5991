package gate

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var (
	start  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	phone  = netip.MustParseAddrPort("192.0.2.7:500")
	laptop = netip.MustParseAddrPort("198.51.100.9:4500")
)

// newGate asks for a cookie from the third half-open IKE SA on, or the second
// of a prefix.
func newGate(t *testing.T) *Gate {
	t.Helper()
	g, err := New(Config{MaxHalfOpen: 4, CookieAt: 2, MaxHalfOpenPrefix: 2, CookieAtPrefix: 1, AnswersPerSecond: 2}, Secret{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

type payload struct {
	kind uint8
	body []byte
}

// message writes payloads behind a header whose fields are set right for an
// initiator's request.
func message(exchange uint8, spiI, spiR uint64, id uint32, payloads ...payload) []byte {
	b := binary.BigEndian.AppendUint64(nil, spiI)
	b = binary.BigEndian.AppendUint64(b, spiR)
	b = append(b, 0, version2, exchange, flagInitiator)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, 0)
	next := 16
	for _, p := range payloads {
		b[next] = p.kind
		next = len(b)
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(p.body)))
		b = append(b, p.body...)
	}
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

var nonce = payload{payloadNonce, bytes.Repeat([]byte{7}, 32)}

func initMessage(payloads ...payload) []byte {
	return message(exchangeInit, 0xabcdef, 0, 0, payloads...)
}

func goodInit() []byte {
	return initMessage(payload{payloadSA, make([]byte, 40)}, payload{payloadKE, make([]byte, 36)}, nonce)
}

func cookieNotify(cookie []byte) payload {
	return payload{payloadNotify, append([]byte{0, 0, 0x40, 0x06}, cookie...)}
}

func edit(b []byte, at int, v byte) []byte { b[at] = v; return b }

func TestPass(t *testing.T) {
	g := newGate(t)
	for name, b := range map[string][]byte{
		"IKE_SA_INIT":        goodInit(),
		"nonce first":        initMessage(nonce),
		"IKE_AUTH":           message(exchangeAuth, 1, 2, 1, payload{payloadEncrypted, make([]byte, 40)}),
		"IKE_AUTH fragment":  message(exchangeAuth, 1, 2, 1, payload{payloadFragment, make([]byte, 40)}),
		"answer to ours":     edit(message(exchangeInformational, 1, 2, 1, payload{payloadEncrypted, make([]byte, 40)}), 19, flagInitiator|flagResponse),
		"version 2.1":        edit(goodInit(), 17, 0x21),
		"after our rekeying": edit(message(exchangeInformational, 1, 2, 1, payload{payloadEncrypted, make([]byte, 40)}), 19, 0),
		"answer there":       edit(message(exchangeCreateChild, 1, 2, 1, payload{payloadEncrypted, make([]byte, 40)}), 19, flagResponse),
	} {
		res := g.Check(start, phone, b, nil)
		if res.Verdict != Pass || res.Reason != ReasonNone {
			t.Errorf("%s: verdict %v, reason %v", name, res.Verdict, res.Reason)
		}
		if want := binary.BigEndian.Uint64(b); res.Header.InitiatorSPI != want {
			t.Errorf("%s: initiator SPI %x, want %x", name, res.Header.InitiatorSPI, want)
		}
	}
}

// Whose SPI is meant depends on who began the IKE SA.
func TestReceiversSPI(t *testing.T) {
	sk := payload{payloadEncrypted, make([]byte, 40)}
	for _, c := range []struct {
		flags uint8
		want  uint64
	}{{flagInitiator, 2}, {flagInitiator | flagResponse, 2}, {0, 1}, {flagResponse, 1}} {
		res := newGate(t).Check(start, phone, edit(message(exchangeInformational, 1, 2, 3, sk), 19, c.flags), nil)
		if res.Verdict != Pass || res.Header.SPI() != c.want {
			t.Errorf("flags %#x: verdict %v, SPI %d, want %d", c.flags, res.Verdict, res.Header.SPI(), c.want)
		}
	}
}

// Every reason has to be caused by something that a stranger can send.
func TestEveryReason(t *testing.T) {
	sk := payload{payloadEncrypted, make([]byte, 40)}
	check := func(b []byte) func(*Gate) Reason {
		return func(g *Gate) Reason { return g.Check(start, phone, b, nil).Reason }
	}
	causes := map[Reason]func(*Gate) Reason{
		ReasonNone:         check(goodInit()),
		ReasonShort:        check(goodInit()[:27]),
		ReasonOldVersion:   check(edit(goodInit(), 17, 0x10)),
		ReasonNewVersion:   check(edit(goodInit(), 17, 0x30)),
		ReasonLength:       check(append(goodInit(), 0)),
		ReasonInitTooLong:  check(initMessage(nonce, payload{payloadVendor, make([]byte, maxInit)})),
		ReasonExchange:     check(edit(goodInit(), 18, 40)),
		ReasonFlags:        check(edit(goodInit(), 19, flagInitiator|flagResponse)),
		ReasonInitiatorSPI: check(message(exchangeInit, 0, 0, 0, nonce)),
		ReasonResponderSPI: check(message(exchangeInformational, 1, 0, 0, sk)),
		ReasonMessageID:    check(message(exchangeInit, 1, 0, 1, nonce)),
		ReasonFirstPayload: check(message(exchangeAuth, 1, 2, 1, nonce)),
		ReasonNonce:        check(initMessage(payload{payloadSA, nil})),
		ReasonAnswerRate: func(g *Gate) Reason {
			for range 2 {
				g.Check(start, phone, edit(goodInit(), 17, 0x30), nil)
			}
			return g.Check(start, phone, edit(goodInit(), 17, 0x30), nil).Reason
		},
		ReasonCookieRequired: func(g *Gate) Reason {
			g.Open(phone.Addr())
			return g.Check(start, phone, goodInit(), nil).Reason
		},
		ReasonCookieWrong: func(g *Gate) Reason {
			g.Open(phone.Addr())
			return g.Check(start, phone, initMessage(cookieNotify(make([]byte, cookieLen)), nonce), nil).Reason
		},
		ReasonPrefixFull: func(g *Gate) Reason {
			g.Open(phone.Addr())
			g.Open(phone.Addr().Next())
			return g.Open(phone.Addr())
		},
		ReasonHalfOpenFull: func(g *Gate) Reason {
			for _, a := range []string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"} { // of four sites
				if r := g.Open(netip.MustParseAddr(a)); r != ReasonNone {
					t.Errorf("open %s: %v", a, r)
				}
			}
			return g.Open(netip.MustParseAddr("10.0.0.1"))
		},
	}
	// A chain that is cut off: the header names a payload that isn't there.
	cut := initMessage(payload{payloadSA, nil})[:headerLen]
	binary.BigEndian.PutUint32(cut[24:], headerLen)
	causes[ReasonPayloads] = check(cut)

	names := make(map[string]bool)
	for r := range Reason(NumReasons) {
		cause, ok := causes[r]
		if !ok {
			t.Errorf("nothing causes %v", r)
			continue
		}
		if got := cause(newGate(t)); got != r {
			t.Errorf("cause of %v gave %v", r, got)
		}
		if r.String() == "" || names[r.String()] {
			t.Errorf("reason %d has no name of its own: %q", r, r)
		}
		names[r.String()] = true
	}
}

func TestMoreThanOneWayToBeRefused(t *testing.T) {
	sk := payload{payloadEncrypted, make([]byte, 40)}
	many := make([]payload, maxPayloads+1)
	for i := range many {
		many[i] = payload{payloadVendor, nil}
	}
	for name, c := range map[string]struct {
		data []byte
		want Reason
	}{
		"empty":                      {nil, ReasonShort},
		"version 3 response":         {edit(edit(goodInit(), 17, 0x30), 19, flagResponse), ReasonOldVersion},
		"length field too small":     {edit(goodInit(), 27, 28), ReasonLength},
		"IKEv1 exchange":             {edit(goodInit(), 18, 2), ReasonExchange},
		"INIT of no initiator":       {edit(goodInit(), 19, 0), ReasonFlags},
		"IKE_AUTH of no initiator":   {edit(message(exchangeAuth, 1, 2, 1, sk), 19, 0), ReasonFlags},
		"no responder SPI":           {edit(message(exchangeInformational, 1, 0, 1, sk), 19, 0), ReasonResponderSPI},
		"no initiator SPI":           {edit(message(exchangeInformational, 0, 2, 1, sk), 19, 0), ReasonInitiatorSPI},
		"IKE_AUTH response":          {edit(message(exchangeAuth, 1, 2, 1, sk), 19, flagInitiator|flagResponse), ReasonFlags},
		"responder SPI in INIT":      {message(exchangeInit, 1, 2, 0, nonce), ReasonResponderSPI},
		"INIT that begins with SK":   {initMessage(sk), ReasonFirstPayload},
		"INIT without payloads":      {initMessage(), ReasonFirstPayload},
		"unprotected INFORMATIONAL":  {message(exchangeInformational, 1, 2, 0, payload{payloadNotify, make([]byte, 8)}), ReasonFirstPayload},
		"nonce of 15 octets":         {initMessage(payload{payloadNonce, make([]byte, 15)}), ReasonNonce},
		"nonce of 257 octets":        {initMessage(payload{payloadNonce, make([]byte, 257)}), ReasonNonce},
		"two nonces":                 {initMessage(nonce, nonce), ReasonNonce},
		"too many payloads":          {initMessage(many...), ReasonPayloads},
		"payload length below four":  {edit(initMessage(nonce), headerLen+3, 3), ReasonPayloads},
		"payload beyond the message": {edit(initMessage(nonce), headerLen+2, 1), ReasonPayloads},
		"octets behind the chain":    {edit(initMessage(nonce, payload{payloadVendor, nil}), headerLen, 0), ReasonPayloads},
	} {
		if got := newGate(t).Check(start, phone, c.data, nil); got.Verdict != Drop || got.Reason != c.want {
			t.Errorf("%s: %v, want %v", name, got.Reason, c.want)
		}
	}
}

func TestInvalidMajorVersionIsAnswered(t *testing.T) {
	g := newGate(t)
	request := edit(message(exchangeAuth, 5, 6, 7, nonce), 17, 0x30)
	res := g.Check(start, phone, request, nil)
	if res.Verdict != Answer {
		t.Fatalf("verdict %v", res.Verdict)
	}
	want := message(exchangeAuth, 5, 6, 7, payload{payloadNotify, []byte{0, 0, 0, notifyInvalidMajorVersion}})
	want[19] = flagResponse
	if !bytes.Equal(res.Answer, want) {
		t.Errorf("answer %x, want %x", res.Answer, want)
	}
	// Where the original responder asks, the original initiator answers.
	if res := g.Check(start, phone, edit(request, 19, 0), nil); res.Answer[19] != flagResponse|flagInitiator {
		t.Errorf("flags of the answer: %#x", res.Answer[19])
	}
	if res := g.Check(start, phone, request, nil); res.Verdict != Drop || res.Reason != ReasonAnswerRate {
		t.Errorf("a budget of two and the third answer: %v", res.Reason)
	}
	if res := g.Check(start.Add(time.Second), phone, request, nil); res.Verdict != Answer {
		t.Errorf("the budget does not come back: %v", res.Reason)
	}
}

func TestInvalidSPI(t *testing.T) {
	want := message(exchangeInformational, 0, 0, 0, payload{payloadNotify, []byte{0, 0, 0, notifyInvalidSPI, 1, 2, 3, 4}})
	if got := AppendInvalidSPI(nil, 0x01020304); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// Junk of another version leaves INVALID_SPI its budget, and the other way.
func TestAnswersHaveBudgetsOfTheirOwn(t *testing.T) {
	junk := edit(goodInit(), 17, 0x30)
	for _, first := range []string{"versions", "SPIs"} {
		g := newGate(t)
		versions := func() (n int) {
			for range 100 {
				if g.Check(start, phone, junk, nil).Verdict == Answer {
					n++
				}
			}
			return n
		}
		spis := func() (n int) {
			for range 100 {
				if g.AllowAnswer(start) {
					n++
				}
			}
			return n
		}
		steps := []func() int{versions, spis}
		if first == "SPIs" {
			steps = []func() int{spis, versions}
		}
		for i, step := range steps {
			if n := step(); n != 2 {
				t.Errorf("%s first, step %d: %d answers, want 2", first, i, n)
			}
		}
	}
}

// A group that costs more than the rest of the exchange brings a cookie, however
// little is half-open.
func TestExpensiveGroups(t *testing.T) {
	g := newGate(t)
	ke := func(group uint16) payload {
		return payload{payloadKE, append(binary.BigEndian.AppendUint16(nil, group), make([]byte, 34)...)}
	}
	const x25519, ecp256, ecp384, modp1024, reserved = 31, 19, 20, 2, 0
	for _, c := range []struct {
		name string
		data []byte
		want Reason
	}{
		{"x25519", initMessage(ke(x25519), nonce), ReasonNone},
		{"ecp256", initMessage(ke(ecp256), nonce), ReasonNone},
		{"ecp384", initMessage(ke(ecp384), nonce), ReasonNone},
		{"modp1024", initMessage(ke(modp1024), nonce), ReasonNone},
		{"no such group", initMessage(ke(reserved), nonce), ReasonNone},
		{"modp2048", initMessage(ke(groupMODP2048), nonce), ReasonCookieRequired},
		{"modp3072", initMessage(ke(groupMODP3072), nonce), ReasonCookieRequired},
		{"modp4096", initMessage(ke(groupMODP4096), nonce), ReasonCookieRequired},
		{"ecp521", initMessage(ke(groupECP521), nonce), ReasonCookieRequired},
		{"behind the nonce", initMessage(nonce, ke(groupMODP4096)), ReasonCookieRequired},
		{"behind a cheap one", initMessage(ke(x25519), ke(groupMODP4096), nonce), ReasonCookieRequired},
		{"before a cheap one", initMessage(ke(groupMODP4096), ke(x25519), nonce), ReasonCookieRequired},
		{"no room for a group", initMessage(payload{payloadKE, []byte{0}}, nonce), ReasonNone},
	} {
		res := g.Check(start, phone, c.data, nil)
		if res.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, res.Reason, c.want)
		}
		if res.Verdict != Answer {
			continue
		}
		payloads := append([]byte(nil), c.data[headerLen:]...)
		cookie := cookieNotify(notifyData(res.Answer[headerLen+4:], notifyCookie))
		again := append(initMessage(cookie), payloads...)
		again[headerLen] = c.data[16]
		binary.BigEndian.PutUint32(again[24:], uint32(len(again)))
		if res := g.Check(start, phone, again, nil); res.Verdict != Pass {
			t.Errorf("%s with its cookie: %v", c.name, res.Reason)
		}
	}
}

// One site, however many networks it has, leaves fifteen sixteenths of the table
// to others.
func TestOneSiteLeavesRoom(t *testing.T) {
	for name, address := range map[string]func(n int) netip.Addr{
		"/62": func(n int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(n % 4), 15: 1}) },
		"/48": func(n int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 6: byte(n >> 8), 7: byte(n), 15: 1})
		},
		"/24": func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) },
	} {
		cfg := DefaultConfig()
		g, err := New(cfg, Secret{1})
		if err != nil {
			t.Fatal(err)
		}
		opened := 0
		for n := range cfg.MaxHalfOpen {
			if g.Open(address(n)) == ReasonNone {
				opened++
			}
		}
		if most := cfg.MaxHalfOpen / 16; opened != most {
			t.Errorf("%s: %d half-open, want %d", name, opened, most)
		}
		if r := g.Open(netip.MustParseAddr("198.51.100.7")); r != ReasonNone {
			t.Errorf("%s: an honest stranger gets %v", name, r)
		}
	}
	// One network of a site leaves room for its others.
	g, err := New(DefaultConfig(), Secret{1})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for g.Open(netip.MustParseAddr("2001:db8::1")) == ReasonNone {
		n++
	}
	if want := DefaultConfig().MaxHalfOpenPrefix / 4; n != want {
		t.Errorf("one /64: %d half-open, want %d", n, want)
	}
	if r := g.Open(netip.MustParseAddr("2001:db8:0:1::1")); r != ReasonNone {
		t.Errorf("its neighbour gets %v", r)
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	g := newGate(t)
	g.Open(phone.Addr())
	data, buffer := goodInit(), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { g.Check(start, phone, data, buffer) }); n != 0 {
		t.Errorf("%v allocations for a cookie", n)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"MaxHalfOpen":       func(c *Config) { c.MaxHalfOpen = 0 },
		"CookieAt":          func(c *Config) { c.CookieAt = c.MaxHalfOpen },
		"MaxHalfOpenPrefix": func(c *Config) { c.MaxHalfOpenPrefix = -1 },
		"MaxHalfOpenPrefix is 8193, must be 1 to 8192": func(c *Config) { c.MaxHalfOpenPrefix = c.MaxHalfOpen + 1 },
		"CookieAtPrefix":   func(c *Config) { c.CookieAtPrefix = -1 },
		"AnswersPerSecond": func(c *Config) { c.AnswersPerSecond = -1 },
	} {
		bad := good
		change(&bad)
		g := newGate(t)
		if err := g.Update(bad); err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// The table of prefixes holds only those with something half-open.
func TestHalfOpenTableIsBounded(t *testing.T) {
	g := newGate(t)
	sources := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2001:db8:0:1::1"), netip.MustParseAddr("2001:db8:0:2::1")}
	for _, a := range sources {
		g.Open(a)
	}
	// 10.1.2.0/24, and of 2001:db8::/48 two networks.
	if n := g.HalfOpen(); n != 3 || len(g.halfOpen.prefix) != 4 {
		t.Fatalf("%d half-open, %d prefixes", n, len(g.halfOpen.prefix))
	}
	g.Close(netip.MustParseAddr("172.16.0.1"))
	g.Close(netip.MustParseAddr("2001:db8:0:3::1")) // of that site, but nobody's
	if n := g.HalfOpen(); n != 3 {
		t.Errorf("%d half-open after a Close without Open", n)
	}
	for _, a := range sources {
		g.Close(a)
	}
	if n := g.HalfOpen(); n != 0 || len(g.halfOpen.prefix) != 0 {
		t.Errorf("%d half-open, %d prefixes are left", n, len(g.halfOpen.prefix))
	}
}

// FuzzCheck: whatever comes, nothing panics, an answer is never longer than 64
// octets, and what passes is in order.
func FuzzCheck(f *testing.F) {
	f.Add(goodInit())
	f.Add(initMessage(cookieNotify(make([]byte, 9)), nonce))
	f.Add(message(exchangeAuth, 1, 2, 1, payload{payloadEncrypted, make([]byte, 40)}))
	f.Add(edit(goodInit(), 17, 0x30))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := New(Config{MaxHalfOpen: 2, MaxHalfOpenPrefix: 2, AnswersPerSecond: 1}, Secret{})
		if err != nil {
			t.Fatal(err)
		}
		res := g.Check(start, phone, b, nil)
		switch res.Verdict {
		case Pass:
			if res.Reason != ReasonNone || len(b) < headerLen || res.Header.InitiatorSPI == 0 {
				t.Fatalf("passed: %+v", res)
			}
			if res.Header.Init {
				t.Fatal("passed without a cookie")
			}
			if res.Header.SPI() == 0 {
				t.Fatal("passed without an SPI of the receiver")
			}
		case Answer:
			if len(res.Answer) == 0 || len(res.Answer) > 64 {
				t.Fatalf("answer of %d octets", len(res.Answer))
			}
			if res.Reason != ReasonNewVersion && len(res.Answer) > len(b) {
				t.Fatalf("answer of %d octets to %d", len(res.Answer), len(b))
			}
		case Drop:
			if res.Reason == ReasonNone {
				t.Fatal("dropped without a reason")
			}
		}
		if len(b) > headerLen {
			scanInit(b, b[16])
		}
	})
}

func TestRate(t *testing.T) {
	r := Rate{PerSecond: 2}
	allowed := func(now time.Time) (n int) {
		for r.Allow(now) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{0, 2}, {0, 0}, {500 * time.Millisecond, 1}, {time.Hour, 2}, {time.Minute, 0}, {time.Hour + time.Second, 2}} {
		if got := allowed(start.Add(c.at)); got != c.want {
			t.Errorf("at %v: %d, want %d", c.at, got, c.want)
		}
	}
}
