package client_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/discovery"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/jointest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// options to enroll with an instance directly.
func options(i *jointest.Instance, code otp.Code) client.Options {
	return client.Options{Code: code, Server: i.Name, Dial: jointest.NewDial(map[string]string{i.Name + ":443": i.Address}).Context}
}

func TestJoin(t *testing.T) {
	for _, algorithm := range client.KeyAlgorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			i := jointest.New(t, jointest.Options{})
			o := options(i, i.Request())
			var err error
			if o.Key, err = client.GenerateKey(algorithm); err != nil {
				t.Fatal(err)
			}
			var saved int
			o.Save = func(p client.Pending) error {
				saved++
				if p.Key != o.Key || p.Trust.InstanceOID != i.CA.InstanceOID().String() {
					t.Errorf("to be saved: %+v", p)
				}
				return nil
			}
			r, err := client.Join(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Certificate.Subject.CommonName != "device-1" || !r.Key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(r.Certificate.PublicKey) {
				t.Errorf("certificate of %s", r.Certificate.Subject)
			}
			if !r.Root.Equal(i.CA.Root()) || len(r.Chain) != 2 || !r.Chain[0].Equal(i.CA.Issuing()) {
				t.Errorf("root %s, chain of %d", r.Root.Subject, len(r.Chain))
			}
			if r.Instance != "Instance enroll.example" || r.Server != i.Name || r.InstanceOID != i.CA.InstanceOID().String() {
				t.Errorf("%s, %s, %s", r.Instance, r.Server, r.InstanceOID)
			}
			var told enroll.Configuration
			if err := json.Unmarshal(r.Configuration, &told); err != nil || told.Gateways[0].Identity != "vpn.example" {
				t.Errorf("configuration %s: %v", r.Configuration, err)
			}
			if !r.RenewFrom.After(time.Now()) || !r.RenewFrom.Before(r.Certificate.NotAfter) || len(r.Notes) != 0 || saved != 1 {
				t.Errorf("renewal %s, notes %v, saved %d times", r.RenewFrom, r.Notes, saved)
			}
			recorded, err := i.Directory().Certificate(t.Context(), ca.SerialString(r.Certificate.SerialNumber))
			if err != nil || !slices.Equal(recorded.DER, r.Certificate.Raw) {
				t.Errorf("recorded: %v", err)
			}
		})
	}
}

// A code that is used up, mistyped, or of another installation: the device
// believes nothing and asks for nothing.
func TestCodesThatDontFit(t *testing.T) {
	var asked atomic.Int64
	i := jointest.New(t, jointest.Options{Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/certificate") {
				asked.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	}})
	used := i.Request()
	if _, err := client.Join(t.Context(), options(i, used)); err != nil {
		t.Fatal(err)
	}
	mistyped := i.Request()
	mistyped.Password[3] ^= 4
	asked.Store(0)
	for name, code := range map[string]otp.Code{"used": used, "mistyped": mistyped, "of another installation": otp.New()} {
		r, err := client.Join(t.Context(), options(i, code))
		if !errors.Is(err, client.ErrUnproven) || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d certificate requests were sent to a server that couldn't show the code", n)
	}
}

// cutting breaks connections off: after the answer was made, before it is sent.
func cutting(path string, times int64) (func(http.Handler) http.Handler, *atomic.Int64) {
	var seen atomic.Int64
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path && seen.Add(1) <= times {
				h.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	}, &seen
}

// The answer gets lost: the device asks again with the same key and gets the
// same certificate, of which there is one.
func TestLostAnswer(t *testing.T) {
	wrap, seen := cutting("/join/certificate", 2)
	i := jointest.New(t, jointest.Options{Wrap: wrap})
	r, err := client.Join(t.Context(), options(i, i.Request()))
	if err != nil {
		t.Fatal(err)
	}
	if seen.Load() != 3 {
		t.Errorf("asked %d times, want 3", seen.Load())
	}
	certificates, err := i.Directory().Certificates(t.Context(), directory.CertificateFilter{Profile: ca.Device})
	if err != nil || len(certificates) != 1 || !slices.Equal(certificates[0].DER, r.Certificate.Raw) {
		t.Errorf("%d certificates were issued: %v", len(certificates), err)
	}
}

// losePower of a device when it has asked; what it saved before.
func losePower(t *testing.T, i *jointest.Instance, code otp.Code) (pending *client.Pending) {
	t.Helper()
	o := options(i, code)
	ctx, lost := context.WithCancel(t.Context())
	o.Save = func(p client.Pending) error { pending = &p; return nil }
	o.Say = func(line string) {
		if strings.Contains(line, "trying again") {
			lost()
		}
	}
	if _, err := client.Join(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return pending
}

// The device loses power after it has asked: with what it saved before it gets
// the certificate of the key that it has; with another key it gets none.
func TestLostPower(t *testing.T) {
	wrap, _ := cutting("/join/certificate", 1)
	i := jointest.New(t, jointest.Options{Wrap: wrap})
	code := i.Request()
	pending := losePower(t, i, code)
	if pending == nil {
		t.Fatal("nothing was saved before the code was used")
	}
	if _, err := client.Join(t.Context(), options(i, code)); !errors.Is(err, client.ErrUnproven) {
		t.Errorf("with another key: %v", err)
	}
	o := options(i, code)
	o.Pending, o.Server = pending, ""
	r, err := client.Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !pending.Key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(r.Certificate.PublicKey) {
		t.Error("the certificate isn't that of the saved key")
	}
}

// What can't be saved isn't asked for.
func TestNothingIsAskedUnsaved(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	code := i.Request()
	o := options(i, code)
	full := errors.New("disk is full")
	o.Save = func(client.Pending) error { return full }
	if _, err := client.Join(t.Context(), o); !errors.Is(err, full) {
		t.Fatal(err)
	}
	if _, err := client.Join(t.Context(), options(i, code)); err != nil {
		t.Errorf("the code is used up: %v", err)
	}
}

// A key that the policy doesn't take is a refusal with its reason, and leaves
// the code unused.
func TestKeyThatIsRefused(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	first, err := client.Join(t.Context(), options(i, i.Request()))
	if err != nil {
		t.Fatal(err)
	}
	code := i.Request()
	o := options(i, code)
	o.Key = first.Key
	if _, err := client.Join(t.Context(), o); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "another device") {
		t.Errorf("%v", err)
	}
	if _, err := client.Join(t.Context(), options(i, code)); err != nil {
		t.Errorf("with a key of its own: %v", err)
	}
}

