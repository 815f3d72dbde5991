package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/checkin"
	"github.com/roamgate/roamgate/bench/identity"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// dmServer is a DM server on loopback whose devices have certificates of a
// laboratory, with accounts in memory.
type dmServer struct {
	*sessiontest.Memory
	url             string
	root, ca, caKey string // files
	handler         *server.Server
}

func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func newDMServer(t *testing.T, auth tls.ClientAuthType) *dmServer {
	t.Helper()
	s := &dmServer{Memory: sessiontest.NewMemory()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "laboratory"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.ca, s.caKey = pemFile(t, "CERTIFICATE", der), pemFile(t, "PRIVATE KEY", pkcs8)
	devices, _, err := identity.Roots(s.ca)
	if err != nil {
		t.Fatal(err)
	}
	s.handler = server.New(server.Config{
		Session: session.Config{Queue: s, Accounts: s, Rand: rand.Reader},
		Identify: func(r *http.Request) (string, error) {
			if len(r.TLS.VerifiedChains) == 0 {
				return "", nil
			}
			return r.TLS.PeerCertificates[0].Subject.CommonName, nil
		},
	})
	web := httptest.NewUnstartedServer(s.handler)
	web.TLS = &tls.Config{ClientCAs: devices, ClientAuth: auth}
	web.StartTLS()
	t.Cleanup(func() {
		web.Close()
		s.handler.Close()
	})
	s.url = web.URL + "/dm"
	s.root = pemFile(t, "CERTIFICATE", web.Certificate().Raw)
	return s
}

// bench runs the command and reads its report.
func (s *dmServer) bench(t *testing.T, args ...string) *report.Report {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"dm", "--server", s.url, "--root", s.root, "--json", "-", "--quiet"}, args...)
	if code := execute(args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var r report.Report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v", &stdout, err)
	}
	return &r
}

func bench(n int) string { return fmt.Sprintf("bench-%07d", n) }

func replace(i int) session.Task {
	return session.Task{ID: fmt.Sprint("t", i), Command: &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{
		Target: syncml.Location{URI: fmt.Sprint(checkin.Root, "/", i%16)}, Data: []byte("new"), HasData: true,
	}}}}
}

// Devices come, those that have tasks do them, and come again by their tickets.
func TestDM(t *testing.T) {
	for _, syntax := range []string{"xml", "wbxml"} {
		t.Run(syntax, func(t *testing.T) {
			s := newDMServer(t, tls.RequireAndVerifyClientCert)
			for n := range 8 {
				s.PutAccount(bench(n), session.Account{})
			}
			for n := range 4 {
				for i := range 10 {
					s.Put(bench(n), replace(i))
				}
			}
			r := s.bench(t, "--ca", s.ca, "--ca-key", s.caKey, "--devices", "8", "--count", "40", "--concurrency", "3", "--syntax", syntax)
			if n := figure(t, r, "sessions"); n != 40 || len(r.Failures) > 0 {
				t.Errorf("%v sessions, failures %v", n, r.Failures)
			}
			if n := figure(t, r, "commands executed"); n != 40 {
				t.Errorf("%v commands executed", n)
			}
			if full, again := figure(t, r, "TLS handshakes in full"), figure(t, r, "TLS handshakes by a ticket"); full != 8 || again != 32 {
				t.Errorf("%v handshakes in full, %v by a ticket", full, again)
			}
			counts := map[string]int64{}
			for _, l := range r.Latencies {
				counts[l.Name] = l.Count
			}
			if counts["session"] != 40 || counts["session with commands, from its beginning"] != 4 || counts["session without commands, from its beginning"] != 36 || counts["TCP and TLS"] != 40 {
				t.Errorf("latencies of %v", counts)
			}
			for n := range 4 {
				for i := range 10 {
					if o, claims := s.Outcome(bench(n), fmt.Sprint("t", i)); o == nil || o.Code != 200 || claims != 1 {
						t.Errorf("task %d of device %d: %+v after %d claims", i, n, o, claims)
					}
				}
			}
		})
	}
}

// With a rate, a warm-up and full handshakes.
func TestDMOpen(t *testing.T) {
	s := newDMServer(t, tls.RequireAndVerifyClientCert)
	for n := range 4 {
		s.PutAccount(bench(n), session.Account{})
	}
	r := s.bench(t, "--ca", s.ca, "--ca-key", s.caKey, "--devices", "4", "--count", "30", "--rate", "2000", "--poisson", "--warm-up")
	if done, tickets := figure(t, r, "sessions"), figure(t, r, "TLS handshakes by a ticket"); done != 30 || tickets != 30 {
		t.Errorf("%v sessions, %v of them by a ticket, failures %v", done, tickets, r.Failures)
	}
	r = s.bench(t, "--ca", s.ca, "--ca-key", s.caKey, "--devices", "4", "--count", "12", "--full-handshakes")
	if done, full := figure(t, r, "sessions"), figure(t, r, "TLS handshakes in full"); done != 12 || full != 12 {
		t.Errorf("%v sessions, %v in full, failures %v", done, full, r.Failures)
	}
}

