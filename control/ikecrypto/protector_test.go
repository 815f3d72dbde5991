package ikecrypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// suites are all that can protect a message.
func suites() []Suite {
	var all []Suite
	for _, bits := range []uint16{128, 192, 256} {
		s := suiteGCM
		s.KeyBits = bits
		all = append(all, s)
		for _, integ := range []uint16{ikewire.IntegHMACSHA256, ikewire.IntegHMACSHA384, ikewire.IntegHMACSHA512} {
			all = append(all, Suite{ikewire.EncrAESCBC, bits, integ, prf256, ikewire.GroupECP256, Legacy{}})
		}
	}
	return append(all, suiteChaCha, suiteOld)
}

// newProtector has the keys of the initiator from the NIST vectors.
func newProtector(t testing.TB, s Suite) Protector {
	t.Helper()
	k, err := DeriveKeys(s, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewProtector(s, k.Ei, k.Ai, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k.Erase() // the Protector has its own copy
	return p
}

func request() *ikewire.Message {
	return &ikewire.Message{Header: ikewire.Header{
		InitiatorSPI: nistSPIi,
		ResponderSPI: nistSPIr,
		Version:      ikewire.Version2,
		Exchange:     ikewire.Informational,
		Flags:        ikewire.FlagInitiator,
		MessageID:    2,
	}}
}

func seal(t testing.TB, p Protector, m *ikewire.Message, inner ...ikewire.Payload) ([]byte, *ikewire.Message) {
	t.Helper()
	raw, err := p.Seal(nil, m, inner)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ikewire.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return raw, parsed
}

// What one side seals the other opens, for each length of padding.
func TestSealOpen(t *testing.T) {
	for _, s := range suites() {
		t.Run(s.String(), func(t *testing.T) {
			out, in := newProtector(t, s), newProtector(t, s)
			for n := range 35 {
				inner := []ikewire.Payload{
					&ikewire.Notify{SPI: []byte{}, NotifyType: ikewire.NotifyInitialContact, Data: []byte{}},
					&ikewire.Vendor{Data: bytes.Repeat([]byte{0xab}, n)},
				}
				raw, m := seal(t, out, request(), inner...)
				before := bytes.Clone(raw)
				got, err := in.Open(raw, m)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, inner) {
					t.Fatalf("got %+v", got)
				}
				if !bytes.Equal(raw, before) {
					t.Fatal("opening changed the message")
				}
				if bytes.Contains(raw, bytes.Repeat([]byte{0xab}, 8)) {
					t.Fatal("plaintext on the wire")
				}
			}
		})
	}
}

// Liveness: an SK payload with nothing inside, behind what dst held.
func TestSealNothing(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC} {
		p := newProtector(t, s)
		m := request()
		before := m.Header
		out, err := p.Seal([]byte("before"), m, nil)
		if err != nil || !bytes.HasPrefix(out, []byte("before")) {
			t.Fatalf("%q, %v", out, err)
		}
		if m.Header != before || m.Payloads != nil {
			t.Errorf("sealing changed the message to %+v", m)
		}
		raw := out[len("before"):]
		parsed, err := ikewire.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := newProtector(t, s).Open(raw, parsed); err != nil || len(got) != 0 {
			t.Errorf("%s: payloads %v, error %v", s, got, err)
		}
	}
}

// Cleartext payloads before SK are allowed and authenticated with it.
func TestSealBehindCleartext(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC} {
		m := request()
		m.Payloads = []ikewire.Payload{&ikewire.Vendor{Data: []byte("in the clear")}}
		raw, parsed := seal(t, newProtector(t, s), m, &ikewire.Vendor{Data: []byte("hidden")})
		if len(parsed.Payloads) != 2 || len(m.Payloads) != 1 {
			t.Fatalf("%d payloads", len(parsed.Payloads))
		}
		if _, err := newProtector(t, s).Open(raw, parsed); err != nil {
			t.Error(err)
		}
		raw[ikewire.HeaderLen+4] ^= 1
		if _, err := newProtector(t, s).Open(raw, parsed); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: changed cleartext: %v", s, err)
		}
	}
}

// The layout of RFC 5282, put together by hand: salt | IV as nonce, everything
// up to the IV as associated data, padding of nothing but its length.
func TestGCMLayout(t *testing.T) {
	raw, m := seal(t, newProtector(t, suiteGCM), request(), &ikewire.Vendor{Data: []byte("x")})
	key := nistKeys[32:52]
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	const head = ikewire.HeaderLen + ikewire.PayloadHeaderLen
	iv := raw[head : head+8]
	if !bytes.Equal(iv, make([]byte, 8)) {
		t.Errorf("first IV %x", iv)
	}
	plain, err := aead.Open(nil, slices.Concat(key[16:], iv), raw[head+8:], raw[:head])
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex("00000005 78 00"); !bytes.Equal(plain, want) {
		t.Errorf("plaintext %x, want %x", plain, want)
	}
	if sk := m.Payloads[0].(*ikewire.Encrypted); sk.First != ikewire.PayloadVendor {
		t.Errorf("first payload inside: %s", sk.First)
	}
}

