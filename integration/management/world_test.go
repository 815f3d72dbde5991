package management

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// gatewayd is the program: the one that the environment names, or built now.
var gatewayd = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("ROAMGATE_GATEWAYD"); path != "" {
		return filepath.Abs(path)
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "gatewayd"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", path, "../../gatewayd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building gatewayd: %w\n%s", err, said)
	}
	return path, nil
})

// worlds so far: each has a loopback address of its own, so that ports are free.
var worlds atomic.Uint32

func ownAddress() netip.Addr {
	pid := uint32(os.Getpid())
	return netip.AddrFrom4([4]byte{127, byte(64 + pid>>8&0x3f), byte(pid), byte(1 + worlds.Add(1))})
}

// Ports of the first of each role; a second manager has those 10 above.
const (
	portEnroll, portEnrollAdmin, portEnrollMetrics = 8443, 8445, 9501
	portDM, portDMAdmin, portDMMetrics             = 9443, 9446, 9502
	second                                         = 10
)

// world is an installation: a configuration, its processes, its administrator.
type world struct {
	t       *testing.T
	at      netip.Addr
	dir     string
	program string
	file    string
	root    *x509.CertPool
	admins  *admin.Client
	source  database.Config
	db      *database.DB
	store   *store.SQL
}

// newWorld is configured by `gatewayd init manager,enrollment`; postgres is empty
// for SQLite.
func newWorld(t *testing.T, postgres string) *world {
	t.Helper()
	w := &world{t: t, at: ownAddress(), root: x509.NewCertPool()}
	var err error
	if w.program, err = gatewayd(); err != nil {
		t.Fatal(err)
	}
	// A short path: there is a socket in it.
	if w.dir, err = os.MkdirTemp("", "rgm"); err != nil { //nolint:usetesting // see above
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(w.dir) })
	w.file = filepath.Join(w.dir, "gatewayd.yaml")
	w.must(w.command("init", "manager,enrollment", "--dir", w.dir, "--gateway", "10.1.0.1", "--admin", "alice",
		"--url", "https://"+w.port(portEnroll), "--listen", w.port(portEnroll), "--admin-listen", w.port(portEnrollAdmin), "--metrics", w.port(portEnrollMetrics),
		"--management-url", "https://"+w.port(portDM)+"/dm", "--management-listen", w.port(portDM),
		"--management-admin-listen", w.port(portDMAdmin), "--management-metrics", w.port(portDMMetrics)))
	source := database.Config{File: filepath.Join(w.dir, "enrollment", "enrollment.db"), Connections: 4}
	if postgres != "" {
		source = database.Config{Postgres: postgres, Insecure: true, Connections: 4}
		w.edit(w.file, `    sqlite: "enrollment/enrollment.db"`, fmt.Sprintf("    postgres: %q\n    tls: insecure-without-tls", postgres))
	}
	if !w.root.AppendCertsFromPEM(w.read("pki/root.pem")) {
		t.Fatal("no root")
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "admin.pem"), filepath.Join(w.dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	w.admins = admin.NewClient("https://"+w.port(portEnrollAdmin), own, w.root)
	t.Cleanup(w.admins.Close)
	w.source = source
	w.open()
	return w
}

// open the database, to look from outside at what the servers have written.
func (w *world) open() {
	w.t.Helper()
	db, err := database.Open(w.t.Context(), w.source)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { db.Close() })
	w.db = db
	if w.store, err = store.New(w.t.Context(), db, store.Options{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) port(n int) string { return netip.AddrPortFrom(w.at, uint16(n)).String() }

func (w *world) must(out string, err error) string {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (w *world) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, w.program, args...).CombinedOutput()
	return string(out), err
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// edit a file: pairs of what is there and what shall be.
func (w *world) edit(file string, change ...string) {
	w.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(change); i += 2 {
		if !strings.Contains(text, change[i]) {
			w.t.Fatalf("%s lacks %q:\n%s", file, change[i], text)
		}
		text = strings.ReplaceAll(text, change[i], change[i+1])
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// process of roles. It may be started again.
type process struct {
	w       *world
	roles   string
	file    string
	ready   []string // ports of metrics
	log     *lockedBuffer
	command *exec.Cmd
	ended   chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// run roles with a configuration until the test ends.
func (w *world) run(roles, file string, metrics ...int) *process {
	w.t.Helper()
	p := &process{w: w, roles: roles, file: file, log: new(lockedBuffer)}
	for _, m := range metrics {
		p.ready = append(p.ready, w.port(m))
	}
	w.t.Cleanup(func() {
		p.kill()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", roles, p.log.text())
		}
	})
	p.start()
	return p
}

func (p *process) start() {
	p.w.t.Helper()
	p.command = exec.Command(p.w.program, "run", p.roles, "--config", p.file)
	p.command.Stdout, p.command.Stderr = p.log, p.log
	if err := p.command.Start(); err != nil {
		p.w.t.Fatal(err)
	}
	p.ended = make(chan error, 1)
	go func(c *exec.Cmd, ended chan error) { ended <- c.Wait() }(p.command, p.ended)
	for _, at := range p.ready {
		p.w.until(at+" is ready", func() bool {
			select {
			case err := <-p.ended:
				p.w.t.Fatalf("%s ended: %v\n%s", p.roles, err, p.log.text())
			default:
			}
			r, err := http.Get("http://" + at + "/readyz")
			if err != nil {
				return false
			}
			r.Body.Close()
			return r.StatusCode == http.StatusOK
		})
	}
}

// kill -9.
func (p *process) kill() {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Kill()
	<-p.ended
	p.command = nil
}

// until something holds; the time is for machines that have much else to do. What
// was seen last is told where it never does.
func (w *world) until(what string, holds func() bool, seen ...func() string) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			for _, last := range seen {
				what += "; last seen:\n" + last()
			}
			w.t.Fatalf("in vain: %s", what)
		}
	}
}

