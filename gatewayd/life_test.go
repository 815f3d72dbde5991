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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const forwardIPv6 = "/proc/sys/net/ipv6/conf/all/forwarding"

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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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

// twoLinks makes the gateway's interfaces: gw-out with 10.1.0.1 and fd00:1::1,
// gw-in with 10.2.0.1 and fd00:2::1.
func twoLinks(t *testing.T) {
	t.Helper()
	up := func(name string, addresses ...string) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range addresses {
			a, err := netlink.ParseAddr(address)
			if err != nil {
				t.Fatal(err)
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD // nobody else is there
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				t.Fatal(err)
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	up("lo")
	for _, l := range []struct {
		name, peer string
		addresses  []string
	}{{"gw-out", "dev", []string{"10.1.0.1/24", "fd00:1::1/64"}}, {"gw-in", "lan", []string{"10.2.0.1/24", "fd00:2::1/64"}}} {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = l.name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: l.peer}); err != nil {
			t.Fatal(err)
		}
		up(l.name, l.addresses...)
		up(l.peer)
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
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
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

// routed: the network leads into the tunnel.
func routed(t *testing.T, network string) bool {
	t.Helper()
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.String() == network })
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// A gateway's life as its administrator sees it, in a fresh namespace:
//
//	init -> check -> doctor -> run -> status, metrics -> a second one is refused
//	-> a broken file is refused -> a good one with another pool taken (SIGHUP)
//	-> stop -> run again at once -> SIGTERM; nothing is left on the host
//
// It has addresses and pools of both families.
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
	dual, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dual = []byte(strings.NewReplacer("    address: 10.1.0.1\n", "    address: 10.1.0.1\n    more_addresses: ['fd00:1::1']\n",
		"      - 10.9.0.0/16\n", "      - 10.9.0.0/16\n      - fd00:9::/64\n",
		"  static:", "  records: {file: sessions.jsonl}\n  guard: {pins: ''}\n  static:").Replace(string(dual)))
	if err := os.WriteFile(file, dual, 0o644); err != nil {
		t.Fatal(err)
	}
	before := read(t, forwardIPv6)
	must("ok", "config", "check", file)
	must("free", "doctor", "--config", file)

	first := begin(t, file)
	must("10.1.0.1:500, 10.1.0.1:4500, [fd00:1::1]:500, [fd00:1::1]:4500", "status", "--config", file)
	must("65533 IPv4 addresses, more IPv6 addresses than can be counted", "status", "--config", file)
	must("in use by the running gateway", "doctor", "--config", file)
	if !routed(t, "10.9.0.0/16") || !routed(t, "fd00:9::/64") {
		t.Error("a pool is not routed")
	}
	must("dhcp       cookie", "drops", "--all", "--config", file)
	if conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 9, 255, 254)}); err != nil {
		t.Errorf("the gateway has no address inside: %v", err)
	} else {
		conn.Close()
	}
	if read(t, forwardIPv6) != "1" {
		t.Error("IPv6 is not forwarded")
	}
	if tunnel, err := net.InterfaceByName("gatewayd0"); err != nil || tunnel.MTU < 1280 || tunnel.MTU >= 1400 {
		t.Errorf("interface %+v, %v: the MTU has to fit through IPv6 with each algorithm, and let IPv6 in", tunnel, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "sessions.jsonl")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("session records: %v, %v", info, err)
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
	rewrite("      - fd00:9::/64\n", "")
	must("only a restart applies gateway.static.pools", "reload", "--config", file)
	rewrite("      - 10.9.0.0/16\n", "      - 10.10.0.0/16\n      - 10.9.0.0/24\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for strings.Count(first.text(), "configuration reloaded") < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	if !routed(t, "10.10.0.0/16") || !routed(t, "10.9.0.0/24") {
		t.Error("a new pool is not routed")
	}

	must("stopped", "stop", "--config", file)
	// It said that it is done: the next one finds everything free.
	second := begin(t, file)
	first.wait(t)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	second.wait(t)
	for _, network := range []string{"10.9.0.0/16", "10.10.0.0/16", "10.9.0.0/24", "fd00:9::/64"} {
		if routed(t, network) {
			t.Errorf("the route to %s is still there", network)
		}
	}
	if now := read(t, forwardIPv6); now != before {
		t.Errorf("forwarding of IPv6 was %s and is %s", before, now)
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
		{"address: 10.1.0.1", "more_addresses: ['fd00:1::7']\n    address: 10.1.0.1", "not an address of this host"},
		{"  static:", "  records: {file: none/sessions.jsonl}\n  static:", "gateway.records.file: session records: "},
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
		if _, err := net.InterfaceByName("gatewayd0"); err == nil || routed(t, "10.9.0.0/16") {
			t.Errorf("%s: something was left", tt.new)
		}
	}
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: time.Minute}
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
