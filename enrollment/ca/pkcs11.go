//go:build pkcs11

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"
)

// tokenSessions is how many may sign at once; a session does one thing at a
// time.
const tokenSessions = 4

type token struct {
	module   *pkcs11.Ctx
	opened   int
	sessions chan pkcs11.SessionHandle // those that nobody uses
	key      pkcs11.ObjectHandle
	public   crypto.PublicKey
}

// OpenToken opens the key pair of a token.
func OpenToken(o Token) (TokenSigner, error) {
	module := pkcs11.New(o.Module)
	if module == nil {
		return nil, fmt.Errorf("%w: module %s can't be loaded", ErrPKCS11, o.Module)
	}
	if err := module.Initialize(); err != nil {
		module.Destroy()
		return nil, fmt.Errorf("%w: module %s: %w", ErrPKCS11, o.Module, err)
	}
	t := &token{module: module, sessions: make(chan pkcs11.SessionHandle, tokenSessions)}
	if err := t.open(o); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *token) open(o Token) error {
	slot, err := t.slot(o.Label)
	if err != nil {
		return err
	}
	var first pkcs11.SessionHandle
	for i := range tokenSessions {
		session, err := t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return fmt.Errorf("%w: token %q: %w", ErrPKCS11, o.Label, err)
		}
		if i == 0 {
			first = session
		}
		t.sessions <- session
		t.opened++
	}
	pin, err := o.PIN()
	if err != nil {
		return err
	}
	// The login is good for all sessions. The binding wants a string, which
	// can't be erased.
	err = t.module.Login(first, pkcs11.CKU_USER, string(pin))
	clear(pin)
	if err != nil {
		return fmt.Errorf("%w: log in to token %q: %w", ErrPKCS11, o.Label, err)
	}
	if t.key, err = t.find(first, pkcs11.CKO_PRIVATE_KEY, o.Key); err != nil {
		return err
	}
	public, err := t.find(first, pkcs11.CKO_PUBLIC_KEY, o.Key)
	if err != nil {
		return err
	}
	t.public, err = t.readPublic(first, public)
	return err
}

func (t *token) slot(label string) (uint, error) {
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrPKCS11, err)
	}
	var found []uint
	for _, slot := range slots {
		if info, err := t.module.GetTokenInfo(slot); err == nil && info.Label == label {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d tokens have the label %q, want one", ErrPKCS11, len(found), label)
	}
	return found[0], nil
}

func (t *token) find(session pkcs11.SessionHandle, class uint, label string) (pkcs11.ObjectHandle, error) {
	kind := map[uint]string{pkcs11.CKO_PRIVATE_KEY: "private", pkcs11.CKO_PUBLIC_KEY: "public"}[class]
	err := t.module.FindObjectsInit(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrPKCS11, err)
	}
	found, _, err := t.module.FindObjects(session, 2)
	if final := t.module.FindObjectsFinal(session); err == nil {
		err = final
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrPKCS11, err)
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d %s keys have the label %q, want one", ErrPKCS11, len(found), kind, label)
	}
	return found[0], nil
}

func (t *token) readPublic(session pkcs11.SessionHandle, object pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	if a, err := t.module.GetAttributeValue(session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil),
	}); err == nil {
		return ecPublic(a[0].Value, a[1].Value)
	}
	a, err := t.module.GetAttributeValue(session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: the key is neither ECDSA nor RSA: %w", ErrPKCS11, err)
	}
	e := new(big.Int).SetBytes(a[1].Value)
	if !e.IsInt64() || e.Int64() > 1<<31-1 {
		return nil, fmt.Errorf("%w: RSA exponent of %d bits", ErrPKCS11, e.BitLen())
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(a[0].Value), E: int(e.Int64())}, nil
}

// ecPublic: the curve as its OID, the point as an uncompressed one in an OCTET
// STRING (PKCS #11 v2.40 Current Mechanisms, section 2.3.3).
func ecPublic(params, point []byte) (crypto.PublicKey, error) {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(params, &oid); err != nil {
		return nil, fmt.Errorf("%w: curve %x", ErrPKCS11, params)
	}
	curves := map[string]elliptic.Curve{"1.2.840.10045.3.1.7": elliptic.P256(), "1.3.132.0.34": elliptic.P384()}
	curve, ok := curves[oid.String()]
	if !ok {
		return nil, fmt.Errorf("%w: curve %s, want P-256 or P-384", ErrPKCS11, oid)
	}
	var raw []byte
	if rest, err := asn1.Unmarshal(point, &raw); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: point %x", ErrPKCS11, point)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: point: %w", ErrPKCS11, err)
	}
	return key, nil
}

// Public key of the pair.
func (t *token) Public() crypto.PublicKey { return t.public }

// digestInfo prefixes of RFC 8017 section 9.2.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// Sign a digest: ECDSA, or RSASSA-PKCS1-v1_5.
func (t *token) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if len(digest) != o.HashFunc().Size() {
		return nil, fmt.Errorf("%w: digest of %d octets for %v", ErrPKCS11, len(digest), o.HashFunc())
	}
	if _, ok := t.public.(*ecdsa.PublicKey); ok {
		raw, err := t.sign(pkcs11.CKM_ECDSA, digest)
		if err != nil {
			return nil, err
		}
		if len(raw) == 0 || len(raw)%2 != 0 {
			return nil, fmt.Errorf("%w: ECDSA signature of %d octets", ErrPKCS11, len(raw))
		}
		half := len(raw) / 2
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
	}
	prefix, ok := digestInfo[o.HashFunc()]
	if _, pss := o.(*rsa.PSSOptions); pss || !ok {
		return nil, fmt.Errorf("%w: RSA with %v, want PKCS #1 v1.5 with SHA-2", ErrPKCS11, o.HashFunc())
	}
	return t.sign(pkcs11.CKM_RSA_PKCS, slices.Concat(prefix, digest))
}

func (t *token) sign(mechanism uint, message []byte) ([]byte, error) {
	session, ok := <-t.sessions
	if !ok {
		return nil, fmt.Errorf("%w: closed", ErrPKCS11)
	}
	defer func() { t.sessions <- session }()
	if err := t.module.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, t.key); err != nil {
		return nil, fmt.Errorf("%w: sign: %w", ErrPKCS11, err)
	}
	signature, err := t.module.Sign(session, message)
	if err != nil {
		return nil, fmt.Errorf("%w: sign: %w", ErrPKCS11, err)
	}
	return signature, nil
}

// Close waits for signatures that are being made; later ones fail.
func (t *token) Close() error {
	for range t.opened {
		_ = t.module.CloseSession(<-t.sessions)
	}
	close(t.sessions)
	err := t.module.Finalize()
	t.module.Destroy()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPKCS11, err)
	}
	return nil
}
