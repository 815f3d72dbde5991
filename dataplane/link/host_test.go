package link

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Topology of all tests, in a network namespace of the test's own:
//
//	rgext0 10.97.1.1/24 -- veth      rgtun0 (pools)      rgint0 10.97.2.1/24 -- veth

const tunName, external, internal = "rgtun0", "rgext0", "rgint0"

// newNamespace gives the rest of the test a thread with a network namespace of
// its own; both go away with the test's goroutine.
func newNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	runtime.LockOSThread() // never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func addVeth(t *testing.T, name string, addresses ...string) {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, s := range addresses {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(veth, a); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{name, name + "p"} {
		l, err := netlink.LinkByName(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
}

func topology(t *testing.T) {
	t.Helper()
	newNamespace(t)
	addVeth(t, external, "10.97.1.1/24", "fd97:1::1/64")
	addVeth(t, internal, "10.97.2.1/24", "fd97:2::1/64")
}

func createTUN(t *testing.T) *tun.Device {
	t.Helper()
	d, err := tun.Create(tun.Config{Name: tunName, MTU: 1400})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func journalPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "host.json")
}

func dualStack(journal string) Config {
	return Config{
		TUN: tunName, External: external, Internal: internal,
		Addresses: prefixes("10.98.0.1/32", "fd98::1/128"),
		Pools:     prefixes("10.98.0.0/16", "10.99.0.0/24", "fd98::/64"),
		Journal:   journal,
	}
}

// snapshot is the state of the namespace: sysctls of all interfaces but TUN,
// and routes.
func snapshot(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, pattern := range []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/accept_redirects",
		"net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/accept_ra", "net/ipv6/conf/*/disable_ipv6",
	} {
		paths, err := filepath.Glob(filepath.Join(sysctlRoot, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			rel := strings.TrimPrefix(path, sysctlRoot+"/")
			if strings.Contains(path, "/"+tunName+"/") {
				continue
			}
			if state[rel], err = readSysctl(rel); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			// The peers' link-local addresses come in their own time.
			if r.Dst != nil && !r.Dst.IP.IsLinkLocalUnicast() {
				state[fmt.Sprintf("route %v dev %d", r.Dst, r.LinkIndex)] = r.Protocol.String()
			}
		}
	}
	return state
}

func requireSame(t *testing.T, before map[string]string) {
	t.Helper()
	after := snapshot(t)
	if maps.Equal(before, after) {
		return
	}
	for k, v := range before {
		if after[k] != v {
			t.Errorf("%s was %q, is %q", k, v, after[k])
		}
	}
	for k, v := range after {
		if _, ok := before[k]; !ok {
			t.Errorf("%s=%q was left behind", k, v)
		}
	}
}

func requireGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("journal is still there: %v", err)
	}
}

func set(t *testing.T, path, value string) {
	t.Helper()
	if err := writeSysctl(path, value); err != nil {
		t.Fatal(err)
	}
}

func requireSysctl(t *testing.T, path, want string) {
	t.Helper()
	if got, err := readSysctl(path); err != nil || got != want {
		t.Errorf("%s is %q, want %q (%v)", path, got, want, err)
	}
}

// /proc/sys/net is that of the thread, so a test can't change the host's.
func TestSysctlsAreOfTheNamespace(t *testing.T) {
	type answer struct {
		value string
		err   error
	}
	ask, answers := make(chan bool), make(chan answer)
	go func() { // stays outside
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for range ask {
			v, err := readSysctl("net/ipv4/conf/lo/rp_filter")
			answers <- answer{v, err}
		}
	}()
	defer close(ask)
	ask <- true
	before := <-answers
	newNamespace(t)
	other := "1"
	if before.value == "1" {
		other = "2"
	}
	set(t, "net/ipv4/conf/lo/rp_filter", other)
	requireSysctl(t, "net/ipv4/conf/lo/rp_filter", other)
	ask <- true
	if after := <-answers; after != before {
		t.Errorf("outside it was %v, is %v", before, after)
	}
}

// Everything is put in place, and nothing of it is left after Close.
func TestSetupAndClose(t *testing.T) {
	topology(t)
	createTUN(t)
	set(t, conf("ipv6", external, "forwarding"), "1") // somebody's odd choice
	set(t, conf("ipv4", "all", "accept_redirects"), "0")
	before := snapshot(t)
	config := dualStack(journalPath(t))

	h, err := Setup(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName(tunName)
	if err != nil || l.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("TUN: %v, %v", l.Attrs().Flags, err)
	}
	for _, to := range []string{"10.98.3.4", "10.99.0.77", "fd98::1234"} {
		routes, err := netlink.RouteGet(net.ParseIP(to))
		if err != nil || len(routes) != 1 || routes[0].LinkIndex != l.Attrs().Index {
			t.Errorf("route to %s: %v, %v", to, routes, err)
		}
	}
	if addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL); err != nil || len(addresses) != 2 {
		t.Errorf("addresses: %v, %v", addresses, err)
	}
	for path, want := range map[string]string{
		conf("ipv4", tunName, "forwarding"):  "1",
		conf("ipv4", internal, "forwarding"): "1",
		conf("ipv4", external, "forwarding"): "0", // not a router between other interfaces
		"net/ipv4/ip_forward":                "0",
		conf("ipv6", "all", "forwarding"):    "1",
		conf("ipv6", external, "accept_ra"):  "2",
		conf("ipv6", tunName, "accept_ra"):   "0",
		conf("ipv4", tunName, "rp_filter"):   "1",
	} {
		requireSysctl(t, path, want)
	}
	if _, err := Setup(config); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Setup: %v", err)
	}
	if err := Recover(config.Journal); !errors.Is(err, ErrInUse) {
		t.Errorf("Recover while in use: %v", err)
	}

	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Fatal(err)
	}
	requireSame(t, before)
	requireGone(t, config.Journal)
	if left, err := subnets(tunName); err != nil || len(left) != 0 {
		t.Errorf("addresses left: %v, %v", left, err)
	}
}

