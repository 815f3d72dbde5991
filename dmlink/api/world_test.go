package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// clock that tests move, and that goes on by a step with each look, so that
// bounds on refusals are met only by tests that mean to.
type clock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// authority is a CA of administrators.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.key, a.cert = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true}, nil)
	return a
}

func (a *authority) issue(c *x509.Certificate, by *authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	c.SerialNumber = big.NewInt(a.n)
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, made
}

// administrator's certificate.
func (a *authority) administrator(name string, until time.Time) tls.Certificate {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if !until.IsZero() {
		c.NotBefore, c.NotAfter = until.Add(-time.Hour), until
	}
	key, made := a.issue(c, a)
	return tls.Certificate{Certificate: [][]byte{made.Raw}, PrivateKey: key, Leaf: made}
}

// verify is Options.Certificate.
func (a *authority) verify(_ context.Context, chain []*x509.Certificate) (string, error) {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", fmt.Errorf("%w: %w", ErrStranger, err)
	}
	if chain[0].Subject.CommonName == "revoked" {
		return "", fmt.Errorf("%w: revoked", ErrStranger)
	}
	return chain[0].Subject.CommonName, nil
}

// world is one database with the servers of instances on it.
type world struct {
	t     *testing.T
	clock *clock
	db    *database.DB
	store *store.SQL
	ca    *authority
	fleet *gates
}

// instance is a server over TLS.
type instance struct {
	*world
	access  *access.SQL
	keeper  *inventory.Keeper
	options Options
	api     *api
	url     string
	roots   *x509.CertPool

	mu     sync.Mutex
	placed []string
}

func newWorld(t *testing.T, open func(testing.TB) *database.DB) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{now: time.Now().UTC(), step: strangerEvery}, db: open(t), ca: newAuthority(t, "administrators")}
	var err error
	w.store, err = store.New(t.Context(), w.db, store.Options{SealKey: bytes.Repeat([]byte{7}, 32), Now: w.clock.Now})
	w.must(err)
	for _, v := range []store.Device{
		{Name: "phone-1", User: "ann", IMEI: "35-1", IMSI: "262-1", Phone: "+49-1", Groups: []string{"sales"}},
		{Name: "phone-2", User: "bob", IMEI: "35-2", Groups: []string{"sales", "staff"}},
		{Name: "tablet/3 %2f ü", User: "bob"},
	} {
		v.Enrolled = w.clock.Now()
		w.must(w.store.Enroll(t.Context(), v))
	}
	return w
}

func sqlite(t testing.TB) *database.DB { return databasetest.SQLite(t) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// key of the audit log.
var auditKey = bytes.Repeat([]byte{9}, access.KeySize)

func (w *world) instance(name string) *instance {
	w.t.Helper()
	i := &instance{world: w, keeper: inventory.NewKeeper(w.store.Inventories())}
	var err error
	i.access, err = access.New(w.t.Context(), w.db, access.Options{Instance: name, Key: auditKey, Now: w.clock.Now})
	w.must(err)
	_, err = w.store.SetUnit(w.t.Context(), "corp/sales", "phone-1")
	w.must(err)
	_, err = i.keeper.Record(w.t.Context(), "phone-1", inventory.Update{At: w.clock.Now(), Values: []session.Value{{URI: "./DevInfo/Mod", Format: "chr", Data: []byte("X1")}}})
	w.must(err)
	i.options = Options{
		Access: i.access, Devices: w.store, Tasks: w.store, Desk: task.New(task.Options{Store: w.store, Provider: "test", Now: w.clock.Now}),
		Policies: policy.NewEngine(w.store.Policies(), policy.Config{Now: w.clock.Now}), Versions: w.store.Policies(), Inventories: i.keeper,
		Fleet: w.gateways(), Certificate: w.ca.verify,
		Placed: func(id string) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.placed = append(i.placed, id)
		},
		Version: "test", Database: string(w.db.Engine), Now: w.clock.Now, Log: slog.New(slog.DiscardHandler),
	}
	i.serve()
	return i
}

func (i *instance) serve() {
	i.t.Helper()
	s, handler, err := build(i.options)
	i.must(err)
	i.api = s
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.StartTLS()
	i.t.Cleanup(server.Close)
	i.url, i.roots = server.URL, x509.NewCertPool()
	i.roots.AddCert(server.Certificate())
}

// token with roles, in words of its owner.
func (i *instance) token(name string, roles ...access.Role) string {
	i.t.Helper()
	_, secret, err := i.access.CreateToken(i.t.Context(), name, access.SetOf(roles...), time.Hour*24*30, access.Subject{Kind: access.ByHost, Name: "root"})
	i.must(err)
	return secret.Reveal()
}

// identity by which a request is sent.
type identity struct {
	token       string
	certificate *tls.Certificate
}

// client of an instance.
func (i *instance) client(id identity) *http.Client {
	t := &tls.Config{RootCAs: i.roots}
	if id.certificate != nil {
		t.Certificates = []tls.Certificate{*id.certificate}
	}
	c := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	i.t.Cleanup(c.CloseIdleConnections)
	return c
}

// answer to a request: status, problem if it is one, and the octets.
type answer struct {
	status  int
	header  http.Header
	problem Problem
	octets  []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.octets) }

// do sends a request as it is.
func (i *instance) do(c *http.Client, id identity, method, path string, content []byte) answer {
	i.t.Helper()
	r, err := http.NewRequestWithContext(i.t.Context(), method, i.url+path, bytes.NewReader(content))
	i.must(err)
	if len(content) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	if id.token != "" {
		r.Header.Set("Authorization", "Bearer "+id.token)
	}
	return i.send(c, r)
}

func (i *instance) send(c *http.Client, r *http.Request) answer {
	i.t.Helper()
	response, err := c.Do(r)
	i.must(err)
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	a.octets, err = io.ReadAll(response.Body)
	i.must(err)
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/problem+json") {
		i.must(json.Unmarshal(a.octets, &a.problem))
		if a.problem.Status != a.status || a.problem.Title == "" {
			i.t.Errorf("problem %+v of an answer %d", a.problem, a.status)
		}
	}
	return a
}

// call a row with a token.
func call[In, Out any](i *instance, token string, r Row[In, Out], in *In) (out Out, err error) {
	i.t.Helper()
	method, path, content, err := r.Request(in)
	i.must(err)
	a := i.do(i.client(identity{}), identity{token: token}, method, path, content)
	if a.status != http.StatusOK {
		return out, &a.problem
	}
	i.must(json.Unmarshal(a.octets, &out))
	return out, nil
}

// wantProblem of a status, with a text.
func wantProblem(t *testing.T, err error, status int, text string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Status != status || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%+v), want %d with %q", err, p, status, text)
	}
}

// log is the audit log from an entry on, the oldest first.
func (i *instance) log(after int64) []access.Entry {
	i.t.Helper()
	list, err := i.access.Audit(i.t.Context(), access.AuditFilter{Oldest: true, After: after})
	i.must(err)
	return list
}

func (i *instance) head() int64 {
	i.t.Helper()
	n, _, err := i.access.Head(i.t.Context())
	i.must(err)
	return n
}
