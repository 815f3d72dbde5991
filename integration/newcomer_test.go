package integration

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// newcomerEnv names a folder for the trees of two machines, which are kept: what
// was downloaded and compiled in there counts as done the next time.
const newcomerEnv = "ROAMGATE_SOAK_NEWCOMER"

// TestSoakNewcomer follows README.md from the clone to the first device on two
// machines fresh from debootstrap, with systemd as their first process. Its
// commands are README's as they stand there, but for the address of the clone, the
// address of the server, and the code, for which there is no terminal. It needs
// root, debootstrap, systemd-nspawn (packages debootstrap, systemd-container) and
// the Internet, and logs what each step took.
func TestSoakNewcomer(t *testing.T) {
	trees := os.Getenv(newcomerEnv)
	if trees == "" {
		t.Skip(newcomerEnv + " isn't set")
	}
	blocks := newcomerBlocks(t)
	source := filepath.Join(t.TempDir(), "roamgate.git")
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "--bare", "-q", "..", source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	blocks.host = strings.Replace(blocks.host, "https://github.com/roamgate/roamgate", "file:///srv/roamgate", 1)
	install, _, found := strings.Cut(blocks.host, "gatewayd run all")
	if !found {
		t.Fatal("README.md's first block doesn't end with `gatewayd run all`")
	}
	blocks.device = strings.NewReplacer("ADDRESS", "203.0.113.1", "# asks for the code", "--code-env CODE").Replace(blocks.device)
	packages, join, _ := strings.Cut(blocks.device, "gatewayd enrollment")

	host, device := newMachine(t, trees, "host"), newMachine(t, trees, "device")
	host.prepare("/etc/gatewayd", "/var/lib/gatewayd", "/root/roamgate", "/var/log/journal/*")
	device.prepare("/root/phone-1", "/etc/swanctl/swanctl.conf", "/etc/swanctl/x509", "/etc/swanctl/x509ca", "/etc/swanctl/private")
	host.build("install", source, "git config --global --add safe.directory '*'\n"+install)
	device.build("strongSwan's packages", source, packages)
	device.build("a kernel without ESP", source, "apt-get install -y --no-install-recommends libcharon-extra-plugins\n"+
		"sed -i 's/^#* *load = .*/load = yes/' /etc/strongswan.d/charon/kernel-libipsec.conf")
	copyFile(t, filepath.Join(host.tree, "usr/bin/gatewayd"), filepath.Join(device.tree, "usr/bin/gatewayd"))

	if err := netns.Connect(host.ns, "eth0", netip.MustParsePrefix("203.0.113.1/24"), device.ns, "eth0", netip.MustParsePrefix("203.0.113.2/24")); err != nil {
		t.Fatal(err)
	}
	inside, err := netns.New(host.ns.Name() + "in")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inside.Close() })
	if err := netns.Connect(host.ns, "eth1", netip.MustParsePrefix("10.2.0.1/24"), inside, "eth0", netip.MustParsePrefix("10.2.0.2/24")); err != nil {
		t.Fatal(err)
	}
	host.boot()
	device.boot()

	began := time.Now()
	host.do("ip route add default via 203.0.113.2")
	host.do("setsid sh -c 'gatewayd run all >/root/said 2>/root/log </dev/null &'")
	var code string
	for range 300 {
		if m := regexp.MustCompile(`the code\s+(\S+)`).FindStringSubmatch(host.do("cat /root/said")); m != nil {
			code = m[1]
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code == "" {
		t.Fatalf("waited 30 s for the code:\n%s", host.do("cat /root/said /root/log"))
	}
	t.Logf("%8.1f s  run all, until the code is there", time.Since(began).Seconds())
	began = time.Now()
	out := device.do("export CODE=" + code + "\ngatewayd enrollment" + join)
	if !strings.Contains(out, "initiate completed successfully") {
		t.Fatalf("strongSwan didn't connect:\n%s", out)
	}
	t.Logf("%8.1f s  enrolled and connected", time.Since(began).Seconds())
	device.do("ping -c 3 -W 5 10.2.0.1")
	if out := host.do("gatewayd session list"); !strings.Contains(out, "phone-1") {
		t.Errorf("session list:\n%s", out)
	}
	host.do("gatewayd stop; for i in $(seq 100); do pgrep -x gatewayd || break; sleep 0.1; done >/dev/null")

	out = host.do(blocks.service)
	if !strings.Contains(out, "code for `join`") {
		t.Errorf("as a service:\n%s", out)
	}
	for _, line := range strings.Split(strings.TrimSpace(host.do("ps -C gatewayd -o user:20=,args=")), "\n") {
		user := strings.Fields(line)[0]
		want := map[bool]string{true: "gatewayd", false: "gatewayd-enroll"}[strings.Contains(line, "run gateway")]
		if !strings.Contains(line, "run all") && user != want {
			t.Errorf("runs as %s, want %s: %s", user, want, line)
		}
	}
	if out := host.do("journalctl -u gatewayd-all --no-pager | grep level=ERROR || true"); out != "" {
		t.Error(out)
	}
	host.do("systemctl stop gatewayd-all")
}

// readmeBlocks of the section about the first device.
type readmeBlocks struct{ host, device, service string }

func newcomerBlocks(t *testing.T) readmeBlocks {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## From the clone")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of commands, want those of host, device and service", len(blocks))
	}
	return readmeBlocks{blocks[0][1], blocks[1][1], blocks[2][1]}
}

