package ikecrypto

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

var (
	testOctets   = []byte("message | nonce | prf(SK_p, ID)")
	sha2Hashes   = []uint16{ikewire.HashSHA256, ikewire.HashSHA384, ikewire.HashSHA512}
	identityHash = []uint16{ikewire.HashIdentity}
)

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519Key(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSignedOctets(t *testing.T) {
	id := &ikewire.ID{Initiator: true, IDType: ikewire.IDFQDN, Data: []byte("dev1")}
	mac := PRF(prf256).Sum([]byte("sk_pi"), unhex("02000000"), []byte("dev1"))
	got := SignedOctets(prf256, []byte("first message"), []byte("peer nonce"), []byte("sk_pi"), id)
	if want := slices.Concat([]byte("first messagepeer nonce"), mac); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// What Sign chooses for which key and which announcement, and that Verify
// takes it and nothing else.
func TestSignVerify(t *testing.T) {
	p256, p384, p521 := ecdsaKey(t, elliptic.P256()), ecdsaKey(t, elliptic.P384()), ecdsaKey(t, elliptic.P521())
	rsa2048, ed := rsaKey(t, 2048), ed25519Key(t)
	for _, test := range []struct {
		name   string
		key    crypto.Signer
		hashes []uint16
		method ikewire.AuthMethod
		prefix []byte // length and AlgorithmIdentifier
		err    error
	}{
		{"P-256", p256, sha2Hashes, ikewire.AuthSignature, unhex("0c 300a06082a8648ce3d040302"), nil},
		{"P-384", p384, sha2Hashes, ikewire.AuthSignature, unhex("0c 300a06082a8648ce3d040303"), nil},
		{"P-521", p521, sha2Hashes, ikewire.AuthSignature, unhex("0c 300a06082a8648ce3d040304"), nil},
		{"P-384, peer takes SHA-256", p384, []uint16{ikewire.HashSHA1, ikewire.HashSHA256}, ikewire.AuthSignature, unhex("0c 300a06082a8648ce3d040302"), nil},
		{"P-256, peer takes SHA-512", p256, []uint16{ikewire.HashSHA512}, ikewire.AuthSignature, unhex("0c 300a06082a8648ce3d040304"), nil},
		{"P-256, nothing announced", p256, nil, ikewire.AuthECDSA256, nil, nil},
		{"P-384, nothing announced", p384, nil, ikewire.AuthECDSA384, nil, nil},
		{"P-521, nothing announced", p521, nil, ikewire.AuthECDSA521, nil, nil},
		{"P-256, SHA-1 announced", p256, []uint16{ikewire.HashSHA1}, ikewire.AuthECDSA256, nil, nil},
		{"P-224", ecdsaKey(t, elliptic.P224()), sha2Hashes, 0, nil, ErrKeySize},
		{"RSA", rsa2048, sha2Hashes, ikewire.AuthSignature, unhex("0f 300d06092a864886f70d01010b0500"), nil},
		{"RSA, peer takes SHA-384", rsa2048, []uint16{ikewire.HashSHA384}, ikewire.AuthSignature, unhex("0f 300d06092a864886f70d01010c0500"), nil},
		{"RSA, nothing announced", rsa2048, nil, 0, nil, ErrNeedsSHA1},
		{"RSA, SHA-1 announced", rsa2048, []uint16{ikewire.HashSHA1}, 0, nil, ErrNoCommonHash},
		{"RSA of 1024 bits", rsaKey(t, 1024), sha2Hashes, 0, nil, ErrKeySize},
		{"RSA, Ed25519 announced only", rsa2048, identityHash, 0, nil, ErrNoCommonHash},
		{"RSA-PSS", PSS{rsa2048}, sha2Hashes, ikewire.AuthSignature, signatureData(marshalPSS(t, crypto.SHA256, crypto.SHA256, 32, true), nil), nil},
		{"RSA-PSS, peer takes SHA-384", PSS{rsa2048}, []uint16{ikewire.HashSHA384}, ikewire.AuthSignature, signatureData(marshalPSS(t, crypto.SHA384, crypto.SHA384, 48, true), nil), nil},
		{"RSA-PSS, peer takes SHA-512", PSS{rsa2048}, []uint16{ikewire.HashSHA512}, ikewire.AuthSignature, signatureData(marshalPSS(t, crypto.SHA512, crypto.SHA512, 64, true), nil), nil},
		{"RSA-PSS, nothing announced", PSS{rsa2048}, nil, 0, nil, ErrNeedsSHA1},
		{"PSS with an ECDSA key", PSS{p256}, sha2Hashes, ikewire.AuthSignature, unhex("0c 300a06082a8648ce3d040302"), nil},
		{"Ed25519", ed, append(identityHash, sha2Hashes...), ikewire.AuthSignature, unhex("07 300506032b6570"), nil},
		{"Ed25519, SHA-2 announced", ed, sha2Hashes, 0, nil, ErrNoCommonHash},
		{"Ed25519, nothing announced", ed, nil, 0, nil, ErrNoCommonHash},
		{"a key of another kind", otherSigner{}, sha2Hashes, 0, nil, ErrAuthMethod},
	} {
		t.Run(test.name, func(t *testing.T) {
			method, data, err := Sign(test.key, test.hashes, testOctets, rand.Reader)
			if !errors.Is(err, test.err) || method != test.method {
				t.Fatalf("method %s, error %v", method, err)
			}
			if err != nil {
				return
			}
			if !bytes.HasPrefix(data, test.prefix) {
				t.Errorf("data %x", data)
			}
			pub := test.key.Public()
			if err := Verify(pub, method, data, testOctets); err != nil {
				t.Errorf("own signature: %v", err)
			}
			if err := Verify(pub, method, data, append(testOctets, 0)); !errors.Is(err, ErrSignature) {
				t.Errorf("other octets: %v", err)
			}
			data[len(data)-1] ^= 1
			if err := Verify(pub, method, data, testOctets); !errors.Is(err, ErrSignature) {
				t.Errorf("changed signature: %v", err)
			}
			if err := Verify(pub, method, data[:len(data)-1], testOctets); !errors.Is(err, ErrSignature) {
				t.Errorf("cut signature: %v", err)
			}
		})
	}
}

type otherSigner struct{}

func (otherSigner) Public() crypto.PublicKey { return "key" }
func (otherSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("unused")
}

// Golden transcripts need the same signature each time.
func TestSignDeterministic(t *testing.T) {
	hashes := append(identityHash, sha2Hashes...)
	for _, key := range []crypto.Signer{ecdsaKey(t, elliptic.P256()), rsaKey(t, 2048), ed25519Key(t)} {
		_, a, err := Sign(key, hashes, testOctets, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, b, err := Sign(key, hashes, testOctets, nil); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%T: %x and %x, error %v", key, a, b, err)
		}
	}
}

// A signer that is a device may fail, or answer something else.
type badSigner struct {
	*ecdsa.PrivateKey
	sig []byte
	err error
}

func (s badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.sig, s.err }

func TestSignBadSigner(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	broken := errors.New("token removed")
	for _, hashes := range [][]uint16{nil, sha2Hashes} {
		if _, _, err := Sign(badSigner{key, nil, broken}, hashes, testOctets, nil); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
	}
	for _, sig := range [][]byte{nil, {0x30, 0}, unhex("3006 020101 020101 00"), append(unhex("3026 0221 01"), make([]byte, 35)...)} {
		if _, data, err := Sign(badSigner{key, sig, nil}, nil, testOctets, nil); err == nil {
			t.Errorf("signature %x became %x", sig, data)
		}
	}
}

// RFC 4754 section 8: the signatures of its examples, by the keys that are
// given there, over "abc".
func TestVerifyRFC4754(t *testing.T) {
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), unhex(`04
		2442A5CC 0ECD015F A3CA31DC 8E2BBC70 BF42D60C BCA20085 E0822CB0 4235E970
		6FC98BD7 E50211A4 A27102FA 3549DF79 EBCB4BF2 46B80945 CDDFE7D5 09BBFD7D`))
	if err != nil {
		t.Fatal(err)
	}
	sig := unhex(`CB28E099 9B9C7715 FD0A80D8 E47A7707 9716CBBF 917DD72E 97566EA1 C066957C
		86FA3BB4 E26CAD5B F90B7F81 899256CE 7594BB1E A0C89212 748BFF3B 3D5B0315`)
	if err := Verify(pub, ikewire.AuthECDSA256, sig, []byte("abc")); err != nil {
		t.Error(err)
	}
	if err := Verify(pub, ikewire.AuthECDSA384, sig, []byte("abc")); !errors.Is(err, ErrAuthMethod) {
		t.Errorf("method of another curve: %v", err)
	}
	// r | s have a fixed width: neither DER nor shorter numbers will do.
	der, err := derECDSA(sig)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, der, sig[1:], append([]byte{0}, sig...), make([]byte, 64)} {
		if err := Verify(pub, ikewire.AuthECDSA256, bad, []byte("abc")); !errors.Is(err, ErrSignature) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// RFC 6979 appendix A.2.7 with SHA-512: what method 11 has to carry, made and
// checked.
func TestP521RFC6979(t *testing.T) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P521(), unhex(`00FA
		D06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA8
		96EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538`))
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(`
		00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E
		25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA
		00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF2826
		23EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A`)
	method, sig, err := Sign(key, nil, []byte("sample"), nil)
	if err != nil || method != ikewire.AuthECDSA521 || !bytes.Equal(sig, want) {
		t.Errorf("method %s, signature %x, error %v", method, sig, err)
	}
	if err := Verify(key.Public(), ikewire.AuthECDSA521, want, []byte("sample")); err != nil {
		t.Error(err)
	}
}

