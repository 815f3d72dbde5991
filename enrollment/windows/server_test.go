package windows

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

func thumbprint(c *x509.Certificate) string { return certificate(c).Type }

func options(w *enrolltest.World) Options {
	return Options{
		Enroller: w, URL: &url.URL{Scheme: "https", Host: "enroll.example.com"},
		Account: func(_ context.Context, i enroll.Issued) (Account, error) {
			return Account{
				Provider: "Roamgate", Name: "Example & Sons", URL: "https://dm.example.com/omadm",
				Device: Credential{Name: i.Device, Secret: "device's secret", Nonce: []byte("nonce 1")},
				Server: Credential{Secret: "server's secret", Nonce: []byte("nonce 2")},
			}, nil
		},
		Lifetime: ca.DeviceLifetime, RenewBefore: ca.DeviceLifetime / 3, Now: w.Now, Log: w.Log,
	}
}

func newClient(t *testing.T, w *enrolltest.World) *client {
	t.Helper()
	return &client{t: t, url: w.Serve(New(options(w))).URL, http: w.Client(nil, nil), trace: enrolltest.NewTranscript(t)}
}

// A device finds the server, asks for the policy, mistypes its password,
// enrolls, loses the answer, and renews by itself.
func TestConversation(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w)
	code, key, next := w.Request("till-1"), enrolltest.RSAKeys()[0], enrolltest.RSAKeys()[1]
	csr := enrolltest.WindowsCSR(t, key)
	user, password := login(code)
	wrong := otp.New()

	r := c.trace
	r.Hide(strings.ReplaceAll(lines(csr), "\r\n", "\n>   "), "request of key 1")
	r.Hide(password, "password")
	r.Hide(wrong.Password.Reveal(), "wrong password")
	r.HidePattern(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`, "time")
	r.HidePattern(`<TraceId>[0-9a-f-]{36}<`, "trace")

	r.Note("Is there a server?")
	for _, path := range []string{"/EnrollmentServer/Discovery.svc", "/ENROLLMENTSERVER/DISCOVERY.SVC"} {
		request, err := http.NewRequest(http.MethodGet, c.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, _ := r.Do(c.http, request); answer.StatusCode != http.StatusOK || answer.ContentLength != 0 {
			t.Errorf("%s: %s of %d octets", path, answer.Status, answer.ContentLength)
		}
	}
	_, root := c.post("/EnrollmentServer/Discovery.svc", discoverMessage(1, user, "4.0"))
	result := root.child(nsSOAP, "Body").child(nsDiscovery, "DiscoverResponse").child(nsDiscovery, "DiscoverResult")
	if got := result.child(nsDiscovery, "EnrollmentServiceUrl").value(); got != "https://enroll.example.com/EnrollmentServer/Enrollment.svc" {
		t.Errorf("enrollment at %q", got)
	}
	r.Note("Which key?")
	c.post("/EnrollmentServer/Policy.svc", policiesMessage(2, user, password))
	r.Note("A wrong password, the right one")
	if code, kind := c.fault("/EnrollmentServer/Enrollment.svc", issueMessage(3, user, wrong.Password.Reveal(), csr)); code != "s:Authentication" || kind != "Authentication" {
		t.Errorf("wrong password: %s, %s", code, kind)
	}
	document := c.document(issueMessage(4, user, password, csr))
	device := certificateAt(t, document, "My", "User")
	w.Verify(device, "till-1", key.Public())
	if root := certificateAt(t, document, "Root", "System"); !root.Equal(w.Chain()[1]) {
		t.Error("another root")
	}
	if issuing := certificateAt(t, document, "CA", "System"); !issuing.Equal(w.Chain()[0]) {
		t.Error("another issuing CA")
	}
	r.HideDER(document, "document 1")
	r.Note("The answer was lost: the same again")
	if again := c.document(issueMessage(5, user, password, csr)); !bytes.Equal(again, document) {
		t.Error("another document")
	}
	r.Note("An automatic renewal: TLS with the certificate, and signed by it")
	signed, err := cms.Sign(enrolltest.WindowsCSR(t, next), nil, device, key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	r.Hide(strings.ReplaceAll(lines(signed), "\r\n", "\n>   "), "signed request of key 2")
	c.http = w.Client(device, key)
	renewed := c.document(asks(6, "", "Renew", typePKCS7, lines(signed), "Full"))
	second := certificateAt(t, renewed, "My", "User")
	w.Verify(second, "till-1", next.Public())
	r.HideDER(renewed, "document 2")
	r.Golden("conversation")

	if n := len(w.Recorded()); n != 2 {
		t.Errorf("%d certificates recorded, want 2", n)
	}
	goldenDocument(t, w, document, device, "document-1")
	goldenDocument(t, w, renewed, second, "document-2")
}

// goldenDocument compares a provisioning document, indented, with a file.
func goldenDocument(t *testing.T, w *enrolltest.World, document []byte, device *x509.Certificate, name string) {
	t.Helper()
	r := enrolltest.NewTranscript(t)
	for name, c := range map[string]*x509.Certificate{"device": device, "issuing CA": w.Chain()[0], "root": w.Chain()[1]} {
		r.HideDER(c.Raw, "certificate of the "+name)
		r.Hide(thumbprint(c), "thumbprint of the "+name)
	}
	root, err := parse(document)
	if err != nil {
		t.Fatal(err)
	}
	var show func(e *element, indent string)
	show = func(e *element, indent string) {
		line := indent + e.name.Local
		for _, a := range e.attrs {
			line += " " + a.Name.Local + "=" + a.Value
		}
		r.Line("%s", line)
		for _, child := range e.children {
			show(child, indent+"  ")
		}
	}
	show(root, "")
	r.Golden(name)
}

// A renewal that the user began has base64 twice, and a login that doesn't
// count. Who enrolls the device, not a user, has another store.
func TestRenewalByHand(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w)
	key, next := enrolltest.RSAKeys()[0], enrolltest.RSAKeys()[1]
	device := w.Enrolled("till-1", key)
	signed, err := cms.Sign(enrolltest.WindowsCSR(t, next), nil, device, key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	security := strings.NewReplacer("%s", "").Replace(usernameToken)
	document := c.document(asks(1, security, "Renew", typePKCS7, lines([]byte(lines(signed))), "Device"))
	w.Verify(certificateAt(t, document, "My", "System"), "till-1", next.Public())
}

func TestRefusals(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w)
	key, other := enrolltest.RSAKeys()[0], enrolltest.RSAKeys()[1]
	code := w.Request("till-1")
	user, password := login(code)
	csr := enrolltest.WindowsCSR(t, key)
	forged := bytes.Clone(csr)
	forged[len(forged)-1] ^= 1
	device := w.Enrolled("till-2", other)
	w.RevokeCertificate(device)
	sign := func(c *x509.Certificate, key crypto.Signer) string {
		t.Helper()
		m, err := cms.Sign(csr, nil, c, key, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return lines(m)
	}
	elsewhere := enrolltest.New(t).Enrolled("till-2", other)
	const enrollment, discovery, policy = "/EnrollmentServer/Enrollment.svc", "/EnrollmentServer/Discovery.svc", "/EnrollmentServer/Policy.svc"
	good := issueMessage(1, user, password, csr)
	for name, a := range map[string]struct{ path, message, subcode, kind string }{
		"nothing":                {enrollment, "", "s:MessageFormat", "MessageFormat"},
		"half":                   {enrollment, good[:len(good)/2], "s:MessageFormat", "MessageFormat"},
		"a document type":        {enrollment, strings.Replace(good, `<?xml version="1.0"?>`, `<!DOCTYPE x [<!ENTITY e "1">]>`, 1), "s:MessageFormat", "MessageFormat"},
		"SOAP 1.1":               {enrollment, strings.Replace(good, nsSOAP, "http://schemas.xmlsoap.org/soap/envelope/", 1), "s:MessageFormat", "MessageFormat"},
		"another action":         {enrollment, strings.Replace(good, actionToken, actionPolicies, 1), "s:MessageFormat", "MessageFormat"},
		"in the wrong place":     {policy, good, "s:MessageFormat", "MessageFormat"},
		"two logins":             {enrollment, strings.Replace(good, "<wsse:Security", "<wsse:Security/><wsse:Security", 1), "a:InvalidSecurity", "InvalidSecurity"},
		"no login":               {enrollment, asks(1, "", "Issue", typePKCS10, lines(csr), "Full"), "a:InvalidSecurity", "InvalidSecurity"},
		"no request":             {enrollment, issueMessage(1, user, password, []byte("x")), "s:CertificateRequest", "CertificateRequest"},
		"wrong signature":        {enrollment, issueMessage(1, user, password, forged), "s:CertificateRequest", "CertificateRequest"},
		"no base64":              {enrollment, strings.Replace(good, "MII", "***", 1), "s:CertificateRequest", "CertificateRequest"},
		"neither of both":        {enrollment, asks(1, "", "Validate", typePKCS10, lines(csr), "Full"), "s:MessageFormat", "MessageFormat"},
		"renewal unsigned":       {enrollment, asks(1, "", "Renew", typePKCS7, lines(csr), "Full"), "s:CertificateRequest", "CertificateRequest"},
		"renewal, revoked":       {enrollment, asks(1, "", "Renew", typePKCS7, sign(device, other), "Full"), "s:Authorization", "NotEligibleToRenew"},
		"renewal from elsewhere": {enrollment, asks(1, "", "Renew", typePKCS7, sign(elsewhere, other), "Full"), "s:Authorization", "NotEligibleToRenew"},
		"federated only": {discovery, strings.Replace(discoverMessage(1, user, "4.0"), "<AuthPolicy>OnPremise</AuthPolicy>", "", 1),
			"s:Authorization", "NotSupported"},
	} {
		if subcode, kind := c.fault(a.path, a.message); subcode != a.subcode || kind != a.kind {
			t.Errorf("%s: %s, %s; want %s, %s", name, subcode, kind, a.subcode, a.kind)
		}
	}
	if n := len(w.Recorded()); n != 1 {
		t.Errorf("%d certificates recorded, want that of till-2 only", n)
	}
}

// serve calls the handler without a network in between.
func serve(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://localhost"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:4711"
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return recorder
}

// TLS with one certificate and a request signed by another is nobody's.
func TestRenewalWithTwoIdentities(t *testing.T) {
	w := enrolltest.New(t)
	a, b := enrolltest.RSAKeys()[0], enrolltest.RSAKeys()[1]
	first, second := w.Enrolled("a", a), w.Enrolled("b", b)
	signed, err := cms.Sign(enrolltest.WindowsCSR(t, enrolltest.RSAKeys()[2]), nil, first, a, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "https://localhost"+Root+"Enrollment.svc", strings.NewReader(asks(1, "", "Renew", typePKCS7, lines(signed), "Full")))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{second}}
	recorder := httptest.NewRecorder()
	New(options(w)).ServeHTTP(recorder, r)
	if !strings.Contains(recorder.Body.String(), "InvalidSecurity") {
		t.Error(recorder.Body)
	}
}

// Whoever doesn't know a password can't tell requests apart, nor addresses.
func TestSecretReasonsLookAlike(t *testing.T) {
	w := enrolltest.New(t)
	h := New(options(w))
	csr := enrolltest.WindowsCSR(t, enrolltest.RSAKeys()[0])
	apply := func(user, password string) string {
		got := serve(h, http.MethodPost, Root+"Enrollment.svc", issueMessage(1, user, password, csr))
		before, rest, _ := strings.Cut(got.Body.String(), "<TraceId>")
		_, after, _ := strings.Cut(rest, "</TraceId>")
		return before + after
	}
	open, cancelled, expired := w.Request("a"), w.Request("b"), w.Request("c")
	w.Cancel(cancelled)
	other := otp.New()
	want := apply(enrolltest.Email, other.Password.Reveal())
	if !strings.Contains(want, "s:Authentication") {
		t.Fatal(want)
	}
	check := func(name, user, password string) {
		t.Helper()
		if got := apply(user, password); got != want {
			t.Errorf("%s:\n%s\nwant, as for a wrong password:\n%s", name, got, want)
		}
	}
	check("unknown user", "eve@example.com", other.Password.Reveal())
	check("unknown request", other.ID.String(), other.Password.Reveal())
	check("cancelled", cancelled.ID.String(), cancelled.Password.Reveal())
	check("not in the form of a password", open.ID.String(), "hunter2")
	check("no user", "", open.Password.Reveal())
	w.Turn(9 * time.Hour)
	check("expired", expired.ID.String(), expired.Password.Reveal())

	known := serve(h, http.MethodPost, Root+"Discovery.svc", discoverMessage(1, enrolltest.Email, "4.0")).Body.String()
	if unknown := serve(h, http.MethodPost, Root+"Discovery.svc", discoverMessage(1, "eve@example.com", "4.0")).Body.String(); unknown != known {
		t.Errorf("discovery tells addresses apart:\n%s\n%s", known, unknown)
	}
}

func TestLimitedAndBroken(t *testing.T) {
	w := enrolltest.New(t)
	h := New(options(w))
	csr, wrong := enrolltest.WindowsCSR(t, enrolltest.RSAKeys()[0]), otp.New()
	try := issueMessage(1, wrong.ID.String(), wrong.Password.Reveal(), csr)
	limited := false
	for range 100 {
		got := serve(h, http.MethodPost, Root+"Enrollment.svc", try)
		if limited = strings.Contains(got.Body.String(), "InMaintenance"); limited {
			if got.Header().Get("Retry-After") == "" {
				t.Error("it doesn't say when to come back")
			}
			break
		}
	}
	if !limited {
		t.Error("a hundred wrong tries from one address")
	}
	o := options(w)
	o.Enroller = enrolltest.Broken{Err: errors.New("database is away")}
	got := serve(New(o), http.MethodPost, Root+"Enrollment.svc", try).Body.String()
	if !strings.Contains(got, "EnrollmentServer") || strings.Contains(got, "database") {
		t.Errorf("without a database: %s", got)
	}
	large := serve(h, http.MethodPost, Root+"Enrollment.svc", strings.Repeat(" ", maxMessage+1))
	if large.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", large.Code)
	}
	for path, status := range map[string]int{
		Root: http.StatusNotFound, Root + "Other.svc": http.StatusNotFound, Root + "Policy.svc": http.StatusMethodNotAllowed,
	} {
		if got := serve(h, http.MethodGet, path, ""); got.Code != status {
			t.Errorf("GET %s: %d, want %d", path, got.Code, status)
		}
	}
}

// A document is well-formed and the same as before whatever names are in it.
func TestDocumentEscapes(t *testing.T) {
	w := enrolltest.New(t)
	device := w.Enrolled("till-1", enrolltest.ECKey(t))
	nasty := `"/><characteristic type="x">&]]>` + "\n"
	document, err := provision(enroll.Issued{
		Certificate: device, Chain: w.Chain(), Device: "till-1", User: "ann@example.com", RenewFrom: device.NotAfter.Add(-30 * 24 * time.Hour),
	}, Account{Provider: "P", Name: nasty, URL: "https://dm/?a=b&c=d", Device: Credential{Secret: nasty}}, userStore, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := path(t, document, "APPLICATION", "NAME"); len(got) != 1 || got[0] != strings.TrimSpace(nasty) {
		t.Errorf("name %q", got)
	}
	if got := path(t, document, "APPLICATION", "SSLCLIENTCERTSEARCHCRITERIA"); len(got) != 1 || got[0] != `Subject=CN%3Dtill-1&Stores=My%5CUser` {
		t.Errorf("search criteria %q", got)
	}
	if got := path(t, document, "CertificateStore", "My", "WSTEP", "Renew", "RenewPeriod"); len(got) != 1 || got[0] != "30" {
		t.Errorf("renewed %q days before the end", got)
	}
	if got := path(t, document, "APPLICATION", "APPAUTH", "AAUTHLEVEL"); strings.Join(got, " ") != "CLIENT APPSRV" {
		t.Errorf("levels %q", got)
	}
	if _, err := base64.StdEncoding.DecodeString(path(t, document, "CertificateStore", "My", "User", "*", "EncodedCertificate")[0]); err != nil {
		t.Error(err)
	}
	if _, err := provision(enroll.Issued{Certificate: device}, Account{}, userStore, false); err == nil {
		t.Error("without a management server Windows isn't enrolled for anything")
	}
}
