package ikecrypto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// unhex reads hexadecimal octets; blanks are for the reader.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Known answers of the NIST validation program for the key derivation of IKEv2
// with HMAC-SHA2-256 (SP 800-135), which cover sections 2.13, 2.14, 2.17 and
// 2.18 of RFC 7296.
var (
	nistNi        = unhex("3651FEF5C9C35E93")
	nistNr        = unhex("C09A8B90A3F04D59")
	nistSPIi      = uint64(0x8E5C3AE507221684)
	nistSPIr      = uint64(0xB1F201BB155C3ACD)
	nistShared    = unhex("D084A30166A50FB7325C3960874A839449EF9741C2F4F947D0201DD8C1269273D79509F37E3CA3EB4FA2FE2A28254E289CD3F34DAD4EB4DF1A07685A4B8A94FA61E2491F7598B3CE65547FF133B3F63D1AC4175EAA695033F3CEDB026A6873A36455172A8540B8A5D23A0143BED0390EE49B168269D75FFFEE9FB62BE965993C")
	nistSharedNew = unhex("52F00AB174C25D5B7139AE5FF4E8E9EDDEE5992D2E36ADF8A559FFD90DAB1442E4FBE429D320C0F33552A17D1557FA41EA70E8FB916C4FA27ED52B5F8EBD8461AFA78F1159159A64055AC5F6319E29C28EAE58CBC6847770F32C3FED1D04750484F854790F95E9EC01BC5BC461F24966462E359511329305038E94DEB6DD42C2")
	nistSKEYSEED  = unhex("EFAA7AB0EAA85A3D0BE2100CD4B6FE00FF5025A9EAFDDB3EF518E9F0D3FE60E6")
	nistKeys      = unhex("462B9DD525D4FD71169174272779E704BAF62C6231779AE9EFE8C58B21916B42010164AF2111EBD762F6916CA9A6F0EE05C8B320E4EE27705521DE2589ADEA1878F1A551738AF7C88DC4F0BB0C096A3F7D1F1A670FC79F49F678D60D665BB3710C8657F03BA9F62B9A818D7A228968C506E237AE9502AA6DB395C61EA6A3E79504F86B7368BFB5423DF79E48809BBCCD49FD826D024F63D7C2A5566400A12E736AA034510428F5EA008FE2FC16886FA388274EA6C2B4FCFC6141BF04F8207EF8AFC224EA1059CB220DC0B23AC0E4CCDA495A4E131B1D56E223ABA5A48E8ED1F5")
	nistChild     = unhex("23647677E7D403FA1E3006F19840AEE18AD9FECC4215814C4131BDEBA98433D8B0E31BFBBDDF822ABCCE5E06486AA388022B75E27E1E68AA5983028B65282C730C5D49EF7606770376CFDEC41F7CC435D816029989BC353D3B67B9FD1168DDCB8978850DA9B752AEE6A30D0086D2C4D74EC0E03648A0DAD334FAF5FE88084E67B0F3E8FEE8B5E1BD3850DB540F1FB8CFFE23C9E92CDA209373F354880C246C753E2A0ECA9CB73B9910A8531C4010E6768FA29F909E60AF777FED6E739C3CFDA03467E915D6F03FCE9C41F5F9D578F8912D66A75457E79EE1D5BCC2BE5C2F9BAE")
	nistChildPFS  = unhex("6A919387A5FA2835FE8A8237E4A14845BD2B9930DB87EFF7ADF268F62186004902DBA9AA942D0259A0EDC4120B932A503865B57BA8FB88117EF5DF7B26799CD8BA37AA5438108CB1A4FE117907C9D0597B708C3F11151FEFD624D2317202B7C81430600E6FCBB6E1A8DF2B4861EF2363D53DE1BE69057B0CF6634A7E7BFA97B3C2810623E2BD6757738777177036E9C3A39794456954BD41FC444A12507AB9CAC69A0540D13C29DB8510F566A691691BAA2D9569DACC990D56A454BB444BCBBE8751B0550A5278812FC5AB4F28990DD6D608538D7DDDE24DC81BDAACA7751FDE")
	nistRekey     = unhex("90722C42BD849E9B72D240FC254174270FA8295DE6F0338DAFC303A9EC104F12")
)

const (
	prf256 = ikewire.PRFHMACSHA256
	prf384 = ikewire.PRFHMACSHA384
	prf512 = ikewire.PRFHMACSHA512
)