// RFC 8032 section 7.1, test 3, in the frame of RFC 8420.
func TestEd25519RFC8032(t *testing.T) {
	key := ed25519.NewKeyFromSeed(unhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))
	want := unhex(`07 300506032b6570
		6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
		18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a`)
	octets := unhex("af82")
	method, data, err := Sign(key, identityHash, octets, nil)
	if err != nil || method != ikewire.AuthSignature || !bytes.Equal(data, want) {
		t.Errorf("method %s, data %x, error %v", method, data, err)
	}
	if err := Verify(key.Public(), method, want, octets); err != nil {
		t.Error(err)
	}
}

// Small numbers keep their zeros on the wire and lose them in DER.
func TestRawECDSA(t *testing.T) {
	raw := make([]byte, 64)
	raw[31], raw[63] = 0x80, 1
	der, err := derECDSA(raw)
	if err != nil || !bytes.Equal(der, unhex("3007 02020080 020101")) {
		t.Fatalf("DER %x, error %v", der, err)
	}
	if back, err := rawECDSA(der, 32); err != nil || !bytes.Equal(back, raw) {
		t.Errorf("raw %x, error %v", back, err)
	}
}

func TestVerifyPSS(t *testing.T) {
	key := rsaKey(t, 2048)
	for h := range hashIDs {
		for _, saltLen := range []int{1, 20, h.Size()} {
			sig, err := rsa.SignPSS(rand.Reader, key, h, digest(h, testOctets), &rsa.PSSOptions{SaltLength: saltLen})
			if err != nil {
				t.Fatal(err)
			}
			for _, null := range []bool{true, false} {
				data := signatureData(marshalPSS(t, h, h, saltLen, null), sig)
				if err := Verify(key.Public(), ikewire.AuthSignature, data, testOctets); err != nil {
					t.Errorf("%s, salt of %d, NULL %v: %v", h, saltLen, null, err)
				}
			}
			other := signatureData(marshalPSS(t, h, h, saltLen+1, true), sig)
			if err := Verify(key.Public(), ikewire.AuthSignature, other, testOctets); !errors.Is(err, ErrSignature) {
				t.Errorf("%s: salt of another length: %v", h, err)
			}
		}
	}
}