// What somebody changed while we ran is theirs.
func TestCloseLeavesWhatOthersChanged(t *testing.T) {
	topology(t)
	d := createTUN(t)
	config := dualStack(journalPath(t))
	config.Pools = prefixes("10.98.0.0/16")
	config.Addresses = nil
	set(t, conf("ipv6", external, "accept_ra"), "1")
	h, err := Setup(config)
	if err != nil {
		t.Fatal(err)
	}
	requireSysctl(t, conf("ipv6", tunName, "disable_ipv6"), "1")
	requireSysctl(t, conf("ipv6", "all", "forwarding"), "0") // no IPv6 pool
	set(t, conf("ipv4", internal, "forwarding"), "0")
	set(t, conf("ipv4", internal, "rp_filter"), "2")
	before := snapshot(t)
	if err := d.Close(); err != nil { // the device first: routes go with it
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for path := range before {
		if strings.HasPrefix(path, "route 10.98.") {
			delete(before, path)
		}
	}
	requireSame(t, before)
}

// When one change fails, those before it are taken back.
func TestSetupFailsWhole(t *testing.T) {
	topology(t)
	createTUN(t)
	config := dualStack(journalPath(t))
	config.Pools = append(config.Pools, prefixes("10.97.2.0/24")...) // the internal subnet's own route
	l, err := netlink.LinkByName(internal)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(prefixes("10.97.2.0/24")[0]), Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)
	if _, err := Setup(config); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "10.97.2.0/24") {
		t.Errorf("error: %v", err)
	}
	requireSame(t, before)
	requireGone(t, config.Journal)
}

func TestCheck(t *testing.T) {
	topology(t)
	addVeth(t, "rgsame", "10.97.1.200/25")
	addVeth(t, "rgsame6", "fd97:1::2/64")
	addVeth(t, "rgnone")
	if err := Check(external, internal); err != nil {
		t.Error(err)
	}
	if err := Check(external, "rgnone"); err != nil { // only link-local
		t.Error(err)
	}
	for name, c := range map[string]struct {
		external, internal string
		want               error
		says               []string
	}{
		"overlap":         {external, "rgsame", ErrSameSubnet, []string{external, "10.97.1.0/24", "rgsame", "10.97.1.128/25"}},
		"IPv6":            {"rgsame6", external, ErrSameSubnet, []string{"rgsame6", external, "fd97:1::/64"}},
		"same interface":  {external, external, ErrSameSubnet, []string{external}},
		"no external one": {"rgxxx", internal, ErrNoInterface, []string{"external", "rgxxx"}},
		"no internal one": {external, "rgxxx", ErrNoInterface, []string{"internal", "rgxxx"}},
	} {
		err := Check(c.external, c.internal)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q doesn't name %s", name, err, s)
			}
		}
	}
}

// crashJournal is the journal's path for the process that TestCrash kills.
const crashJournal = "ROAMGATE_LINK_TEST_JOURNAL"

func TestMain(m *testing.M) {
	journal := os.Getenv(crashJournal)
	if journal == "" {
		os.Exit(m.Run())
	}
	if err := setupAndWait(journal); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func setupAndWait(journal string) error {
	d, err := tun.Create(tun.Config{Name: tunName}) // attaches to it where it exists already
	if err != nil {
		return err
	}
	defer d.Close()
	config := dualStack(journal)
	if _, err := Setup(config); err != nil {
		return err
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return errors.New("nobody killed me")
}

// A process with everything in place is killed. What it left is taken back by
// the next one: with the device gone, and with a device that outlived it.
func TestCrash(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		t.Run(fmt.Sprintf("persistent=%v", persistent), func(t *testing.T) {
			topology(t)
			set(t, conf("ipv4", external, "rp_filter"), "2")
			before := snapshot(t)
			if persistent {
				if err := netlink.LinkAdd(&netlink.Tuntap{
					LinkAttrs: netlink.LinkAttrs{Name: tunName}, Mode: netlink.TUNTAP_MODE_TUN,
					Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
				}); err != nil {
					t.Fatal(err)
				}
			}
			journal := journalPath(t)
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), crashJournal+"="+journal)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil { // in this thread's namespace
				t.Fatal(err)
			}
			ready := false
			for lines := bufio.NewScanner(out); !ready && lines.Scan(); {
				ready = lines.Text() == "ready"
				if !ready {
					t.Log(lines.Text())
				}
			}
			if maps.Equal(before, snapshot(t)) {
				t.Error("the child changed nothing")
			}
			if err := Recover(journal); !errors.Is(err, ErrInUse) {
				t.Errorf("Recover while the child lives: %v", err)
			}
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait()
			if !ready {
				t.Fatal("the child failed")
			}
			if _, err := netlink.LinkByName(tunName); (err == nil) != persistent {
				t.Fatalf("TUN after the crash: %v", err)
			}

			config := dualStack(journal)
			if _, err := Setup(config); !errors.Is(err, ErrLeftover) {
				t.Errorf("Setup before Recover: %v", err)
			}
			if err := Recover(journal); err != nil {
				t.Fatal(err)
			}
			requireSame(t, before)
			requireGone(t, journal)
			if _, err := netlink.LinkByName(tunName); err == nil {
				t.Error("TUN is still there")
			}
			if err := Recover(journal); err != nil { // nothing to do
				t.Error(err)
			}
			createTUN(t)
			h, err := Setup(config)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
