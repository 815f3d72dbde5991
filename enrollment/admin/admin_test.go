package admin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

var by = directory.By{Name: "test"}

// world is a server of the API over mutual TLS, in front of a real service.
type world struct {
	t       *testing.T
	service *enroll.Service
	ca      *ca.CA
	at      string
	roots   *x509.CertPool

	mu    sync.Mutex
	calls []admin.Call
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a := catest.New(t, time.Now())
	d := directorytest.SQLite(t)
	service, err := enroll.New(t.Context(), enroll.Options{Directory: d, Issuer: a.Issuer(), SealKey: make([]byte, enroll.SealKeySize)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, service: service, ca: a, roots: catest.Roots(a.Issuer())}
	handler := admin.New(admin.Options{
		Service: w.service, Directory: d, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Authorize: admin.ByCertificate(a.Issuer(), d, time.Now),
		Audit: func(c admin.Call) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.calls = append(w.calls, c)
		},
		Describe: admin.Server{Version: "1", URL: "https://enroll.test", Title: "Test"},
		PageURL:  func(id otp.ID) string { return "https://enroll.test/?request=" + id.String() },
	})
	own := w.certificate(ca.Request{Profile: ca.Server, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	w.at = s.URL
	return w
}

func (w *world) certificate(r ca.Request) tls.Certificate {
	w.t.Helper()
	key, err := ca.GenerateKey("")
	if err != nil {
		w.t.Fatal(err)
	}
	r.PublicKey = key.Public()
	issued, err := w.service.Certify(w.t.Context(), by, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{issued.Certificate.Raw, w.ca.Issuing().Raw}, PrivateKey: key, Leaf: issued.Certificate}
}

func (w *world) client(own tls.Certificate) *admin.Client {
	c := admin.NewClient(w.at, own, w.roots)
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) admin(name string) *admin.Client {
	return w.client(w.certificate(ca.Request{Profile: ca.Admin, Name: name}))
}

func wantProblem(t *testing.T, err error, status int, text string) {
	t.Helper()
	var p *admin.Problem
	if !errors.As(err, &p) || p.Status != status || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%+v), want %d with %q", err, p, status, text)
	}
}

