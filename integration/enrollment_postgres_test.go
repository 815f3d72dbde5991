package integration

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

var postgresAt = netip.MustParseAddrPort("127.0.0.1:5432")

// postgres is a PostgreSQL server with TLS inside a namespace, run by `nobody`
// in a folder of the test.
type postgres struct {
	t       *testing.T
	ns      *netns.Namespace
	dir     string
	bin     string
	attr    *syscall.SysProcAttr
	process *netns.Process
}

// newPostgres makes a cluster whose certificate is for 127.0.0.1.
func newPostgres(t *testing.T, ns *netns.Namespace, root authority) *postgres {
	t.Helper()
	places, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(places) == 0 {
		t.Fatalf("PostgreSQL is not installed (%v)", err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		t.Fatal(err)
	}
	p := &postgres{t: t, ns: ns, bin: places[len(places)-1], attr: &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
	}}
	p.dir = t.TempDir()
	// Another user has to get in.
	if err := os.Chmod(filepath.Dir(p.dir), 0o711); err != nil {
		t.Fatal(err)
	}
	key := keyECDSA(t)
	own := root.gateway(t, key, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} })
	p.own(p.dir, uid, gid)
	for name, content := range map[string][]byte{"server.pem": certPEM(own.cert), "server.key": keyPEM(t, key)} {
		file := filepath.Join(p.dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		p.own(file, uid, gid)
	}
	p.run("initdb", "-D", p.data(), "-U", "roamgate", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	// Nobody gets in without TLS.
	if err := os.WriteFile(filepath.Join(p.data(), "pg_hba.conf"), []byte("hostssl all all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postgres) own(path string, uid, gid int) {
	p.t.Helper()
	if err := os.Chown(path, uid, gid); err != nil {
		p.t.Fatal(err)
	}
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	attr := *p.attr
	cmd.SysProcAttr, cmd.Dir = &attr, p.dir
	return cmd
}

func (p *postgres) run(name string, args ...string) {
	p.t.Helper()
	if out, err := p.ns.Run(p.t.Context(), p.command(name, args...)); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
}

// start the server, with TLS or without.
func (p *postgres) start(ssl string) {
	p.t.Helper()
	cmd := p.command("postgres", "-D", p.data(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "ssl="+ssl, "-c", "ssl_cert_file="+p.dir+"/server.pem", "-c", "ssl_key_file="+p.dir+"/server.key")
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if p.process, err = p.ns.Start(cmd); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.stop)
	for range 400 {
		if c, err := p.ns.Dial(postgresAt, time.Second); err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	p.t.Fatalf("PostgreSQL doesn't listen:\n%s", text)
}

// stop it at once, in order (a "fast shutdown").
func (p *postgres) stop() {
	if p.process == nil {
		return
	}
	if err := p.process.Signal(syscall.SIGINT); err != nil {
		p.process.Kill()
	}
	<-p.process.Done()
	p.process = nil
}

// The directory lies in PostgreSQL, reached by TLS that proves the server's
// name; anything less is refused, with the reason. While the database is away
// the server says so, and goes on when it is back.
//
//	gw (gatewayd run enrollment -- TLS -- postgres)
func TestEnrollmentInPostgres(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	ns := top.Gateway
	root, other := newAuthority(t, "Database Root"), newAuthority(t, "Another Root")
	db := newPostgres(t, ns, root)
	dsn := "host=127.0.0.1 port=5432 user=roamgate dbname=postgres sslrootcert=db-root.pem"
	s := newEnrollmentServer(t, ns, `    sqlite: "enrollment/enrollment.db"`, fmt.Sprintf("    postgres: %q", strings.Replace(dsn, "db-root.pem", "ROOT", 1)))
	file := filepath.Join(s.dir, "gatewayd.yaml")
	text := strings.Replace(string(s.read("gatewayd.yaml")), "ROOT", filepath.Join(s.dir, "db-root.pem"), 1)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	trust := func(a authority) {
		if err := os.WriteFile(filepath.Join(s.dir, "db-root.pem"), certPEM(a.cert), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(why string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := s.Start(ctx); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("started: %v, want a refusal with %q", err, why)
		}
	}
	trust(root)
	db.start("off")
	refused("TLS")
	db.stop()
	db.start("on")
	trust(other)
	refused("certificate")
	trust(root)
	s.start()
	admins, devices := s.client(s.admin), s.client()
	made, key := s.request(admins, "phone-1"), keyECDSA(t)
	first, status, err := s.enroll(devices, made, certificateRequest(t, key))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v", status, err)
	}
	second := s.request(admins, "phone-2")

	db.stop()
	if _, status, err := s.enroll(devices, second, certificateRequest(t, keyECDSA(t))); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("without a database: %d, %v", status, err)
	}
	db.start("on")
	var again *x509.Certificate
	for range 200 {
		if again, status, err = s.enroll(devices, made, certificateRequest(t, key)); err == nil && status == http.StatusOK {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if again == nil || !again.Equal(first) {
		t.Errorf("after the database is back: %d, %v", status, err)
	}
	if _, status, err := s.enroll(devices, second, certificateRequest(t, keyECDSA(t))); err != nil || status != http.StatusOK {
		t.Errorf("the other device: %d, %v", status, err)
	}
	s.checkCRL()
}
