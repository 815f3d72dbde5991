package discovery

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/otp"
)

var device = netip.MustParseAddr("192.0.2.7")

// patient is a deadline that says nothing about how fast instances are.
const patient = time.Minute

// keyring lends the keys of some requests, and others for the rest, as an
// enrollment service does.
type keyring struct {
	codes  []otp.Code
	asked  atomic.Int64
	source atomic.Value
	refuse error
}

func (k *keyring) Prove(_ context.Context, id otp.ID, source netip.Addr, use func([]byte)) error {
	k.asked.Add(1)
	k.source.Store(source)
	if k.refuse != nil {
		return k.refuse
	}
	for _, c := range k.codes {
		if c.ID == id {
			use(c.Password.Key(id))
			return nil
		}
	}
	decoy := sha256.Sum256(id[:])
	use(decoy[:])
	return nil
}

// installation is one instance with its CA and its listener for others.
type installation struct {
	keyring
	issuer   *ca.Issuer
	identity Identity
	listener *httptest.Server
	// handled counts inquiries that got past TLS.
	handled atomic.Int64
}

func install(t *testing.T, name string) *installation {
	t.Helper()
	i := &installation{issuer: catest.New(t, time.Now()).Issuer()}
	i.identity.Certificate = *catest.Certificate(t, i.issuer, ca.Request{Profile: ca.Peer, DNSNames: []string{name}})
	return i
}

// as others have it in their configuration.
func (i *installation) as(name, url string) Instance {
	roots := x509.NewCertPool()
	roots.AddCert(i.issuer.Root())
	return Instance{Name: name, URL: url, Roots: roots, OID: i.issuer.InstanceOID()}
}

// listen for others, on loopback.
func (i *installation) listen(t *testing.T, name string, others ...Instance) Instance {
	t.Helper()
	handler := Handler(Local{Name: name, Prover: i}, others, nil)
	i.listener = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.handled.Add(1)
		handler.ServeHTTP(w, r)
	}))
	i.listener.TLS = ServerConfig(i.identity, others)
	i.listener.StartTLS()
	t.Cleanup(i.listener.Close)
	return i.as(name, i.listener.URL)
}

// signed inquiry of a device that has the code.
func signed(code otp.Code) *join.Inquiry {
	q := &join.Inquiry{Binding: make([]byte, join.BindingSize), DiscoverRequest: join.DiscoverRequest{Hello: join.Hello{
		Versions: []int{1}, Request: code.ID.String(), Nonce: make([]byte, join.NonceSize),
	}}}
	q.Sign(code.Password.Key(code.ID))
	return q
}

