package syncml

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The vector of the specification (OMA-TS-DM_Security-V1_2_1 section 5.2.1).
func TestDigestMD5(t *testing.T) {
	const want = "Zz6EivR3yeaaENcRN6lpAQ=="
	if got := DigestMD5("Bruce2", []byte("OhBehave"), []byte("Nonce")); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !VerifyMD5([]byte(want), "Bruce2", []byte("OhBehave"), []byte("Nonce")) {
		t.Error("the right credentials are refused")
	}
	for _, cred := range []string{"", "Zz6EivR3yeaaENcRN6lpAQ=", want + "=", "AAAA"} {
		if VerifyMD5([]byte(cred), "Bruce2", []byte("OhBehave"), []byte("Nonce")) {
			t.Errorf("%q is taken", cred)
		}
	}
}

// The digest once more, by the words of section 5.3 instead of our functions.
func TestMAC(t *testing.T) {
	b64 := func(s [16]byte) string { return base64.StdEncoding.EncodeToString(s[:]) }
	body := []byte("<SyncML/>")
	sum := md5.Sum([]byte(b64(md5.Sum([]byte("Robert Jordan:secret"))) + ":nonce:" + b64(md5.Sum(body))))
	for name, header := range map[string]string{
		"as we send it":       NewMAC("Robert Jordan", []byte("secret"), []byte("nonce"), body).String(),
		"raw":                 `algorithm=MD5, username="Robert Jordan", mac=` + base64.StdEncoding.EncodeToString(sum[:]),
		"hexadecimal":         `algorithm=MD5, username="Robert Jordan",mac=` + base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum[:]))),
		"another order, case": `MAC=` + base64.StdEncoding.EncodeToString(sum[:]) + ` ,Username="Robert Jordan"`,
	} {
		m, err := ParseMAC(header)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !m.Verify("Robert Jordan", []byte("secret"), []byte("nonce"), body) {
			t.Errorf("%s: refused", name)
		}
		if m.Verify("Robert Jordan", []byte("secret"), []byte("nonce"), append(body, ' ')) || m.Verify("Robert", []byte("secret"), []byte("nonce"), body) {
			t.Errorf("%s: taken for another body or name", name)
		}
	}
	for _, header := range []string{
		"", "mac", `username="x"`, `username="x", mac=AAAA`, `username="x, mac=AAAA`, `algorithm=SHA, username="x", mac=` + b64(sum),
		`username="x", username="y", mac=` + b64(sum), `username="x"y, mac=` + b64(sum), `u="x", mac=` + b64(sum), `mac=` + b64(sum), strings.Repeat("a", 2000),
	} {
		if m, err := ParseMAC(header); err == nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForbidden) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%.40q: %+v, %v", header, m, err)
		}
	}
}

func FuzzParseMAC(f *testing.F) {
	f.Add(NewMAC(`Ro"b\ert`, []byte("p"), []byte("n"), []byte("b")).String())
	f.Add(`algorithm=MD5, username="Robert Jordan", mac=NTI2OTJhMDAwNjYxODkwYmQ3NWUxN2RhN2ZmYmJlMzk=`)
	f.Fuzz(func(t *testing.T, header string) {
		m, err := ParseMAC(header)
		if err != nil {
			return
		}
		if again, err := ParseMAC(m.String()); err == nil && (again.Username != m.Username || string(again.Digest) != string(m.Digest)) {
			t.Fatalf("%q became %q", header, m)
		}
	})
}