// The layout of RFC 7296 section 3.14 with HMAC-SHA2-256-128, by hand.
func TestCBCLayout(t *testing.T) {
	raw, _ := seal(t, newProtector(t, suiteCBC), request(), &ikewire.Vendor{Data: []byte("x")})
	integ, enc := nistKeys[32:64], nistKeys[96:128]
	end := len(raw) - 16
	mac := hmac.New(sha256.New, integ)
	mac.Write(raw[:end])
	if !bytes.Equal(mac.Sum(nil)[:16], raw[end:]) {
		t.Error("checksum")
	}
	const head = ikewire.HeaderLen + ikewire.PayloadHeaderLen
	block, err := aes.NewCipher(enc)
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, end-head-16)
	cipher.NewCBCDecrypter(block, raw[head:head+16]).CryptBlocks(plain, raw[head+16:end])
	if want := unhex("00000005 78 00000000000000000000 0a"); !bytes.Equal(plain, want) {
		t.Errorf("plaintext %x, want %x", plain, want)
	}
}

// A sender may pad with anything up to 255 octets (RFC 7296 section 3.14).
func TestForeignPadding(t *testing.T) {
	for _, test := range []struct {
		name string
		tail []byte
		want error
	}{
		{"none", []byte{0}, nil},
		{"of anything", []byte{7, 1, 9, 3}, nil},
		{"of 255", append(bytes.Repeat([]byte{0x55}, 255), 255), nil},
		{"longer than the content", []byte{200}, ikewire.ErrLength},
	} {
		plain := append(unhex("00000005 78"), test.tail...)
		content, err := unpad(plain)
		if !errors.Is(err, test.want) || err == nil && !bytes.Equal(content, plain[:5]) {
			t.Errorf("%s: content %x, error %v", test.name, content, err)
		}
	}
	if _, err := unpad(nil); !errors.Is(err, ikewire.ErrLength) {
		t.Errorf("nothing at all: %v", err)
	}
}

// Each single bit of a message is protected, and each cut is noticed.
func TestOpenTampered(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC, suiteChaCha, suiteOld} {
		t.Run(s.String(), func(t *testing.T) {
			in := newProtector(t, s)
			raw, m := seal(t, newProtector(t, s), request(), &ikewire.Vendor{Data: []byte("secret")})
			for i := range raw {
				for bit := range 8 {
					raw[i] ^= 1 << bit
					if got, err := in.Open(raw, m); !errors.Is(err, ErrIntegrity) || got != nil {
						t.Fatalf("octet %d bit %d: payloads %v, error %v", i, bit, got, err)
					}
					raw[i] ^= 1 << bit
				}
			}
			for n := range len(raw) - ikewire.HeaderLen - ikewire.PayloadHeaderLen {
				cut := &ikewire.Message{Header: m.Header, Payloads: []ikewire.Payload{
					&ikewire.Encrypted{First: ikewire.PayloadVendor, Body: raw[len(raw)-n:]},
				}}
				if _, err := in.Open(raw[len(raw)-n:], cut); !errors.Is(err, ErrIntegrity) {
					t.Fatalf("%d octets of body: %v", n, err)
				}
			}
			if _, err := in.Open(raw, m); err != nil {
				t.Errorf("intact: %v", err)
			}
		})
	}
}

// The keys of one direction open nothing of the other.
func TestOpenOtherDirection(t *testing.T) {
	for _, s := range suites() {
		k, err := DeriveKeys(s, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewProtector(s, k.Er, k.Ar, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		raw, m := seal(t, newProtector(t, s), request())
		if _, err := r.Open(raw, m); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestOpenWhatIsNotSealed(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC} {
		p := newProtector(t, s)
		m := request()
		if _, err := p.Open(nil, m); !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("no payload: %v", err)
		}
		m.Payloads = []ikewire.Payload{&ikewire.Vendor{}}
		if _, err := p.Open(nil, m); !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("cleartext: %v", err)
		}
		m.Payloads = []ikewire.Payload{&ikewire.Encrypted{Body: make([]byte, 64)}}
		if _, err := p.Open(make([]byte, 63), m); !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("another message: %v", err)
		}
		m.Payloads = []ikewire.Payload{&ikewire.Encrypted{Fragment: 1, Total: 2, Body: make([]byte, 64)}}
		if _, err := p.Open(make([]byte, 100), m); !errors.Is(err, ErrFragment) {
			t.Errorf("fragment: %v", err)
		}
	}
}

