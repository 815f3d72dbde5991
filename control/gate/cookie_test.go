package gate

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// An IKE_SA_INIT under load is answered with a cookie; repeated with it, it
// passes; with a cookie that was made for anything else it doesn't.
func TestCookieRoundTrip(t *testing.T) {
	g := newGate(t)
	g.Open(phone.Addr())
	first := goodInit()
	res := g.Check(start, phone, first, make([]byte, 0, 64))
	if res.Verdict != Answer || res.Reason != ReasonCookieRequired {
		t.Fatalf("first request: %v %v", res.Verdict, res.Reason)
	}
	if len(res.Answer) > len(initMessage(nonce)) {
		t.Errorf("answer of %d octets is longer than the shortest request", len(res.Answer))
	}
	if h, _ := readHeader(res.Answer); h.InitiatorSPI != 0xabcdef || h.ResponderSPI != 0 ||
		h.exchange != exchangeInit || h.flags != flagResponse || h.first != payloadNotify || int(h.length) != len(res.Answer) {
		t.Errorf("header of the answer: %+v", h)
	}
	cookie := notifyData(res.Answer[headerLen+4:], notifyCookie)
	if len(cookie) != cookieLen {
		t.Fatalf("cookie of %d octets", len(cookie))
	}
	with := func(c []byte, n payload) []byte { return initMessage(cookieNotify(c), payload{payloadSA, nil}, n) }
	verdict := func(now time.Time, remote netip.AddrPort, b []byte) Reason {
		return g.Check(now, remote, b, nil).Reason
	}
	if r := verdict(start, phone, with(cookie, nonce)); r != ReasonNone {
		t.Fatalf("with its cookie: %v", r)
	}
	if r := verdict(start.Add(cookiePeriod), phone, with(cookie, nonce)); r != ReasonNone {
		t.Errorf("one period later: %v", r)
	}
	g.Open(laptop.Addr())
	for name, r := range map[string]Reason{
		"two periods later":  verdict(start.Add(2*cookiePeriod), phone, with(cookie, nonce)),
		"before it was made": verdict(start.Add(-cookiePeriod), phone, with(cookie, nonce)),
		"another address":    verdict(start, laptop, with(cookie, nonce)),
		"another port":       verdict(start, netip.AddrPortFrom(phone.Addr(), 501), with(cookie, nonce)),
		"another nonce":      verdict(start, phone, with(cookie, payload{payloadNonce, make([]byte, 32)})),
		"another SPI":        verdict(start, phone, edit(with(cookie, nonce), 0, 9)),
		"one bit flipped":    verdict(start, phone, with(edit(bytes.Clone(cookie), 8, cookie[8]^1), nonce)),
		"cut off":            verdict(start, phone, with(cookie[:8], nonce)),
		"empty":              verdict(start, phone, with([]byte{}, nonce)),
	} {
		if r != ReasonCookieWrong {
			t.Errorf("%s: %v", name, r)
		}
	}
	if r := verdict(start, phone, initMessage(payload{payloadSA, nil}, cookieNotify(cookie), nonce)); r != ReasonCookieRequired {
		t.Errorf("cookie that isn't the first payload: %v", r)
	}
}

// The same secret and time give the same cookies in another process, and in
// XDP: the octets are an interface.
func TestCookieIsReproducible(t *testing.T) {
	k := newCookieKeys(&Secret{1, 2, 3}, cookiePeriodAt(start))
	got := k.append(nil, phone, 0xabcdef, nonce.body)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(phone.Addr().As16()), phone.Port())
	if again := k.append(nil, mapped, 0xabcdef, nonce.body); !bytes.Equal(got, again) {
		t.Errorf("IPv4-mapped source gives %x, plain %x", again, got)
	}
	var in []byte
	in = binary.BigEndian.AppendUint64(in, 0xabcdef)
	in = append(in, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7)
	in = append(in, 500>>8, 500&0xff, got[0], 0, 0, 32, 0, 0)
	in = append(in, nonce.body...)
	want := binary.BigEndian.AppendUint64([]byte{uint8(k.period)}, Sum64(&k.current, in))
	if !bytes.Equal(got, want) {
		t.Errorf("cookie %x, by its documented layout %x", got, want)
	}
	if g := newCookieKeys(&Secret{1, 2, 3}, k.period+1); g.previous != k.current {
		t.Error("the next period does not know the key of this one")
	}
}

// Cookies are asked for by the share of a prefix and by the whole, and only of
// those whom it concerns.
func TestWhoNeedsACookie(t *testing.T) {
	g := newGate(t)
	check := func(a string) Reason {
		return g.Check(start, netip.AddrPortFrom(netip.MustParseAddr(a), 500), goodInit(), nil).Reason
	}
	g.Open(netip.MustParseAddr("192.0.2.7"))
	for a, want := range map[string]Reason{
		"192.0.2.7":          ReasonCookieRequired,
		"192.0.2.255":        ReasonCookieRequired,
		"::ffff:192.0.2.200": ReasonCookieRequired,
		"192.0.3.7":          ReasonNone,
		"2001:db8::1":        ReasonNone,
	} {
		if got := check(a); got != want {
			t.Errorf("one half-open of 192.0.2.0/24, %s: %v, want %v", a, got, want)
		}
	}
	g.Close(netip.MustParseAddr("192.0.2.9"))
	g.Open(netip.MustParseAddr("2001:db8:0:1:ffff::1"))
	for a, want := range map[string]Reason{
		"2001:db8:0:1::2": ReasonCookieRequired,
		"2001:db8:0:2::2": ReasonCookieRequired, // the same site
		"2001:db8:1:2::2": ReasonNone,
		"192.0.2.7":       ReasonNone,
	} {
		if got := check(a); got != want {
			t.Errorf("one half-open of 2001:db8::/48, %s: %v, want %v", a, got, want)
		}
	}
	g.Open(netip.MustParseAddr("203.0.113.1"))
	if got := check("192.0.2.7"); got != ReasonCookieRequired {
		t.Errorf("two half-open elsewhere: %v", got)
	}
}

// Once everybody had to bring a cookie, everybody has to for a moment more: who was
// asked has gone on with another message. What one network does is its own affair.
func TestCookiesAreAskedForAMomentMore(t *testing.T) {
	now := time.Unix(1e9, 0)
	cfg := DefaultConfig()
	cfg.CookieAtPrefix = 1
	g, err := New(cfg, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	init := initMessage(payload{payloadNonce, make([]byte, 32)})
	check := func(at string) Verdict {
		return g.Check(now, netip.MustParseAddrPort(at), init, make([]byte, 64)).Verdict
	}
	const one, other = "10.1.0.1:500", "10.2.0.1:500"
	g.Open(netip.MustParseAddr("10.1.0.7"))
	if a, b := check(one), check(other); a != Answer || b != Pass {
		t.Errorf("a crowded network %v, another %v", a, b)
	}
	g.Press(true)
	if v := check(other); v != Answer {
		t.Errorf("under pressure %v", v)
	}
	g.Press(false)
	now = now.Add(cookieHold - 1)
	if v := check(other); v != Answer {
		t.Errorf("a moment later %v", v)
	}
	now = now.Add(1)
	if v := check(other); v != Pass {
		t.Errorf("when the moment is over %v", v)
	}
}
