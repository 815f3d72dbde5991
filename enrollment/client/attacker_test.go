package client_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/jointest"
)

// Two attackers. The one between has a TLS connection to each side and may say
// on either whatever it likes: it is who owns the network. The one inside
// changes what travels within the connection between device and server: nobody
// can do that without breaking TLS, so it shows what the MACs are worth alone.

// attack changes what passes: a message on its way to the server, or an answer
// on its way to the device. It returns what goes on.
type attack struct {
	request, answer func(path string, body []byte) []byte
}

func (a *attack) onRequest(path string, body []byte) []byte {
	if a.request == nil {
		return body
	}
	return a.request(path, body)
}

func (a *attack) onAnswer(path string, body []byte) []byte {
	if a.answer == nil {
		return body
	}
	return a.answer(path, body)
}

// inside wraps the server's handler.
func (a *attack) inside(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(a.onRequest(r.URL.Path, body)))
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, r)
		if recorder.Code == http.StatusOK {
			recorder.Body = bytes.NewBuffer(a.onAnswer(r.URL.Path, recorder.Body.Bytes()))
		}
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		w.Write(recorder.Body.Bytes())
	})
}

// between listens and passes on to the real server.
func (a *attack) between(t *testing.T, server string) string {
	upstream := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(upstream.CloseIdleConnections)
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		response, err := upstream.Post("https://"+server+r.URL.Path, "application/json", bytes.NewReader(a.onRequest(r.URL.Path, body)))
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		body, _ = io.ReadAll(response.Body)
		if response.StatusCode == http.StatusOK {
			body = a.onAnswer(r.URL.Path, body)
		}
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		w.WriteHeader(response.StatusCode)
		w.Write(body)
	}))
	t.Cleanup(proxy.Close)
	return proxy.Listener.Addr().String()
}

// change one kind of message.
func change[M any](t *testing.T, path string, f func(*M)) func(string, []byte) []byte {
	return func(at string, body []byte) []byte {
		if at != path {
			return body
		}
		var m M
		if err := json.Unmarshal(body, &m); err != nil {
			t.Errorf("%s: %v", body, err)
			return body
		}
		f(&m)
		out, err := json.Marshal(m)
		if err != nil {
			t.Error(err)
		}
		return out
	}
}

// evil is the attacker's own installation.
func evil(t *testing.T) (*ca.CA, join.Trust) {
	t.Helper()
	a := catest.New(t, time.Now())
	return a, join.TrustOf(a.Issuer(), "Instance enroll.example", "enroll.example")
}

// certificatesOf devices that were issued, in DER.
func certificatesOf(t *testing.T, i *jointest.Instance) [][]byte {
	t.Helper()
	list, err := i.Directory().Certificates(t.Context(), directory.CertificateFilter{Profile: ca.Device})
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, c := range list {
		all = append(all, c.DER)
	}
	return all
}

