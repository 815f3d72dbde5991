package join_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/jointest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// line is a connection to an instance on which a test says what it likes.
type line struct {
	t       *testing.T
	server  string
	http    *http.Client
	binding []byte
}

func newLine(t *testing.T, i *jointest.Instance) *line {
	t.Helper()
	conn, err := tls.Dial("tcp", i.Address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	state := conn.ConnectionState()
	l := &line{t: t, server: i.Address, http: &http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}}
	if l.binding, err = join.Binding(&state); err != nil {
		t.Fatal(err)
	}
	return l
}

// answer of a server, with all that a peer can see of it.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (l *line) post(path, contentType string, body []byte) answer {
	l.t.Helper()
	r, err := l.http.Post("https://"+l.server+path, contentType, bytes.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Body.Close()
	octets, err := io.ReadAll(r.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Del("Date")
	return answer{r.StatusCode, r.Header, octets}
}

func (l *line) send(path string, m any) answer {
	l.t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.post(path, "application/json", body)
}

func hello(id otp.ID) join.Hello {
	return join.Hello{Versions: join.Versions, Request: id.String(), Nonce: make([]byte, join.NonceSize)}
}

func newCSR(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// strange messages of somebody who doesn't know the password: one for each path.
func (l *line) strange(id otp.ID, csr []byte) map[string]answer {
	h, mac := hello(id), bytes.Repeat([]byte{1}, join.MACSize)
	return map[string]answer{
		join.DiscoverPath:    l.send(join.DiscoverPath, join.DiscoverRequest{Hello: h, MAC: mac}),
		join.TrustPath:       l.send(join.TrustPath, join.TrustRequest{Hello: h}),
		join.CertificatePath: l.send(join.CertificatePath, join.CertificateRequest{Hello: h, CSR: csr, MAC: mac}),
	}
}

// requestsInAllStates of an instance, by state; unknown is one that never was.
func requestsInAllStates(t *testing.T, i *jointest.Instance) map[string]otp.ID {
	t.Helper()
	states := map[string]otp.ID{"unknown": otp.New().ID, "open": i.Request().ID}
	used := i.Request()
	if _, err := client.Join(t.Context(), client.Options{Code: used, Server: i.Address}); err != nil {
		t.Fatal(err)
	}
	states["used"] = used.ID
	cancelled := i.Request()
	if err := i.CancelRequest(t.Context(), jointest.Admin, cancelled.ID); err != nil {
		t.Fatal(err)
	}
	states["cancelled"] = cancelled.ID
	_, expired, err := i.CreateRequest(t.Context(), jointest.Admin, enroll.NewRequest{User: "eve", Email: "eve@example.com", Device: "late", Valid: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	_, exhausted, err := i.CreateRequest(t.Context(), jointest.Admin, enroll.NewRequest{User: "eve", Email: "eve@example.com", Device: "guessed", Valid: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Directory().Guessed(t.Context(), jointest.Admin, exhausted.ID, 1, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	i.Turn(2 * time.Minute)
	i.Sweep(t.Context())
	states["expired"], states["exhausted"] = expired.ID, exhausted.ID
	for name, want := range map[string]directory.State{
		"open": directory.Open, "used": directory.Used, "cancelled": directory.Cancelled, "expired": directory.Expired, "exhausted": directory.Exhausted,
	} {
		q, err := i.Directory().Request(t.Context(), states[name])
		if err != nil || q.State != want {
			t.Fatalf("%s: %v, %v", name, q.State, err)
		}
	}
	return states
}

// Who doesn't know a password can't tell which requests exist, and in which
// state they are: each answer is the same octet by octet, but for those that
// are random for everybody, and those are as long and all different.
func TestProbing(t *testing.T) {
	i := jointest.New(t, jointest.Options{Policy: enroll.Policy{SourceBurst: 1000}})
	states := requestsInAllStates(t, i)
	key, err := client.GenerateKey(client.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr := newCSR(t, key)
	const rounds = 12
	want := make(map[string]answer)
	nonces, macs := make(map[string]string), make(map[string]string)
	ones := make(map[string]int)
	for range rounds {
		for _, state := range slices.Sorted(maps.Keys(states)) {
			for path, got := range newLine(t, i).strange(states[state], csr) {
				if path == join.TrustPath {
					var m join.TrustResponse
					if err := join.DecodeBytes(got.body, &m); err != nil || got.status != http.StatusOK {
						t.Fatalf("%s: %d, %v", state, got.status, err)
					}
					for what, seen := range map[string]map[string]string{string(m.Nonce): nonces, string(m.MAC): macs} {
						if before, twice := seen[what]; twice {
							t.Fatalf("the same octets for %s and %s", before, state)
						}
						seen[what] = state
					}
					for _, b := range m.MAC {
						for ; b != 0; b &= b - 1 {
							ones[state]++
						}
					}
					clear(m.Nonce)
					clear(m.MAC)
					if got.body, err = json.Marshal(m); err != nil {
						t.Fatal(err)
					}
				}
				if _, ok := want[path]; !ok {
					want[path] = got
				}
				if !reflect.DeepEqual(got, want[path]) {
					t.Fatalf("%s of a request that is %s: %d %v %s, before: %d %v %s", path, state,
						got.status, got.header, got.body, want[path].status, want[path].header, want[path].body)
				}
			}
		}
	}
	for path, status := range map[string]int{join.DiscoverPath: 403, join.TrustPath: 200, join.CertificatePath: 403} {
		if want[path].status != status {
			t.Errorf("%s: %d, want %d", path, want[path].status, status)
		}
	}
	// MACs of every state are like random ones: half of 3,072 bits, give or take
	// ten standard deviations.
	for state, n := range ones {
		if mean, bound := rounds*join.MACSize*4, 280; n < mean-bound || n > mean+bound {
			t.Errorf("%s: %d of %d bits are set", state, n, 2*mean)
		}
	}
}

// Limits are those of a source, whichever request it asks for.
func TestLimitsTellNothing(t *testing.T) {
	i := jointest.New(t, jointest.Options{Policy: enroll.Policy{SourceBurst: 3, SourceEvery: time.Hour}})
	open := i.Request()
	key, err := client.GenerateKey(client.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr := newCSR(t, key)
	l := newLine(t, i)
	var all []answer
	for n := range 8 {
		id := open.ID
		if n%2 == 0 {
			id = otp.New().ID
		}
		all = append(all, l.strange(id, csr)[join.CertificatePath])
	}
	for n, a := range all {
		status := http.StatusForbidden
		if n >= 3 {
			status = http.StatusTooManyRequests
		}
		if a.status != status {
			t.Errorf("try %d: %d, want %d", n, a.status, status)
		}
		if limited := a.header.Get("Retry-After") != ""; limited != (n >= 3) {
			t.Errorf("try %d: Retry-After %q", n, a.header.Get("Retry-After"))
		}
		if n > 3 && !bytes.Equal(a.body, all[3].body) {
			t.Errorf("try %d: %s, before: %s", n, a.body, all[3].body)
		}
	}
}

// All that the handler says is as the OpenAPI document describes it.
func TestAnswersConform(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	code := i.Request()
	secret := code.Password.Key(code.ID)
	key, err := client.GenerateKey(client.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr := newCSR(t, key)
	l := newLine(t, i)

	q := join.Inquiry{Binding: l.binding, DiscoverRequest: join.DiscoverRequest{Hello: hello(code.ID)}}
	q.Sign(secret)
	found := l.send(join.DiscoverPath, q.DiscoverRequest)
	join.Conforms(t, reflect.TypeFor[join.DiscoverResponse](), found.body)

	h := hello(code.ID)
	first := l.send(join.TrustPath, join.TrustRequest{Hello: h})
	join.Conforms(t, reflect.TypeFor[join.TrustResponse](), first.body)
	var trust join.TrustResponse
	if err := join.DecodeBytes(first.body, &trust); err != nil {
		t.Fatal(err)
	}
	c := join.Begin(l.binding, &h, trust.Version, trust.Nonce, &trust.Trust)
	c.Request(csr)
	hash, err := otp.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	second := l.send(join.CertificatePath, join.CertificateRequest{Hello: h, CSR: csr, MAC: c.RequestMAC(otp.Bind(secret, hash))})
	join.Conforms(t, reflect.TypeFor[join.CertificateResponse](), second.body)

	for name, a := range map[string]answer{
		"400": l.post(join.TrustPath, "application/json", []byte(`{}`)),
		"415": l.post(join.TrustPath, "text/plain", []byte(`{}`)),
		"404": l.post("/join/else", "application/json", []byte(`{}`)),
		"403": l.send(join.DiscoverPath, join.DiscoverRequest{Hello: h, MAC: make([]byte, join.MACSize)}),
	} {
		join.Conforms(t, reflect.TypeFor[join.Problem](), a.body)
		if fmt.Sprint(a.status) != name || a.header.Get("Content-Type") != join.ProblemType {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
	document, err := l.http.Get("https://" + l.server + join.OpenAPIPath)
	if err != nil {
		t.Fatal(err)
	}
	defer document.Body.Close()
	var api struct{ Paths map[string]any }
	if err := json.NewDecoder(document.Body).Decode(&api); err != nil || len(api.Paths) != 3 {
		t.Errorf("%v, %v", api, err)
	}
}

// What isn't a message costs little and changes nothing.
func TestBadMessages(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	l := newLine(t, i)
	id := i.Request().ID
	versions := hello(id)
	versions.Versions = []int{9}
	for name, c := range map[string]struct {
		answer answer
		status int
		detail string
	}{
		"too long":    {l.post(join.TrustPath, "application/json", bytes.Repeat([]byte(" "), join.MaxRequest+1)), 400, "octets"},
		"no version":  {l.send(join.TrustPath, join.TrustRequest{Hello: versions}), 400, "version"},
		"no CSR":      {l.strange(id, []byte("no CSR"))[join.CertificatePath], 400, "certificate request"},
		"long detail": {l.post(join.TrustPath, "application/json", []byte(`{"`+strings.Repeat("a", 1000)+`":1}`)), 400, "..."},
	} {
		var p join.Problem
		if err := json.Unmarshal(c.answer.body, &p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.answer.status != c.status || p.Status != c.status || !strings.Contains(p.Detail, c.detail) || len(p.Detail) > 300 {
			t.Errorf("%s: %d %s", name, c.answer.status, c.answer.body)
		}
	}
}

// Without TLS 1.3 there is nothing to bind to.
func TestOldTLS(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}}}
	t.Cleanup(c.CloseIdleConnections)
	body, err := json.Marshal(join.TrustRequest{Hello: hello(i.Request().ID)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Post("https://"+i.Address+join.TrustPath, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusBadRequest || !bytes.Contains(text, []byte("TLS 1.3")) {
		t.Errorf("%d %s", r.StatusCode, text)
	}
}
