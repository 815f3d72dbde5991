package profile_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	randv2 "math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/profile"
)

var update = flag.Bool("update", false, "write the golden files")

const password = "correct horse battery staple"

// keys and certificates of the tests are fixed, for golden files; they are
// valid until 2126.
func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(block(t, name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func key(t *testing.T, name string) crypto.Signer {
	t.Helper()
	k, err := x509.ParsePKCS8PrivateKey(block(t, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return k.(crypto.Signer)
}

func block(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(data)
	return b.Bytes
}

// plain is a profile with nothing but what is needed.
func plain(t *testing.T) profile.Profile {
	return profile.Profile{
		Device: "phone-1", Instance: "2.25.1",
		Gateways:    []profile.Gateway{{Address: "vpn.example.org"}},
		Roots:       []*x509.Certificate{certificate(t, "root")},
		Certificate: certificate(t, "device"), Intermediates: []*x509.Certificate{certificate(t, "issuing")},
		Key: key(t, "device"),
		IKE: []string{
			"aes256gcm16-prfsha384-x25519", "chacha20poly1305-prfsha256-ecp521",
			"aes256-sha384-ecp384", "aes128gcm16-prfsha256-ecp256",
		},
		ESP: []string{"chacha20poly1305", "aes256gcm16", "aes256-sha256"},
	}
}

// rich uses every setting that can stand together.
func rich(t *testing.T) profile.Profile {
	p := plain(t)
	p.Title = "Example VPN"
	p.Gateways = []profile.Gateway{{Address: "vpn.example.org"}, {Address: "2001:db8::7", ID: "vpn2.example.org"}}
	p.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	p.DNS = []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("2001:db8:1::53")}
	p.Domains = []string{"corp.example", "example.internal"}
	p.Proxy = profile.Proxy{Server: "proxy.corp.example:3128", Exceptions: []string{"*.corp.example", "10.0.0.0/8", "intranet"}}
	p.Connect = profile.OnDemand
	p.TrustedNetworks = []string{"office.example"}
	p.MTU = 1400
	return p
}

// tunnel sends everything through the gateway, always.
func tunnel(t *testing.T) profile.Profile {
	p := plain(t)
	p.Connect = profile.Always
	p.Proxy = profile.Proxy{Server: "[2001:db8:1::8]:8080", Exceptions: []string{"*.corp.example"}}
	p.ESP = []string{"aes128gcm16-ecp256"}
	return p
}

// script has a proxy script whose URL needs escaping.
func script(t *testing.T) profile.Profile {
	p := plain(t)
	p.Proxy = profile.Proxy{PAC: "https://pac.corp.example/wpad.dat?a=1&b=2"}
	p.TrustedNetworks = []string{"office.example"}
	p.Connect = profile.Always
	return p
}

func cases(t *testing.T) map[string]profile.Profile {
	return map[string]profile.Profile{"plain": plain(t), "rich": rich(t), "tunnel": tunnel(t), "script": script(t)}
}

func options() profile.Options {
	return profile.Options{Password: password, Rand: randv2.NewChaCha8([32]byte{})}
}

func build(t *testing.T, kind profile.Kind, p profile.Profile, o profile.Options) profile.Bundle {
	t.Helper()
	b, err := profile.Build(kind, p, o)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return b
}

// TestGolden compares each file of each client with what was reviewed; the
// notes too, which tell what the client can't take.
func TestGolden(t *testing.T) {
	for name, p := range cases(t) {
		for _, kind := range profile.Kinds {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				b := build(t, kind, p, options())
				dir := filepath.Join("testdata", "golden", name, string(kind))
				files := append(b.Files, profile.File{Name: "notes.txt", Data: []byte(strings.Join(b.Notes, "\n") + "\n")})
				if *update {
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				}
				for _, f := range files {
					path := filepath.Join(dir, f.Name)
					if *update {
						if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
							t.Fatal(err)
						}
						if err := os.WriteFile(path, f.Data, 0o644); err != nil {
							t.Fatal(err)
						}
					}
					want, err := os.ReadFile(path)
					if err != nil {
						t.Fatalf("%v; go test -update writes it", err)
					}
					if !bytes.Equal(f.Data, want) {
						t.Errorf("%s changed; got:\n%s", path, f.Data)
					}
				}
			})
		}
	}
}

