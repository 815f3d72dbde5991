package push

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"

	"github.com/roamgate/roamgate/control/gcm"
)

// Sign a certificate for a gateway's host name and the public key of its request,
// whose signature was checked, with the policy of agents; its chain in PEM, the
// gateway's first.
type Sign func(ctx context.Context, g Gateway, request *x509.CertificateRequest) ([]byte, error)

// Certify a gateway: fetch its request for a certificate, have it signed and
// push the certificate. With a fingerprint the gateway is known by that, as one
// that is new; without one by the certificate that it has, which is renewed. It
// has a connection of its own: that of configuration goes on. Errors:
// ErrGateway, ErrAnswer, those of sign and of the network.
func (m *Manager) Certify(ctx context.Context, g Gateway, known *Fingerprint, sign Sign) error {
	config := m.tls(g)
	if known != nil {
		config = m.config.Identity.pinned(g, *known)
	}
	c := newClient(g, config, m.config.Dial)
	defer c.close()
	status, der, err := c.ask(ctx, http.MethodGet, gcm.PathIdentity, "", nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%w: status %d for a request for a certificate", ErrAnswer, status)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	// What is signed is what we call it; a gateway that asks for something else
	// may be another one.
	if !slices.Equal(request.DNSNames, []string{g.Host}) {
		return fmt.Errorf("%w: it asks for a certificate for %q, not for %q", ErrGateway, request.DNSNames, g.Host)
	}
	chain, err := sign(ctx, g, request)
	if err != nil {
		return err
	}
	status, said, err := c.ask(ctx, http.MethodPut, gcm.PathIdentity, "application/pem-certificate-chain", chain)
	if err != nil {
		return err
	}
	if status != http.StatusNoContent {
		return fmt.Errorf("%w: it refuses its certificate: status %d: %.200q", ErrAnswer, status, said)
	}
	return nil
}
