package integration

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

// Where an enrollment server of these tests listens, inside its namespace.
var (
	enrollDevices = netip.MustParseAddrPort("10.1.0.1:443")
	enrollAdmins  = netip.MustParseAddrPort("127.0.0.1:8445")
	enrollMetrics = netip.MustParseAddrPort("127.0.0.1:9501")
)

// enrollmentServer is one that `gatewayd init enrollment` configured, in the
// namespace of a gateway.
type enrollmentServer struct {
	*gateway.Gateway
	t     *testing.T
	ns    *netns.Namespace
	dir   string
	roots *x509.CertPool
	admin tls.Certificate
}

// newEnrollmentServer configures a server; change edits its configuration.
func newEnrollmentServer(t *testing.T, ns *netns.Namespace, change ...string) *enrollmentServer {
	t.Helper()
	s := &enrollmentServer{t: t, ns: ns, dir: t.TempDir(), roots: x509.NewCertPool()}
	s.run("init", "enrollment", "--dir", s.dir, "--url", "https://"+enrollDevices.Addr().String(), "--gateway", "10.1.0.1", "--gateway-id", gatewayID)
	file := filepath.Join(s.dir, "gatewayd.yaml")
	text := s.read("gatewayd.yaml")
	edited := strings.NewReplacer(change...).Replace(string(text))
	if err := os.WriteFile(file, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	s.roots.AppendCertsFromPEM(s.read("pki/root.pem"))
	var err error
	if s.admin, err = tls.LoadX509KeyPair(filepath.Join(s.dir, "admin.pem"), filepath.Join(s.dir, "admin.key")); err != nil {
		t.Fatal(err)
	}
	s.Gateway = gateway.NewEnrollment(ns, program(t, gatewayd), file, enrollMetrics)
	return s
}

func (s *enrollmentServer) run(args ...string) {
	s.t.Helper()
	if out, err := s.ns.Run(s.t.Context(), exec.Command(program(s.t, gatewayd), args...)); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

func (s *enrollmentServer) read(name string) []byte {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func (s *enrollmentServer) start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// client of HTTPS inside the namespace.
func (s *enrollmentServer) client(own ...tls.Certificate) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: s.roots, Certificates: own},
		MaxIdleConnsPerHost: 64,
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return s.ns.Dial(netip.MustParseAddrPort(address), 5*time.Second)
		},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// ask the administrators' API; the answer goes into out.
func (s *enrollmentServer) ask(c *http.Client, method, path string, in, out any) error {
	var content io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+enrollAdmins.String()+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %s", path, answer.Status, data)
	}
	return json.Unmarshal(data, out)
}

// list all pages.
func list[T any](s *enrollmentServer, c *http.Client, path string) []T {
	s.t.Helper()
	var all []T
	for after := ""; ; {
		var p admin.Page[T]
		if err := s.ask(c, http.MethodGet, path+"?limit=500"+after, nil, &p); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, p.Items...)
		if p.Next == "" {
			return all
		}
		after = "&after=" + p.Next
	}
}

func (s *enrollmentServer) request(c *http.Client, device string) admin.CreatedRequest {
	s.t.Helper()
	var made admin.CreatedRequest
	if err := s.ask(c, http.MethodPost, "/v1/requests", admin.NewRequest{User: "user-of-" + device, Device: device}, &made); err != nil {
		s.t.Fatal(err)
	}
	return made
}

// certificateRequest of a device, base64 as EST has it.
func certificateRequest(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// enroll by EST (RFC 7030 section 4.2).
func (s *enrollmentServer) enroll(c *http.Client, made admin.CreatedRequest, csr string) (*x509.Certificate, int, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "https://"+enrollDevices.String()+"/.well-known/est/simpleenroll", strings.NewReader(csr))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/pkcs10")
	r.SetBasicAuth(made.Request.ID, made.Password)
	answer, err := c.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, answer.StatusCode, err
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(data)), ""))
	if err != nil {
		return nil, 0, err
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, 0, err
	}
	return p7.Certificates[0], answer.StatusCode, nil
}

// manyAtOnce lets one address do what a fleet does.
var manyAtOnce = []string{"  database:", "  limits: {connections: 4096, connections_per_prefix: 4096, requests_per_second: 100000, burst: 100000}\n  database:"}

