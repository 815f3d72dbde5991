package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// ByCertificate lets in who shows a certificate of profile ca.Admin that the
// issuer signed and the directory has as valid, octet by octet: other CAs below
// the same root could sign one with its serial number. It looks at both itself,
// whatever the listener verified.
func ByCertificate(issuer *ca.Issuer, d Directory, now func() time.Time) Authorize {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(issuer.Root())
	for _, c := range issuer.Chain() {
		intermediates.AddCert(c)
	}
	return func(r *http.Request, _ string) (string, error) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return "", fmt.Errorf("%w: no client certificate", ErrForbidden)
		}
		c := r.TLS.PeerCertificates[0]
		if !ca.Has(c, issuer.InstanceOID(), ca.Admin) {
			return "", fmt.Errorf("%w: the certificate is not an administrator's", ErrForbidden)
		}
		_, err := c.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: now(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrForbidden, err)
		}
		name := c.Subject.CommonName
		sum := sha256.Sum256(c.Raw)
		known, err := d.Certificate(r.Context(), ca.SerialString(c.SerialNumber))
		switch {
		case errors.Is(err, directory.ErrNotFound):
			return name, fmt.Errorf("%w: the certificate is not recorded here", ErrForbidden)
		case err != nil:
			return name, err
		case known.Profile != ca.Admin || !bytes.Equal(known.SHA256, sum[:]):
			return name, fmt.Errorf("%w: the certificate is not recorded here", ErrForbidden)
		case !known.Revoked.IsZero():
			return name, fmt.Errorf("%w: the certificate was revoked", ErrForbidden)
		}
		return name, nil
	}
}

// Only those of whom authorize says that they may and who are among these names;
// without names it is all of them. An administrator's certificate may be meant for
// something else, such as device management.
func Only(names []string, authorize Authorize) Authorize {
	if len(names) == 0 {
		return authorize
	}
	return func(r *http.Request, operation string) (string, error) {
		name, err := authorize(r, operation)
		if err == nil && !slices.Contains(names, name) {
			err = fmt.Errorf("%w: %q is not among those who administer enrollment", ErrForbidden, name)
		}
		return name, err
	}
}

var _ Directory = (*directory.SQL)(nil)
