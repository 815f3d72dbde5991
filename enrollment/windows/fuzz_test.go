package windows

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

// Whatever comes, there is an answer that can be read.
func FuzzServe(f *testing.F) {
	csr := enrolltest.WindowsCSR(f, enrolltest.RSAKeys()[0])
	f.Add("Enrollment.svc", issueMessage(1, "ann@example.com", "8R2N-W4TB-0HJD-6YEV", csr))
	f.Add("Enrollment.svc", asks(1, "", "Renew", typePKCS7, lines(csr), "Device"))
	f.Add("Discovery.svc", discoverMessage(1, "ann@example.com", "4.0"))
	f.Add("Policy.svc", policiesMessage(1, "ann@example.com", "x"))
	h := New(Options{
		Enroller: enrolltest.Broken{Err: errors.New("away")}, URL: &url.URL{Scheme: "https", Host: "localhost"},
		Account: func(context.Context, enroll.Issued) (Account, error) { return Account{}, errors.New("none") },
		Now:     time.Now, Log: slog.New(slog.DiscardHandler),
	})
	f.Fuzz(func(t *testing.T, path, message string) {
		switch path {
		case "Enrollment.svc", "Discovery.svc", "Policy.svc":
		default:
			return
		}
		got := serve(h, http.MethodPost, Root+path, message)
		if got.Code != http.StatusOK && got.Code != http.StatusInternalServerError && got.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", got.Code)
		}
		if got.Code == http.StatusRequestEntityTooLarge {
			return
		}
		if _, err := parse(got.Body.Bytes()); err != nil {
			t.Errorf("%v: %s", err, got.Body)
		}
	})
}