// The server is killed again and again while 2,000 devices enroll. Afterwards
// each password is unused or has exactly one recorded certificate, whoever got
// an answer has that one, and the outbox and the revocation list say the same.
//
//	16 devices at once -- gw (gatewayd run enrollment, kill -9, again)
func TestEnrollmentKilledInAStorm(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	s := newEnrollmentServer(t, top.Gateway, manyAtOnce...)
	s.start()
	admins := s.client(s.admin)
	const devices, workers, kills = 2000, 16, 4
	made := make([]admin.CreatedRequest, devices)
	for i := range made {
		made[i] = s.request(admins, fmt.Sprintf("dev-%04d", i))
	}
	key := make([]crypto.Signer, devices)
	got := make([]*x509.Certificate, devices)
	var done atomic.Int64
	next := make(chan int)
	var storm sync.WaitGroup
	for range workers {
		c := s.client()
		storm.Go(func() {
			for i := range next {
				key[i] = keyECDSA(t)
				csr := certificateRequest(t, key[i])
				// Each tenth gives up at the first error, as a user may.
				for try := 0; try < 200; try++ {
					certificate, status, err := s.enroll(c, made[i], csr)
					if err == nil && status == http.StatusOK {
						got[i] = certificate
						break
					}
					if err == nil && status < 500 {
						t.Errorf("device %d: status %d", i, status)
						break
					}
					if i%10 == 0 {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
				done.Add(1)
			}
		})
	}
	go func() {
		for i := range devices {
			next <- i
		}
		close(next)
	}()
	for k := range kills {
		for done.Load() < int64((k+1)*devices/(kills+1)) {
			time.Sleep(5 * time.Millisecond)
		}
		s.Kill()
		<-s.Done()
		s.start()
	}
	storm.Wait()
	admins.CloseIdleConnections()
	s.judge(admins, made, key, got)
}

// judge what is recorded after a storm.
func (s *enrollmentServer) judge(admins *http.Client, made []admin.CreatedRequest, key []crypto.Signer, got []*x509.Certificate) {
	s.t.Helper()
	byRequest, serials := map[string]admin.Certificate{}, map[string]bool{}
	for _, c := range list[admin.Certificate](s, admins, "/v1/certificates") {
		if serials[c.Serial] {
			s.t.Errorf("serial %s twice", c.Serial)
		}
		serials[c.Serial] = true
		if c.Profile != "device" {
			continue
		}
		if other, ok := byRequest[c.Request]; ok {
			s.t.Errorf("request %s has two certificates: %s and %s", c.Request, other.Serial, c.Serial)
		}
		byRequest[c.Request] = c
	}
	states := map[string]admin.Request{}
	for _, q := range list[admin.Request](s, admins, "/v1/requests") {
		states[q.ID] = q
	}
	again := s.client()
	used, lost := 0, 0
	for i, m := range made {
		q, c := states[m.Request.ID], byRequest[m.Request.ID]
		switch q.State {
		case "open":
			if c.Serial != "" || got[i] != nil {
				s.t.Errorf("device %d: the password is unused, and there is a certificate", i)
			}
		case "used":
			used++
			if c.Serial == "" || q.Serial != c.Serial {
				s.t.Errorf("device %d: used by %q, recorded %q", i, q.Serial, c.Serial)
			}
			if got[i] == nil {
				// The answer was lost; the same key gets the same certificate.
				lost++
				found, status, err := s.enroll(again, m, certificateRequest(s.t, key[i]))
				if err != nil || status != http.StatusOK {
					s.t.Errorf("device %d: asking again: %d, %v", i, status, err)
					continue
				}
				got[i] = found
			}
			if serial := fmt.Sprintf("%x", got[i].SerialNumber); strings.TrimLeft(c.Serial, "0") != serial {
				s.t.Errorf("device %d has %s, recorded is %s", i, serial, c.Serial)
			}
		default:
			s.t.Errorf("device %d: state %q", i, q.State)
		}
	}
	if used < len(made)*8/10 {
		s.t.Errorf("only %d of %d enrolled", used, len(made))
	}
	s.t.Logf("%d of %d used, %d answers were lost and asked for again", used, len(made), lost)
	told := map[string]bool{}
	for i, e := range list[admin.Event](s, admins, "/v1/outbox") {
		if e.Number != int64(i+1) {
			s.t.Fatalf("event %d has number %d", i+1, e.Number)
		}
		if e.Kind == "enrolled" {
			if told[e.Serial] {
				s.t.Errorf("%s was told twice", e.Serial)
			}
			told[e.Serial] = true
		}
	}
	for _, c := range byRequest {
		if !told[c.Serial] {
			s.t.Errorf("nobody was told of %s", c.Serial)
		}
	}
	if len(told) != len(byRequest) {
		s.t.Errorf("%d told, %d recorded", len(told), len(byRequest))
	}
	s.checkCRL()
}

// checkCRL fetches the revocation list as anybody can.
func (s *enrollmentServer) checkCRL() *x509.RevocationList {
	s.t.Helper()
	answer, err := s.client().Get("https://" + enrollDevices.String() + "/crl")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	der, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode(s.read("pki/issuing.pem"))
	issuing, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := crl.CheckSignatureFrom(issuing); err != nil || time.Now().After(crl.NextUpdate) {
		s.t.Errorf("revocation list until %v: %v", crl.NextUpdate, err)
	}
	return crl
}

// Whoever opens connections and says nothing, and whoever asks without end, has
// its share; a device elsewhere enrolls meanwhile.
//
//	dev1 (floods) -- net -- gw (gatewayd run enrollment)
//	dev2 (enrolls) -/
func TestEnrollmentFlood(t *testing.T) {
	top := netns.ForTest(t, netns.Options{Devices: 2})
	s := newEnrollmentServer(t, top.Gateway, "  database:",
		"  limits: {connections: 64, connections_per_prefix: 48, requests_per_second: 20, burst: 20}\n  database:")
	s.start()
	made := s.request(s.client(s.admin), "phone-1")
	flood, quiet := top.Devices[0].Namespace, top.Devices[1].Namespace
	var refused int
	for range 200 {
		c, err := flood.Dial(enrollDevices, 5*time.Second)
		if err != nil {
			refused++
			continue
		}
		t.Cleanup(func() { c.Close() })
	}
	own := *s
	own.ns = quiet
	if _, status, err := own.enroll(own.client(), made, certificateRequest(t, keyECDSA(t))); err != nil || status != http.StatusOK {
		t.Errorf("beside a flood of connections: status %d, %v", status, err)
	}
	// Requests beyond the rate of a source are turned away, and told when to come.
	asking := own
	asking.ns = quiet
	limited := make(chan *http.Response, 8)
	var askers sync.WaitGroup
	for range cap(limited) {
		askers.Go(func() {
			c := asking.client()
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && len(limited) == 0; {
				answer, err := c.Get("https://" + enrollDevices.String() + "/")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body) // so that the connection is kept
				answer.Body.Close()
				if answer.StatusCode == http.StatusTooManyRequests {
					limited <- answer
					return
				}
			}
		})
	}
	askers.Wait()
	close(limited)
	if answer := <-limited; answer == nil || answer.Header.Get("Retry-After") == "" {
		t.Errorf("more requests than the rate allows: %v", answer)
	}
	metrics, err := s.Metrics(t.Context())
	if err != nil || !strings.Contains(metrics, `gatewayd_listener_connections_total{listener="devices",result="refused"}`) {
		t.Errorf("metrics: %v", err)
	}
}

// A device of one installation is refused by the gateway of another, although
// that knows its root, and let in by one of its own.
//
//	dev1 (strongSwan) -- gw (gatewayd run enrollment of A; gateway of B, then of A too)
func TestOtherInstance(t *testing.T) {
	var a *enrollmentServer
	s := newScenario(t, options{configure: func(s *scenario) {
		a = newEnrollmentServer(t, s.top.Gateway)
		a.start()
		for _, name := range []string{"root", "issuing"} {
			s.write(name+"-of-a.pem", a.read("pki/"+name+".pem"))
		}
		s.conf.Roots = append(s.conf.Roots, "root-of-a.pem")
		s.conf.Intermediates = append(s.conf.Intermediates, "issuing-of-a.pem")
	}})
	key := keyECDSA(t)
	certificate, status, err := a.enroll(a.client(), a.request(a.client(a.admin), "dev1"), certificateRequest(t, key))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v", status, err)
	}
	block, _ := pem.Decode(a.read("pki/issuing.pem"))
	issuing, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(t, s.top.Devices[0], identity{cert: certificate, key: key, chain: []*x509.Certificate{issuing}})
	if err := c.Connect(s.ctx, 20*time.Second); err == nil {
		t.Fatal("a gateway of another installation let it in")
	}
	s.conf.InstanceOIDs = append(s.conf.InstanceOIDs, certificate.Policies[0].String())
	s.configure()
	s.reload(t)
	s.ping(t, c, s.connect(t, c))
}