// One published server, two others: each finds its own requests through it, and
// strangers find nothing, after the same questions.
func TestFindAmongInstances(t *testing.T) {
	one, two, three := install(t, "one.example"), install(t, "two.example"), install(t, "three.example")
	here := one.as("one.example", "https://one.example")
	published, err := New(Options{
		Local: Local{Name: "enroll.example:8443", Prover: one}, Identity: one.identity, Deadline: patient,
		Others: []Instance{two.listen(t, "two.example", here), three.listen(t, "three.example", here)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(published.Close)
	ours, theirs, both := otp.New(), otp.New(), otp.New()
	one.codes = []otp.Code{ours}
	two.codes = []otp.Code{theirs, both}
	three.codes = []otp.Code{both}
	wrong := theirs
	wrong.Password[0] ^= 1
	for name, c := range map[string]struct {
		code otp.Code
		want []string
	}{
		"here": {ours, []string{"enroll.example:8443"}}, "elsewhere": {theirs, []string{"two.example"}},
		"at two": {both, []string{"three.example", "two.example"}},
		"nobody": {otp.New(), nil}, "wrong password": {wrong, nil},
	} {
		asked := [3]int64{one.asked.Load(), two.asked.Load(), three.asked.Load()}
		q := signed(c.code)
		found, err := published.Find(t.Context(), q, device)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var names []string
		for _, s := range found {
			names = append(names, s.Name)
			if !q.Verify(c.code.Password.Key(c.code.ID), s) {
				t.Errorf("%s: the answer of %s can't be verified", name, s.Name)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, c.want) {
			t.Errorf("%s: %v, want %v", name, names, c.want)
		}
		for i, k := range []*keyring{&one.keyring, &two.keyring, &three.keyring} {
			if n := k.asked.Load() - asked[i]; n != 1 {
				t.Errorf("%s: instance %d was asked %d times, want once whatever the answer", name, i+1, n)
			}
			if k.source.Load() != device {
				t.Errorf("%s: instance %d heard of %v", name, i+1, k.source.Load())
			}
		}
	}
}

// Who asks too often is refused before anybody else is asked.
func TestLimitsHoldBeforeOthersAreAsked(t *testing.T) {
	one, two := install(t, "one.example"), install(t, "two.example")
	published, err := New(Options{
		Local: Local{Name: "one.example", Prover: one}, Identity: one.identity, Deadline: patient,
		Others: []Instance{two.listen(t, "two.example", one.as("one.example", ""))},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(published.Close)
	one.refuse = &enroll.Refusal{Reason: enroll.Limited, RetryAfter: time.Minute}
	var refusal *enroll.Refusal
	if _, err := published.Find(t.Context(), signed(otp.New()), device); !errors.As(err, &refusal) || refusal.Reason != enroll.Limited {
		t.Errorf("%v", err)
	}
	if n := two.asked.Load(); n != 0 {
		t.Errorf("the other instance was asked %d times", n)
	}
}

// An instance that doesn't answer is waited for until the deadline and keeps
// nobody from being found at another.
func TestInstanceThatHangs(t *testing.T) {
	one, two, three := install(t, "one.example"), install(t, "two.example"), install(t, "three.example")
	here := one.as("one.example", "")
	stuck := make(chan struct{})
	hanging := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-stuck
	}))
	hanging.TLS = ServerConfig(three.identity, []Instance{here})
	hanging.StartTLS()
	t.Cleanup(func() { close(stuck); hanging.Close() })
	two.codes = []otp.Code{otp.New()}
	others := []Instance{two.listen(t, "two.example", here), three.as("three.example", hanging.URL)}
	// The deadline holds for two, too, which may need a longer one on a machine that
	// has much to do.
	for deadline := time.Second; ; deadline *= 2 {
		published, err := New(Options{Local: Local{Name: "one.example", Prover: one}, Identity: one.identity, Deadline: deadline, Others: others})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(published.Close)
		began := time.Now()
		found, err := published.Find(t.Context(), signed(two.codes[0]), device)
		if took := time.Since(began); took < deadline {
			t.Errorf("waited for %v, want %v", took, deadline)
		}
		if errors.Is(err, ErrIncomplete) && deadline < patient {
			continue
		}
		if err != nil || len(found) != 1 || found[0].Name != "two.example" {
			t.Errorf("a request of another: %v, %v", found, err)
		}
		return
	}
}

// An instance that can't be asked isn't taken for one that doesn't have the
// request.
func TestInstanceThatIsDown(t *testing.T) {
	one, two := install(t, "one.example"), install(t, "two.example")
	other := two.listen(t, "two.example", one.as("one.example", ""))
	two.listener.Close()
	published, err := New(Options{Local: Local{Name: "one.example", Prover: one}, Identity: one.identity, Deadline: patient, Others: []Instance{other}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(published.Close)
	ours := otp.New()
	one.codes = []otp.Code{ours}
	if found, err := published.Find(t.Context(), signed(ours), device); err != nil || len(found) != 1 {
		t.Errorf("a request of ours: %v, %v", found, err)
	}
	if _, err := published.Find(t.Context(), signed(otp.New()), device); !errors.Is(err, ErrIncomplete) {
		t.Errorf("a request that the other one may have: %v", err)
	}
}

// Only the instances that are configured get past the handshake: not a stranger,
// not a device, a gateway or an administrator of theirs, not another instance
// under their name.
func TestWhoMayAsk(t *testing.T) {
	one, two, stranger := install(t, "one.example"), install(t, "two.example"), install(t, "one.example")
	url := two.listen(t, "two.example", one.as("one.example", "")).URL
	peer := func(issuer *ca.Issuer, name string) tls.Certificate {
		return *catest.Certificate(t, issuer, ca.Request{Profile: ca.Peer, DNSNames: []string{name}})
	}
	for name, c := range map[string]struct {
		certificate []tls.Certificate
		allowed     bool
	}{
		"the instance":     {[]tls.Certificate{one.identity.Certificate}, true},
		"nobody":           {nil, false},
		"a stranger":       {[]tls.Certificate{stranger.identity.Certificate}, false},
		"the asked one":    {[]tls.Certificate{two.identity.Certificate}, false},
		"another name":     {[]tls.Certificate{peer(one.issuer, "evil.example")}, false},
		"a device":         {[]tls.Certificate{*catest.Certificate(t, one.issuer, ca.Request{Profile: ca.Device, Name: "one.example"})}, false},
		"a gateway":        {[]tls.Certificate{*catest.Certificate(t, one.issuer, ca.Request{Profile: ca.Gateway, DNSNames: []string{"one.example"}})}, false},
		"a server":         {[]tls.Certificate{*catest.Certificate(t, one.issuer, ca.Request{Profile: ca.Server, DNSNames: []string{"one.example"}})}, false},
		"an administrator": {[]tls.Certificate{*catest.Certificate(t, one.issuer, ca.Request{Profile: ca.Admin, Name: "one.example"})}, false},
	} {
		before := two.handled.Load()
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, Certificates: c.certificate, // the question is who is let in
		}}}
		response, err := client.Post(url+FindPath, "application/json", http.NoBody)
		if err == nil {
			response.Body.Close()
		}
		client.CloseIdleConnections()
		if allowed := two.handled.Load() > before; allowed != c.allowed {
			t.Errorf("%s: let in %v (%v)", name, allowed, err)
		}
	}
}

// The published server asks nobody who isn't the instance that it means.
func TestWhoIsAsked(t *testing.T) {
	one, two, stranger := install(t, "one.example"), install(t, "two.example"), install(t, "two.example")
	here := one.as("one.example", "")
	real := two.listen(t, "two.example", here)
	impostor := stranger.listen(t, "two.example", here)
	twisted := real
	twisted.URL = impostor.URL
	otherOID := real
	otherOID.OID = stranger.issuer.InstanceOID()
	for name, c := range map[string]struct {
		who Instance
		ok  bool
	}{"itself": {real, true}, "an impostor": {twisted, false}, "another installation below the same root": {otherOID, false}} {
		published, err := New(Options{Local: Local{Name: "one.example", Prover: one}, Identity: one.identity, Deadline: patient, Others: []Instance{c.who}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = published.Find(t.Context(), signed(otp.New()), device)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		published.Close()
	}
	if stranger.asked.Load() != 0 {
		t.Error("the impostor heard of a request")
	}
}
