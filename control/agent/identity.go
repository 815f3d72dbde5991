package agent

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"
)

// Identity of a gateway towards managers, and of managers towards it.
type Identity struct {
	// Key of the gateway's certificate on the management port.
	Key crypto.Signer
	// Host is the DNS name in it.
	Host string
	// Roots to which certificates of the installation chain.
	Roots *x509.CertPool
	// Manager and Agent are the certificate policies, below the instance OID,
	// of managers and of gateways' agents.
	Manager, Agent x509.OID
}

func (i *Identity) validate() error {
	if i.Key == nil || i.Host == "" || i.Roots == nil || i.Manager.String() == "" || i.Agent.String() == "" {
		return errors.New("an agent's identity needs a key, a host name, roots and the policies of managers and agents")
	}
	return nil
}

// maxChain of certificates that are pushed.
const (
	maxChain       = 8
	maxChainOctets = 64 << 10
)

// loadIdentity takes the certificate that was pushed last, or makes one that a
// manager can know by its fingerprint only.
func (a *Agent) loadIdentity() error {
	stored, err := a.store.identity()
	if err != nil {
		return err
	}
	if stored != nil {
		// It may have expired, and a manager may want to push the next one all
		// the same.
		c, err := a.config.Identity.parse(stored)
		if err == nil {
			a.certificate.Store(c)
			return nil
		}
		a.config.Log.Warn("the stored certificate isn't for this key; a manager has to add the gateway again", slog.Any("error", err))
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: a.config.Identity.Host}, DNSNames: []string{a.config.Identity.Host},
		NotBefore: a.started.Add(-time.Hour), NotAfter: a.started.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.config.Identity.Key.Public(), a.config.Identity.Key)
	if err != nil {
		return fmt.Errorf("certificate of the management port: %w", err)
	}
	a.certificate.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.config.Identity.Key})
	return nil
}

// Fingerprint is the SHA-256 of the SubjectPublicKeyInfo, by which a manager
// knows the gateway before it has a certificate. It stays with the key.
func (a *Agent) Fingerprint() ([sha256.Size]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(a.config.Identity.Key.Public())
	return sha256.Sum256(der), err
}

// Request for a certificate, PKCS #10 in DER.
func (a *Agent) Request() ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: a.config.Identity.Host}, DNSNames: []string{a.config.Identity.Host},
	}, a.config.Identity.Key)
}

// SetCertificate takes the gateway's certificate with its chain, in PEM, for
// connections from now on. It is on disk when SetCertificate returns nil.
// Errors: ErrIdentity, and those of the file.
func (a *Agent) SetCertificate(chain []byte) error {
	c, err := a.config.Identity.parse(chain)
	if err != nil {
		return err
	}
	if err := a.config.Identity.verify(c); err != nil {
		return err
	}
	if err := a.store.setIdentity(chain); err != nil {
		return err
	}
	a.certificate.Store(c)
	return nil
}

// parse a chain in PEM whose first certificate is for our key.
func (i *Identity) parse(chain []byte) (*tls.Certificate, error) {
	c := &tls.Certificate{PrivateKey: i.Key}
	for rest := chain; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(c.Certificate) == maxChain {
			return nil, fmt.Errorf("%w: want 1 to %d certificates in PEM", ErrIdentity, maxChain)
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return nil, fmt.Errorf("%w: no certificate", ErrIdentity)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(i.Key.Public()) {
		return nil, fmt.Errorf("%w: it has another public key", ErrIdentity)
	}
	c.Leaf = leaf
	return c, nil
}

func (i *Identity) verify(c *tls.Certificate) error {
	chain := []*x509.Certificate{c.Leaf}
	for _, der := range c.Certificate[1:] {
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrIdentity, err)
		}
		chain = append(chain, issuer)
	}
	if _, err := verifyChain(chain, i.Roots, x509.ExtKeyUsageServerAuth, i.Agent); err != nil {
		return fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	if err := c.Leaf.VerifyHostname(i.Host); err != nil {
		return fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return nil
}

// verifyChain says whether a leaf chains to roots, is for a usage and carries a
// policy. Its path has a root at the end.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, policy x509.OID) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return nil, err
	}
	// A certificate without usages is for all of them, to package x509.
	if !slices.Contains(chain[0].ExtKeyUsage, usage) {
		return nil, errors.New("it isn't for this end of TLS")
	}
	if !slices.ContainsFunc(chain[0].Policies, policy.Equal) {
		return nil, fmt.Errorf("it has the policies %v, not %v", chain[0].Policies, policy)
	}
	return paths[0], nil
}
