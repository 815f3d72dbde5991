package encap

import (
	"bytes"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name, payload string
		kind          Kind
		rest          string
	}{
		{"nothing", "", KindShort, ""},
		{"keepalive", "\xff", KindKeepalive, ""},
		{"one octet that is none", "\xfe", KindShort, ""},
		{"two octets of keepalive", "\xff\xff", KindShort, ""},
		{"less than a marker", "\x00\x00\x00", KindShort, ""},
		{"a marker alone", "\x00\x00\x00\x00", KindShort, ""},
		{"IKE", "\x00\x00\x00\x00IKE", KindIKE, "IKE"},
		{"ESP, SPI only", "\x00\x00\x01\x00", KindESP, "\x00\x00\x01\x00"},
		{"ESP that begins like a keepalive", "\xff\xff\xff\xffESP", KindESP, "\xff\xff\xff\xffESP"},
	} {
		kind, rest := Classify([]byte(c.payload))
		if kind != c.kind || string(rest) != c.rest {
			t.Errorf("%s: kind %d, %q; want %d, %q", c.name, kind, rest, c.kind, c.rest)
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, seed := range []string{"", "\xff", "\x00\x00\x00\x00", "\x00\x00\x00\x00IKE", "\x00\x00\x01\x00\x00\x00\x00\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		kind, rest := Classify(payload)
		switch kind {
		case KindIKE:
			if len(rest) == 0 || !bytes.Equal(payload, append(make([]byte, MarkerLen), rest...)) {
				t.Errorf("IKE message %x of %x", rest, payload)
			}
		case KindESP:
			if len(rest) < 4 || !bytes.Equal(payload, rest) || bytes.Equal(rest[:4], make([]byte, 4)) {
				t.Errorf("ESP packet %x of %x", rest, payload)
			}
		case KindKeepalive, KindShort:
			if rest != nil || len(payload) > MarkerLen {
				t.Errorf("kind %d of %x", kind, payload)
			}
		}
	})
}

// Whoever asks for the first time waits behind those who come with a cookie, or
// with the SPI of an IKE SA.
func TestFromStranger(t *testing.T) {
	message := func(exchange, first byte) []byte {
		b := make([]byte, ikeHeaderLen+4)
		b[ikeExchange], b[ikeFirstPayload] = exchange, first
		return b
	}
	for name, c := range map[string]struct {
		message []byte
		want    bool
	}{
		"IKE_SA_INIT":           {message(34, 33), true},
		"IKE_SA_INIT, a cookie": {message(34, 41), false},
		"IKE_SESSION_RESUME":    {message(38, 40), true},
		"IKE_AUTH":              {message(35, 46), false},
		"IKE_AUTH in fragments": {message(35, 53), false},
		"INFORMATIONAL":         {message(37, 46), false},
		"less than a header":    {message(35, 46)[:27], true},
		"nothing":               {nil, true},
	} {
		if got := FromStranger(c.message); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
