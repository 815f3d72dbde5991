package push

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
)

// Identity of the manager, and what it knows gateways by.
type Identity struct {
	// Certificate with its chain, for each connection anew. It carries the
	// policy of managers.
	Certificate func() (*tls.Certificate, error)
	// Roots to which gateways' certificates chain.
	Roots *x509.CertPool
	// Agent is the certificate policy of gateways on their management port,
	// below the instance OID.
	Agent x509.OID
}

// Fingerprint of a gateway: the SHA-256 of its SubjectPublicKeyInfo.
type Fingerprint [sha256.Size]byte

// config to reach a gateway that revoked doesn't know; its issuer is the SHA-256
// of the SubjectPublicKeyInfo.
func (i *Identity) config(g Gateway, revoked func(issuer [sha256.Size]byte, serial string) bool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		ServerName: g.Host,
		RootCAs:    i.Roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.Certificate()
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			leaf := s.PeerCertificates[0]
			if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || !slices.ContainsFunc(leaf.Policies, i.Agent.Equal) {
				return fmt.Errorf("%w: %s: its certificate has the policies %v, not %v", ErrGateway, g.Name, leaf.Policies, i.Agent)
			}
			path := s.VerifiedChains[0]
			for n, c := range path[:len(path)-1] {
				if revoked(sha256.Sum256(path[n+1].RawSubjectPublicKeyInfo), string(c.SerialNumber.Bytes())) {
					return fmt.Errorf("%w: %s: the certificate of %q is revoked", ErrGateway, g.Name, c.Subject)
				}
			}
			return nil
		},
	}
}

// pinned is for a gateway that has no certificate of the installation yet.
func (i *Identity) pinned(g Gateway, f Fingerprint) *tls.Config {
	c := i.config(g, nil)
	// The public key says who it is; VerifyConnection runs all the same.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if got := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo); got != f {
			return fmt.Errorf("%w: %s has the fingerprint %x, not %x", ErrGateway, g.Name, got, f)
		}
		return nil
	}
	return c
}

// Gateway that is to be managed.
type Gateway struct {
	// Name that it says it has.
	Name string
	// Address of its management port, with the port.
	Address netip.AddrPort
	// Host is the DNS name in its certificate.
	Host string
}
