package scep

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

// fixed authority: the processes of a fuzzer have to agree on its key.
func fixed(f *testing.F) (Authority, *rsa.PrivateKey) {
	f.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join("testdata", "authority.pem"), filepath.Join("testdata", "authority.pem"))
	if err != nil {
		f.Fatal(err)
	}
	key := pair.PrivateKey.(*rsa.PrivateKey)
	return Authority{pair.Leaf, key}, key
}

func fuzzed(ra Authority) http.Handler {
	return New(Options{
		Enroller: enrolltest.Broken{Err: errors.New("away")}, Authority: func() Authority { return ra },
		Chain: func() []*x509.Certificate { return nil }, Legacy: true, Log: slog.New(slog.DiscardHandler),
	})
}

// Whatever comes, there is an answer.
func FuzzServe(f *testing.F) {
	ra, key := fixed(f)
	c := &client{t: f, ra: ra.Certificate}
	message, _ := c.build(order{kind: pkcsReq, transaction: "1", csr: csr(f, key, "XK7M"), signer: ra.Certificate, key: key})
	f.Add("PKIOperation", message)
	f.Add("GetCACert", []byte(nil))
	h := fuzzed(ra)
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequest(method, "https://localhost/scep", bytes.NewReader(body))
			q := r.URL.Query()
			q.Set("operation", operation)
			q.Set("message", string(body))
			r.URL.RawQuery = q.Encode()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code < 200 || w.Code > 599 {
				t.Errorf("status %d", w.Code)
			}
		}
	})
}

// What is inside a message whose signature is right.
func FuzzMessage(f *testing.F) {
	ra, key := fixed(f)
	f.Add(19, "1F", csr(f, key, "XK7M-29QA"))
	f.Add(17, "1F", csr(f, key, ""))
	f.Add(22, "", []byte{0x30, 0x00})
	h := fuzzed(ra)
	f.Fuzz(func(t *testing.T, kind int, transaction string, content []byte) {
		if len(content) > 8<<10 || len(transaction) > 1<<10 {
			return
		}
		c := &client{t: t, ra: ra.Certificate}
		message, _ := c.build(order{kind: messageType(kind), transaction: transaction, csr: content, signer: ra.Certificate, key: key})
		r := httptest.NewRequest(http.MethodPost, "https://localhost/scep?operation=PKIOperation", bytes.NewReader(message))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			if w.Code != http.StatusBadRequest && w.Code != http.StatusServiceUnavailable {
				t.Errorf("status %d", w.Code)
			}
			return
		}
		if _, err := cms.ParseSigned(w.Body.Bytes(), false); err != nil {
			t.Errorf("an answer that can't be read: %v", err)
		}
	})
}
