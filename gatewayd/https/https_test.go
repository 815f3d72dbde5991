package https

import (
	"bufio"
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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var testLimits = Limits{Connections: 64, PerSource: 32, Rate: 1000, Burst: 1000, Body: 1024, Timeout: 2 * time.Second}

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
	own := certificate(t, "enroll.test")
	certificates := new(Certificates)
	certificates.Use([]tls.Certificate{own})
	s := New(Config{Handler: h, Certificates: certificates, Limits: limits, Logger: slog.New(slog.DiscardHandler)})
	at := listen(t, s)
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "enroll.test"}}
	t.Cleanup(transport.CloseIdleConnections)
	return served{s, at, &http.Client{Transport: transport, Timeout: 20 * time.Second}}
}

// listen on loopback until the test ends.
func listen(t *testing.T, s *Server) (at string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
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

// Clients that dribble are ended by the server, while another one is served.
func TestSlowClients(t *testing.T) {
	limits := testLimits
	limits.Timeout = 500 * time.Millisecond
	s := serve(t, limits, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	var slow sync.WaitGroup
	for _, said := range []string{"", "GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"} {
		slow.Go(func() {
			c, err := tls.Dial("tcp", s.at, s.client.Transport.(*http.Transport).TLSClientConfig)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprint(c, said)
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.Copy(io.Discard, bufio.NewReader(c)); errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%q is still open", said)
			}
		})
	}
	slow.Go(func() { // not even TLS
		c, err := net.Dial("tcp", s.at)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a silent client: %v", err)
		}
	})
	if r := s.get(t, "/"); r.StatusCode != http.StatusOK {
		t.Error(r.Status)
	}
	slow.Wait()
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
