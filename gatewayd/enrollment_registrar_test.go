package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// TestRegistrarRenews: while a server runs its registration authority is made anew
// before it ends, also if that fails at first, and a start takes over what there is.
func TestRegistrarRenews(t *testing.T) {
	authority, o := registrarParts(t)
	synctest.Test(t, func(t *testing.T) {
		var failures atomic.Int64
		o.certify = func(_ context.Context, r ca.Request) (*x509.Certificate, error) {
			if failures.Add(-1) >= 0 {
				return nil, errors.New("the database is away")
			}
			return authority.Issuer().Sign(time.Now(), r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r, err := newRegistrar(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.run(ctx)
		}()
		first := r.authority()
		time.Sleep(time.Until(first.Certificate.NotAfter.Add(-raEnding)) - 2*raLook)
		synctest.Wait()
		if r.authority().Certificate != first.Certificate {
			t.Fatal("made anew although there was time")
		}
		failures.Store(2)
		time.Sleep(5 * raLook)
		synctest.Wait()
		second := r.authority()
		if second.Certificate.Equal(first.Certificate) || time.Until(second.Certificate.NotAfter) <= raEnding ||
			!second.Key.Public().(*rsa.PublicKey).Equal(second.Certificate.PublicKey) || failures.Load() != -1 {
			t.Fatalf("%v before its end it ends at %v; %d failures are left", raEnding, second.Certificate.NotAfter, failures.Load())
		}
		cancel()
		<-ended
		if r, err = newRegistrar(t.Context(), o); err != nil || !r.authority().Certificate.Equal(second.Certificate) {
			t.Fatalf("not taken over: %v", err)
		}
		// Killed while it was made anew: the new key is there, its certificate isn't.
		key, err := rsa.GenerateKey(rand.Reader, raBits)
		if err != nil {
			t.Fatal(err)
		}
		text, err := ca.EncodeKey(key)
		if err == nil {
			err = os.WriteFile(o.base+".key", text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err = newRegistrar(t.Context(), o); err != nil || r.authority().Certificate.Equal(second.Certificate) {
			t.Fatalf("after a kill: %v", err)
		}
		if _, err := readAuthority(o.base); err != nil {
			t.Error(err)
		}
	})
}

// TestRegistrarAtTheEnd: the last authority of a chain goes on to the chain's end,
// because another one wouldn't outlive it.
func TestRegistrarAtTheEnd(t *testing.T) {
	authority, o := registrarParts(t)
	synctest.Test(t, func(t *testing.T) {
		end := authority.Issuing().NotAfter
		time.Sleep(time.Until(end.Add(-raEnding + 10*24*time.Hour)))
		ctx, cancel := context.WithCancel(t.Context())
		r, err := newRegistrar(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		last := r.authority()
		if !last.Certificate.NotAfter.Equal(end) {
			t.Fatalf("it ends at %v, its chain at %v", last.Certificate.NotAfter, end)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.run(ctx)
		}()
		time.Sleep(5 * raLook)
		synctest.Wait()
		if !r.authority().Certificate.Equal(last.Certificate) {
			t.Error("made anew with the same end")
		}
		cancel()
		<-ended
		if r, err = newRegistrar(t.Context(), o); err != nil || !r.authority().Certificate.Equal(last.Certificate) {
			t.Errorf("not taken over: %v", err)
		}
		time.Sleep(time.Until(end))
		if r, err = newRegistrar(t.Context(), o); !errors.Is(err, ca.ErrRequest) {
			t.Errorf("after the end of the chain: %v", err)
		}
	})
}

// TestRegistrarWriteFails: wherever a replacement stops, there is a pair in use, in
// memory and in the files.
func TestRegistrarWriteFails(t *testing.T) {
	_, o := registrarParts(t)
	synctest.Test(t, func(t *testing.T) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		r, err := newRegistrar(t.Context(), o)
		must(err)
		first := r.authority()
		taken := func(when string, want *x509.Certificate) {
			t.Helper()
			r, err := newRegistrar(t.Context(), o)
			if err != nil || !r.authority().Certificate.Equal(want) {
				t.Errorf("%s: another one is used, %v", when, err)
			}
		}
		// A folder in the place of the certificate.
		must(os.Rename(o.base+".pem", o.base+".aside"))
		must(os.Mkdir(o.base+".pem", 0o700))
		if err := r.replace(t.Context()); err == nil || !r.authority().Certificate.Equal(first.Certificate) {
			t.Errorf("the certificate can't be written: %v", err)
		}
		must(os.Remove(o.base + ".pem"))
		must(os.Rename(o.base+".aside", o.base+".pem"))
		taken("after a failure", first.Certificate)

		old, err := os.ReadFile(o.base + ".key")
		must(err)
		must(r.replace(t.Context()))
		second := r.authority()
		taken("replaced", second.Certificate)
		// Killed after the certificate was written.
		must(os.Rename(o.base+".key", o.base+newKey))
		must(os.WriteFile(o.base+".key", old, 0o600))
		taken("killed", second.Certificate)
		if _, err := os.Stat(o.base + newKey); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the new key isn't in its place: %v", err)
		}
		taken("later", second.Certificate)
	})
}

// registrarParts are a CA of the year 2000, in which the clock of synctest starts,
// and options for it.
func registrarParts(t *testing.T) (*ca.CA, registrarOptions) {
	authority, err := ca.Create(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), ca.Options{Dir: filepath.Join(t.TempDir(), "pki")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { authority.Close() })
	return authority, registrarOptions{
		base: filepath.Join(t.TempDir(), "scep"), chain: authority.Issuer().Chain(), log: slog.New(slog.DiscardHandler),
		certify: func(_ context.Context, r ca.Request) (*x509.Certificate, error) {
			return authority.Issuer().Sign(time.Now(), r)
		},
	}
}
