package page_test

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/page"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// world is the page in front of a real service.
type world struct {
	t       *testing.T
	service *enroll.Service
	at      string
	roots   *x509.CertPool
	server  *httptest.Server

	mu  sync.Mutex
	now time.Time
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) turn(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T, p enroll.Policy) *world {
	t.Helper()
	w := &world{t: t, now: time.Now()}
	var err error
	a := catest.New(t, w.now)
	key := make([]byte, enroll.SealKeySize)
	w.service, err = enroll.New(t.Context(), enroll.Options{Directory: directorytest.SQLite(t), Issuer: a.Issuer(), SealKey: key, Policy: p, Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := page.New(page.Options{
		Service: w.service, Key: key, Title: "Example VPN", Instance: a.InstanceOID().String(), Now: w.Now, Log: slog.New(slog.DiscardHandler),
		Profile: profile.Profile{
			Title: "Example VPN", Gateways: []profile.Gateway{{Address: "vpn.example.com"}},
			IKE: []string{"aes256-sha256-ecp256"}, ESP: []string{"aes256-sha256"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewTLSServer(handler)
	t.Cleanup(w.server.Close)
	w.at, w.roots = w.server.URL, x509.NewCertPool()
	w.roots.AddCert(a.Root())
	return w
}

func (w *world) request(device string) otp.Code {
	w.t.Helper()
	_, code, err := w.service.CreateRequest(w.t.Context(), directory.By{Name: "alice"}, enroll.NewRequest{User: "bob", Device: device})
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

// browser keeps cookies, sends Origin as browsers do, and follows redirects.
type browser struct {
	*world
	client *http.Client
	origin string
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.server.Client()
	return &browser{w, &http.Client{Transport: c.Transport, Jar: jar}, w.at}
}

func (b *browser) do(method, path string, form url.Values) (int, string, http.Header) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.at+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.origin)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(data), answer.Header
}

func (b *browser) login(code otp.Code) (int, string) {
	status, body, _ := b.do(http.MethodPost, "/start", url.Values{"request": {code.ID.String()}, "password": {code.Password.Reveal()}})
	return status, body
}

func (b *browser) choose(kind, csr string) (int, string) {
	status, body, _ := b.do(http.MethodPost, "/consent", url.Values{"kind": {kind}, "agree": {"yes"}, "csr": {csr}})
	return status, body
}

var (
	links   = regexp.MustCompile(`<a href="(/file/[^"]+)" download>`)
	secrets = regexp.MustCompile(`<p class="secret"[^>]*>([^<]+)</p>`)
)

// Each kind of device gets a file with the same certificate that the directory
// has, and downloads it twice alike.
func TestEveryKind(t *testing.T) {
	for kind, want := range map[string]struct{ file, media string }{
		"apple":      {"dev-apple.mobileconfig", "application/x-apple-aspen-config"},
		"android":    {"dev-android.sswan", "application/vnd.strongswan.profile"},
		"windows":    {"dev-windows.zip", "application/zip"},
		"strongswan": {"dev-strongswan.zip", "application/zip"},
		"p12":        {"dev-p12.p12", "application/x-pkcs12"},
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, enroll.Policy{})
			b := w.browser()
			code := w.request("dev-" + kind)
			if status, body := b.login(code); status != http.StatusOK || !strings.Contains(body, "dev-"+kind) || !strings.Contains(body, "bob") || !strings.Contains(body, "This server makes the key") {
				t.Fatalf("log-in: %d\n%s", status, body)
			}
			status, body := b.choose(kind, "")
			if status != http.StatusOK || !strings.Contains(body, "this server made it") {
				t.Fatalf("consent: %d\n%s", status, body)
			}
			found := links.FindAllStringSubmatch(body, -1)
			if len(found) == 0 || found[0][1] != "/file/"+want.file {
				t.Fatalf("links %v in\n%s", found, body)
			}
			status, first, header := b.do(http.MethodGet, found[0][1], nil)
			if status != http.StatusOK || header.Get("Content-Type") != want.media || header.Get("Content-Disposition") != `attachment; filename="`+want.file+`"` || header.Get("Cache-Control") != "no-store" {
				t.Errorf("file: %d, %v", status, header)
			}
			if _, _, ok := strings.Cut(first, "PRIVATE KEY"); ok && kind != "strongswan" {
				t.Error("the key lies open in the file")
			}
			password := secrets.FindStringSubmatch(body)
			switch kind {
			case "p12":
				w.checkContainer(t, []byte(first), html.UnescapeString(password[1]), "dev-p12")
			case "strongswan", "windows":
				z, err := zip.NewReader(strings.NewReader(first), int64(len(first)))
				if err != nil || len(z.File) < 3 {
					t.Errorf("%v: %v", z, err)
				}
			}
			if status, again, _ := b.do(http.MethodGet, found[0][1], nil); status != http.StatusOK || len(again) == 0 {
				t.Errorf("a second download: %d", status)
			}
			if list, err := w.service.Directory().Certificates(t.Context(), directory.CertificateFilter{Device: "dev-" + kind}); err != nil || len(list) != 1 {
				t.Errorf("%d certificates (%v)", len(list), err)
			}
			if status, _, _ := b.do(http.MethodGet, "/file/..%2fdev.key", nil); status != http.StatusNotFound {
				t.Errorf("another file: %d", status)
			}
		})
	}
}

func (w *world) checkContainer(t *testing.T, data []byte, password, device string) {
	t.Helper()
	key, c, chain, err := pkcs12.DecodeChain(data, password)
	if err != nil {
		t.Fatal(err)
	}
	if !key.(*ecdsa.PrivateKey).PublicKey.Equal(c.PublicKey) || c.Subject.CommonName != device || len(chain) != 2 {
		t.Errorf("%s, chain of %d", c.Subject, len(chain))
	}
	intermediates := x509.NewCertPool()
	intermediates.AddCert(chain[0])
	if _, err := c.Verify(x509.VerifyOptions{Roots: w.roots, Intermediates: intermediates, CurrentTime: w.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}

// A device that made its own key keeps it.
func TestOwnKey(t *testing.T) {
	w := newWorld(t, enroll.Policy{})
	b := w.browser()
	b.login(w.request("tablet"))
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := bytes.Clone(der)
	spoiled[len(spoiled)-1] ^= 1
	encode := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	}
	for _, bad := range []string{"", "x", encode(spoiled), encode([]byte{0x30, 0x80})} {
		if status, body := b.choose("csr", bad); status != http.StatusUnprocessableEntity || !strings.Contains(body, "no certificate request") {
			t.Errorf("%q: %d", bad, status)
		}
	}
	status, body := b.choose("csr", encode(der))
	if status != http.StatusOK || strings.Contains(body, "this server made it") || secrets.MatchString(body) {
		t.Fatalf("%d\n%s", status, body)
	}
	_, text, _ := b.do(http.MethodGet, "/file/tablet.pem", nil)
	block, _ := pem.Decode([]byte(text))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(c.PublicKey) {
		t.Errorf("%v", err)
	}
}

// What is wrong is said in the form; whether a request exists is not.
func TestRefusals(t *testing.T) {
	w := newWorld(t, enroll.Policy{})
	b := w.browser()
	good := w.request("phone")
	bad := good
	bad.Password[0] ^= 1
	unknown := good
	unknown.ID[0] ^= 1
	answers := map[string]string{}
	for name, code := range map[string]otp.Code{"wrong password": bad, "unknown request": unknown} {
		status, body := b.login(code)
		if status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
		answers[name] = strings.ReplaceAll(body, code.ID.String(), "ID")
	}
	if answers["wrong password"] != answers["unknown request"] {
		t.Error("the answers tell whether a request exists")
	}
	if status, body, _ := b.do(http.MethodPost, "/start", url.Values{"request": {"<script>"}, "password": {"x"}}); status != http.StatusUnprocessableEntity || strings.Contains(body, "<script") {
		t.Errorf("format: %d\n%s", status, body)
	}
	if status, _, _ := b.do(http.MethodGet, "/consent", nil); status != http.StatusForbidden {
		t.Errorf("without a session: %d", status)
	}
	b.login(good)
	if status, body := b.choose("toaster", ""); status != http.StatusUnprocessableEntity || !strings.Contains(body, "Choose what kind") {
		t.Errorf("no kind: %d", status)
	}
	if status, body, _ := b.do(http.MethodPost, "/consent", url.Values{"kind": {"p12"}}); status != http.StatusUnprocessableEntity || !strings.Contains(body, "Without your consent") {
		t.Errorf("no consent: %d", status)
	}
	if list, err := w.service.Directory().Certificates(t.Context(), directory.CertificateFilter{Device: "phone"}); err != nil || len(list) != 0 {
		t.Errorf("certificates without consent: %v (%v)", list, err)
	}
	// The whole code does in the second field.
	if status, body, _ := b.do(http.MethodPost, "/start", url.Values{"password": {good.Reveal()}}); status != http.StatusOK || !strings.Contains(body, "phone") {
		t.Errorf("whole code: %d", status)
	}
}

// A session ends by itself, by leaving, and isn't somebody else's to make.
func TestSessions(t *testing.T) {
	w := newWorld(t, enroll.Policy{})
	b := w.browser()
	b.login(w.request("phone"))
	b.choose("p12", "")
	w.turn(14 * time.Minute)
	if status, _, _ := b.do(http.MethodGet, "/files", nil); status != http.StatusOK {
		t.Errorf("after 14 minutes: %d", status)
	}
	w.turn(20 * time.Minute)
	if status, body, _ := b.do(http.MethodGet, "/files", nil); status != http.StatusForbidden || !strings.Contains(body, "begin again") {
		t.Errorf("after 34 minutes: %d", status)
	}
	b = w.browser()
	b.login(w.request("laptop"))
	if status, _, header := b.do(http.MethodPost, "/leave", nil); status != http.StatusOK || !strings.Contains(header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("leaving: %d, %v", status, header)
	}
	if status, _, _ := b.do(http.MethodGet, "/consent", nil); status != http.StatusForbidden {
		t.Errorf("after leaving: %d", status)
	}
	at, err := url.Parse(w.at)
	if err != nil {
		t.Fatal(err)
	}
	for _, forged := range []string{"AAAA", strings.Repeat("A", 3900), strings.Repeat("A", 9000), "%%"} {
		b.client.Jar.SetCookies(at, []*http.Cookie{{Name: "__Host-enrollment", Value: forged, Path: "/", Secure: true}})
		if status, _, _ := b.do(http.MethodGet, "/consent", nil); status != http.StatusForbidden {
			t.Errorf("forged %.10q: %d", forged, status)
		}
	}
}

// Other sites can't send the forms, and pages run and load nothing.
func TestHeaders(t *testing.T) {
	w := newWorld(t, enroll.Policy{})
	b := w.browser()
	code := w.request("phone")
	b.origin = "https://evil.example"
	if status, _ := b.login(code); status != http.StatusForbidden {
		t.Errorf("from another site: %d", status)
	}
	b.origin = w.at
	_, _, header := b.do(http.MethodGet, "/?request="+url.QueryEscape(`"><script>`), nil)
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'sha256-", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
	} {
		if !strings.HasPrefix(header.Get(name), want) {
			t.Errorf("%s: %s", name, header.Get(name))
		}
	}
	_, body, _ := b.do(http.MethodGet, "/?request="+code.ID.String(), nil)
	if strings.Contains(body, "<script") || !strings.Contains(body, `value="`+code.ID.String()+`"`) {
		t.Errorf("page:\n%s", body)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	answer, err := client.PostForm(w.at+"/start", url.Values{"request": {code.ID.String()}, "password": {code.Password.Reveal()}})
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	c := answer.Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-enrollment=", "Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=900"} {
		if !strings.Contains(c, want) {
			t.Errorf("cookie %q has no %s", c, want)
		}
	}
}
