package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

const insideNamespace = "GATEWAYD_TEST_NAMESPACE"

// inNamespace runs the test again in a process with a network namespace of its
// own, which ends with it, and reports what that one says. It returns true
// inside.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideNamespace) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// twoLinks makes the gateway's interfaces: gw-out 10.1.0.1, gw-in 10.2.0.1.
func twoLinks(t *testing.T) {
	t.Helper()
	up := func(name, address string) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if address != "" {
			a, err := netlink.ParseAddr(address)
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				t.Fatal(err)
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	up("lo", "")
	for _, l := range []struct{ name, peer, address string }{{"gw-out", "dev", "10.1.0.1/24"}, {"gw-in", "lan", "10.2.0.1/24"}} {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = l.name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: l.peer}); err != nil {
			t.Fatal(err)
		}
		up(l.name, l.address)
		up(l.peer, "")
	}
}

// life is one `gatewayd run gateway`.
type life struct {
	code chan int
	mu   sync.Mutex
	log  bytes.Buffer
}

func (l *life) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func (l *life) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}

// begin runs a gateway and waits until it answers.
func begin(t *testing.T, file string) *life {
	t.Helper()
	l := &life{code: make(chan int, 1)}
	go func() { l.code <- execute([]string{"run", "gateway", "--config", file}, l, l) }()
	for range 500 {
		if code, out, _ := cli(t, "status", "--config", file); code == exitOK && strings.Contains(out, "ready") {
			return l
		}
		select {
		case code := <-l.code:
			t.Fatalf("gateway ended with %d:\n%s", code, l.text())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("gateway doesn't answer:\n%s", l.text())
	return nil
}

func (l *life) wait(t *testing.T) {
	t.Helper()
	select {
	case code := <-l.code:
		if code != exitOK {
			t.Errorf("gateway ended with %d:\n%s", code, l.text())
		}
	case <-time.After(endBound):
		t.Fatalf("gateway doesn't end:\n%s", l.text())
	}
}

// routed: the pool leads into the tunnel.
func routed(t *testing.T) bool {
	t.Helper()
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.String() == "10.9.0.0/16" {
			return true
		}
	}
	return false
}

// A gateway's life as its administrator sees it, in a fresh namespace:
//
//	init -> check -> doctor -> run -> status, metrics -> a second one is refused
//	-> a broken file is refused -> a good one taken (SIGHUP) -> stop
//	-> run again at once -> SIGTERM; nothing is left on the host
func TestLifeOfAGateway(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	twoLinks(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "gatewayd.yaml")
	must := func(want string, line ...string) {
		t.Helper()
		code, out, errOut := cli(t, line...)
		if code != exitOK || !strings.Contains(out+errOut, want) {
			t.Fatalf("gatewayd %s: exit code %d, want 0 and %q\n%s%s", strings.Join(line, " "), code, want, out, errOut)
		}
	}
	refused := func(want string, line ...string) {
		t.Helper()
		code, out, errOut := cli(t, line...)
		if code != exitFailed || !strings.Contains(errOut, want) {
			t.Fatalf("gatewayd %s: exit code %d, want 1 and %q\n%s%s", strings.Join(line, " "), code, want, out, errOut)
		}
	}

	refused("Interfaces with an IPv4 address: gw-", "init", "--dir", dir)
	refused("overlaps", "init", "--dir", dir, "--external", "gw-out", "--pool", "10.2.0.0/16")
	must("gw-in", "init", "--dir", dir, "--external", "gw-out", "--id", "vpn.example.com")
	refused("is there already", "init", "--dir", dir, "--external", "gw-out")
	must("ok", "config", "check", file)
	must("free", "doctor", "--config", file)

	first := begin(t, file)
	must("10.1.0.1:500, 10.1.0.1:4500", "status", "--config", file)
	must("in use by the running gateway", "doctor", "--config", file)
	if !routed(t) {
		t.Error("the pool is not routed")
	}
	for path, want := range map[string]string{"healthz": "ok", "readyz": "ready", "metrics": "gatewayd_build_info"} {
		if body, err := fetch("http://127.0.0.1:9500/" + path); err != nil || !strings.Contains(body, want) {
			t.Errorf("/%s: %v, %q", path, err, body)
		}
	}
	refused("another gateway is running", "run", "gateway", "--config", file)

	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(old, new string) {
		t.Helper()
		if err := os.WriteFile(file, bytes.Replace(good, []byte(old), []byte(new), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rewrite("  static:", "  statik:")
	refused("unknown key; did you mean 'static'?", "reload", "--config", file)
	rewrite("  static:", "  limits: {answers_per_second: 3}\n  static:")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(first.text(), "configuration reloaded") {
		time.Sleep(10 * time.Millisecond)
	}

	must("stopped", "stop", "--config", file)
	// It said that it is done: the next one finds everything free.
	second := begin(t, file)
	first.wait(t)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	second.wait(t)
	if routed(t) {
		t.Error("the route is still there")
	}
	if _, err := net.InterfaceByName("gatewayd0"); err == nil {
		t.Error("the interface is still there")
	}
	refused("not running", "status", "--config", file)
}

// What keeps a gateway from starting is told with what to do, and leaves nothing
// behind.
func TestStartThatFails(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	twoLinks(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "gatewayd.yaml")
	if code, _, errOut := cli(t, "init", "--dir", dir, "--external", "gw-out", "--id", "vpn.example.com"); code != exitOK {
		t.Fatal(errOut)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: 4500})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct{ old, new, want string }{
		{"", "", "Another IKE daemon has the port"},
		{"address: 10.1.0.1", "address: 10.1.0.7", "not an address of this host"},
		{"interface: gw-in", "interface: gw-on", "no such interface"},
		{"state_dir: state", "state_dir: gateway.key", "not a directory"},
		{"gateway:\n", "metrics: {listen: 192.0.2.1:1}\ngateway:\n", "metrics.listen"},
		{"gateway:\n", "admin: {group: no-such-group-here}\ngateway:\n", "admin.group: got"},
	} {
		text := strings.Replace(string(good), tt.old, tt.new, 1)
		if tt.old != "" {
			text = strings.Replace(text, "    address: 10.1.0.1\n", "    address: 10.1.0.1\n    natt_port: 4501\n", 1)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		code, _, errOut := cli(t, "run", "gateway", "--config", file)
		if code != exitFailed || !strings.Contains(errOut, tt.want) {
			t.Errorf("%s: exit code %d, want %q\n%s", tt.new, code, tt.want, errOut)
		}
		if _, err := net.InterfaceByName("gatewayd0"); err == nil || routed(t) {
			t.Errorf("%s: something was left", tt.new)
		}
	}
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		return "", err
	}
	if r.StatusCode != http.StatusOK {
		return "", errors.Join(fmt.Errorf("status %s", r.Status), errors.New(b.String()))
	}
	return b.String(), nil
}
