// Package identity makes the certificates that simulated devices show.
//
// What lives here: reading a credential, issuing many under a CA of the
// laboratory. What doesn't: a real CA's care (package enrollment/ca): what is
// issued here lives in memory and for a day.
package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
)

// Identity is who a device is.
type Identity struct {
	ID         *ikewire.ID
	Credential ike.Credential
}

// Source gives the device of each number its identity, from any goroutine.
type Source interface {
	Identity(number uint64) (Identity, error)
}

// Single is a Source of one device, whatever the number. Gateways end the
// session before when the same device comes again.
type Single struct{ identity Identity }

func (s *Single) Identity(uint64) (Identity, error) { return s.identity, nil }

// Load a device from PEM files: the certificate with its chain, and its key.
// Its name is the first domain name in it, or the common name.
func Load(certificateFile, keyFile string) (*Single, error) {
	chain, err := certificates(certificateFile)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(keyFile)
	if err != nil {
		return nil, err
	}
	id, err := identityOf(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", certificateFile, keyFile, err)
	}
	return &Single{id}, nil
}

// Issuer is a Source of as many devices as are asked for, named by their
// number. A device that is asked for again is the same one. All have one key,
// of P-256: what it costs to make keys is not measured.
type Issuer struct {
	ca    *x509.Certificate
	above [][]byte // the CA's own chain without the root
	sign  crypto.Signer
	key   *ecdsa.PrivateKey
	name  func(uint64) string
	// policies of every certificate.
	policies []x509.OID

	mu     sync.Mutex
	issued map[uint64]Identity
}

// NewIssuer issues under the CA of these PEM files; name says what devices are
// called. Policies are those that each certificate names: the OID of the
// instance that it belongs to, where a server looks at that.
func NewIssuer(certificateFile, keyFile string, name func(uint64) string, policies ...x509.OID) (*Issuer, error) {
	chain, err := certificates(certificateFile)
	if err != nil {
		return nil, err
	}
	sign, err := privateKey(keyFile)
	if err != nil {
		return nil, err
	}
	if !chain[0].IsCA {
		return nil, fmt.Errorf("%s is no certificate of a CA", certificateFile)
	}
	return newIssuer(chain, sign, name, policies)
}

func newIssuer(chain []*x509.Certificate, sign crypto.Signer, name func(uint64) string, policies []x509.OID) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	i := &Issuer{ca: chain[0], sign: sign, key: key, name: name, policies: policies, issued: make(map[uint64]Identity)}
	for _, c := range chain {
		if c.CheckSignatureFrom(c) != nil { // a root need not be sent
			i.above = append(i.above, c.Raw)
		}
	}
	return i, nil
}

// day is how long issued certificates live, from an hour ago on.
const day = 24 * time.Hour

func (i *Issuer) Identity(number uint64) (Identity, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if id, ok := i.issued[number]; ok {
		return id, nil
	}
	name := i.name(number)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Identity{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(day),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Policies: i.policies,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.ca, i.key.Public(), i.sign)
	if err != nil {
		return Identity{}, fmt.Errorf("certificate of %s: %w", name, err)
	}
	id := Identity{ID: fqdn(name), Credential: ike.Credential{Chain: append([][]byte{der}, i.above...), Signer: i.key}}
	i.issued[number] = id
	return id, nil
}

func fqdn(name string) *ikewire.ID { return &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(name)} }

// Roots reads who the gateway is trusted by, and the hashes of their keys that
// a CERTREQ names (RFC 7296 section 3.7).
func Roots(file string) (*x509.CertPool, [][20]byte, error) {
	list, err := certificates(file)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	var anchors [][20]byte
	for _, c := range list {
		pool.AddCert(c)
		anchors = append(anchors, sha1.Sum(c.RawSubjectPublicKeyInfo))
	}
	return pool, anchors, nil
}

// certificates of a PEM file, at least one.
func certificates(file string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	return list, nil
}

// privateKey of a PEM file, PKCS #8 or what openssl wrote before it.
func privateKey(file string) (crypto.Signer, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s: no key in PEM", file)
	}
	defer clear(block.Bytes)
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// parseKey in PKCS #8 or as openssl wrote it before.
func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
		return nil, errors.New("a key that can't sign")
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("neither PKCS #8 nor an RSA or EC key; one with a passphrase has to be decrypted first")
}
