package gate

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// IKE_SESSION_RESUME is held to what IKE_SA_INIT is held to: header, nonce and
// cookies (RFC 5723 section 4.3.2).
func TestResume(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CookieAt, cfg.CookieAtPrefix = 0, 0
	g, err := New(cfg, Secret{1})
	if err != nil {
		t.Fatal(err)
	}
	now, remote, buffer := time.Unix(1700000000, 0), netip.MustParseAddrPort("192.0.2.1:500"), make([]byte, 64)
	ticket := payload{payloadNotify, append([]byte{0, 0, 0x40, 0x1d}, make([]byte, 300)...)}
	resume := func(payloads ...payload) []byte { return message(exchangeResume, 0xabcdef, 0, 0, payloads...) }

	res := g.Check(now, remote, resume(nonce, ticket), buffer)
	if res.Verdict != Answer || res.Reason != ReasonCookieRequired || res.Answer[18] != exchangeResume {
		t.Fatalf("without a cookie: %+v", res)
	}
	cookie := bytes.Clone(res.Answer[headerLen+8:])
	res = g.Check(now, remote, resume(cookieNotify(cookie), nonce, ticket), buffer)
	if res.Verdict != Pass || !res.Header.Init || !res.Header.Resume {
		t.Fatalf("with the cookie: %+v", res)
	}
	nack := AppendTicketNACK(buffer[:0], &res.Header)
	if len(nack) != 36 || nack[18] != exchangeResume || nack[19] != flagResponse || binary.BigEndian.Uint16(nack[34:]) != notifyTicketNACK ||
		binary.BigEndian.Uint64(nack) != 0xabcdef || binary.BigEndian.Uint64(nack[8:]) != 0 {
		t.Errorf("TICKET_NACK is %x", nack)
	}
	for name, bad := range map[string]struct {
		data   []byte
		reason Reason
	}{
		"no nonce":         {resume(ticket), ReasonNonce},
		"responder SPI":    {message(exchangeResume, 0xabcdef, 1, 0, nonce, ticket), ReasonResponderSPI},
		"message ID":       {message(exchangeResume, 0xabcdef, 0, 1, nonce, ticket), ReasonMessageID},
		"an answer":        {edit(resume(nonce, ticket), 19, flagInitiator|flagResponse), ReasonFlags},
		"long":             {resume(nonce, payload{payloadNotify, make([]byte, maxInit)}), ReasonInitTooLong},
		"another exchange": {message(exchangeResume+1, 0xabcdef, 0, 0, nonce, ticket), ReasonExchange},
	} {
		if res := g.Check(now, remote, bad.data, buffer); res.Verdict != Drop || res.Reason != bad.reason {
			t.Errorf("%s: %+v, want %v", name, res, bad.reason)
		}
	}
}

// A ticket is found where it is, and nothing else is taken for one.
func TestTicketOf(t *testing.T) {
	notify := func(of uint16, data string) payload {
		return payload{payloadNotify, append([]byte{1, 0, byte(of >> 8), byte(of)}, data...)}
	}
	nonce := payload{payloadNonce, make([]byte, 16)}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"after the nonce", initMessage(nonce, notify(notifyTicketOpaque, "the ticket")), "the ticket"},
		{"after a cookie", initMessage(notify(notifyCookie, "cookie"), nonce, notify(notifyTicketOpaque, "the ticket")), "the ticket"},
		{"none", initMessage(nonce, notify(notifyTicketNACK, "no")), ""},
		{"cut off", initMessage(nonce, notify(notifyTicketOpaque, "the ticket"))[:60], ""},
		{"short", []byte("short"), ""},
	} {
		if got := string(TicketOf(c.data)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
