package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
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
	authority, err := ca.Create(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), ca.Options{Dir: filepath.Join(t.TempDir(), "pki")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { authority.Close() })
	base := filepath.Join(t.TempDir(), "scep")
	synctest.Test(t, func(t *testing.T) {
		var failures atomic.Int64
		o := registrarOptions{
			base: base, issuer: authority.Issuing(), log: slog.New(slog.DiscardHandler),
			certify: func(_ context.Context, r ca.Request) (*x509.Certificate, error) {
				if failures.Add(-1) >= 0 {
					return nil, errors.New("the database is away")
				}
				return authority.Issuer().Sign(time.Now(), r)
			},
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
			err = os.WriteFile(base+".key", text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err = newRegistrar(t.Context(), o); err != nil || r.authority().Certificate.Equal(second.Certificate) {
			t.Fatalf("after a kill: %v", err)
		}
		if _, err := readAuthority(base); err != nil {
			t.Error(err)
		}
	})
}
