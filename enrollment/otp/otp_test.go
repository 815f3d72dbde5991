package otp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/otp"
)

// TestAsPeopleWriteThem: in any case, with any hyphens and spaces, O for 0 and
// I or L for 1.
func TestAsPeopleWriteThem(t *testing.T) {
	want, err := otp.ParseCode("XK7M-29QA-8R2N-W4TB-0HJD-6YE1")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"xk7m29qa8r2nw4tb0hjd6ye1", "XK7M 29QA 8R2N W4TB OHJD 6YEI", "xk7m-29qa\n8r2n-w4tb-ohjd-6yel", "X-K-7-M-2-9-Q-A-8-R-2-N-W-4-T-B-0-H-J-D-6-Y-E-1"} {
		if got, err := otp.ParseCode(s); err != nil || got != want {
			t.Errorf("%q: %v", s, err)
		}
	}
	if want.Reveal() != "XK7M-29QA-8R2N-W4TB-0HJD-6YE1" || want.ID.String() != "XK7M-29QA" || want.Password.Reveal() != "8R2N-W4TB-0HJD-6YE1" {
		t.Errorf("written as %s", want.Reveal())
	}
	for _, s := range []string{"", "XK7M-29QA", "XK7M-29QA-8R2N-W4TB-0HJD-6YE", "XK7M-29QA-8R2N-W4TB-0HJD-6YE11", "XK7M-29QA-8R2N-W4TB-0HJD-6YEU", strings.Repeat("-", 1000), "ÄK7M-29QA-8R2N-W4TB-0HJD-6YE1"} {
		if _, err := otp.ParseCode(s); !errors.Is(err, otp.ErrFormat) || len(s) > 10 && strings.Contains(err.Error(), s[5:]) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestNoFormatShowsAPassword(t *testing.T) {
	code := otp.New()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text := fmt.Sprintf(verb, code.Password) + fmt.Sprintf(verb, &code.Password)
		for _, secret := range []string{code.Password.Reveal(), hex.EncodeToString(code.Password[:]), fmt.Sprint([]byte(code.Password[:]))} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %s", verb, text)
			}
		}
	}
	code.Password.Erase()
	if code.Password != (otp.Password{}) {
		t.Error("not erased")
	}
}

// TestKeys: of known octets, so that they never change; and each bound to what
// it says.
func TestKeys(t *testing.T) {
	code, err := otp.ParseCode("0000-0000-0000-0000-0000-0001")
	if err != nil {
		t.Fatal(err)
	}
	key := code.Password.Key(code.ID)
	if got := hex.EncodeToString(key); got != keyOfOne {
		t.Errorf("key %s", got)
	}
	bound := otp.Bind(key, make([]byte, 32))
	if got := hex.EncodeToString(bound); got != boundOfOne {
		t.Errorf("bound key %s", got)
	}
	other := code
	other.ID[0] = 1
	if bytes.Equal(key, other.Password.Key(other.ID)) || bytes.Equal(bound, otp.Bind(key, bytes.Repeat([]byte{1}, 32))) {
		t.Error("keys of different requests, or bound to different public keys, are the same")
	}
	public, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if hash, err := otp.HashPublicKey(public.Public()); err != nil || len(hash) != 32 {
		t.Errorf("%x, %v", hash, err)
	}
	if _, err := otp.HashPublicKey("no key"); err == nil {
		t.Error("a string is hashed as a key")
	}
}

func FuzzParseCode(f *testing.F) {
	for _, s := range []string{"XK7M-29QA-8R2N-W4TB-0HJD-6YE1", "xk7m29qa8r2nw4tbohjd6yel", "-", "ſK7M"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, err := otp.ParseCode(s)
		if err != nil {
			return
		}
		again, err := otp.ParseCode(code.Reveal())
		if err != nil || again != code {
			t.Errorf("%q is %s, which reads back as %s, %v", s, code.Reveal(), again.Reveal(), err)
		}
	})
}

// Computed with another implementation of HKDF.
const (
	keyOfOne   = "dd9b0ed00eb3d9829291272d9ca81885e7119a2439e474a998c19ed081aadc2f"
	boundOfOne = "3d12783518b3cf991b1cb746b4842d71b0bb55db3cbb3f0bbbe519b172941e72"
)