// machine is a tree of Debian 12, and a network namespace.
type machine struct {
	t    *testing.T
	name string
	tree string
	ns   *netns.Namespace
	pid  string // of its systemd
}

func newMachine(t *testing.T, trees, name string) *machine {
	t.Helper()
	m := &machine{t: t, name: "rgnew" + name, tree: filepath.Join(trees, name)}
	if _, err := os.Stat(m.tree); err != nil {
		began := time.Now()
		m.outside("debootstrap", "--include=dbus,ca-certificates,sudo", "bookworm", m.tree+".making", "http://deb.debian.org/debian")
		if err := os.Rename(m.tree+".making", m.tree); err != nil {
			t.Fatal(err)
		}
		t.Logf("%8.1f s  debootstrap of %s", time.Since(began).Seconds(), name)
	}
	var err error
	if m.ns, err = netns.New(m.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.ns.Close() })
	return m
}

// prepare takes away what an earlier run left.
func (m *machine) prepare(paths ...string) {
	for _, path := range paths {
		entries, _ := filepath.Glob(filepath.Join(m.tree, path))
		for _, e := range entries {
			if err := os.RemoveAll(e); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	for _, file := range []string{"/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"} {
		copyFile(m.t, file, filepath.Join(m.tree, file)) // proxies have authorities of their own
	}
}

// build runs commands in the tree before it is booted, with the host's network.
func (m *machine) build(what, source, script string) {
	m.t.Helper()
	began := time.Now()
	m.outside("unshare", "-m", "-p", "-u", "-i", "-f", "--kill-child", "sh", "-ec", `
mount --bind "$1" "$1"; mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"
mkdir -p "$1/srv/roamgate"; mount --bind "$2" "$1/srv/roamgate"; mount -o remount,bind,ro "$1/srv/roamgate"
exec chroot "$1" env -i HOME=/root DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -ec "cd
$3"`, "sh", m.tree, source, script)
	m.t.Logf("%8.1f s  %s", time.Since(began).Seconds(), what)
}

func (m *machine) outside(name string, args ...string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Hour)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", name, err, out[max(0, len(out)-4000):])
	}
}

func (m *machine) boot() {
	m.t.Helper()
	c := exec.CommandContext(m.t.Context(), "systemd-nspawn", "-q", "--boot", "--register=no", "--keep-unit", "--console=read-only",
		"--directory="+m.tree, "--machine="+m.name, "--network-namespace-path=/run/netns/"+m.ns.Name(), "--bind=/dev/net/tun",
		"--capability=CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON", "--system-call-filter=bpf")
	// gatewayd switches forwarding on.
	c.Env = append(os.Environ(), "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes")
	var console bytes.Buffer
	c.Stdout, c.Stderr = &console, &console
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 30 * time.Second
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	})
	for range 600 {
		if m.pid == "" {
			out, _ := exec.Command("pgrep", "-P", strconv.Itoa(c.Process.Pid), "-x", "systemd").Output()
			m.pid = strings.TrimSpace(string(out))
		} else if out, _ := m.enter("systemctl is-system-running").Output(); strings.HasPrefix(string(out), "running") || strings.HasPrefix(string(out), "degraded") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	m.t.Fatalf("%s isn't up after a minute:\n%s", m.name, console.String())
}

func (m *machine) enter(script string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	m.t.Cleanup(cancel)
	return exec.CommandContext(ctx, "nsenter", "-t", m.pid, "-m", "-u", "-i", "-n", "-p", "-C", "--",
		"env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-ec", "cd\n"+script)
}

// do a script as root on the machine, to its end.
func (m *machine) do(script string) string {
	m.t.Helper()
	out, err := m.enter(script).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", m.name, script, err, out)
	}
	return string(out)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		_ = os.Remove(to) // a link, perhaps
		err = os.WriteFile(to, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