// An administrator makes a request and cancels it; makes another one, which a
// device uses; finds device and certificate, revokes it and closes the device.
// The record says all that, and who it was.
func TestLifeOfADevice(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	c := w.admin("alice")
	first, err := c.CreateRequest(ctx, admin.NewRequest{User: "bob", Device: "phone-1", Email: "bob@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if q, err := c.CancelRequest(ctx, first.Request.ID); err != nil || q.State != "cancelled" || q.Closed.IsZero() {
		t.Errorf("cancelled: %+v, %v", q, err)
	}
	_, err = c.CancelRequest(ctx, first.Request.ID)
	wantProblem(t, err, http.StatusConflict, "not open")

	made, err := c.CreateRequest(ctx, admin.NewRequest{User: "bob", Device: "phone-1", Groups: []string{"sales"}, ValidSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(made.Request.Expires); left > time.Hour || left < 55*time.Minute {
		t.Errorf("valid for %v", left)
	}
	code, err := otp.ParseCode(made.Code)
	if err != nil || made.Password != code.Password.Reveal() || made.URL != "https://enroll.test/?request="+made.Request.ID {
		t.Errorf("%+v (%v)", made, err)
	}
	shown, err := c.Request(ctx, made.Request.ID)
	if err != nil || shown.State != "open" || shown.CreatedBy != "alice" || !slices.Equal(shown.Groups, []string{"sales"}) {
		t.Errorf("shown: %+v, %v", shown, err)
	}
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := w.service.Enroll(ctx, enroll.Application{
		Skin: "est", Source: netip.MustParseAddr("198.51.100.7"), ID: code.ID, Key: key.Public(), Proof: enroll.Proof{Password: &code.Password},
	})
	if err != nil {
		t.Fatal(err)
	}
	serial := ca.SerialString(issued.Certificate.SerialNumber)
	if d, err := c.Device(ctx, "phone-1"); err != nil || d.User != "bob" || !d.Open {
		t.Errorf("device: %+v, %v", d, err)
	}
	list, err := c.Certificates(ctx, admin.CertificateFilter{Device: "phone-1", Valid: true}, 10)
	if err != nil || len(list) != 1 || list[0].Serial != serial || list[0].PEM != "" {
		t.Errorf("certificates: %+v, %v", list, err)
	}
	if v, err := c.Certificate(ctx, serial); err != nil || !strings.Contains(v.PEM, "BEGIN CERTIFICATE") || v.Request != made.Request.ID {
		t.Errorf("certificate: %+v, %v", v, err)
	}
	if v, err := c.Revoke(ctx, serial, "key-compromise"); err != nil || v.Reason != "key-compromise" || v.Revoked.IsZero() {
		t.Errorf("revoked: %+v, %v", v, err)
	}
	_, err = c.Revoke(ctx, serial, "")
	wantProblem(t, err, http.StatusConflict, "revoked already")
	der, err := c.CRL(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil || crl.CheckSignatureFrom(w.ca.Issuing()) != nil || len(crl.RevokedCertificateEntries) != 1 ||
		crl.RevokedCertificateEntries[0].SerialNumber.Cmp(issued.Certificate.SerialNumber) != 0 {
		t.Errorf("revocation list %+v (%v)", crl, err)
	}
	if d, err := c.CloseDevice(ctx, "phone-1", "cessation-of-operation"); err != nil || d.Open {
		t.Errorf("closed: %+v, %v", d, err)
	}
	events, err := c.Outbox(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		if e.Device == "phone-1" {
			kinds = append(kinds, e.Kind)
		}
	}
	if !slices.Equal(kinds, []string{"enrolled", "revoked", "closed"}) {
		t.Errorf("outbox: %v", kinds)
	}
	if later, err := c.Outbox(ctx, events[0].Number, 1); err != nil || len(later) != 1 || later[0].Number != events[0].Number+1 {
		t.Errorf("outbox after the first: %+v, %v", later, err)
	}
	record, err := c.Audit(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"request", "cancel", "revoke", "close"} {
		if !slices.ContainsFunc(record, func(e admin.Entry) bool { return e.Action == action && e.By == "alice" && e.Source == "127.0.0.1" }) {
			t.Errorf("no %q of alice in %+v", action, record)
		}
	}
}

// Only an administrator of this installation gets in, and every call is told,
// refused ones too.
func TestWhoMay(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	stranger := newWorld(t)
	own := w.certificate(ca.Request{Profile: ca.Admin, Name: "mallory"})
	if err := w.service.Revoke(ctx, by, own.Leaf.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	for name, certificate := range map[string]tls.Certificate{
		"nobody":               {},
		"a peer":               w.certificate(ca.Request{Profile: ca.Peer, DNSNames: []string{"peer.test"}}),
		"a revoked one":        own,
		"another installation": stranger.certificate(ca.Request{Profile: ca.Admin, Name: "alice"}),
		"a device":             w.device("phone-1"),
		"the server itself":    w.certificate(ca.Request{Profile: ca.Server, DNSNames: []string{"enroll.test"}}),
	} {
		_, err := w.client(certificate).Server(ctx)
		var p *admin.Problem
		if !errors.As(err, &p) || p.Status != http.StatusForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.admin("alice").Server(ctx); err != nil {
		t.Errorf("alice: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.calls); n != 7 || w.calls[6].Name != "alice" || w.calls[6].Status != 200 || w.calls[0].Status != 403 || w.calls[6].Operation != "show-server" {
		t.Errorf("%d calls: %+v", n, w.calls)
	}
}

func (w *world) device(name string) tls.Certificate {
	w.t.Helper()
	_, code, err := w.service.CreateRequest(w.t.Context(), by, enroll.NewRequest{User: "bob", Device: name})
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := ca.GenerateKey("")
	if err != nil {
		w.t.Fatal(err)
	}
	issued, err := w.service.Enroll(w.t.Context(), enroll.Application{
		Skin: "est", Source: netip.MustParseAddr("198.51.100.7"), ID: code.ID, Key: key.Public(), Proof: enroll.Proof{Password: &code.Password},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{issued.Certificate.Raw, w.ca.Issuing().Raw}, PrivateKey: key, Leaf: issued.Certificate}
}

// Lists come in pages that have everything once.
func TestPages(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	c := w.admin("alice")
	want := map[string]bool{}
	for i := range 23 {
		name := "dev-" + string(rune('a'+i))
		q, err := c.CreateRequest(ctx, admin.NewRequest{User: "user-" + name, Device: name})
		if err != nil {
			t.Fatal(err)
		}
		want[q.Request.ID] = true
	}
	got, query := map[string]bool{}, ""
	for pages := 0; ; pages++ {
		var p admin.Page[admin.Request]
		status := w.get(t, w.certificate(ca.Request{Profile: ca.Admin, Name: "alice"}), "/v1/requests?limit=5"+query, &p)
		if status != http.StatusOK || len(p.Items) > 5 || pages > 5 {
			t.Fatalf("page %d: status %d, %d items", pages, status, len(p.Items))
		}
		for _, q := range p.Items {
			if got[q.ID] {
				t.Errorf("%s came twice", q.ID)
			}
			got[q.ID] = true
		}
		if p.Next == "" {
			break
		}
		query = "&after=" + p.Next
	}
	if len(got) != len(want) {
		t.Errorf("%d of %d", len(got), len(want))
	}
	if all, err := c.Requests(ctx, "open", "", "", 10); err != nil || len(all) != 10 {
		t.Errorf("at most 10: %d, %v", len(all), err)
	}
}

func (w *world) get(t *testing.T, own tls.Certificate, path string, into any) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.roots, Certificates: []tls.Certificate{own}}}}
	r, err := client.Get(w.at + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v in %s", path, err, data)
	}
	return r.StatusCode
}

// Wrong input is a problem that says what is wrong with it, and changes nothing.
func TestProblems(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	c := w.admin("alice")
	_, err := c.CreateRequest(ctx, admin.NewRequest{Device: "phone-1"})
	wantProblem(t, err, http.StatusUnprocessableEntity, "user")
	_, err = c.CreateRequest(ctx, admin.NewRequest{User: "bob", Device: "phone 1"})
	wantProblem(t, err, http.StatusUnprocessableEntity, "phone 1")
	_, err = c.CreateRequest(ctx, admin.NewRequest{User: "bob", Device: "phone-1", ValidSeconds: 1 << 62})
	wantProblem(t, err, http.StatusUnprocessableEntity, "valid for")
	_, err = c.Request(ctx, "0000-0000")
	wantProblem(t, err, http.StatusNotFound, "")
	_, err = c.Request(ctx, "no id")
	wantProblem(t, err, http.StatusUnprocessableEntity, "")
	_, err = c.Device(ctx, "../../v1/audit")
	wantProblem(t, err, http.StatusNotFound, "")
	_, err = c.Revoke(ctx, "zz", "")
	wantProblem(t, err, http.StatusUnprocessableEntity, "serial")
	_, err = c.Revoke(ctx, "0102", "because")
	wantProblem(t, err, http.StatusUnprocessableEntity, "reason")
	_, err = c.Issue(ctx, admin.NewCertificate{Profile: "device", CSR: csr(t)})
	wantProblem(t, err, http.StatusUnprocessableEntity, "profile")
	_, err = c.Issue(ctx, admin.NewCertificate{Profile: "admin", Name: "bob", CSR: "nothing"})
	wantProblem(t, err, http.StatusUnprocessableEntity, "csr")
	if list, err := c.Requests(ctx, "", "", "", 10); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// An administrator lets in another one.
func TestIssueAdministrator(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.admin("alice").Issue(ctx, admin.NewCertificate{
		Profile: "admin", Name: "bob", CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(made.Certificate.PEM))
	if _, err := w.client(tls.Certificate{Certificate: [][]byte{block.Bytes, w.ca.Issuing().Raw}, PrivateKey: key}).Server(ctx); err != nil {
		t.Error(err)
	}
}

func csr(t *testing.T) string {
	t.Helper()
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// The API describes itself, and names all operations that the client has.
func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	var doc struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]map[string]any `json:"paths"`
	}
	if status := w.get(t, tls.Certificate{}, "/openapi.json", &doc); status != http.StatusOK || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("status %d, OpenAPI %s", status, doc.OpenAPI)
	}
	var names []string
	for _, methods := range doc.Paths {
		for _, op := range methods {
			names = append(names, op["operationId"].(string))
		}
	}
	slices.Sort(names)
	want := []string{"cancel-request", "close-device", "create-request", "issue-certificate", "list-audit", "list-certificates",
		"list-devices", "list-groups", "list-requests", "list-users", "read-crl", "read-delta-crl", "read-outbox", "revoke-certificate",
		"show-certificate", "show-device", "show-request", "show-server"}
	if !slices.Equal(names, want) {
		t.Errorf("operations %v", names)
	}
}

// A page elsewhere can't use the browser of an administrator.
func TestCrossOrigin(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: w.roots, Certificates: []tls.Certificate{w.certificate(ca.Request{Profile: ca.Admin, Name: "alice"})},
	}}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.at+"/v1/requests", bytes.NewReader([]byte(`{"user":"a","device":"b"}`)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Error(answer.Status)
	}
}
