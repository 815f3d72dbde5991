package accounts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// Why a certificate is no device's.
const (
	noCertificate = iota // and one has to be shown
	untrusted            // no chain to a root, expired, or not for clients
	otherInstance        // without the policy of devices of this installation
	unrecorded           // not in the directory, or another one with its serial number
	revoked
	reasons
)

var reasonNames = [reasons]string{"no_certificate", "untrusted", "other_instance", "unrecorded", "revoked"}

// Record of certificates.
type Record interface {
	Certificate(ctx context.Context, serial string) (directory.Certificate, error)
}

// IdentityOptions of an Identity.
type IdentityOptions struct {
	// Roots of devices' certificates, and Intermediates that they don't show.
	Roots, Intermediates []*x509.Certificate
	// Instances: OIDs, one of which a device's certificate carries.
	Instances []x509.OID
	Record    Record
	// Optional lets in who shows no certificate: it has to prove otherwise who it
	// is.
	Optional bool
	Now      func() time.Time
}

// Identity knows devices by their client certificates: chain, purpose, instance,
// and the record of what was issued, which has each certificate octet by octet
// with its one device. What it found holds for recheck, so that a session of
// several messages costs one look into the database.
type Identity struct {
	o                    IdentityOptions
	roots, intermediates *x509.CertPool
	refused              [reasons]atomic.Uint64

	mu    sync.Mutex
	known map[[sha256.Size]byte]verdict
}

type verdict struct {
	device, serial string
	until          time.Time
}

const (
	// recheck is how long a certificate is believed that was looked up.
	recheck = 2 * time.Second
	// maxKnown bounds what is remembered.
	maxKnown = 20_000
)

// NewIdentity.
func NewIdentity(o IdentityOptions) *Identity {
	i := &Identity{o: o, roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), known: map[[sha256.Size]byte]verdict{}}
	for _, c := range o.Roots {
		i.roots.AddCert(c)
	}
	for _, c := range o.Intermediates {
		i.intermediates.AddCert(c)
	}
	return i
}

// Identify is for server.Config: whose certificate it is. The error is
// server.ErrRefused, or the directory's, when it can't be asked.
func (i *Identity) Identify(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		if i.o.Optional {
			return "", nil
		}
		return "", i.refuse(noCertificate, nil)
	}
	c := r.TLS.PeerCertificates[0]
	sum := sha256.Sum256(c.Raw)
	now := i.o.Now()
	i.mu.Lock()
	v, ok := i.known[sum]
	i.mu.Unlock()
	// A certificate that has ended is not believed for recheck.
	if ok && now.Before(v.until) && !now.After(c.NotAfter) {
		return v.device, nil
	}
	device, serial, err := i.look(r.Context(), now, c, r.TLS.PeerCertificates[1:], sum)
	if err != nil {
		return "", err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.known) >= maxKnown {
		i.sweep(now)
	}
	i.known[sum] = verdict{device, serial, now.Add(recheck)}
	return device, nil
}

// sweep takes out what is too old, or all.
func (i *Identity) sweep(now time.Time) {
	for sum, v := range i.known {
		if !now.Before(v.until) {
			delete(i.known, sum)
		}
	}
	if len(i.known) >= maxKnown {
		clear(i.known)
	}
}

// maxShown is how many certificates a device may show beside its own.
const maxShown = 4

func (i *Identity) look(ctx context.Context, now time.Time, c *x509.Certificate, shown []*x509.Certificate, sum [sha256.Size]byte) (device, serial string, err error) {
	if len(shown) > maxShown {
		return "", "", i.refuse(untrusted, fmt.Errorf("%d certificates", len(shown)+1))
	}
	intermediates := i.intermediates
	if len(shown) > 0 {
		intermediates = intermediates.Clone()
		for _, s := range shown {
			intermediates.AddCert(s)
		}
	}
	if _, err := c.Verify(x509.VerifyOptions{
		Roots: i.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return "", "", i.refuse(untrusted, err)
	}
	if !slices.ContainsFunc(i.o.Instances, func(oid x509.OID) bool { return ca.Has(c, oid, ca.Device) }) {
		return "", "", i.refuse(otherInstance, fmt.Errorf("certificate of %s", c.Subject.CommonName))
	}
	serial = ca.SerialString(c.SerialNumber)
	known, err := i.o.Record.Certificate(ctx, serial)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return "", "", i.refuse(unrecorded, err)
	case err != nil:
		return "", "", err
	case known.Profile != ca.Device || known.Device == "" || !bytes.Equal(known.SHA256, sum[:]):
		return "", "", i.refuse(unrecorded, fmt.Errorf("certificate of %s with serial number %s", c.Subject.CommonName, serial))
	case !known.Revoked.IsZero():
		return "", "", i.refuse(revoked, fmt.Errorf("certificate of %s", known.Device))
	}
	return known.Device, serial, nil
}

func (i *Identity) refuse(why int, err error) error {
	i.refused[why].Add(1)
	if err == nil {
		return fmt.Errorf("%w: %s", server.ErrRefused, reasonNames[why])
	}
	return fmt.Errorf("%w: %s: %w", server.ErrRefused, reasonNames[why], err)
}

// forget what was found about a certificate.
func (i *Identity) forget(serial string) {
	if i == nil || serial == "" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for sum, v := range i.known {
		if v.serial == serial {
			delete(i.known, sum)
		}
	}
}

// Refused counts by reason.
func (i *Identity) Refused() map[string]uint64 {
	out := make(map[string]uint64, reasons)
	for n := range reasons {
		out[reasonNames[n]] = i.refused[n].Load()
	}
	return out
}
