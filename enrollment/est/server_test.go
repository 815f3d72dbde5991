package est

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// bundle is what an answer with one certificate looks like.
func bundle(t *testing.T, c *x509.Certificate) []byte {
	t.Helper()
	der, err := cms.Certificates([]*x509.Certificate{c})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate of an answer.
func certificate(t *testing.T, body []byte) *x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	all, err := cms.ParseCertificates(der)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d certificates, %v", len(all), err)
	}
	return all[0]
}

func post(url string, csr []byte) *http.Request {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/pkcs10")
	return r
}

func get(url string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return r
}

func newServer(w *enrolltest.World) http.Handler {
	return New(Options{Enroller: w, Chain: w.Chain, Log: w.Log})
}

// A device enrolls with its password, loses the answer, and renews.
func TestConversation(t *testing.T) {
	w := enrolltest.New(t)
	server := w.Serve(newServer(w))
	url := server.URL + Root
	code, key, next := w.Request("till-1"), enrolltest.ECKey(t), enrolltest.ECKey(t)
	csr, nextCSR := enrolltest.CSR(t, key), enrolltest.CSR(t, next)
	stranger := w.Client(nil, nil)

	r := enrolltest.NewTranscript(t)
	authority, err := cms.Certificates(w.Chain())
	if err != nil {
		t.Fatal(err)
	}
	r.HideDER(authority, "bundle of issuing CA and root")
	r.HideDER(csr, "request of key 1")
	r.HideDER(nextCSR, "request of key 2")
	login := func(q *http.Request, user, password, name string) *http.Request {
		q.SetBasicAuth(user, password)
		r.Hide(q.Header.Get("Authorization"), "Basic "+name)
		return q
	}
	id, password := code.ID.String(), code.Password.Reveal()
	wrong := otp.New()

	r.Note("Before it has anything: which CA, which keys")
	r.Do(stranger, get(url+"cacerts"))
	r.Do(stranger, get(url+"any-label/cacerts"))
	r.Do(stranger, get(url+"csrattrs"))
	r.Note("Without a login, with a wrong password, with the right one")
	r.Do(stranger, post(url+"simpleenroll", csr))
	r.Do(stranger, login(post(url+"simpleenroll", csr), id, wrong.Password.Reveal(), "ID and a wrong password"))
	_, body := r.Do(stranger, login(post(url+"simpleenroll", csr), id, password, "ID and password"))
	c := certificate(t, body)
	w.Verify(c, "till-1", key.Public())
	r.HideDER(bundle(t, c), "certificate 1")
	r.Note("The answer was lost: the same again. Another key has no luck")
	r.Do(stranger, login(post(url+"simpleenroll", csr), id, password, "ID and password"))
	r.Do(stranger, login(post(url+"simpleenroll", nextCSR), id, password, "ID and password"))
	r.Note("The next certificate, for the present one")
	r.Do(stranger, post(url+"simplereenroll", nextCSR))
	device := w.Client(c, key)
	_, body = r.Do(device, post(url+"simplereenroll", nextCSR))
	c2 := certificate(t, body)
	w.Verify(c2, "till-1", next.Public())
	r.HideDER(bundle(t, c2), "certificate 2")
	r.Note("The answer was lost: the same again")
	r.Do(device, post(url+"simplereenroll", nextCSR))
	r.Note("What isn't there")
	r.Do(stranger, get(url+"simpleenroll"))
	r.Do(stranger, post(url+"serverkeygen", csr))
	r.Do(stranger, post(url+"a/b/simpleenroll", csr))
	r.Golden("conversation")

	if n := len(w.Recorded()); n != 2 {
		t.Errorf("%d certificates recorded, want 2", n)
	}
}

