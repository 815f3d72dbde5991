package enrolltest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Source from which tests come that speak over a loopback address.
var Source = netip.MustParseAddr("127.0.0.1")

// User and Email of all requests.
const (
	User  = "ann"
	Email = "ann@example.com"
)

// World is a server without a protocol.
type World struct {
	*enroll.Service
	// Dir has the CA's files: root.pem and others.
	Dir string
	Log *slog.Logger

	t      testing.TB
	issuer *ca.Issuer
	admin  directory.By

	mu    sync.Mutex
	ahead time.Duration
}

// New makes a world that ends with the test. Certificates may be renewed at
// once.
func New(t testing.TB) *World {
	t.Helper()
	return NewWith(t, ca.Options{})
}

// NewWith makes a world with another CA than the usual one.
func NewWith(t testing.TB, o ca.Options) *World {
	t.Helper()
	w := &World{
		t: t, Dir: filepath.Join(t.TempDir(), "pki"),
		Log:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		admin: directory.By{Name: "alice", Source: Source},
	}
	o.Dir = w.Dir
	a, err := ca.Create(time.Now(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	w.issuer = a.Issuer()
	w.Service, err = enroll.New(t.Context(), enroll.Options{
		Directory: directorytest.SQLite(t), Issuer: w.issuer, SealKey: make([]byte, enroll.SealKeySize),
		Policy: enroll.Policy{RenewBefore: ca.DeviceLifetime}, Now: w.Now, Log: w.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Now is the time in this world.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// Turn the clock ahead.
func (w *World) Turn(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

// Request makes a request for a device.
func (w *World) Request(device string) otp.Code {
	w.t.Helper()
	_, code, err := w.CreateRequest(w.t.Context(), w.admin, enroll.NewRequest{User: User, Email: Email, Device: device})
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

// Cancel a request.
func (w *World) Cancel(code otp.Code) {
	w.t.Helper()
	if err := w.CancelRequest(w.t.Context(), w.admin, code.ID); err != nil {
		w.t.Fatal(err)
	}
}

// RevokeCertificate that was issued.
func (w *World) RevokeCertificate(c *x509.Certificate) {
	w.t.Helper()
	if err := w.Revoke(w.t.Context(), w.admin, c.SerialNumber, ca.Unspecified); err != nil {
		w.t.Fatal(err)
	}
}

// Enrolled device of a name with a key, without any protocol.
func (w *World) Enrolled(device string, key crypto.Signer) *x509.Certificate {
	w.t.Helper()
	code := w.Request(device)
	issued, err := w.Enroll(w.t.Context(), enroll.Application{
		Skin: "test", Source: Source, ID: code.ID, Proof: enroll.Proof{Password: &code.Password}, Key: key.Public(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return issued.Certificate
}

// Chain from the issuing CA to the root.
func (w *World) Chain() []*x509.Certificate { return w.issuer.Chain() }

// Authority is an RA of the CA; its key is the last of RSAKeys.
func (w *World) Authority() (*x509.Certificate, *rsa.PrivateKey) {
	w.t.Helper()
	key := RSAKeys()[3]
	issued, err := w.Certify(w.t.Context(), w.admin, ca.Request{Profile: ca.RA, PublicKey: key.Public(), Name: "ra"})
	if err != nil {
		w.t.Fatal(err)
	}
	return issued.Certificate, key
}

// Recorded certificates of devices, as the directory knows them.
func (w *World) Recorded() []directory.Certificate {
	w.t.Helper()
	all, err := w.Directory().Certificates(w.t.Context(), directory.CertificateFilter{Profile: ca.Device})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// Verify that a certificate is a device's of this CA.
func (w *World) Verify(c *x509.Certificate, device string, key crypto.PublicKey) {
	w.t.Helper()
	chain := w.Chain()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[:len(chain)-1] {
		between.AddCert(c)
	}
	if _, err := c.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: w.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		w.t.Errorf("certificate of %s: %v", device, err)
	}
	if c.Subject.CommonName != device {
		w.t.Errorf("certificate for %q, want %q", c.Subject.CommonName, device)
	}
	if k, ok := key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(c.PublicKey) {
		w.t.Errorf("certificate of %s for another key", device)
	}
}

// Serve a handler by TLS as device listeners do: client certificates are asked
// for and not verified. The server's certificate is one of this CA for
// localhost and 127.0.0.1.
func (w *World) Serve(h http.Handler) *httptest.Server {
	w.t.Helper()
	key := ECKey(w.t)
	issued, err := w.Certify(w.t.Context(), w.admin, ca.Request{
		Profile: ca.Server, PublicKey: key.Public(), DNSNames: []string{"localhost"}, Addresses: []netip.Addr{Source},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(w.Log.Handler(), slog.LevelDebug)
	server.TLS = &tls.Config{
		ClientAuth: tls.RequestClientCert,
		// strongSwan reads an answer in at most two TLS records.
		DynamicRecordSizingDisabled: true,
		Certificates: []tls.Certificate{{
			Certificate: [][]byte{issued.Certificate.Raw, issued.Chain[0].Raw}, PrivateKey: key,
		}},
	}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	return server
}

// Client of a server with a client certificate, or without. It is for HTTP/1.1,
// as devices are.
func (w *World) Client(certificate *x509.Certificate, key crypto.Signer) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(w.Chain()[len(w.Chain())-1])
	config := &tls.Config{RootCAs: roots}
	if certificate != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableCompression: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Broken is an enroller whose database is away.
type Broken struct{ Err error }

// Enroll fails.
func (b Broken) Enroll(context.Context, enroll.Application) (enroll.Issued, error) {
	return enroll.Issued{}, b.Err
}

// Renew fails.
func (b Broken) Renew(context.Context, enroll.Renewal) (enroll.Issued, error) {
	return enroll.Issued{}, b.Err
}

// ECKey on P-256.
func ECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
