package ikecrypto

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"slices"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Each switch lets in its own algorithm and nothing else, and each use can be
// told by name.
func TestLegacySwitches(t *testing.T) {
	switches := map[string]Legacy{
		"sha1_signature": {SHA1Signatures: true},
		"hmac_sha1":      {HMACSHA1: true},
		"modp_1024":      {MODP1024: true},
		"3des":           {TripleDES: true},
	}
	suites := map[string][]func(*Suite){
		"hmac_sha1": {
			func(s *Suite) { s.Integrity = ikewire.IntegHMACSHA1 },
			func(s *Suite) { s.PRF = ikewire.PRFHMACSHA1 },
		},
		"modp_1024": {func(s *Suite) { s.Group = ikewire.GroupMODP1024 }},
		"3des":      {func(s *Suite) { s.Encryption, s.KeyBits = ikewire.Encr3DES, 0 }},
	}
	for name, changes := range suites {
		for _, change := range changes {
			s := suiteCBC
			change(&s)
			if got := s.Legacy(); got != switches[name] || !slices.Equal(got.Names(), []string{name}) {
				t.Errorf("%s uses %v", s, got.Names())
			}
			for allowed, l := range switches {
				s.Allow = l
				err := s.Check()
				if allowed == name && err != nil || allowed != name && !errors.Is(err, ErrLegacy) {
					t.Errorf("%s with %s allowed: %v", s, allowed, err)
				}
			}
		}
	}
	for allowed, l := range switches {
		_, err := l.NewKeyExchange(ikewire.GroupMODP1024, rand.Reader)
		if allowed == "modp_1024" && err != nil || allowed != "modp_1024" && !errors.Is(err, ErrLegacy) {
			t.Errorf("MODP-1024 with %s allowed: %v", allowed, err)
		}
	}
	if SupportsGroup(ikewire.GroupMODP1024) || !SupportsGroup(ikewire.GroupMODP2048) {
		t.Error("groups without legacy")
	}
}

func TestLegacyUse(t *testing.T) {
	if got := suiteOld.Legacy().Union(LegacyAuth(ikewire.AuthRSA)).Names(); !slices.Equal(got, []string{"sha1_signature", "hmac_sha1", "modp_1024", "3des"}) {
		t.Errorf("everything old: %v", got)
	}
	if got := suiteGCM.Legacy().Union(LegacyAuth(ikewire.AuthSignature)).Names(); got != nil {
		t.Errorf("nothing old: %v", got)
	}
	// As an ESP proposal has them; the numbers mean something else in another
	// type.
	for _, test := range []struct {
		transform ikewire.Transform
		want      Legacy
	}{
		{ikewire.Transform{Type: ikewire.TransformENCR, ID: ikewire.Encr3DES}, Legacy{TripleDES: true}},
		{ikewire.Transform{Type: ikewire.TransformINTEG, ID: ikewire.IntegHMACSHA1}, Legacy{HMACSHA1: true}},
		{ikewire.Transform{Type: ikewire.TransformKE, ID: ikewire.GroupMODP1024}, Legacy{MODP1024: true}},
		{ikewire.Transform{Type: ikewire.TransformENCR, ID: 2}, Legacy{}},
		{ikewire.Transform{Type: ikewire.TransformKE, ID: 3}, Legacy{}},
		{ikewire.Transform{Type: ikewire.TransformESN, ID: 2}, Legacy{}},
	} {
		if got := LegacyTransform(test.transform); got != test.want {
			t.Errorf("%s: %v", test.transform, got.Names())
		}
	}
}

