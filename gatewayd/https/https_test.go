package https

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var testLimits = Limits{Connections: 64, PerSource: 32, Rate: 1000, Burst: 1000, Body: 1024, Timeout: time.Minute}

// certificate for names, self-signed.
func certificate(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

type served struct {
	*Server
	at     string
	client *http.Client
}

func serve(t *testing.T, limits Limits, h http.HandlerFunc) served {
	t.Helper()
	return serveAt(t, loopback(t), new(net.Dialer).DialContext, limits, h)
}

// serveAt is serve for a listener that dial leads to.
func serveAt(t *testing.T, l net.Listener, dial func(ctx context.Context, network, address string) (net.Conn, error), limits Limits, h http.HandlerFunc) served {
	t.Helper()
	own := certificate(t, "enroll.test")
	certificates := new(Certificates)
	certificates.Use([]tls.Certificate{own})
	s := New(Config{Handler: h, Certificates: certificates, Limits: limits, Logger: slog.New(slog.DiscardHandler)})
	run(t, s, l)
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "enroll.test"}}
	t.Cleanup(transport.CloseIdleConnections)
	return served{s, l.Addr().String(), &http.Client{Transport: transport, Timeout: time.Minute}}
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run a server until the test ends.
func run(t *testing.T, s *Server, l net.Listener) {
	t.Helper()
	over := make(chan error, 1)
	go func() { over <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func (s served) get(t *testing.T, path string) *http.Response {
	t.Helper()
	r, err := s.client.Get("https://" + s.at + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	return r
}

// Answers have a length whatever their size, and headers that keep browsers
// strict; a panic is an answer too, and tells nothing.
func TestAnswers(t *testing.T) {
	s := serve(t, testLimits, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			for range 100 {
				fmt.Fprint(w, strings.Repeat("x", 1000))
			}
		case "/panic":
			fmt.Fprint(w, "half an answer")
			panic("secret")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		}
	})
	for path, want := range map[string]struct {
		status int
		length int64
	}{"/large": {200, 100_000}, "/panic": {500, 15}, "/none": {204, 0}, "/": {200, 0}} {
		r := s.get(t, path)
		if r.StatusCode != want.status || r.ContentLength != want.length || len(r.TransferEncoding) > 0 {
			t.Errorf("%s: %s, length %d, encoding %v", path, r.Status, r.ContentLength, r.TransferEncoding)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || strings.Contains(string(body), "secret") || strings.Contains(string(body), "half") {
			t.Errorf("%s: %q (%v)", path, body, err)
		}
		for name := range headers {
			if r.Header.Get(name) == "" {
				t.Errorf("%s: no %s", path, name)
			}
		}
		if r.TLS.Version < tls.VersionTLS12 || r.ProtoMajor != 1 {
			t.Errorf("%s: TLS %x, %s", path, r.TLS.Version, r.Proto)
		}
	}
	if st := s.Stats(); st.Requests[5] != 1 || st.Requests[2] != 3 {
		t.Errorf("%+v", st)
	}
}

// A body that is too large is refused by its announced length, and cut off where
// it announced none.
func TestBodies(t *testing.T) {
	read := make(chan error, 1)
	s := serve(t, testLimits, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
	})
	r, err := s.client.Post("https://"+s.at, "text/plain", strings.NewReader(strings.Repeat("x", 2000)))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("announced: %s", r.Status)
	}
	r, err = s.client.Post("https://"+s.at, "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", 2000))))
	if err == nil {
		r.Body.Close()
	}
	var tooLarge *http.MaxBytesError
	if err := <-read; !errors.As(err, &tooLarge) {
		t.Errorf("not announced: %v", err)
	}
}

// pipes is a listener within the process: its connections live by the clock of
// synctest.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { close(p.closed); return nil }

func (pipes) Addr() net.Addr { return fakeAddr("203.0.113.1:443") }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.accepted <- pipeEnd{theirs}
	return ours, nil
}

type pipeEnd struct{ net.Conn }

func (pipeEnd) RemoteAddr() net.Addr { return fakeAddr("192.0.2.1:1000") }

// Clients that dribble are ended by the server in time, and not before; another
// one is served meanwhile.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipes{make(chan net.Conn), make(chan struct{})}
		s := serveAt(t, p, p.dial, testLimits, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		began := time.Now()
		var slow sync.WaitGroup
		// ended waits for the server's end of a connection.
		ended := func(what string, c io.Reader, want time.Duration) {
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: still open", what)
			} else if took := time.Since(began); took != want {
				t.Errorf("%s: ended after %v, want %v (%v)", what, took, want, err)
			}
		}
		dial := func() net.Conn {
			c, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(began.Add(10 * testLimits.Timeout))
			return c
		}
		header, body := testLimits.Timeout/2, testLimits.Timeout
		for said, want := range map[string]time.Duration{
			"": header, "GET / HT": header, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf": body,
		} {
			raw := dial()
			slow.Go(func() {
				c := tls.Client(raw, s.client.Transport.(*http.Transport).TLSClientConfig)
				defer c.Close()
				if err := c.Handshake(); err != nil {
					t.Error(err)
					return
				}
				slow.Go(func() { fmt.Fprint(c, said) }) // a pipe has no buffer: who writes must read, too
				ended(fmt.Sprintf("%q", said), c, want)
			})
		}
		silent := dial() // not even TLS
		slow.Go(func() {
			defer silent.Close()
			ended("a silent client", silent, header)
		})
		synctest.Wait() // all of them are slow now
		if r := s.get(t, "/"); r.StatusCode != http.StatusOK {
			t.Error(r.Status)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("another client waited for %v", took)
		}
		slow.Wait()
	})
}