// phone is a device that enrolled.
type phone struct {
	w       *world
	name    string
	joined  *client.Result
	told    enroll.Configuration
	tree    *tree.Tree
	journal string
	// locked counts executions.
	locked atomic.Int32
}

// enroll a device as its user does.
func (w *world) enroll(name string) *phone {
	w.t.Helper()
	d := &phone{w: w, name: name}
	d.enroll()
	d.journal = filepath.Join(w.t.TempDir(), "journal")
	return d
}

func (d *phone) enroll() {
	w := d.w
	w.t.Helper()
	made, err := w.admins.CreateRequest(w.t.Context(), admin.NewRequest{User: "bob", Device: d.name, Groups: []string{"sales"}})
	if err != nil {
		w.t.Fatal(err)
	}
	code, err := otp.ParseCode(made.Code)
	if err != nil {
		w.t.Fatal(err)
	}
	if d.joined, err = client.Join(w.t.Context(), client.Options{Code: code, Server: w.port(portEnroll)}); err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(d.joined.Configuration, &d.told); err != nil {
		w.t.Fatal(err)
	}
	d.tree = tree.New(tree.Limits{})
	now := time.Now()
	d.tree.Put("./DevInfo/DevId", tree.Node{Value: tree.Value{Data: []byte(d.name)}}, now)
	d.tree.Put("./Vendor/MSFT/RemoteLock/Lock", tree.Node{Exec: func(time.Time, []byte) int {
		d.locked.Add(1)
		return syncml.StatusOK
	}}, now)
	d.tree.Put("./Vendor/MSFT/RemoteWipe/doWipe", tree.Node{Exec: func(time.Time, []byte) int { return syncml.StatusOK }}, now)
}

// certificate that it shows.
func (d *phone) certificate() tls.Certificate {
	c := tls.Certificate{PrivateKey: d.joined.Key, Leaf: d.joined.Certificate, Certificate: [][]byte{d.joined.Certificate.Raw}}
	for _, other := range d.joined.Chain[:len(d.joined.Chain)-1] {
		c.Certificate = append(c.Certificate, other.Raw)
	}
	return c
}

// come for a session where it was told to.
func (d *phone) come() error {
	d.w.t.Helper()
	return d.at(d.told.Management, d.certificate())
}

// at a server, as whoever the certificates say.
func (d *phone) at(url string, own ...tls.Certificate) error {
	d.w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.w.t.Fatal(err)
	}
	journal, err := dm.OpenJournal(d.journal)
	if err != nil {
		d.w.t.Fatal(err)
	}
	defer journal.Close()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.w.root, Certificates: own}}
	defer transport.CloseIdleConnections()
	c := dm.New(dm.Config{
		URL: url, Device: d.name, Server: d.told.ManagementID, Syntax: syncml.XML, Tree: d.tree, Journal: journal,
		Client: &http.Client{Transport: transport, Jar: jar, Timeout: time.Minute}, Account: &dm.Account{Scheme: session.Certificate},
	})
	_, err = c.Session(d.w.t.Context())
	return err
}

// comesIn as soon as the manager has heard of it.
func (d *phone) comesIn() {
	d.w.t.Helper()
	d.w.until(d.name+" comes in", func() bool {
		err := d.come()
		if err != nil && !errors.Is(err, dm.ErrStatus) {
			d.w.t.Fatal(err)
		}
		return err == nil
	})
}

// refused for good.
func (d *phone) refused(why string, err error) {
	d.w.t.Helper()
	if !errors.Is(err, dm.ErrStatus) {
		d.w.t.Errorf("%s: %v, want a refusal", why, err)
	}
}

// place a task as an administrator does.
func (w *world) place(kind, device string) string {
	w.t.Helper()
	args := []string{"task", "place", kind, "--device", device, "-o", "json", "--config", w.file}
	if kind == "wipe" {
		args = append(args, "--yes")
	}
	out := w.must(w.command(args...))
	var placed struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &placed); err != nil || placed.ID == "" {
		w.t.Fatalf("%v in %s", err, out)
	}
	return placed.ID
}

func (w *world) succeeded(task string) {
	w.t.Helper()
	all, err := w.store.CommandsOfTask(w.t.Context(), task, "", 0)
	if err != nil || len(all) != 1 || !all[0].Succeeded() {
		w.t.Errorf("commands %+v, %v", all, err)
	}
}

// listed says whether a certificate is on the revocation list that anybody gets.
func (w *world) listed(c *x509.Certificate) bool {
	w.t.Helper()
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.root}, DisableKeepAlives: true}}
	answer, err := https.Get("https://" + w.port(portEnroll) + "/crl")
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	der, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
			return true
		}
	}
	return false
}