// A clock that is wrong is told, and no reason to fail.
func TestWrongClock(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	i.Turn(5 * time.Hour)
	r, err := client.Join(t.Context(), options(i, i.Request()))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "clock") {
		t.Errorf("notes %q", r.Notes)
	}
}

// By e-mail address: the published name leads to the instance that has the
// request, and the address isn't told to anybody.
func TestJoinByAddress(t *testing.T) {
	const secret = "ann.secret"
	var leaked atomic.Bool
	watch := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, watchFor(r.Body, secret, &leaked), 1<<20)
			h.ServeHTTP(w, r)
		})
	}
	one := jointest.New(t, jointest.Options{Name: "mobileenroll.example.com", Wrap: watch})
	two := jointest.New(t, jointest.Options{Name: "mobileenroll02.example.com:8443", Wrap: watch})
	connect(t, one, two)
	places := map[string]string{"mobileenroll.example.com:443": one.Address, "mobileenroll02.example.com:8443": two.Address}
	for _, c := range []struct {
		of     *jointest.Instance
		dialed []string
	}{
		{one, []string{"mobileenroll.example.com:443", "mobileenroll.example.com:443"}},
		{two, []string{"mobileenroll.example.com:443", "mobileenroll02.example.com:8443"}},
	} {
		dial := jointest.NewDial(places)
		r, err := client.Join(t.Context(), client.Options{Code: c.of.Request(), Email: secret + "@Example.com", Dial: dial.Context})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Root.Equal(c.of.CA.Root()) || !slices.Equal(dial.Dialed(), c.dialed) {
			t.Errorf("root %s, dialled %v, want %v", r.Root.Subject, dial.Dialed(), c.dialed)
		}
	}
	dial := jointest.NewDial(places)
	if _, err := client.Join(t.Context(), client.Options{Code: otp.New(), Email: "ann@example.com", Dial: dial.Context}); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a code of nobody: %v", err)
	}
	if leaked.Load() {
		t.Error("the address was sent")
	}
}

// The second name is asked where the first one isn't there, or is something
// else.
func TestSecondName(t *testing.T) {
	i := jointest.New(t, jointest.Options{Name: "enterpriseenrollment.example.com"})
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	r, err := client.Join(t.Context(), client.Options{Code: i.Request(), Email: "ann@example.com", Dial: jointest.NewDial(map[string]string{
		"mobileenroll.example.com:443": elsewhere.Listener.Addr().String(), "enterpriseenrollment.example.com:443": i.Address,
	}).Context})
	if err != nil || !r.Root.Equal(i.CA.Root()) {
		t.Errorf("%v", err)
	}
}

// watchFor a text in what is read.
func watchFor(r io.ReadCloser, text string, found *atomic.Bool) io.ReadCloser {
	return watching{r, text, found, new(bytes.Buffer)}
}

type watching struct {
	io.ReadCloser
	text  string
	found *atomic.Bool
	seen  *bytes.Buffer
}

func (w watching) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.seen.Write(b[:n])
	if bytes.Contains(bytes.ToLower(w.seen.Bytes()), []byte(w.text)) {
		w.found.Store(true)
	}
	return n, err
}

// connect two instances, of which the first is published.
func connect(t *testing.T, published, other *jointest.Instance) {
	t.Helper()
	as := func(i *jointest.Instance, name, url string) discovery.Instance {
		roots := x509.NewCertPool()
		roots.AddCert(i.CA.Root())
		return discovery.Instance{Name: name, URL: url, Roots: roots, OID: i.CA.InstanceOID()}
	}
	asker := discovery.Identity{Certificate: published.Certificate(ca.Peer, "one.internal")}
	asked := discovery.Identity{Certificate: other.Certificate(ca.Peer, "two.internal")}
	known := []discovery.Instance{as(published, "one.internal", "")}
	listener := httptest.NewUnstartedServer(discovery.Handler(discovery.Local{Name: other.Name, Prover: other.Service}, known, nil))
	listener.TLS = discovery.ServerConfig(asked, known)
	listener.StartTLS()
	t.Cleanup(listener.Close)
	finder, err := discovery.New(discovery.Options{
		Local: discovery.Local{Name: published.Name, Prover: published.Service}, Identity: asker, Deadline: time.Minute,
		Others: []discovery.Instance{as(other, "two.internal", listener.URL)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(finder.Close)
	published.Finder = finder
}