// TestFiles: what is announced is what is made; keys are for their owner only,
// and the password is in no file.
func TestFiles(t *testing.T) {
	for name, p := range cases(t) {
		for _, kind := range profile.Kinds {
			b := build(t, kind, p, options())
			var names []string
			for _, f := range b.Files {
				names = append(names, f.Name)
				if !filepath.IsLocal(f.Name) {
					t.Errorf("%s/%s: %s leaves its folder", name, kind, f.Name)
				}
				for _, secret := range []string{password, "PRIVATE KEY"} {
					if bytes.Contains(f.Data, []byte(secret)) && (secret == password || f.Mode != 0o600) {
						t.Errorf("%s/%s: %s of mode %s has %q in it", name, kind, f.Name, f.Mode, secret)
					}
				}
				if f.Mode != 0o600 && f.Mode != 0o644 {
					t.Errorf("%s/%s: %s has mode %s", name, kind, f.Name, f.Mode)
				}
			}
			if announced := profile.Names(kind, p); !slices.Equal(names, announced) {
				t.Errorf("%s/%s: made %v, announced %v", name, kind, names, announced)
			}
		}
	}
}

// TestReissuedReplaces: identifiers stay with device and instance, whatever
// else changes.
func TestReissuedReplaces(t *testing.T) {
	ids := func(p profile.Profile) string {
		var found []string
		for _, f := range build(t, profile.SSwan, p, options()).Files {
			found = append(found, strings.Split(string(f.Data), `"`)[3])
		}
		return strings.Join(found, " ")
	}
	p, q := plain(t), rich(t)
	if !strings.HasPrefix(ids(q), ids(p)+" ") {
		t.Errorf("%s became %s", ids(p), ids(q))
	}
	q = plain(t)
	q.Device = "phone-2"
	if ids(p) == ids(q) {
		t.Error("two devices have the same identifier")
	}
	q = plain(t)
	q.Instance = "2.25.2"
	if ids(p) == ids(q) {
		t.Error("two instances have the same identifier")
	}
}

