package alert

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func TestPush(t *testing.T) {
	octets := AppendPush(nil, 0x2a, []byte("body"))
	if got := hex.EncodeToString(octets); got != "2a0603c4af87"+hex.EncodeToString([]byte("body")) {
		t.Error(got)
	}
	body, err := ParsePush(octets)
	if err != nil || string(body) != "body" {
		t.Errorf("%q, %v", body, err)
	}
}

// Push gateways add headers and write them in other forms.
func TestPushForms(t *testing.T) {
	const text = notificationType + "\x00"
	for name, c := range map[string]struct {
		headers string
		right   bool
	}{
		"type in letters":             {text + "\xaf\x87", true},
		"type with a length":          {"\x01\xc4\xaf\x87", true},
		"type with parameters":        {"\x03\xc4\x81\xea\xaf\x87", true},
		"other headers":               {"\xc4\x8d\x85\xb4\x80x-a\x00b\x00\xaf\x87", true},
		"application as a long one":   {"\xc4\xaf\x01\x07", true},
		"another type":                {"\xae\xaf\x87", false},
		"another type in letters":     {"text/plain\x00\xaf\x87", false},
		"another application":         {"\xc4\xaf\x82", false},
		"no application":              {"\xc4", false},
		"nothing":                     {"", false},
		"text without an end":         {"\xc4x-a", false},
		"a value behind the end":      {"\xc4\xaf\x05\x07", false},
		"a name without a value":      {"\xc4\xaf", false},
		"a value with a long length":  {"\xc4\x8d\x1f\x80\xaf\x87", false},
		"more headers than there may": {"\xc4" + string(bytes.Repeat([]byte{0x8d, 0x85}, 24)) + "\xaf\x87", false},
	} {
		octets := append([]byte{0, pushPDU, byte(len(c.headers))}, c.headers+"body"...)
		body, err := ParsePush(octets)
		if c.right && (err != nil || string(body) != "body") || !c.right && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	for _, octets := range []string{"", "\x00\x06", "\x00\x07\x03\xc4\xaf\x87", "\x00\x06\x04\xc4\xaf\x87"} {
		if _, err := ParsePush([]byte(octets)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v", octets, err)
		}
	}
}

func FuzzParsePush(f *testing.F) {
	f.Add(AppendPush(nil, 1, []byte("body")))
	f.Add([]byte("\x00\x06\x28" + notificationType + "\x00\x8d\x85\xaf\x87body"))
	f.Add([]byte("\x00\x06\x07\x03\xc4\x81\xea\xaf\x87"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		body, err := ParsePush(octets)
		if err == nil && !bytes.HasSuffix(octets, body) {
			t.Fatal("the body is no part of it")
		}
	})
}