func TestLogins(t *testing.T) {
	w := enrolltest.New(t)
	url := w.Serve(newServer(w)).URL + Root + "simpleenroll"
	for name, login := range map[string]func(otp.Code) (string, string){
		"address":    func(c otp.Code) (string, string) { return enrolltest.Email, c.Password.Reveal() },
		"user name":  func(c otp.Code) (string, string) { return enrolltest.User, c.Password.Reveal() },
		"code":       func(c otp.Code) (string, string) { return "", c.Reveal() },
		"lower case": func(c otp.Code) (string, string) { return c.ID.String(), strings.ToLower(c.Password.Reveal()) },
	} {
		code, key := w.Request("tablet"), enrolltest.ECKey(t)
		r := post(url, enrolltest.CSR(t, key))
		r.SetBasicAuth(login(code))
		answer, err := w.Client(nil, nil).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %v: %s", name, answer.Status, err, body)
			continue
		}
		w.Verify(certificate(t, body), "tablet", key.Public())
	}
}

// serve calls the handler without a network in between.
func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	r.RemoteAddr = "127.0.0.1:4711"
	h.ServeHTTP(recorder, r)
	return recorder
}

func dump(r *httptest.ResponseRecorder) string {
	var b bytes.Buffer
	_ = r.Result().Write(&b)
	return b.String()
}

// Whoever doesn't know a password can't tell requests apart.
func TestSecretReasonsLookAlike(t *testing.T) {
	w := enrolltest.New(t)
	h := newServer(w)
	apply := func(user, password string, key crypto.Signer) string {
		r := post("https://localhost"+Root+"simpleenroll", enrolltest.CSR(t, key))
		r.SetBasicAuth(user, password)
		return dump(serve(h, r))
	}
	key := enrolltest.ECKey(t)
	open, used, cancelled, expired := w.Request("a"), w.Request("b"), w.Request("c"), w.Request("d")
	if got := apply(used.ID.String(), used.Password.Reveal(), enrolltest.ECKey(t)); !strings.Contains(got, "200 OK") {
		t.Fatal(got)
	}
	w.Cancel(cancelled)
	other := otp.New()
	want := apply(open.ID.String(), other.Password.Reveal(), key)
	if !strings.Contains(want, "401 Unauthorized") {
		t.Fatal(want)
	}
	check := func(name, user, password string) {
		t.Helper()
		if got := apply(user, password, key); got != want {
			t.Errorf("%s:\n%s\nwant, as for a wrong password:\n%s", name, got, want)
		}
	}
	check("unknown request", other.ID.String(), other.Password.Reveal())
	check("unknown user", "eve@example.com", other.Password.Reveal())
	check("used, another key", used.ID.String(), used.Password.Reveal())
	check("cancelled", cancelled.ID.String(), cancelled.Password.Reveal())
	check("not in the form of a password", open.ID.String(), "hunter2")
	w.Turn(9 * time.Hour)
	check("expired", expired.ID.String(), expired.Password.Reveal())
}

func TestLimited(t *testing.T) {
	w := enrolltest.New(t)
	h := newServer(w)
	csr, wrong := enrolltest.CSR(t, enrolltest.ECKey(t)), otp.New()
	for range 100 {
		r := post("https://localhost"+Root+"simpleenroll", csr)
		r.SetBasicAuth(wrong.ID.String(), wrong.Password.Reveal())
		switch got := serve(h, r); got.Code {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			if got.Header().Get("Retry-After") == "" {
				t.Error("it doesn't say when to come back")
			}
			return
		default:
			t.Fatal(dump(got))
		}
	}
	t.Error("a hundred wrong tries from one address")
}

