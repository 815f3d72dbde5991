package est

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte("MIIB\r\nAAAA"))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, body []byte) {
		if der, err := decode(body); err == nil && len(der) > len(body) {
			t.Errorf("%d octets out of %d", len(der), len(body))
		}
	})
}

// Whatever comes, there is an answer.
func FuzzServe(f *testing.F) {
	csr := enrolltest.CSR(f, enrolltest.ECKey(f))
	f.Add("POST", "simpleenroll", "application/pkcs10", "ann@example.com", "8R2N-W4TB-0HJD-6YEV", csr)
	f.Add("GET", "label/cacerts", "", "", "", []byte(nil))
	f.Add("POST", "simplereenroll", "application/pkcs10; x=y", "", "", csr)
	h := New(Options{
		Enroller: enrolltest.Broken{Err: errors.New("away")}, Log: slog.New(slog.DiscardHandler),
		Chain: func() []*x509.Certificate { return nil },
	})
	f.Fuzz(func(t *testing.T, method, path, contentType, user, password string, body []byte) {
		if method != "GET" && method != "POST" {
			return
		}
		r := httptest.NewRequest(method, "https://localhost/", bytes.NewReader(body))
		r.URL.Path = Root + path
		r.Header.Set("Content-Type", contentType)
		r.SetBasicAuth(user, password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 599 {
			t.Errorf("status %d", w.Code)
		}
	})
}