// Whatever the attacker changes, the device ends with nothing. Where the server
// hasn't issued, the code is as good as before.
func TestAttackerInside(t *testing.T) {
	evilCA, evilTrust := evil(t)
	evilKey, err := client.GenerateKey(client.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	evilCSR, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, evilKey)
	if err != nil {
		t.Fatal(err)
	}
	otherOID := ca.NewInstanceOID().String()
	trust := func(f func(*join.TrustResponse)) func(string, []byte) []byte { return change(t, join.TrustPath, f) }
	issued := func(f func(*join.CertificateResponse)) func(string, []byte) []byte {
		return change(t, join.CertificatePath, f)
	}
	// both messages say the same of themselves, or they don't belong together.
	hello := func(f func(*join.Hello)) func(string, []byte) []byte {
		first := change(t, join.TrustPath, func(m *join.TrustRequest) { f(&m.Hello) })
		second := change(t, join.CertificatePath, func(m *join.CertificateRequest) { f(&m.Hello) })
		return func(path string, body []byte) []byte { return second(path, first(path, body)) }
	}
	var current atomic.Pointer[attack] // nil: nobody attacks
	i := jointest.New(t, jointest.Options{Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if a := current.Load(); a != nil {
				a.inside(h).ServeHTTP(w, r)
			} else {
				h.ServeHTTP(w, r)
			}
		})
	}})
	for name, c := range map[string]struct {
		attack
		want error
		// issues: the server has issued before the attack, to the device's key.
		issues bool
	}{
		"own root":      {attack{answer: trust(func(m *join.TrustResponse) { m.Trust = evilTrust })}, client.ErrUnproven, false},
		"root swapped":  {attack{answer: trust(func(m *join.TrustResponse) { m.Root = evilTrust.Root })}, client.ErrUnproven, false},
		"chain swapped": {attack{answer: trust(func(m *join.TrustResponse) { m.Chain = evilTrust.Chain })}, client.ErrUnproven, false},
		"chain shorter": {attack{answer: trust(func(m *join.TrustResponse) { m.Chain = m.Chain[:1] })}, client.ErrUnproven, false},
		"instance":      {attack{answer: trust(func(m *join.TrustResponse) { m.InstanceOID = otherOID })}, client.ErrUnproven, false},
		"its name":      {attack{answer: trust(func(m *join.TrustResponse) { m.Instance = "Somebody else" })}, client.ErrUnproven, false},
		"server's name": {attack{answer: trust(func(m *join.TrustResponse) { m.Server = "evil.example" })}, client.ErrUnproven, false},
		"server's nonce": {attack{answer: trust(func(m *join.TrustResponse) {
			m.Nonce[0] ^= 1
		})}, client.ErrUnproven, false},
		"MAC 1": {attack{answer: trust(func(m *join.TrustResponse) { m.MAC[31] ^= 1 })}, client.ErrUnproven, false},
		"version chosen": {attack{answer: trust(func(m *join.TrustResponse) {
			m.Version = 2
		})}, client.ErrUnproven, false},
		"version unknown": {attack{answer: trust(func(m *join.TrustResponse) { m.Version = 7 })}, client.ErrProtocol, false},
		"downgrade":       {attack{request: hello(func(h *join.Hello) { h.Versions = []int{1} })}, client.ErrUnproven, false},
		"device's nonce":  {attack{request: hello(func(h *join.Hello) { h.Nonce[0] ^= 1 })}, client.ErrUnproven, false},
		"another CSR": {attack{request: change(t, join.CertificatePath, func(m *join.CertificateRequest) {
			m.CSR = evilCSR
		})}, client.ErrRefused, false},
		"CSR damaged": {attack{request: change(t, join.CertificatePath, func(m *join.CertificateRequest) {
			m.CSR[len(m.CSR)-1] ^= 1
		})}, client.ErrRefused, false},
		"MAC 2": {attack{request: change(t, join.CertificatePath, func(m *join.CertificateRequest) {
			m.MAC[0] ^= 1
		})}, client.ErrRefused, false},
		"configuration": {attack{answer: issued(func(m *join.CertificateResponse) {
			m.Configuration = bytes.Replace(m.Configuration, []byte("192.0.2.1"), []byte("192.0.2.9"), 1)
		})}, client.ErrTampered, true},
		"certificate": {attack{answer: issued(func(m *join.CertificateResponse) {
			c, err := evilCA.Issuer().Sign(time.Now(), ca.Request{Profile: ca.Device, PublicKey: evilKey.Public(), Name: "device-1"})
			if err != nil {
				t.Error(err)
				return
			}
			m.Certificate, m.Chain = c.Raw, evilTrust.Chain
		})}, client.ErrTampered, true},
		"renewal time": {attack{answer: issued(func(m *join.CertificateResponse) { m.RenewFrom += 1e6 })}, client.ErrTampered, true},
		"MAC 3":        {attack{answer: issued(func(m *join.CertificateResponse) { m.MAC[7] ^= 1 })}, client.ErrTampered, true},
	} {
		t.Run(name, func(t *testing.T) {
			client.OfferVersions(t, 2, 1)
			current.Store(&c.attack)
			before := len(certificatesOf(t, i))
			code := i.Request()
			key, err := client.GenerateKey(client.ECDSAP256)
			if err != nil {
				t.Fatal(err)
			}
			o := options(i, code)
			o.Key = key
			var pending *client.Pending
			o.Save = func(p client.Pending) error { pending = &p; return nil }
			r, err := client.Join(t.Context(), o)
			if r != nil || !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if n := len(certificatesOf(t, i)) - before; n > 1 || n == 1 != c.issues {
				t.Errorf("%d certificates were issued", n)
			}
			if saved := pending != nil; saved && !slices.Equal(pending.Trust.Root, i.CA.Root().Raw) {
				t.Error("another root was kept")
			}
			// Without the attacker it goes on, with the key that was there.
			current.Store(nil)
			o = options(i, code)
			if o.Key = key; pending != nil {
				o.Key, o.Pending = nil, pending
			}
			if r, err = client.Join(t.Context(), o); err != nil {
				t.Fatalf("afterwards: %v", err)
			}
			all := certificatesOf(t, i)
			recorded := slices.ContainsFunc(all, func(der []byte) bool { return slices.Equal(der, r.Certificate.Raw) })
			if len(all)-before != 1 || !recorded {
				t.Errorf("%d certificates in the end, ours recorded: %v", len(all)-before, recorded)
			}
		})
	}
}