// The layout of RFC 7296 section 3.14 with 3DES (RFC 2451) and HMAC-SHA1-96
// (RFC 2404), by hand.
func TestTripleDESLayout(t *testing.T) {
	k, err := DeriveKeys(suiteOld, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewProtector(suiteOld, k.Ei, k.Ai, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := seal(t, p, request(), &ikewire.Vendor{Data: []byte("x")})
	end := len(raw) - 12
	mac := hmac.New(sha1.New, k.Ai)
	mac.Write(raw[:end])
	if !bytes.Equal(mac.Sum(nil)[:12], raw[end:]) {
		t.Error("checksum")
	}
	block, err := des.NewTripleDESCipher(k.Ei)
	if err != nil {
		t.Fatal(err)
	}
	const head = ikewire.HeaderLen + ikewire.PayloadHeaderLen
	plain := make([]byte, end-head-8)
	cipher.NewCBCDecrypter(block, raw[head:head+8]).CryptBlocks(plain, raw[head+8:end])
	if want := unhex("00000005 78 0000 02"); !bytes.Equal(plain, want) {
		t.Errorf("plaintext %x, want %x", plain, want)
	}
}

// Key lengths are those of the algorithms, not of their neighbours.
func TestLegacyKeyLengths(t *testing.T) {
	for _, test := range []struct{ enc, integ int }{{24, 32}, {aes.BlockSize, 20}, {32, 20}, {0, 20}, {24, 0}} {
		if _, err := NewProtector(suiteOld, make([]byte, test.enc), make([]byte, test.integ), rand.Reader); !errors.Is(err, ErrKeyLength) {
			t.Errorf("%d and %d octets: %v", test.enc, test.integ, err)
		}
	}
}

// Method 1 is RSASSA-PKCS1-v1_5 with SHA-1, chosen when nothing better can be
// had.
func TestSHA1Signature(t *testing.T) {
	key := rsaKey(t, 2048)
	allow := Legacy{SHA1Signatures: true}
	for _, hashes := range [][]uint16{nil, {ikewire.HashSHA1}, {ikewire.HashIdentity}} {
		method, data, err := allow.Sign(key, hashes, testOctets, nil)
		if err != nil || method != ikewire.AuthRSA {
			t.Fatalf("%v: method %s, error %v", hashes, method, err)
		}
		sum := sha1.Sum(testOctets)
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA1, sum[:], data); err != nil {
			t.Errorf("%v: %v", hashes, err)
		}
		if err := allow.Verify(key.Public(), method, data, testOctets); err != nil {
			t.Errorf("%v: own signature: %v", hashes, err)
		}
		if err := allow.Verify(key.Public(), method, data, append(testOctets, 0)); !errors.Is(err, ErrSignature) {
			t.Errorf("%v: other octets: %v", hashes, err)
		}
		if err := Verify(key.Public(), method, data, testOctets); !errors.Is(err, ErrSHA1) {
			t.Errorf("%v: not allowed: %v", hashes, err)
		}
	}
	if method, _, err := allow.Sign(key, sha2Hashes, testOctets, nil); err != nil || method != ikewire.AuthSignature {
		t.Errorf("peer knows better: method %s, error %v", method, err)
	}
	// Neither the switch of another algorithm nor this one for method 14.
	others := Legacy{HMACSHA1: true, MODP1024: true, TripleDES: true}
	if _, _, err := others.Sign(key, nil, testOctets, nil); !errors.Is(err, ErrNeedsSHA1) {
		t.Errorf("others allowed: %v", err)
	}
	sha1WithRSA := unhex("300d06092a864886f70d0101050500")
	if err := allow.Verify(key.Public(), ikewire.AuthSignature, signatureData(sha1WithRSA, make([]byte, 256)), testOctets); !errors.Is(err, ErrSHA1) {
		t.Errorf("method 14: %v", err)
	}
	if err := allow.Verify(ecdsaKey(t, elliptic.P256()).Public(), ikewire.AuthRSA, make([]byte, 256), testOctets); !errors.Is(err, ErrAuthMethod) {
		t.Errorf("ECDSA key: %v", err)
	}
	if err := allow.Verify(rsaKey(t, 1024).Public(), ikewire.AuthRSA, make([]byte, 128), testOctets); !errors.Is(err, ErrKeySize) {
		t.Errorf("short key: %v", err)
	}
	if err := allow.Verify(key.Public(), ikewire.AuthDSS, make([]byte, 128), testOctets); !errors.Is(err, ErrSHA1) {
		t.Errorf("DSS: %v", err)
	}
}