var (
	suiteGCM = Suite{Encryption: ikewire.EncrAESGCM16, KeyBits: 128, PRF: prf256, Group: ikewire.GroupCurve25519}
	suiteCBC = Suite{Encryption: ikewire.EncrAESCBC, KeyBits: 256, Integrity: ikewire.IntegHMACSHA256, PRF: prf256, Group: ikewire.GroupECP256}

	suiteChaCha = Suite{Encryption: ikewire.EncrChaCha20Poly1305, PRF: prf256, Group: ikewire.GroupCurve25519}
	// suiteOld is the worst of what Windows offers by default.
	suiteOld = Suite{
		Encryption: ikewire.Encr3DES, Integrity: ikewire.IntegHMACSHA1,
		PRF: ikewire.PRFHMACSHA1, Group: ikewire.GroupMODP1024,
		Allow: Legacy{HMACSHA1: true, MODP1024: true, TripleDES: true},
	}
)

// RFC 4231 section 4.3 and RFC 2202 section 3, test case 2 of both.
func TestPRF(t *testing.T) {
	for id, want := range map[uint16]string{
		ikewire.PRFHMACSHA1: "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",

		prf256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		prf384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
		prf512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
	} {
		got := PRF(id).Sum([]byte("Jefe"), []byte("what do ya want "), nil, []byte("for nothing?"))
		if !bytes.Equal(got, unhex(want)) || PRFLen(id) != len(got) {
			t.Errorf("%d: %x", id, got)
		}
	}
	if n := PRFLen(ikewire.PRFHMACMD5); n != 0 {
		t.Errorf("PRF_HMAC_MD5 has %d octets", n)
	}
}

func TestPRFPlus(t *testing.T) {
	seed := slices.Concat(nistNi, nistNr, unhex("8E5C3AE507221684B1F201BB155C3ACD"))
	for _, n := range []int{1, 31, 32, 33, 64, len(nistKeys)} {
		if got := PRFPlus(prf256, nistSKEYSEED, n, seed); !bytes.Equal(got, nistKeys[:n]) {
			t.Errorf("%d octets: %x", n, got)
		}
	}
	if got := PRFPlus(prf256, nistSKEYSEED, 255*32, seed); len(got) != 255*32 {
		t.Errorf("%d octets", len(got))
	}
	defer func() {
		if recover() == nil {
			t.Error("the counter of one octet wrapped")
		}
	}()
	PRFPlus(prf256, nistSKEYSEED, 255*32+1, seed)
}

func TestDeriveKeys(t *testing.T) {
	k, err := DeriveKeys(suiteCBC, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Concat(k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr)
	if !bytes.Equal(got, nistKeys[:7*32]) {
		t.Errorf("got %x", got)
	}
	// Appending to one key must not reach into the next.
	_ = append(k.D, 0xff)
	if k.Ai[0] != nistKeys[32] {
		t.Error("keys share room")
	}

	k, err = DeriveKeys(suiteGCM, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Ai) != 0 || len(k.Ar) != 0 || !bytes.Equal(k.Ei, nistKeys[32:52]) || !bytes.Equal(k.Er, nistKeys[52:72]) ||
		!bytes.Equal(k.Pi, nistKeys[72:104]) || !bytes.Equal(k.Pr, nistKeys[104:136]) {
		t.Errorf("AEAD keys %+v", k)
	}
}

func TestRekeyKeys(t *testing.T) {
	got, err := RekeyKeys(suiteGCM, prf256, nistKeys[:32], nistSharedNew, nistNi, nistNr, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	seed := slices.Concat(nistNi, nistNr, []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2})
	want := PRFPlus(prf256, nistRekey, 3*32+2*20, seed)
	if !bytes.Equal(slices.Concat(got.D, got.Ei, got.Er, got.Pi, got.Pr), want) {
		t.Errorf("got %+v", got)
	}
	if _, err := RekeyKeys(suiteGCM, ikewire.PRFHMACMD5, nistKeys[:32], nistSharedNew, nistNi, nistNr, 1, 2); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("old PRF: %v", err)
	}
}

func TestChildKeys(t *testing.T) {
	for _, test := range []struct{ shared, want []byte }{{nil, nistChild}, {nistSharedNew, nistChildPFS}} {
		i, r := ChildKeys(prf256, nistKeys[:32], nistNi, nistNr, test.shared, 32, 24)
		got := slices.Concat(i.Encryption, i.Integrity, r.Encryption, r.Integrity)
		if !bytes.Equal(got, test.want[:112]) {
			t.Errorf("got %x", got)
		}
		if len(i.Encryption) != 32 || len(i.Integrity) != 24 {
			t.Errorf("lengths %d and %d", len(i.Encryption), len(i.Integrity))
		}
	}
}