// Passwords work without a certificate, and with one that says who it is. Nonces
// go on from session to session: one challenge for each device.
func TestDMPasswords(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("wonderland\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for auth, scheme := range map[string]session.Scheme{"md5": session.MD5, "hmac": session.HMAC} {
		for _, certificate := range []bool{false, true} {
			t.Run(fmt.Sprint(auth, certificate), func(t *testing.T) {
				s := newDMServer(t, tls.VerifyClientCertIfGiven)
				for n := range 3 {
					s.PutAccount(bench(n), session.Account{Scheme: scheme, Name: bench(n), Password: []byte("wonderland"), Nonce: []byte("somebody's")})
					s.Put(bench(n), replace(n))
				}
				args := []string{"--auth", auth, "--secret-file", secret, "--devices", "3", "--count", "9", "--concurrency", "1"}
				if certificate {
					args = append(args, "--ca", s.ca, "--ca-key", s.caKey)
				}
				r := s.bench(t, args...)
				if done, commands := figure(t, r, "sessions"), figure(t, r, "commands executed"); done != 9 || commands != 3 {
					t.Errorf("%v sessions with %v commands, failures %v", done, commands, r.Failures)
				}
				// One a session, one more for the challenge and one for the command of
				// each device.
				if n := figure(t, r, "messages of the server a session"); n*9 != 15 {
					t.Errorf("%v messages", n*9)
				}
			})
		}
	}
}

// Devices that nobody knows are failures, and no figure hides it.
func TestDMRefused(t *testing.T) {
	s := newDMServer(t, tls.RequireAndVerifyClientCert)
	r := s.bench(t, "--ca", s.ca, "--ca-key", s.caKey, "--devices", "2", "--count", "4")
	if done := figure(t, r, "sessions"); done != 0 || len(r.Failures) != 1 || len(r.Notes) != 1 {
		t.Errorf("%v sessions, failures %v, notes %v", done, r.Failures, r.Notes)
	}
}

// A schedule of hours goes by in a second.
func TestDMSchedule(t *testing.T) {
	s := newDMServer(t, tls.RequireAndVerifyClientCert)
	for n := range 40 {
		s.PutAccount(bench(n), session.Account{})
	}
	r := s.bench(t, "--ca", s.ca, "--ca-key", s.caKey, "--devices", "40", "--schedule", "8h", "--for", "1s", "--speed", "86400")
	// A day: three visits of each, give or take the ends of it.
	late, _ := r.Figure("due, but not begun in time") // on a machine that is very busy
	if done := figure(t, r, "sessions"); done+late.Value == 0 || done > 4*40 || len(r.Failures) > 0 {
		t.Errorf("%v sessions, failures %v", done, r.Failures)
	}
	if due := figure(t, r, "sessions due by the schedule"); due != 120 {
		t.Errorf("%v due in a second", due)
	}
}

// What enrolled is used again.
func TestDMIdentities(t *testing.T) {
	s := newDMServer(t, tls.RequireAndVerifyClientCert)
	issuer, err := identity.NewIssuer(s.ca, s.caKey, func(n uint64) string { return fmt.Sprint("phone", n) })
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for n := range uint64(3) {
		id, err := issuer.Identity(n)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(id.Credential.Chain[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := identity.Append(&file, []*x509.Certificate{c}, id.Credential.Signer); err != nil {
			t.Fatal(err)
		}
		s.PutAccount(fmt.Sprint("phone", n), session.Account{})
	}
	name := filepath.Join(t.TempDir(), "devices")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.bench(t, "--identities", name, "--count", "6", "--html", filepath.Join(t.TempDir(), "dm.html"))
	if done, devices := figure(t, r, "sessions"), figure(t, r, "devices"); done != 6 || devices != 3 {
		t.Errorf("%v sessions of %v devices, failures %v", done, devices, r.Failures)
	}
}

func TestDMFlags(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const url = "https://127.0.0.1:1/dm"
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{}, exitFailed, "required"},
		{[]string{"--server", "http://127.0.0.1/dm"}, exitUsage, "--server"},
		{[]string{"--server", "https://192.0.2.1/dm"}, exitFailed, "may not be loaded"},
		{[]string{"--server", url}, exitUsage, "who are the devices"},
		{[]string{"--server", url, "--ca", empty}, exitUsage, "who are the devices"},
		{[]string{"--server", url, "--identities", empty}, exitFailed, "no device"},
		{[]string{"--server", url, "--auth", "basic"}, exitUsage, "--auth"},
		{[]string{"--server", url, "--auth", "md5"}, exitUsage, "--secret-file"},
		{[]string{"--server", url, "--auth", "md5", "--secret-file", empty}, exitFailed, "empty"},
		{[]string{"--server", url, "--auth", "md5", "--secret-file", empty, "--syntax", "json"}, exitUsage, "--syntax"},
		{[]string{"--server", url, "--auth", "md5", "--secret-file", empty, "--name", "same"}, exitUsage, "--name"},
		{[]string{"--server", url, "--schedule", "8h", "--rate", "7"}, exitUsage, "--schedule"},
		{[]string{"--server", url, "--speed", "7"}, exitUsage, "--schedule"},
	} {
		var stdout, stderr bytes.Buffer
		if code := execute(append([]string{"dm", "--quiet"}, c.args...), &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.text) {
			t.Errorf("%q: exit code %d, %s", c.args, code, &stderr)
		}
	}
}
