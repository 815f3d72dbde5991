package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/scep"
	"github.com/roamgate/roamgate/gatewayd/config"
)

const (
	// raBits of the registration authority's key: SCEP encrypts to it.
	raBits = 3072
	// raEnding: it is made anew so long before its certificate ends.
	raEnding = 30 * 24 * time.Hour
	// raLook is how often it is looked whether it is time.
	raLook = time.Hour
)

// registrar keeps the registration authority of SCEP: a key and a certificate,
// in files beside the key of the database. Writing the certificate decides that it
// is replaced: the new key waits in a third file for it, so that whatever fails, or
// is killed, leaves the pair of before or the new one.
type registrar struct {
	registrarOptions
	current atomic.Pointer[scep.Authority]
}

type registrarOptions struct {
	// base of the files' names: .key and .pem, and .key.new between the two.
	base string
	// chain from the issuing CA to the root.
	chain   []*x509.Certificate
	certify func(context.Context, ca.Request) (*x509.Certificate, error)
	log     *slog.Logger
}

// newRegistrar reads what there is, or makes it.
func newRegistrar(ctx context.Context, o registrarOptions) (*registrar, error) {
	r := &registrar{registrarOptions: o}
	ra, err := readAuthority(o.base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errNoPair):
		o.log.Warn("the registration authority of SCEP is made anew", slog.Any("error", err))
	case err != nil:
		return nil, err
	case r.good(ra):
		r.current.Store(&ra)
		return r, nil
	}
	return r, r.replace(ctx)
}

// authority of now.
func (r *registrar) authority() scep.Authority { return *r.current.Load() }

// good says whether it may go on for some time, or to its end because another one
// wouldn't outlive it.
func (r *registrar) good(ra scep.Authority) bool {
	if ra.Certificate.CheckSignatureFrom(r.chain[0]) != nil {
		return false
	}
	end := ra.Certificate.NotAfter
	left := time.Until(end)
	return left > raEnding || left > 0 && slices.ContainsFunc(r.chain, func(above *x509.Certificate) bool { return !end.Before(above.NotAfter) })
}

// run renews it in time until ctx ends. What fails is tried again an hour later.
func (r *registrar) run(ctx context.Context) {
	look := time.NewTicker(raLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if r.good(r.authority()) {
			continue
		}
		if err := r.replace(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("registration authority of SCEP isn't renewed", slog.Time("ends", r.authority().Certificate.NotAfter), slog.Any("error", err))
		}
	}
}

// replace it by one with a new key.
func (r *registrar) replace(ctx context.Context) error {
	key, err := rsa.GenerateKey(rand.Reader, raBits)
	if err != nil {
		return err
	}
	certificate, err := r.certify(ctx, ca.Request{Profile: ca.RA, Name: "scep", PublicKey: key.Public()})
	if err != nil {
		return err
	}
	text, err := ca.EncodeKey(key)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := ca.WriteFile(r.base+newKey, text, 0o600, true); err != nil {
		return err
	}
	if err := ca.WriteFile(r.base+".pem", ca.EncodeCertificates(certificate), 0o644, true); err != nil {
		return err
	}
	r.current.Store(&scep.Authority{Certificate: certificate, Key: key})
	return os.Rename(r.base+newKey, r.base+".key")
}

// newKey ends the name of a key whose certificate may not be there yet.
const newKey = ".key.new"

// errNoPair: the key isn't that of the certificate.
var errNoPair = errors.New("key and certificate don't belong together")

func readAuthority(base string) (ra scep.Authority, err error) {
	text, err := os.ReadFile(base + ".pem")
	if err != nil {
		return ra, err
	}
	list, err := admit.ParseCertificates(text)
	if err != nil {
		return ra, err
	}
	ra, err = readPair(base+".key", list[0])
	if !errors.Is(err, errNoPair) && !errors.Is(err, fs.ErrNotExist) {
		return ra, err
	}
	next, failure := readPair(base+newKey, list[0])
	if failure != nil {
		return ra, err
	}
	return next, os.Rename(base+newKey, base+".key")
}

func readPair(name string, certificate *x509.Certificate) (ra scep.Authority, err error) {
	secret, err := os.ReadFile(name)
	if err != nil {
		return ra, err
	}
	defer clear(secret)
	parsed, err := config.ParsePrivateKey(secret)
	if err != nil {
		return ra, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return ra, fmt.Errorf("%w: %s and the certificate beside it", errNoPair, name)
	}
	return scep.Authority{Certificate: certificate, Key: key}, nil
}
