package https

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"testing"
)

// Readers who ask for a large list and take their time share one copy of it.
func TestAttackSharedAnswer(t *testing.T) {
	list := bytes.Repeat([]byte("revoked "), 1<<17) // 1 MiB
	s := serve(t, testLimits, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pkix-crl")
		WriteShared(w, list)
	})
	r := s.get(t, "/crl")
	got, err := io.ReadAll(r.Body)
	if err != nil || !bytes.Equal(got, list) || r.ContentLength != int64(len(list)) || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %d octets of %d (%v)", r.Status, len(got), r.ContentLength, err)
	}
	if list[0] != 'r' {
		t.Fatal("the shared list was erased")
	}

	// Answers that nobody has read: none keeps the list of its own.
	const readers = 100
	answers := make([]whole, readers)
	before := allocated()
	for i := range answers {
		answers[i].header = make(http.Header)
		WriteShared(&answers[i], list)
	}
	if more := allocated() - before; more > uint64(len(list)) {
		t.Errorf("%d octets for %d answers of %d", more, readers, len(list))
	}
}

// A listener that knows better who may come has the same bounds.
func TestAttackBoundsOfOtherTLS(t *testing.T) {
	own := certificate(t, "enroll.test")
	asked := make(chan struct{}, 1)
	limits := testLimits
	limits.PerSource = 1
	s := New(Config{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, VerifyConnection: func(tls.ConnectionState) error {
			asked <- struct{}{}
			return nil
		}},
		Limits: limits, Logger: slog.New(slog.DiscardHandler),
	})
	l := loopback(t)
	run(t, s, l)
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	dial := func() (*tls.Conn, error) {
		return tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "enroll.test", NextProtos: []string{"h2", "http/1.1"}})
	}
	first, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	<-asked
	if state := first.ConnectionState(); state.NegotiatedProtocol != "http/1.1" || state.Version != tls.VersionTLS13 {
		t.Errorf("%s in %x", state.NegotiatedProtocol, state.Version)
	}
	if second, err := dial(); err == nil {
		second.Close()
		t.Error("a second connection of one source")
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
