package pki_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// profiled is the result of `pki device --profile`.
type profiled struct {
	Name    string   `json:"name"`
	Files   []string `json:"files"`
	Profile string   `json:"profile"`
	Notes   []string `json:"notes"`
}

// newProfileHost has a CA and a gateway's certificate to sign with.
func newProfileHost(t *testing.T) host {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	h.must(t, "gateway", "vpn.example.org")
	return h
}

// profile runs `pki device`, with what it says to people kept apart from the
// result.
func (h host) profile(t *testing.T, args ...string) (r profiled, said string) {
	t.Helper()
	c := pki.Command(pki.Defaults{Dir: h.dir, ConfigDir: h.etc, Config: filepath.Join(h.etc, "gatewayd.yaml")})
	var out, report bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&report)
	c.SetArgs(append([]string{"device", "--out", h.out, "-o", "json"}, args...))
	if err := c.Execute(); err != nil {
		t.Fatalf("pki device %s: %v\n%s", strings.Join(args, " "), err, report.String())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return r, report.String()
}

// TestProfiles: a command for each kind, and everything a device needs lies
// there: keys for their owner only, the password apart.
func TestProfiles(t *testing.T) {
	h := newProfileHost(t)
	for _, kind := range profile.Kinds {
		name := "dev-" + string(kind)
		r, said := h.profile(t, name, "--profile", string(kind), "--gateway", "vpn.example.org", "--network", "10.0.0.0/8")
		if r.Name != name || r.Profile != string(kind) || len(r.Files) == 0 {
			t.Errorf("%s: %+v", kind, r)
		}
		var password string
		for _, path := range r.Files {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, "wrote "+path+"\n") {
				t.Errorf("%s: nobody was told of %s", kind, path)
			}
			if filepath.Base(path) == name+".password" {
				password = strings.TrimSpace(string(read(t, path)))
				if info.Mode() != 0o600 {
					t.Errorf("%s has mode %s", path, info.Mode())
				}
			}
		}
		if (password == "") != (kind == profile.StrongSwan) || password != "" && len(password) < 24 {
			t.Errorf("%s: password %q", kind, password)
		}
		for _, path := range r.Files {
			if password != "" && !strings.HasSuffix(path, ".password") && bytes.Contains(read(t, path), []byte(password)) {
				t.Errorf("%s: the password stands in %s", kind, path)
			}
		}
		for _, note := range r.Notes {
			if !strings.Contains(said, "note: "+note) {
				t.Errorf("%s: nobody was told: %s", kind, note)
			}
		}
	}
	for path, want := range map[string]fs.FileMode{
		"dev-strongswan.swanctl/private/dev-strongswan.pem": 0o600,
		"dev-strongswan.swanctl/private":                    fs.ModeDir | 0o700,
		"dev-strongswan.swanctl/swanctl.conf":               0o644,
		"dev-sswan.sswan":                                   0o600,
		"dev-apple.mobileconfig":                            0o600,
		"dev-windows.p12":                                   0o600,
		"dev-windows.vpnv2.xml":                             0o644,
		"dev-android.managed.json":                          0o600,
	} {
		if info, err := os.Stat(filepath.Join(h.out, path)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, want mode %s", path, err, want)
		}
	}
}

