package discovery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// ErrNotInstance: the peer isn't one of the configured instances.
var ErrNotInstance = errors.New("not one of the configured instances")

// Identity of this instance towards others.
type Identity struct {
	// Certificate with its chain, of the profile ca.Peer.
	Certificate tls.Certificate
}

// Instance is another installation, by configuration.
type Instance struct {
	// Name is a DNS name in its certificate.
	Name string
	// URL of its listener for instances, such as
	// https://enroll2.example.com:8446.
	URL string
	// Roots to which its certificate chains.
	Roots *x509.CertPool
	// OID of the installation.
	OID x509.OID
}

// verify that a chain of certificates is that of this instance, for usage of
// the TLS end at which it stands.
func (i *Instance) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: no certificate", ErrNotInstance)
	}
	leaf, intermediates := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: i.Roots, Intermediates: intermediates, DNSName: i.Name, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotInstance, err)
	}
	for _, needed := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if !slices.Contains(leaf.ExtKeyUsage, needed) {
			return fmt.Errorf("%w: its certificate isn't for both ends of TLS", ErrNotInstance)
		}
	}
	if !ca.Has(leaf, i.OID, ca.Peer) {
		return fmt.Errorf("%w: its certificate isn't one of a server of %s, its policies are %v", ErrNotInstance, i.OID, leaf.Policies)
	}
	return nil
}

// clientConfig to reach it.
func (i *Instance) clientConfig(own Identity) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{own.Certificate},
		ServerName:   i.Name,
		RootCAs:      i.Roots,
		VerifyConnection: func(s tls.ConnectionState) error {
			return i.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth)
		},
	}
}

// ServerConfig of the listener for other instances: it lets in nobody else.
func ServerConfig(own Identity, others []Instance) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{own.Certificate},
		// Each instance has a root of its own, so which one to verify against
		// is known only with the certificate.
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := among(others, s.PeerCertificates)
			return err
		},
	}
}

// among is which of the instances a client's chain belongs to.
func among(others []Instance, chain []*x509.Certificate) (*Instance, error) {
	var errs []error
	for n := range others {
		err := others[n].verify(chain, x509.ExtKeyUsageClientAuth)
		if err == nil {
			return &others[n], nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", others[n].Name, err))
	}
	if len(errs) == 0 {
		return nil, ErrNotInstance
	}
	return nil, errors.Join(errs...)
}
