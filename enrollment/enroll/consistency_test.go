package enroll_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// check what must hold at any time, and return how many requests were used.
func (s *storm) check(t *testing.T, service *enroll.Service, told map[string]string) int {
	t.Helper()
	ctx, d := t.Context(), service.Directory()
	certificates := make(map[string]directory.Certificate)
	byRequest := make(map[string]string)
	for after := ""; ; {
		page, err := d.Certificates(ctx, directory.CertificateFilter{After: after})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, c := range page {
			if other, ok := byRequest[c.Request]; ok {
				t.Errorf("request %s has certificates %s and %s", c.Request, other, c.Serial)
			}
			certificates[c.Serial], byRequest[c.Request] = c, c.Serial
			after = c.Serial
		}
	}
	requests := make(map[otp.ID]directory.Request)
	for after := ""; ; {
		page, err := d.Requests(ctx, directory.RequestFilter{After: after})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, q := range page {
			requests[q.ID], after = q, q.ID.String()
		}
	}
	used := 0
	for i, code := range s.codes {
		q := requests[code.ID]
		switch q.State {
		case directory.Open:
			if serial, ok := byRequest[code.ID.String()]; ok {
				t.Errorf("device %d: request is open, but has certificate %s", i, serial)
			}
		case directory.Used:
			used++
			if c := certificates[q.Serial]; c.Request != code.ID.String() || c.Device != deviceOf(i) {
				t.Errorf("device %d: request was used for %s, which is %+v", i, q.Serial, c)
			}
		default:
			t.Errorf("device %d: request is %s", i, q.State)
		}
	}
	if used != len(certificates) {
		t.Errorf("%d requests were used for %d certificates", used, len(certificates))
	}
	for what, serial := range told {
		c, ok := certificates[serial]
		if !ok || strings.HasPrefix(what, "revoked") && c.Revoked.IsZero() {
			t.Errorf("a device was told %s %s, which is not recorded", what, serial)
		}
	}
	checkLists(t, service, certificates)
	checkOutbox(t, service, certificates)
	return used
}

func checkLists(t *testing.T, service *enroll.Service, certificates map[string]directory.Certificate) {
	t.Helper()
	trust, err := service.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(trust.CRL)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(trust.Issuing); err != nil {
		t.Error(err)
	}
	listed := make(map[string]bool)
	for _, e := range list.RevokedCertificateEntries {
		listed[ca.SerialString(e.SerialNumber)] = true
	}
	for serial, c := range certificates {
		if listed[serial] == c.Revoked.IsZero() {
			t.Errorf("%s: revoked at %v, on the list: %t", serial, c.Revoked, listed[serial])
		}
	}
}

func checkOutbox(t *testing.T, service *enroll.Service, certificates map[string]directory.Certificate) {
	t.Helper()
	heard := make(map[string]int)
	for after := int64(0); ; {
		events, err := service.Outbox(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			if after++; e.Number != after {
				t.Fatalf("event %d where %d was due", e.Number, after)
			}
			heard[string(e.Kind)+e.Serial]++
		}
	}
	want := len(certificates)
	for serial, c := range certificates {
		if heard["enrolled"+serial] != 1 {
			t.Errorf("%s: told %d times that it was enrolled", serial, heard["enrolled"+serial])
		}
		if !c.Revoked.IsZero() {
			if want++; heard["revoked"+serial] != 1 {
				t.Errorf("%s: told %d times that it was revoked", serial, heard["revoked"+serial])
			}
		}
	}
	if len(heard) != want {
		t.Errorf("%d events, want %d", len(heard), want)
	}
}