// Authentic, but nonsense inside: told from a forgery, for it is answered.
func TestOpenSyntax(t *testing.T) {
	for _, s := range []Suite{suiteGCM, suiteCBC} {
		inner := &ikewire.Unknown{PayloadType: ikewire.PayloadKE, Data: []byte{0}}
		raw, m := seal(t, newProtector(t, s), request(), inner)
		_, err := newProtector(t, s).Open(raw, m)
		if !errors.Is(err, ikewire.ErrTruncated) || errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// No IV comes twice under one key (RFC 5282 section 3.1), not even after a
// message that could not be written; and the counter stops at its end.
func TestGCMCounter(t *testing.T) {
	p := newProtector(t, suiteGCM)
	ivs := make(map[uint64]bool)
	for range 100 {
		raw, _ := seal(t, p, request())
		iv := binary.BigEndian.Uint64(raw[ikewire.HeaderLen+ikewire.PayloadHeaderLen:])
		if ivs[iv] {
			t.Fatalf("IV %d twice", iv)
		}
		ivs[iv] = true
		if out, err := p.Seal([]byte("before"), request(), []ikewire.Payload{&ikewire.Nonce{}}); err == nil || string(out) != "before" {
			t.Fatalf("unwritable payload: %q, %v", out, err)
		}
	}
	p.(*protector).transform.(*aead).next = 1<<64 - 1
	if _, err := p.Seal(nil, request(), nil); !errors.Is(err, ErrExhausted) {
		t.Errorf("counter at its end: %v", err)
	}
}

func TestCBCRandomIV(t *testing.T) {
	k, err := DeriveKeys(suiteCBC, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	iv := unhex("000102030405060708090a0b0c0d0e0f")
	p, err := NewProtector(suiteCBC, k.Ei, k.Ai, bytes.NewReader(iv))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := seal(t, p, request())
	if got := raw[ikewire.HeaderLen+ikewire.PayloadHeaderLen:][:16]; !bytes.Equal(got, iv) {
		t.Errorf("IV %x", got)
	}
	if out, err := p.Seal([]byte("before"), request(), nil); !errors.Is(err, io.EOF) || string(out) != "before" {
		t.Errorf("dry source: %q, %v", out, err)
	}
}

func TestNewProtectorRefuses(t *testing.T) {
	for _, test := range []struct {
		s          Suite
		enc, integ int
		want       error
	}{
		{suiteGCM, 16, 0, ErrKeyLength}, // salt forgotten
		{suiteGCM, 20, 32, ErrKeyLength},
		{suiteCBC, 32, 16, ErrKeyLength},
		{suiteCBC, 16, 32, ErrKeyLength},
		{Suite{Encryption: ikewire.Encr3DES}, 24, 20, ErrAlgorithm},
	} {
		if _, err := NewProtector(test.s, make([]byte, test.enc), make([]byte, test.integ), rand.Reader); !errors.Is(err, test.want) {
			t.Errorf("%s with %d and %d: %v", test.s, test.enc, test.integ, err)
		}
	}
}

func TestProtectorErase(t *testing.T) {
	g, c := newProtector(t, suiteGCM), newProtector(t, suiteCBC)
	salted := g.(*protector).transform.(*aead)
	keys := c.(*protector).transform.(*cbc).keys
	for _, p := range []Protector{g, c} {
		raw, m := seal(t, p, request())
		p.Erase()
		p.Erase()
		if _, err := p.Seal(nil, request(), nil); !errors.Is(err, ErrErased) {
			t.Errorf("seals after Erase: %v", err)
		}
		if _, err := p.Open(raw, m); !errors.Is(err, ErrErased) {
			t.Errorf("opens after Erase: %v", err)
		}
	}
	if salted.key != [maxAEADKey]byte{} || !bytes.Equal(keys, make([]byte, len(keys))) {
		t.Errorf("left: %x, %x", salted.key, keys)
	}
}

// Whatever comes, Open neither panics nor accepts what these keys didn't seal.
func FuzzOpen(f *testing.F) {
	sealed := make(map[string]bool)
	var in []Protector
	for _, s := range []Suite{suiteGCM, suiteCBC, suiteChaCha, suiteOld} {
		k, err := DeriveKeys(s, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
		if err != nil {
			f.Fatal(err)
		}
		p, err := NewProtector(s, k.Ei, k.Ai, zeros{})
		if err != nil {
			f.Fatal(err)
		}
		raw, _ := seal(f, p, request(), &ikewire.Vendor{Data: []byte("x")})
		sealed[string(raw)] = true
		in = append(in, p)
		f.Add(raw)
		f.Add(raw[:len(raw)-1])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ikewire.Parse(raw)
		if err != nil {
			return
		}
		for i, p := range in {
			_, err := p.Open(raw, m)
			if err == nil && !sealed[string(raw)] {
				t.Errorf("number %d accepted %x", i, raw)
			}
			if err != nil && !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrNotEncrypted) && !errors.Is(err, ErrFragment) {
				t.Errorf("number %d: %v", i, err)
			}
		}
	})
}