// Whoever erases keys erases what others still point to.
func TestErase(t *testing.T) {
	k, err := DeriveKeys(suiteCBC, nistShared, nistNi, nistNr, nistSPIi, nistSPIr)
	if err != nil {
		t.Fatal(err)
	}
	held := [][]byte{k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr}
	k.Erase()
	i, r := ChildKeys(prf256, nistKeys[:32], nistNi, nistNr, nil, 32, 32)
	held = append(held, i.Encryption, i.Integrity, r.Encryption, r.Integrity)
	i.Erase()
	r.Erase()
	for n, b := range held {
		if len(b) == 0 || !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("key %d: %x", n, b)
		}
	}
	if k.D != nil || i.Encryption != nil {
		t.Error("an erased key can still be used")
	}
	k.Erase() // once more does no harm
}

// SKEYSEED with HMAC-SHA1, from the NIST validation program for IKEv1, whose
// SKEYID for signatures is the same function of nonces and g^ir.
func TestSKEYSEEDWithSHA1(t *testing.T) {
	nonces := unhex("69a62284195f1680 80c94ba25c8abda5")
	shared := unhex("8ba4cbc73c0187301dc19a975823854dbd641c597f637f8d053a83b9514673eb")
	if got := PRF(ikewire.PRFHMACSHA1).Sum(nonces, shared); !bytes.Equal(got, unhex("707197817fb2d90cf54d1842606bdea59b9f4823")) {
		t.Errorf("got %x", got)
	}
	k, err := DeriveKeys(suiteOld, shared, nonces[:8], nonces[8:], 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(k.D) != 20 || len(k.Ai) != 20 || len(k.Ei) != 24 || len(k.Pr) != 20 {
		t.Errorf("lengths %d, %d, %d, %d", len(k.D), len(k.Ai), len(k.Ei), len(k.Pr))
	}
}

func TestSuite(t *testing.T) {
	for _, test := range []struct {
		s    Suite
		want string
	}{
		{suiteGCM, "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519"},
		{suiteCBC, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_256"},
		{suiteChaCha, "CHACHA20_POLY1305/PRF_HMAC_SHA2_256/CURVE_25519"},
		{suiteOld, "3DES_CBC/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024"},
	} {
		if got := test.s.String(); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
		if err := test.s.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*Suite)
		want   error
	}{
		{"3DES with a length", func(s *Suite) { s.Encryption = ikewire.Encr3DES }, ErrAlgorithm},
		{"3DES", func(s *Suite) { s.Encryption, s.KeyBits = ikewire.Encr3DES, 0 }, ErrLegacy},
		{"ChaCha20 with a length", func(s *Suite) { s.Encryption, s.Integrity = ikewire.EncrChaCha20Poly1305, 0 }, ErrAlgorithm},
		{"ChaCha20 with HMAC", func(s *Suite) { s.Encryption, s.KeyBits = ikewire.EncrChaCha20Poly1305, 0 }, ErrAlgorithm},
		{"AES of 512 bits", func(s *Suite) { s.KeyBits = 512 }, ErrAlgorithm},
		{"AES without length", func(s *Suite) { s.KeyBits = 0 }, ErrAlgorithm},
		{"AES-CTR", func(s *Suite) { s.Encryption = ikewire.EncrAESCTR }, ErrAlgorithm},
		{"CBC alone", func(s *Suite) { s.Integrity = 0 }, ErrAlgorithm},
		{"GCM with HMAC", func(s *Suite) { s.Encryption = ikewire.EncrAESGCM16 }, ErrAlgorithm},
		{"HMAC-SHA1", func(s *Suite) { s.Integrity = ikewire.IntegHMACSHA1 }, ErrLegacy},
		{"PRF-HMAC-SHA1", func(s *Suite) { s.PRF = ikewire.PRFHMACSHA1 }, ErrLegacy},
		{"PRF-HMAC-MD5", func(s *Suite) { s.PRF = ikewire.PRFHMACMD5 }, ErrAlgorithm},
		{"MODP-1024", func(s *Suite) { s.Group = ikewire.GroupMODP1024 }, ErrLegacy},
		{"MODP-768", func(s *Suite) { s.Group = ikewire.GroupMODP768 }, ErrAlgorithm},
	} {
		s := suiteCBC
		test.change(&s)
		if err := s.Check(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := DeriveKeys(s, nistShared, nistNi, nistNr, 1, 2); !errors.Is(err, test.want) {
			t.Errorf("%s: keys derived: %v", test.name, err)
		}
	}
}
