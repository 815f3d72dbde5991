package scep

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

// Whatever comes, there is an answer.
func FuzzServe(f *testing.F) {
	key := keys()[0]
	w := enrolltest.New(f)
	certificate, raKey := w.Authority()
	ra := Authority{certificate, raKey}
	c := &client{t: f, ra: certificate}
	message, _ := c.build(order{kind: pkcsReq, transaction: "1", csr: csr(f, key, "XK7M"), signer: selfSigned(f, key), key: key})
	f.Add("PKIOperation", message)
	message, _ = c.build(order{kind: renewalReq, transaction: "1", csr: csr(f, key, ""), signer: selfSigned(f, key), key: key})
	f.Add("PKIOperation", message)
	f.Add("GetCACert", []byte(nil))
	h := New(Options{
		Enroller: enrolltest.Broken{Err: errors.New("away")}, Authority: func() Authority { return ra },
		Chain: func() []*x509.Certificate { return nil }, Legacy: true, Log: slog.New(slog.DiscardHandler),
	})
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		for _, method := range []string{"GET", "POST"} {
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