// TestProfileFollowsConfiguration: what the gateway's configuration says need
// not be said again; flags win.
func TestProfileFollowsConfiguration(t *testing.T) {
	h := newProfileHost(t)
	text := strings.NewReplacer(
		"      - aes128gcm16-prfsha256-x25519\n", "      - aes256gcm16-prfsha384-ecp384\n",
		"    dns: []", "    dns: [10.0.0.53]", "    networks: []", "    networks: [10.0.0.0/8]",
		"title: Roamgate", "title: Example VPN", "  domains: []", "  domains: [corp.example]",
		"connect: manual", "connect: on-demand",
	).Replace(string(config.Sample))
	if err := os.WriteFile(filepath.Join(h.etc, "gatewayd.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.profile(t, "pc-1", "--profile", "windows")
	document := string(read(t, h.out, "pc-1.vpnv2.xml"))
	for _, want := range []string{
		"<Servers>vpn.example.com<", "<Address>10.0.0.0<", "<DnsServers>10.0.0.53<", "<DomainName>.corp.example<",
		"<AutoTrigger>true<", "<DHGroup>ECP384<", "<RoutingPolicyType>SplitTunnel<",
	} {
		if !strings.Contains(document, want) {
			t.Errorf("no %s in\n%s", want, document)
		}
	}
	if !strings.Contains(string(read(t, h.out, "pc-1.install.ps1")), "$profileName = 'Example VPN'") {
		t.Error("the title is not the configuration's")
	}
	h.profile(t, "pc-2", "--profile", "windows", "--gateway", "a.example,b.example", "--network", "0.0.0.0/0",
		"--dns", "10.1.1.1", "--domain", "other.example", "--connect", "always", "--title", "Other", "--mtu", "1300",
		"--proxy", "proxy.example:3128", "--proxy-exception", "*.example,10.0.0.0/8", "--trusted-network", "office.example")
	document = string(read(t, h.out, "pc-2.vpnv2.xml"))
	for _, want := range []string{
		"<Servers>a.example,b.example<", "<RoutingPolicyType>ForceTunnel<", "<DnsServers>10.1.1.1<", "<DomainName>.other.example<",
		"<AlwaysOn>true<", "<Server>proxy.example:3128<", "<TrustedNetworkDetection>office.example<",
	} {
		if !strings.Contains(document, want) {
			t.Errorf("no %s in\n%s", want, document)
		}
	}
	if !strings.Contains(string(read(t, h.out, "pc-2.install.ps1")), "-ExceptionPrefix '*.example', '10.0.0.0/8'") {
		t.Error("the proxy's exceptions are lost")
	}
	// One gateway under another name keeps the configured identity, several
	// have their own.
	h.profile(t, "box-1", "--profile", "strongswan", "--gateway", "203.0.113.9")
	h.profile(t, "box-2", "--profile", "strongswan", "--gateway", "203.0.113.9,b.example")
	for name, want := range map[string]string{"box-1": "id = vpn.example.com\n", "box-2": "id = b.example\n"} {
		if conf := string(read(t, h.out, name+".swanctl", "swanctl.conf")); !strings.Contains(conf, want) {
			t.Errorf("%s: no %q in\n%s", name, want, conf)
		}
	}
	if err := os.WriteFile(filepath.Join(h.etc, "gatewayd.yaml"), []byte("gateway: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := pki.Command(pki.Defaults{Dir: h.dir, ConfigDir: h.etc, Config: filepath.Join(h.etc, "gatewayd.yaml")})
	c.SetArgs([]string{"device", "box-3", "--profile", "strongswan", "--gateway", "b.example", "--out", h.out})
	if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "gatewayd.yaml:1: gateway:") {
		t.Errorf("a broken configuration: %v", err)
	}
}

// TestProfileOfAKeyThatStays: with a request there is no key to put into it.
func TestProfileOfAKeyThatStays(t *testing.T) {
	openssl := tool(t, "openssl")
	h := newProfileHost(t)
	key, csr := filepath.Join(t.TempDir(), "own.key"), filepath.Join(t.TempDir(), "own.csr")
	openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", csr)
	r, _ := h.profile(t, "box-1", "--profile", "strongswan", "--gateway", "vpn.example.org", "--csr", csr)
	if slices.ContainsFunc(r.Files, func(f string) bool { return strings.Contains(f, "private") }) {
		t.Errorf("a private key appeared: %v", r.Files)
	}
	r, _ = h.profile(t, "phone-1", "--profile", "sswan", "--gateway", "vpn.example.org", "--csr", csr)
	if len(r.Files) != 1 {
		t.Errorf("files %v", r.Files)
	}
	for _, kind := range []string{"apple", "windows"} {
		if _, err := h.run("device", "pc-1", "--profile", kind, "--gateway", "vpn.example.org", "--csr", csr, "--out", h.out); err == nil {
			t.Errorf("%s without a key", kind)
		}
	}
}

// TestProfileIsReissued: with --force, and the identifiers stay.
func TestProfileIsReissued(t *testing.T) {
	h := newProfileHost(t)
	args := []string{"phone-1", "--profile", "sswan", "--gateway", "vpn.example.org"}
	uuid := func() string { return strings.Split(string(read(t, h.out, "phone-1.sswan")), `"`)[3] }
	h.profile(t, args...)
	first, password := uuid(), read(t, h.out, "phone-1.password")
	journal := read(t, h.dir, ca.JournalFile)
	if _, err := h.run(append([]string{"device", "--out", h.out}, args...)...); err == nil {
		t.Error("overwritten without --force")
	}
	if !bytes.Equal(journal, read(t, h.dir, ca.JournalFile)) {
		t.Error("something was issued for files that could not be written")
	}
	// One file that is in the way is enough, before anything is issued.
	stray := filepath.Join(h.out, "box.swanctl", "x509ca", "box-ca2.pem")
	if err := os.MkdirAll(filepath.Dir(stray), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.run("device", "box", "--profile", "strongswan", "--gateway", "vpn.example.org", "--out", h.out); !errors.Is(err, ca.ErrExists) {
		t.Errorf("a file in the way: %v", err)
	}
	if !bytes.Equal(journal, read(t, h.dir, ca.JournalFile)) {
		t.Error("something was issued for a folder that could not be written")
	}
	h.profile(t, append(args, "--force")...)
	if uuid() != first {
		t.Errorf("identifier %s became %s", first, uuid())
	}
	if bytes.Equal(password, read(t, h.out, "phone-1.password")) {
		t.Error("the password stayed")
	}
}

// TestProfileMistakes: nothing is issued for a command line that makes no
// sense.
func TestProfileMistakes(t *testing.T) {
	h := newProfileHost(t)
	t.Setenv("SHORT", "short")
	t.Setenv("GOOD", "correct horse battery staple")
	journal := read(t, h.dir, ca.JournalFile)
	for _, args := range [][]string{
		{"--profile", "amiga", "--gateway", "a"},
		{"--gateway", "a"},
		{"--profile", "strongswan"},
		{"--profile", "strongswan", "--gateway", "a", "--format", "p12"},
		{"--profile", "strongswan", "--gateway", "a b"},
		{"--profile", "strongswan", "--gateway", "a", "--network", "ten"},
		{"--profile", "strongswan", "--gateway", "a", "--dns", "one"},
		{"--profile", "strongswan", "--gateway", "a", "--proxy", "p"},
		{"--profile", "strongswan", "--gateway", "a", "--proxy", "p:1", "--proxy-pac", "http://p/"},
		{"--profile", "strongswan", "--gateway", "a", "--connect", "never"},
		{"--profile", "strongswan", "--gateway", "a", "--mtu", "9000"},
		{"--profile", "strongswan", "--gateway", "a", "--qr", "https://get.example/"},
		{"--profile", "strongswan", "--gateway", "a", "--key", "rsa-512"},
		{"--profile", "sswan", "--gateway", "a", "--password-env", "SHORT"},
		{"--profile", "sswan", "--gateway", "a", "--qr", "https://get.example/x.mobileconfig"},
		{"--profile", "sswan", "--gateway", "a,b", "--qr", "https://get.example/x.sswan"},
		{"--profile", "windows", "--gateway", "a", "--device-tunnel"},
		{"--profile", "apple", "--gateway", "a", "--network", "10.0.0.0/8", "--device-tunnel"},
		{"--profile", "sswan", "--gateway", "a", "--unsigned"},
	} {
		out, err := h.run(append([]string{"device", "phone-1", "--out", h.out}, args...)...)
		var code interface{ ExitCode() int }
		if !errors.As(err, &code) || code.ExitCode() != 2 {
			t.Errorf("%v: %v, want exit code 2\n%s", args, err, out)
		}
	}
	if _, err := h.run("device", "phone-1", "--out", h.out, "--profile", "apple", "--gateway", "a",
		"--sign-key", filepath.Join(h.out, "nowhere.key")); err == nil || !strings.Contains(err.Error(), "--unsigned") {
		t.Errorf("without a key to sign with: %v", err)
	}
	if !bytes.Equal(journal, read(t, h.dir, ca.JournalFile)) {
		t.Error("something was issued")
	}
	if files, err := filepath.Glob(filepath.Join(h.out, "*")); err != nil || len(files) > 0 {
		t.Errorf("left over: %v, %v", files, err)
	}
	r, _ := h.profile(t, "phone-1", "--profile", "apple", "--gateway", "a", "--unsigned", "--password-env", "GOOD")
	if len(r.Files) != 1 {
		t.Errorf("a given password was written: %v", r.Files)
	}
	if !strings.HasPrefix(string(read(t, r.Files[0])), "<?xml") {
		t.Error("--unsigned is signed")
	}
}

// TestProfileQR: a picture of each profile's URL, and one for the terminal.
func TestProfileQR(t *testing.T) {
	h := newProfileHost(t)
	r, said := h.profile(t, "phone-1", "--profile", "android", "--gateway", "a.example,b.example", "--qr", "https://get.example.org/p/")
	for _, name := range []string{"phone-1.qr.png", "phone-1-2.qr.png"} {
		if !slices.Contains(r.Files, filepath.Join(h.out, name)) || !bytes.HasPrefix(read(t, h.out, name), []byte("\x89PNG")) {
			t.Errorf("no %s among %v", name, r.Files)
		}
	}
	if !strings.Contains(said, "https://get.example.org/p/phone-1-2.sswan\n\x1b[30;47m") {
		t.Errorf("nothing to scan on the terminal:\n%s", said)
	}
}

func TestProfileCompletion(t *testing.T) {
	h := newHost(t)
	for flag, want := range map[string]string{"--profile": "strongswan\nsswan\napple\nwindows\nandroid\n", "--connect": "manual\non-demand\nalways\n"} {
		if out := h.must(t, "__complete", "device", "phone-1", flag, ""); !strings.HasPrefix(out, want) {
			t.Errorf("%s completes to\n%s", flag, out)
		}
	}
}

// TestProfileSignature: openssl trusts what the gateway's certificate signed.
func TestProfileSignature(t *testing.T) {
	openssl := tool(t, "openssl")
	h := newProfileHost(t)
	r, _ := h.profile(t, "phone-1", "--profile", "apple", "--gateway", "vpn.example.org")
	out := openssl("cms", "-verify", "-inform", "DER", "-in", r.Files[0], "-CAfile", filepath.Join(h.dir, ca.RootFile),
		"-purpose", "any", "-out", filepath.Join(t.TempDir(), "plist"))
	if !strings.Contains(out, "uccessful") {
		t.Errorf("openssl says %s", out)
	}
	if !slices.ContainsFunc(r.Files, func(f string) bool { return strings.HasSuffix(f, ".password") }) {
		t.Errorf("no password among %v", r.Files)
	}
}