func TestRefusals(t *testing.T) {
	w := enrolltest.New(t)
	h := newServer(w)
	key := enrolltest.ECKey(t)
	csr := enrolltest.CSR(t, key)
	code := w.Request("till-1")
	login := func(r *http.Request) *http.Request {
		r.SetBasicAuth(code.ID.String(), code.Password.Reveal())
		return r
	}
	url := "https://localhost" + Root
	forged := bytes.Clone(csr)
	forged[len(forged)-1] ^= 1
	large := post(url+"simpleenroll", make([]byte, 2*maxBody))
	text := post(url+"simpleenroll", csr)
	text.Header.Set("Content-Type", "text/plain")
	for name, c := range map[string]struct {
		request *http.Request
		status  int
		text    string
	}{
		"too large":        {login(large), http.StatusRequestEntityTooLarge, "too large"},
		"no request":       {login(post(url+"simpleenroll", []byte("hello"))), http.StatusBadRequest, "not a certificate request"},
		"wrong signature":  {login(post(url+"simpleenroll", forged)), http.StatusBadRequest, "wrong signature"},
		"of another type":  {login(text), http.StatusUnsupportedMediaType, "application/pkcs10"},
		"an empty label":   {get(url + "/cacerts"), http.StatusNotFound, "not found"},
		"the root":         {get(url), http.StatusNotFound, "not found"},
		"by another means": {post(url+"cacerts", csr), http.StatusMethodNotAllowed, "GET"},
	} {
		got := serve(h, c.request)
		if got.Code != c.status || !strings.Contains(got.Body.String(), c.text) {
			t.Errorf("%s: %s", name, dump(got))
		}
	}
	if n := len(w.Recorded()); n != 0 {
		t.Errorf("%d certificates came of it", n)
	}

	reenroll := func(c *x509.Certificate, h http.Handler) *httptest.ResponseRecorder {
		r := post(url+"simplereenroll", enrolltest.CSR(t, enrolltest.ECKey(t)))
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		return serve(h, r)
	}
	device := w.Enrolled("till-2", key)
	w.RevokeCertificate(device)
	if got := reenroll(device, h); got.Code != http.StatusForbidden {
		t.Errorf("a revoked certificate: %s", dump(got))
	}
	other := enrolltest.New(t)
	if got := reenroll(other.Enrolled("till-2", key), h); got.Code != http.StatusForbidden {
		t.Errorf("another CA's certificate: %s", dump(got))
	}
	broken := New(Options{Enroller: enrolltest.Broken{Err: errors.New("database is away")}, Chain: w.Chain, Log: w.Log})
	got := serve(broken, login(post(url+"simpleenroll", csr)))
	if got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" || strings.Contains(got.Body.String(), "database") {
		t.Errorf("without a database: %s", dump(got))
	}
}

// What clients make of base64, with and without line ends, and what people send
// who don't.
func TestBodies(t *testing.T) {
	csr := enrolltest.CSR(t, enrolltest.ECKey(t))
	text := base64.StdEncoding.EncodeToString(csr)
	lines := func(n int, end string) string {
		var b strings.Builder
		for rest := text; rest != ""; rest = rest[min(n, len(rest)):] {
			b.WriteString(rest[:min(n, len(rest))] + end)
		}
		return b.String()
	}
	for name, body := range map[string]string{
		"one line":                text,
		"one line with its end":   text + "\n",
		"lines of 64":             lines(64, "\n"),
		"lines of 76 as in MIME":  lines(76, "\r\n"),
		"empty lines around":      "\r\n" + text + "\r\n\r\n",
		"spaces in between":       lines(10, " "),
		"DER":                     string(csr),
		"PEM":                     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		"PEM as it was once":      string(pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: csr})),
		"PEM with lines about it": "-----BEGIN CERTIFICATE REQUEST-----\n" + lines(64, "\n") + "-----END CERTIFICATE REQUEST-----\n\n",
	} {
		if got, err := decode([]byte(body)); err != nil || !bytes.Equal(got, csr) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	// DER ends as it ends.
	for _, last := range " \t\r\n\v\f" {
		der := append([]byte{0x30, 1}, byte(last))
		if got, err := decode(der); err != nil || !bytes.Equal(got, der) {
			t.Errorf("DER that ends with %q: %x, %v", last, got, err)
		}
	}
	for _, body := range []string{"", " \n", "-----BEGIN", "MII*", text + "=", text[:len(text)-1] + "!", "<xml/>"} {
		if got, err := decode([]byte(body)); !errors.Is(err, errBody) {
			t.Errorf("%q: %x, %v", body, got, err)
		}
	}
}