// The MACs of one message are of no use in another, nor on the way back.
func TestReflectedMACs(t *testing.T) {
	var mu sync.Mutex
	var fromDevice, fromServer []byte
	keep := func(to *[]byte, mac []byte) {
		mu.Lock()
		defer mu.Unlock()
		*to = bytes.Clone(mac)
	}
	for name, c := range map[string]struct {
		attack
		want error
	}{
		"MAC 1 as MAC 2": {attack{
			answer:  change(t, join.TrustPath, func(m *join.TrustResponse) { keep(&fromServer, m.MAC) }),
			request: change(t, join.CertificatePath, func(m *join.CertificateRequest) { m.MAC = fromServer }),
		}, client.ErrRefused},
		"MAC 2 as MAC 3": {attack{
			request: change(t, join.CertificatePath, func(m *join.CertificateRequest) { keep(&fromDevice, m.MAC) }),
			answer:  change(t, join.CertificatePath, func(m *join.CertificateResponse) { m.MAC = fromDevice }),
		}, client.ErrTampered},
		"MAC 1 as MAC 3": {attack{answer: func() func(string, []byte) []byte {
			first := change(t, join.TrustPath, func(m *join.TrustResponse) { keep(&fromServer, m.MAC) })
			second := change(t, join.CertificatePath, func(m *join.CertificateResponse) { m.MAC = fromServer })
			return func(path string, body []byte) []byte { return second(path, first(path, body)) }
		}()}, client.ErrTampered},
	} {
		t.Run(name, func(t *testing.T) {
			i := jointest.New(t, jointest.Options{Wrap: c.inside})
			if r, err := client.Join(t.Context(), options(i, i.Request())); r != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// An attacker that changes nothing and only sits between is noticed with the
// first MAC: nothing else of the device passes through its hands.
func TestAttackerBetween(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	var mu sync.Mutex
	var seen [][]byte
	var paths []string
	a := attack{request: func(path string, body []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		seen, paths = append(seen, body), append(paths, path)
		return body
	}}
	code := i.Request()
	o := options(i, code)
	o.Dial = jointest.NewDial(map[string]string{"enroll.example:443": a.between(t, i.Address)}).Context
	if r, err := client.Join(t.Context(), o); r != nil || !errors.Is(err, client.ErrUnproven) {
		t.Errorf("%v", err)
	}
	if !slices.Equal(paths, []string{join.TrustPath}) {
		t.Errorf("the attacker saw messages to %v", paths)
	}
	var m map[string]any
	if err := json.Unmarshal(seen[0], &m); err != nil || len(m) != 3 || m["request"] != code.ID.String() {
		t.Errorf("it saw %s", seen[0])
	}
	if _, err := client.Join(t.Context(), options(i, code)); err != nil {
		t.Errorf("without it: %v", err)
	}
}

// An attacker with a server of its own, same names and all, doesn't know the
// password: it can't even answer for a request of its own with that ID.
func TestAttackerWithAServer(t *testing.T) {
	i, own := jointest.New(t, jointest.Options{}), jointest.New(t, jointest.Options{})
	code := i.Request()
	o := options(i, code)
	o.Dial = jointest.NewDial(map[string]string{"enroll.example:443": own.Address}).Context
	if r, err := client.Join(t.Context(), o); r != nil || !errors.Is(err, client.ErrUnproven) {
		t.Errorf("%v", err)
	}
}

// Messages that were overheard, or that the attacker got because the device is
// retrying and has nothing to verify any more: on any other connection they are
// worth nothing, neither to get the certificate nor to use the code up.
func TestReplay(t *testing.T) {
	var mu sync.Mutex
	var overheard []byte
	listening := attack{request: func(path string, body []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if path == join.CertificatePath {
			overheard = body
		}
		return body
	}}
	t.Run("of another connection", func(t *testing.T) {
		i := jointest.New(t, jointest.Options{Wrap: listening.inside})
		if _, err := client.Join(t.Context(), options(i, i.Request())); err != nil {
			t.Fatal(err)
		}
		if status := post(t, i.Address, join.CertificatePath, overheard); status != http.StatusForbidden {
			t.Errorf("the same message on another connection: %d", status)
		}
	})
	t.Run("of a device that retries", func(t *testing.T) {
		wrap, _ := cutting(join.CertificatePath, 1)
		i := jointest.New(t, jointest.Options{Wrap: wrap})
		code := i.Request()
		pending := losePower(t, i, code)
		// From here on the attacker sits between.
		o := options(i, code)
		o.Pending = pending
		o.Dial = jointest.NewDial(map[string]string{"enroll.example:443": listening.between(t, i.Address)}).Context
		if r, err := client.Join(t.Context(), o); r != nil || !errors.Is(err, client.ErrRefused) {
			t.Errorf("%v", err)
		}
		if status := post(t, i.Address, join.CertificatePath, overheard); status != http.StatusForbidden {
			t.Errorf("what the attacker got out of it: %d", status)
		}
		o = options(i, code)
		o.Pending = pending
		if _, err := client.Join(t.Context(), o); err != nil {
			t.Errorf("without it: %v", err)
		}
	})
}

func post(t *testing.T, address, path string, body []byte) int {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	response, err := c.Post("https://"+address+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// Discovery: an attacker can't send the device anywhere, neither with a name
// that it makes up nor with an answer that it had somebody else give.
func TestDiscoveryUnderAttack(t *testing.T) {
	address := func(m *join.DiscoverResponse, names ...string) {
		for _, name := range names {
			m.Servers = append(m.Servers, join.Server{Name: name, MAC: m.Servers[0].MAC})
		}
	}
	discover := func(f func(*join.DiscoverResponse)) func(string, []byte) []byte {
		return change(t, join.DiscoverPath, f)
	}
	const name = "mobileenroll.example.com"
	for what, c := range map[string]struct {
		attack
		between bool
		want    error
	}{
		"another name":  {attack{answer: discover(func(m *join.DiscoverResponse) { m.Servers[0].Name = "evil.example" })}, false, client.ErrUnproven},
		"one more name": {attack{answer: discover(func(m *join.DiscoverResponse) { address(m, "evil.example", "10.0.0.1:22") })}, false, nil},
		"its MAC as ours": {attack{
			request: change(t, join.DiscoverPath, func(m *join.DiscoverRequest) { m.MAC[0] ^= 1 }),
		}, false, client.ErrRefused},
		"passed on": {attack{}, true, client.ErrRefused},
	} {
		t.Run(what, func(t *testing.T) {
			o := jointest.Options{Name: name}
			if !c.between {
				o.Wrap = c.inside
			}
			i := jointest.New(t, o)
			places := map[string]string{name + ":443": i.Address}
			if c.between {
				places[name+":443"] = c.attack.between(t, i.Address)
			}
			dial := jointest.NewDial(places)
			r, err := client.Join(t.Context(), client.Options{Code: i.Request(), Email: "ann@example.com", Dial: dial.Context})
			if !errors.Is(err, c.want) || (r == nil) != (c.want != nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
			for _, dialed := range dial.Dialed() {
				if dialed != name+":443" {
					t.Errorf("the device was sent to %s", dialed)
				}
			}
		})
	}
}