// TestProposals: each client gets one that it can do, or it is said what it
// can.
func TestProposals(t *testing.T) {
	for _, c := range []struct {
		kind     profile.Kind
		ike, esp string
		want     []string // parts of the files; none: no proposal
	}{
		{profile.Windows, "aes128-sha256-modp2048", "aes128-sha256", []string{
			"<DHGroup>Group14<", "<EncryptionMethod>AES128<", "<IntegrityCheckMethod>SHA256<",
			"<CipherTransformConstants>AES128<", "<AuthenticationTransformConstants>SHA256128<", "<PfsGroup>None<",
		}},
		{profile.Windows, "aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384", []string{
			"<DHGroup>ECP384<", "<EncryptionMethod>AES_GCM_256<", "<IntegrityCheckMethod>SHA384<",
			"<CipherTransformConstants>GCMAES256<", "<AuthenticationTransformConstants>GCMAES256<", "<PfsGroup>ECP384<",
			"-EncryptionMethod GCMAES256 ", "-PfsGroup ECP384 ",
		}},
		{profile.Windows, "aes192-sha384-ecp256", "aes192gcm16", []string{"<EncryptionMethod>AES192<", "GCMAES192<"}},
		{profile.Windows, "aes256gcm16-prfsha256-x25519", "aes256gcm16", nil},
		{profile.Windows, "chacha20poly1305-prfsha256-ecp256", "aes256gcm16", nil},
		{profile.Windows, "aes192gcm16-prfsha256-ecp256", "aes256gcm16", nil},
		{profile.Windows, "aes256-sha512-ecp256", "aes256gcm16", nil},
		{profile.Windows, "aes256-sha256-prfsha384-ecp256", "aes256gcm16", nil},
		{profile.Windows, "aes256-sha256-ecp256", "aes256-sha384", nil},
		{profile.Windows, "aes256-sha256-ecp256", "chacha20poly1305", nil},
		{profile.Windows, "aes256-sha256-ecp256", "aes256gcm16-x25519", nil},
		{profile.Apple, "chacha20poly1305-prfsha256-x25519", "aes128-sha256", []string{
			"<string>ChaCha20Poly1305<", "<integer>31<", "<string>AES-128<", "<string>SHA2-256<",
		}},
		{profile.Apple, "aes256-sha512-modp4096", "aes256gcm16-ecp521", []string{
			"<string>SHA2-512<", "<integer>16<", "<integer>21<", "<string>AES-256-GCM<", "<key>EnablePFS</key>\n\t\t\t\t<integer>1<",
		}},
		{profile.Apple, "aes192-sha256-ecp256", "aes256gcm16", nil},
		{profile.Apple, "aes256-sha256-prfsha512-ecp256", "aes256gcm16", nil},
		{profile.Apple, "aes256-sha256-ecp256", "aes192gcm16", nil},
		{profile.SSwan, "aes192-sha256-curve25519", "aes192-sha512", []string{`"aes192-sha256-curve25519"`, `"aes192-sha512"`}},
		{profile.SSwan, "3des-sha1-modp1024", "aes256gcm16", nil},
		{profile.Android, "aes256gcm16-ecp256", "aes256gcm16", nil}, // no PRF
		{profile.StrongSwan, "aes256-sha256-ecp256", "null-sha256", nil},
		{profile.StrongSwan, "aes256-sha256-ecp256", "aes256gcm16-sha256", nil},
		{profile.StrongSwan, "aes256-sha256-sha256-ecp256", "aes256gcm16", nil},
		{profile.StrongSwan, "", "aes256gcm16", nil},
	} {
		p := plain(t)
		p.IKE, p.ESP = []string{c.ike}, []string{c.esp}
		b, err := profile.Build(c.kind, p, options())
		if c.want == nil {
			if !errors.Is(err, profile.ErrNoProposal) {
				t.Errorf("%s, %s and %s: %v", c.kind, c.ike, c.esp, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %s and %s: %v", c.kind, c.ike, c.esp, err)
			continue
		}
		var all []byte
		for _, f := range b.Files {
			all = append(all, f.Data...)
		}
		for _, want := range c.want {
			if !bytes.Contains(all, []byte(want)) {
				t.Errorf("%s, %s and %s: no %s in\n%s", c.kind, c.ike, c.esp, want, all)
			}
		}
	}
}

// TestMalformed: what passes goes into five syntaxes, so little passes.
func TestMalformed(t *testing.T) {
	for name, spoil := range map[string]func(*profile.Profile){
		"no device":               func(p *profile.Profile) { p.Device = "" },
		"device leaves":           func(p *profile.Profile) { p.Device = "../phone" },
		"device is an option":     func(p *profile.Profile) { p.Device = "-rf" },
		"device with two @":       func(p *profile.Profile) { p.Device = "a@b@c" },
		"title with a quote":      func(p *profile.Profile) { p.Title = "it's" },
		"title with a line":       func(p *profile.Profile) { p.Title = "a\nb" },
		"title with a slash":      func(p *profile.Profile) { p.Title = "a/b" },
		"long title":              func(p *profile.Profile) { p.Title = strings.Repeat("a", 65) },
		"no gateway":              func(p *profile.Profile) { p.Gateways = nil },
		"many gateways":           func(p *profile.Profile) { p.Gateways = make([]profile.Gateway, 9) },
		"gateway with a brace":    func(p *profile.Profile) { p.Gateways[0].Address = "a}" },
		"gateway with a zone":     func(p *profile.Profile) { p.Gateways[0].Address = "fe80::1%eth0" },
		"gateway twice":           func(p *profile.Profile) { p.Gateways = append(p.Gateways, profile.Gateway{Address: "VPN.example.org"}) },
		"identity with a line":    func(p *profile.Profile) { p.Gateways[0].ID = "a\n  auth = psk" },
		"network with host bits":  func(p *profile.Profile) { p.Networks = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")} },
		"everything as a network": func(p *profile.Profile) { p.Networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"no network":              func(p *profile.Profile) { p.Networks = make([]netip.Prefix, 1) },
		"no DNS server":           func(p *profile.Profile) { p.DNS = make([]netip.Addr, 1) },
		"many domains":            func(p *profile.Profile) { p.Domains = slices.Repeat([]string{"a"}, 257) },
		"domain with a star":      func(p *profile.Profile) { p.Domains = []string{"*.corp"} },
		"trusted network":         func(p *profile.Profile) { p.TrustedNetworks = []string{"a,b"} },
		"connect":                 func(p *profile.Profile) { p.Connect = "never" },
		"small MTU":               func(p *profile.Profile) { p.MTU = 1279 },
		"large MTU":               func(p *profile.Profile) { p.MTU = 1501 },
		"proxy without a port":    func(p *profile.Profile) { p.Proxy.Server = "proxy" },
		"proxy with port 0":       func(p *profile.Profile) { p.Proxy.Server = "proxy:0" },
		"proxy with a large port": func(p *profile.Profile) { p.Proxy.Server = "proxy:65536" },
		"proxy with a quote":      func(p *profile.Profile) { p.Proxy.Server = "pro'xy:80" },
		"two proxies":             func(p *profile.Profile) { p.Proxy = profile.Proxy{Server: "a:1", PAC: "http://a/"} },
		"exceptions alone":        func(p *profile.Profile) { p.Proxy.Exceptions = []string{"a"} },
		"exception with a space":  func(p *profile.Profile) { p.Proxy = profile.Proxy{Server: "a:1", Exceptions: []string{"a b"}} },
		"script of a file":        func(p *profile.Profile) { p.Proxy.PAC = "file:///etc/passwd" },
		"script with a quote":     func(p *profile.Profile) { p.Proxy.PAC = "http://a/'" },
		"script with a user":      func(p *profile.Profile) { p.Proxy.PAC = "http://u:p@a/" },
		"device tunnel of all":    func(p *profile.Profile) { p.DeviceTunnel = true },
	} {
		for _, kind := range profile.Kinds {
			p := plain(t)
			spoil(&p)
			if err := profile.Check(kind, p); !errors.Is(err, profile.ErrProfile) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			if _, err := profile.Build(kind, p, options()); !errors.Is(err, profile.ErrProfile) {
				t.Errorf("%s, %s: built: %v", name, kind, err)
			}
		}
	}
	if err := profile.Check("amiga", plain(t)); !errors.Is(err, profile.ErrKind) {
		t.Errorf("an unknown kind: %v", err)
	}
	p := plain(t)
	p.Certificate = nil
	if _, err := profile.Build(profile.SSwan, p, options()); !errors.Is(err, profile.ErrProfile) {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestKeysAndPasswords(t *testing.T) {
	p := plain(t)
	p.Key = nil // the device has it
	for _, kind := range profile.Kinds {
		_, err := profile.Build(kind, p, options())
		if needs := kind == profile.Apple || kind == profile.Windows; errors.Is(err, profile.ErrKey) != needs || !needs && err != nil {
			t.Errorf("%s without a key: %v", kind, err)
		}
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.Key = p521
	if err := profile.Check(profile.Windows, p); !errors.Is(err, profile.ErrKey) {
		t.Errorf("P-521 on Windows: %v", err)
	}
	p = plain(t)
	o := options()
	o.Password = "15 characters.."
	for _, kind := range profile.Kinds {
		_, err := profile.Build(kind, p, o)
		if old := kind == profile.SSwan || kind == profile.Android || kind == profile.Apple; errors.Is(err, profile.ErrPassword) != old {
			t.Errorf("%s, a password of 15: %v", kind, err)
		}
	}
	o.Password = "short"
	if _, err := profile.Build(profile.Windows, p, o); !errors.Is(err, profile.ErrPassword) {
		t.Errorf("Windows, a password of 5: %v", err)
	}
	o = options()
	o.Signer = &profile.Signer{Chain: []*x509.Certificate{certificate(t, "gateway")}, Key: key(t, "device")}
	if _, err := profile.Build(profile.Apple, p, o); !errors.Is(err, profile.ErrKey) {
		t.Errorf("signed with a foreign key: %v", err)
	}
}

// TestAppAsksForRSA: a note warns where Android may hide a key.
func TestAppAsksForRSA(t *testing.T) {
	p := plain(t)
	warned := func() bool {
		return slices.ContainsFunc(build(t, profile.SSwan, p, options()).Notes, func(n string) bool { return strings.Contains(n, "RSA") })
	}
	if !warned() {
		t.Error("no warning for an ECDSA key")
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	// The container only; whether they belong together is the caller's.
	p.Key = k
	if b, err := profile.Build(profile.SSwan, p, options()); err == nil && slices.ContainsFunc(b.Notes, func(n string) bool { return strings.Contains(n, "RSA") }) {
		t.Errorf("a warning for an RSA key: %v", b.Notes)
	} else if err != nil {
		t.Error(err)
	}
}

// TestInstallerIsASCII: older versions of PowerShell take anything else for the
// system's code page. Nothing in it can end a string early.
func TestInstallerIsASCII(t *testing.T) {
	p := tunnel(t)
	p.Title = "Büro (Zürich)"
	for _, f := range build(t, profile.Windows, p, options()).Files {
		if !strings.HasSuffix(f.Name, ".ps1") {
			continue
		}
		if bytes.ContainsFunc(f.Data, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }) {
			t.Errorf("not ASCII:\n%s", f.Data)
		}
		if !bytes.Contains(f.Data, []byte("$profileName = 'B_ro (Z_rich)'\n")) {
			t.Errorf("no name in\n%s", f.Data)
		}
		for line := range strings.Lines(string(f.Data)) {
			if !strings.HasPrefix(line, "#") && strings.Count(line, "'")%2 != 0 {
				t.Errorf("a string has no end: %s", line)
			}
		}
	}
}

func TestQR(t *testing.T) {
	for _, c := range []struct {
		kind        profile.Kind
		file, where string
		want        string // empty: refused
	}{
		{profile.SSwan, "phone-1.sswan", "https://get.example.org/p/", "https://get.example.org/p/phone-1.sswan"},
		{profile.SSwan, "ann@example.org.sswan", "https://get.example.org/", "https://get.example.org/ann@example.org.sswan"},
		{profile.Android, "phone-1.sswan", "https://get.example.org/x.sswan?token=1", "https://get.example.org/x.sswan?token=1"},
		{profile.Apple, "phone-1.mobileconfig", "https://get.example.org/x.mobileconfig", "https://get.example.org/x.mobileconfig"},
		{profile.Apple, "phone-1.mobileconfig", "https://get.example.org/x.sswan", ""},
		{profile.SSwan, "phone-1.sswan", "http://get.example.org/", ""},
		{profile.SSwan, "phone-1.sswan", "https://get.example.org/" + strings.Repeat("a", 300) + ".sswan", ""},
		{profile.Android, "phone-1.managed.json", "https://get.example.org/", ""},
		{profile.StrongSwan, "swanctl.conf", "https://get.example.org/", ""},
		{profile.Windows, "phone-1.vpnv2.xml", "https://get.example.org/", ""},
	} {
		code, err := profile.QR(c.kind, c.file, c.where)
		if c.want == "" {
			if !errors.Is(err, profile.ErrQR) {
				t.Errorf("%s at %s: %v", c.file, c.where, err)
			}
		} else if err != nil || code.Text != c.want {
			t.Errorf("%s at %s: %q, %v", c.file, c.where, code.Text, err)
		}
	}
}

// FuzzCheck: whatever strings come in, what Check accepts is built, and no
// value breaks out of its place.
func FuzzCheck(f *testing.F) {
	f.Add("phone-1", "Title", "vpn.example.org", "vpn.example.org", "corp.example", "proxy:80", "http://a/", "*.x", "aes256-sha256-ecp256", "aes256gcm16")
	f.Add("a'b", "<x>", "${a}", "a b", "..", ":", "https://x y", "\n", "-", "--")
	f.Fuzz(func(t *testing.T, device, title, gateway, id, domain, proxy, pac, exception, ike, esp string) {
		p := plain(t)
		p.Device, p.Title, p.Gateways = device, title, []profile.Gateway{{Address: gateway, ID: id}}
		p.Domains, p.TrustedNetworks = []string{domain}, []string{domain}
		p.Proxy = profile.Proxy{Server: proxy, PAC: pac}
		if proxy != "" {
			p.Proxy.Exceptions = []string{exception}
		}
		p.IKE, p.ESP = append(p.IKE, ike), append(p.ESP, esp)
		for _, kind := range profile.Kinds {
			if profile.Check(kind, p) != nil {
				continue
			}
			b, err := profile.Build(kind, p, options())
			if err != nil {
				t.Fatalf("%s: checked, but: %v", kind, err)
			}
			for _, file := range b.Files {
				if !filepath.IsLocal(file.Name) {
					t.Errorf("%s leaves its folder", file.Name)
				}
				if bytes.ContainsAny(file.Data, "\x00") {
					t.Errorf("%s: a NUL", file.Name)
				}
			}
		}
	})
}