// fakeConn comes from an address of the test's choice.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return fakeAddr(c.from) }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

type fakeAddr string

func (fakeAddr) Network() string  { return "tcp" }
func (a fakeAddr) String() string { return string(a) }

// One source has its share of connections and no more; when all are taken, a
// newcomer gets the place of a source that has more than it.
func TestConnectionsBySource(t *testing.T) {
	limits := testLimits
	limits.Connections, limits.PerSource = 10, 8
	s := New(Config{Certificates: new(Certificates), Limits: limits, Logger: slog.New(slog.DiscardHandler)})
	take := func(from string) (net.Conn, *fakeConn) {
		raw := &fakeConn{from: from}
		return s.gate.admit(raw), raw
	}
	var flood []*fakeConn
	for i := range 20 {
		admitted, raw := take(fmt.Sprintf("192.0.2.%d:1000", i))
		if want := i < 8; (admitted != nil) != want {
			t.Errorf("connection %d of one /24: %v", i, admitted != nil)
		}
		if admitted != nil {
			flood = append(flood, raw)
		}
	}
	for _, from := range []string{"198.51.100.1:1", "[2001:db8:1::1]:1", "203.0.113.9:1"} {
		if admitted, _ := take(from); admitted == nil {
			t.Errorf("%s was refused", from)
		}
	}
	evicted := 0
	for _, c := range flood {
		if c.closed {
			evicted++
		}
	}
	if st := s.Stats(); evicted != 1 || st.Evicted != 1 || st.Open != 10 || st.Refused != 12 {
		t.Errorf("%d evicted; %+v", evicted, st)
	}
	// A connection that ends gives its place back, once.
	admitted, _ := take("203.0.113.9:2")
	if admitted == nil {
		t.Fatal("refused")
	}
	_ = admitted.Close()
	_ = admitted.Close()
	if st := s.Stats(); st.Open != 9 {
		t.Errorf("%d open", st.Open)
	}
}

// Requests of a source come at its rate, after a burst; others don't feel it.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRate()
		a, b := sourceOf(netip.MustParseAddr("2001:db8::1")), sourceOf(netip.MustParseAddr("192.0.2.1"))
		for i := range 5 {
			if wait := r.take(time.Now(), a, 10, 5); wait != 0 {
				t.Fatalf("request %d of the burst waits %v", i, wait)
			}
		}
		if wait := r.take(time.Now(), a, 10, 5); wait != 100*time.Millisecond {
			t.Errorf("after the burst: %v", wait)
		}
		if wait := r.take(time.Now(), b, 10, 5); wait != 0 {
			t.Errorf("another source waits %v", wait)
		}
		time.Sleep(100 * time.Millisecond)
		if wait := r.take(time.Now(), a, 10, 5); wait != 0 {
			t.Errorf("a tenth of a second later: %v", wait)
		}
		// The table is bounded, and empties itself.
		for i := range maxSources + 10 {
			r.take(time.Now(), sourceOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), 10, 5)
			r.take(time.Now(), sourceOf(netip.AddrFrom16([16]byte{0x20, 1, byte(i >> 16), byte(i >> 8), byte(i)})), 10, 5)
		}
		if n := len(r.full); n > maxSources+1 {
			t.Errorf("%d entries", n)
		}
		time.Sleep(2 * time.Second)
		r.take(time.Now(), source(netip.MustParsePrefix("2001:db8:ffff::/48")), 10, 5)
		if n := len(r.full); n > 2 {
			t.Errorf("%d entries are left", n)
		}
	})
}

// A certificate is chosen by the name that was asked for, and replaced while the
// server runs.
func TestCertificates(t *testing.T) {
	c := new(Certificates)
	hello := func(name string) *tls.ClientHelloInfo {
		return &tls.ClientHelloInfo{
			ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		}
	}
	if _, err := c.get(hello("a.test")); err == nil {
		t.Error("a certificate out of nothing")
	}
	a, b := certificate(t, "a.test"), certificate(t, "b.test", "c.test")
	c.Use([]tls.Certificate{a, b})
	for name, want := range map[string]string{"a.test": "a.test", "c.test": "b.test", "c.test.": "b.test", "other.test": "a.test", "": "a.test"} {
		got, err := c.get(hello(name))
		if err != nil || got.Leaf.Subject.CommonName != want {
			t.Errorf("%q: %v, want %s (%v)", name, got.Leaf.Subject, want, err)
		}
	}
	c.Use([]tls.Certificate{b})
	if got, err := c.get(hello("a.test")); err != nil || got.Leaf != b.Leaf {
		t.Errorf("after the change: %v", err)
	}
}