// marshalPSS is an AlgorithmIdentifier put together by encoding/asn1, which
// the code doesn't parse with.
func marshalPSS(t testing.TB, h, mgf crypto.Hash, saltLen int, null bool) []byte {
	t.Helper()
	oids := map[crypto.Hash]asn1.ObjectIdentifier{
		crypto.SHA1:   {1, 3, 14, 3, 2, 26},
		crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
		crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
		crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
	}
	type identifier struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	type params struct {
		Hash    identifier `asn1:"explicit,tag:0"`
		MGF     identifier `asn1:"explicit,tag:1"`
		SaltLen int        `asn1:"explicit,tag:2"`
	}
	marshal := func(v any) asn1.RawValue {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{FullBytes: der}
	}
	hash := identifier{Algorithm: oids[h]}
	mgfHash := identifier{Algorithm: oids[mgf]}
	if null {
		hash.Parameters, mgfHash.Parameters = asn1.NullRawValue, asn1.NullRawValue
	}
	return marshal(identifier{oidPSS, marshal(params{hash, identifier{oidMGF1, marshal(mgfHash)}, saltLen})}).FullBytes
}

// RFC 7427 appendix A, octet for octet, and what is close to it.
func TestSignatureAlgorithms(t *testing.T) {
	const pss256 = "304606092a864886f70d01010a3039a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101"
	for _, test := range []struct {
		name, der string
		want      signatureAlgorithm
		err       error
	}{
		{"sha1WithRSAEncryption", "300d06092a864886f70d0101050500", signatureAlgorithm{}, ErrSHA1},
		{"sha256WithRSAEncryption", "300d06092a864886f70d01010b0500", signatureAlgorithm{schemePKCS1, crypto.SHA256, 0}, nil},
		{"sha384WithRSAEncryption", "300d06092a864886f70d01010c0500", signatureAlgorithm{schemePKCS1, crypto.SHA384, 0}, nil},
		{"sha512WithRSAEncryption", "300d06092a864886f70d01010d0500", signatureAlgorithm{schemePKCS1, crypto.SHA512, 0}, nil},
		{"sha256WithRSAEncryption without NULL", "300b06092a864886f70d01010b", signatureAlgorithm{schemePKCS1, crypto.SHA256, 0}, nil},
		{"ecdsa-with-SHA1", "300906072a8648ce3d0401", signatureAlgorithm{}, ErrSHA1},
		{"ecdsa-with-SHA256", "300a06082a8648ce3d040302", signatureAlgorithm{schemeECDSA, crypto.SHA256, 0}, nil},
		{"ecdsa-with-SHA384", "300a06082a8648ce3d040303", signatureAlgorithm{schemeECDSA, crypto.SHA384, 0}, nil},
		{"ecdsa-with-SHA512", "300a06082a8648ce3d040304", signatureAlgorithm{schemeECDSA, crypto.SHA512, 0}, nil},
		{"RSASSA-PSS with empty parameters", "300d06092a864886f70d01010a3000", signatureAlgorithm{}, ErrSHA1},
		{"RSASSA-PSS with default parameters", "303e06092a864886f70d01010a3031a00b300906052b0e03021a0500a118301606092a864886f70d010108300906052b0e03021a0500a203020114a303020101", signatureAlgorithm{}, ErrSHA1},
		{"RSASSA-PSS with SHA-256", pss256, signatureAlgorithm{schemePSS, crypto.SHA256, 32}, nil},
		{"id-Ed25519", "300506032b6570", signatureAlgorithm{schemeEd25519, 0, 0}, nil},

		{"nothing", "", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"id-Ed25519 with NULL", "300706032b65700500", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"id-Ed448", "300506032b6571", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"dsa-with-sha256", "300b0609608648016503040302", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"octets behind it", "300a06082a8648ce3d04030200", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"cut", "300a06082a8648ce3d0403", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"length in the long form", "30810a06082a8648ce3d040302", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"ECDSA with NULL", "300c06082a8648ce3d0403020500", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSA with a parameter", "300e06092a864886f70d01010b020101", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS without parameters", "300b06092a864886f70d01010a", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with NULL", "300d06092a864886f70d01010a0500", signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS without salt", strings.Replace(pss256, "a203020120", "a203020100", 1), signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with negative salt", strings.Replace(pss256, "a203020120", "a2030201ff", 1), signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with trailer 2", strings.Replace(pss256, "a303020101", "a303020102", 1), signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with another mask", strings.Replace(pss256, "2a864886f70d010108", "2a864886f70d010109", 1), signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with an unknown hash", strings.Replace(pss256, "608648016503040201", "60864801650304020f", 1), signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with SHA-384 in the mask", fmt.Sprintf("%x", marshalPSS(t, crypto.SHA256, crypto.SHA384, 32, true)), signatureAlgorithm{}, ErrSignatureAlgorithm},
		{"RSASSA-PSS with SHA-1 in the mask", fmt.Sprintf("%x", marshalPSS(t, crypto.SHA256, crypto.SHA1, 32, true)), signatureAlgorithm{}, ErrSHA1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseSignatureAlgorithm(unhex(test.der))
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("got %+v, error %v", got, err)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	ec, rsa2048 := ecdsaKey(t, elliptic.P256()), rsaKey(t, 2048)
	_, ecData, err := Sign(ec, sha2Hashes, testOctets, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, rsaData, err := Sign(rsa2048, sha2Hashes, testOctets, nil)
	if err != nil {
		t.Fatal(err)
	}
	ed := ed25519Key(t)
	_, edData, err := Sign(ed, identityHash, testOctets, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		pub    crypto.PublicKey
		method ikewire.AuthMethod
		data   []byte
		want   error
	}{
		{"RSA with SHA-1", rsa2048.Public(), ikewire.AuthRSA, rsaData, ErrSHA1},
		{"DSS", rsa2048.Public(), ikewire.AuthDSS, rsaData, ErrSHA1},
		{"shared key", rsa2048.Public(), ikewire.AuthSharedKey, rsaData, ErrAuthMethod},
		{"NULL", rsa2048.Public(), ikewire.AuthNull, nil, ErrAuthMethod},
		{"method unheard of", rsa2048.Public(), 99, rsaData, ErrAuthMethod},
		{"no data", ec.Public(), ikewire.AuthSignature, nil, ErrSignatureAlgorithm},
		{"identifier cut", ec.Public(), ikewire.AuthSignature, ecData[:12], ErrSignatureAlgorithm},
		{"identifier of no length", ec.Public(), ikewire.AuthSignature, append([]byte{0}, ecData...), ErrSignatureAlgorithm},
		{"no signature", ec.Public(), ikewire.AuthSignature, ecData[:13], ErrSignature},
		{"RSA algorithm, ECDSA key", ec.Public(), ikewire.AuthSignature, rsaData, ErrAuthMethod},
		{"ECDSA algorithm, RSA key", rsa2048.Public(), ikewire.AuthSignature, ecData, ErrAuthMethod},
		{"ECDSA method, RSA key", rsa2048.Public(), ikewire.AuthECDSA256, ecData, ErrAuthMethod},
		{"somebody else's ECDSA key", ecdsaKey(t, elliptic.P256()).Public(), ikewire.AuthSignature, ecData, ErrSignature},
		{"somebody else's RSA key", rsaKey(t, 2048).Public(), ikewire.AuthSignature, rsaData, ErrSignature},
		{"RSA of 1024 bits", rsaKey(t, 1024).Public(), ikewire.AuthSignature, rsaData, ErrKeySize},
		{"RSA of 16,384 bits", &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16383), E: 65537}, ikewire.AuthSignature, rsaData, ErrKeySize},
		{"P-224", ecdsaKey(t, elliptic.P224()).Public(), ikewire.AuthSignature, ecData, ErrKeySize},
		{"P-224 by method 9", ecdsaKey(t, elliptic.P224()).Public(), ikewire.AuthECDSA256, make([]byte, 64), ErrKeySize},
		{"Ed25519 algorithm, ECDSA key", ec.Public(), ikewire.AuthSignature, edData, ErrAuthMethod},
		{"Ed25519 algorithm, RSA key", rsa2048.Public(), ikewire.AuthSignature, edData, ErrAuthMethod},
		{"ECDSA algorithm, Ed25519 key", ed.Public(), ikewire.AuthSignature, ecData, ErrAuthMethod},
		{"ECDSA method, Ed25519 key", ed.Public(), ikewire.AuthECDSA256, make([]byte, 64), ErrAuthMethod},
		{"somebody else's Ed25519 key", ed25519Key(t).Public(), ikewire.AuthSignature, edData, ErrSignature},
		{"Ed25519 key too short", ed.Public().(ed25519.PublicKey)[:31], ikewire.AuthSignature, edData, ErrKeySize},
		{"Ed25519 without signature", ed.Public(), ikewire.AuthSignature, edData[:8], ErrSignature},
		{"no key", nil, ikewire.AuthSignature, ecData, ErrAuthMethod},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := Verify(test.pub, test.method, test.data, testOctets); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

// What the parser takes is one of the few algorithms there are, and a
// signature that nobody made is refused by every method, legacy or not.
func FuzzVerify(f *testing.F) {
	ec, rsa2048, ed := ecdsaKey(f, elliptic.P256()), rsaKey(f, 2048), ed25519Key(f)
	for _, id := range ecdsaIdentifiers {
		f.Add(byte(14), signatureData(id, make([]byte, 70)))
	}
	for h, id := range rsaIdentifiers {
		f.Add(byte(14), signatureData(id, make([]byte, 256)))
		f.Add(byte(14), signatureData(pssIdentifiers[h], make([]byte, 256)))
	}
	f.Add(byte(14), signatureData(ed25519Identifier, make([]byte, 64)))
	f.Add(byte(9), make([]byte, 64))
	f.Add(byte(1), make([]byte, 256))
	f.Fuzz(func(t *testing.T, method byte, data []byte) {
		for _, pub := range []crypto.PublicKey{ec.Public(), rsa2048.Public(), ed.Public()} {
			for _, allow := range []Legacy{{}, {SHA1Signatures: true}} {
				if err := allow.Verify(pub, ikewire.AuthMethod(method), data, testOctets); err == nil {
					t.Errorf("%T: method %d accepted %x", pub, method, data)
				}
			}
		}
		alg, err := parseSignatureAlgorithm(data)
		if err != nil {
			return
		}
		if (hashIDs[alg.hash] == 0) != (alg.scheme == schemeEd25519) || (alg.scheme == schemePSS) != (alg.saltLen > 0) {
			t.Errorf("%x: %+v", data, alg)
		}
	})
}
