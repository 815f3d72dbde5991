package cms

import (
	"bytes"
	"crypto"
	"errors"
	"testing"
)

// toBER writes DER with indefinite lengths and octet strings in two pieces, as
// libraries do that stream.
func toBER(t *testing.T, der []byte) []byte {
	t.Helper()
	var out []byte
	for len(der) > 0 {
		tag, content, rest, _, err := readHeader(der)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case tag&constructed != 0:
			out = append(append(out, tag, 0x80), toBER(t, content)...)
			out = append(out, 0, 0)
		case tag == octetString && len(content) > 1:
			out = append(out, octetString|constructed, 0x80)
			half := len(content) / 2
			out = append(append(out, octetString, 0x84, 0, 0, byte(half>>8), byte(half)), content[:half]...)
			out = append(appendHeader(out, octetString, len(content)-half), content[half:]...)
			out = append(out, 0, 0)
		default:
			out = append(appendHeader(out, tag, len(content)), content...)
		}
		der = rest
	}
	return out
}

func TestBER(t *testing.T) {
	id := rsaIdentity()
	party, err := PartyOf(id.certificate)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal([]byte("content"), party, Scheme{Cipher: AES256})
	if err != nil {
		t.Fatal(err)
	}
	ber := toBER(t, sealed)
	if bytes.Equal(ber, sealed) {
		t.Fatal("nothing to do")
	}
	if got, _, err := Open(ber, id.certificate, id.decrypter(), false); err != nil || string(got) != "content" {
		t.Errorf("envelope: %q, %v", got, err)
	}
	signed, err := Sign(ber, nil, id.certificate, id.key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSigned(toBER(t, signed), false)
	if err != nil {
		t.Fatalf("signed: %v", err)
	}
	if !bytes.Equal(got.Content, ber) {
		t.Error("signed: another content")
	}
	if der, err := toDER(toBER(t, signed)); err != nil || !bytes.Equal(der, signed) {
		t.Errorf("there and back again: %v", err)
	}
}

func TestBERBounds(t *testing.T) {
	deep := bytes.Repeat([]byte{0x30, 0x80}, 30_000)
	for name, ber := range map[string][]byte{
		"empty":                       {},
		"a tag":                       {0x30},
		"deep":                        deep,
		"long":                        make([]byte, MaxSize+1),
		"longer than it is":           {0x30, 0x82, 0x01, 0x00, 0x05},
		"a length of nine octets":     {0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		"a huge length":               {0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"without an end":              {0x30, 0x80, 0x05, 0x00},
		"primitive without a length":  {0x04, 0x80, 0x00, 0x00},
		"an end in the wrong place":   {0x30, 0x02, 0x00, 0x00},
		"a tag of several octets":     {0x3f, 0x81, 0x01, 0x00},
		"an octet string of integers": {0x24, 0x03, 0x02, 0x01, 0x05},
		"two values":                  {0x05, 0x00, 0x05, 0x00},
	} {
		if _, err := toDER(ber); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
