package profile_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/profile"
)

// tool returns a runner for a program that we did not write. A developer's
// laptop may lack it; where ROAMGATE_INTEGRATION is 1 it may not.
func tool(t *testing.T, name string) func(args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is not installed")
	}
	return func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("ROAMGATE_INTEGRATION") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// lay writes a bundle below a folder and returns the path of its i-th file.
func lay(t *testing.T, dir string, b profile.Bundle, i int) string {
	t.Helper()
	for _, f := range b.Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, f.Mode); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, b.Files[i].Name)
}

// TestWindowsSchema: xmllint finds the documents valid.
func TestWindowsSchema(t *testing.T) {
	xmllint := tool(t, "xmllint")
	device := rich(t)
	device.Domains, device.DeviceTunnel = nil, true
	all := cases(t)
	all["device tunnel"] = device
	for name, p := range all {
		path := lay(t, t.TempDir(), build(t, profile.Windows, p, options()), 0)
		xmllint("--nonet", "--noout", "--schema", filepath.Join("testdata", "profilexml.xsd"), path)
		for query, want := range map[string]string{
			"string(/VPNProfile/NativeProfile/Servers)": join(p.Gateways),
			"count(/VPNProfile/Route)":                  count(len(p.Networks)),
			"string(/VPNProfile/Proxy/AutoConfigUrl)":   p.Proxy.PAC,
			"string(/VPNProfile/Proxy/Manual/Server)":   p.Proxy.Server,
		} {
			if got := strings.TrimSpace(xmllint("--nonet", "--xpath", query, path)); got != want {
				t.Errorf("%s: %s is %q, want %q", name, query, got, want)
			}
		}
	}
}

func join(gateways []profile.Gateway) string {
	var list []string
	for _, g := range gateways {
		list = append(list, g.Address)
	}
	return strings.Join(list, ",")
}

func count(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}

// TestAppleSigned: openssl verifies the signature up to the root, what it
// signs is a property list to two parsers, and the references inside hold.
func TestAppleSigned(t *testing.T) {
	openssl, xmllint, plistutil := tool(t, "openssl"), tool(t, "xmllint"), tool(t, "plistutil")
	o := options()
	o.Signer = &profile.Signer{Chain: []*x509.Certificate{certificate(t, "gateway"), certificate(t, "issuing")}, Key: key(t, "gateway")}
	for name, p := range cases(t) {
		dir := t.TempDir()
		signed := lay(t, dir, build(t, profile.Apple, p, o), 0)
		plist, binary := filepath.Join(dir, "plist"), filepath.Join(dir, "binary")
		// Apple looks at no purpose, openssl by default wants e-mail.
		if out := openssl("cms", "-verify", "-inform", "DER", "-in", signed, "-CAfile", filepath.Join("testdata", "root.pem"),
			"-purpose", "any", "-out", plist); !strings.Contains(out, "uccessful") {
			t.Errorf("%s: openssl says %s", name, out)
		}
		data, err := os.ReadFile(signed)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(signed, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "openssl", "cms", "-verify", "-inform", "DER", "-in", signed, "-CAfile",
			filepath.Join("testdata", "root.pem"), "-purpose", "any", "-out", os.DevNull).CombinedOutput(); err == nil {
			t.Errorf("%s: a changed profile verifies: %s", name, out)
		}

		xmllint("--nonet", "--noout", "--dtdvalid", filepath.Join("testdata", "plist.dtd"), plist)
		plistutil("-i", plist, "-f", "bin", "-o", binary)
		plistutil("-i", binary, "-f", "xml", "-o", plist)
		value := func(key string) string {
			return "//key[.='" + key + "']/following-sibling::*[1]"
		}
		query := func(xpath string) string { return strings.TrimSpace(xmllint("--nonet", "--xpath", xpath, plist)) }
		identity := query("string(//dict[key='PayloadType' and string='com.apple.security.pkcs12']" + value("PayloadUUID")[1:] + ")")
		if got := query("string(" + value("PayloadCertificateUUID") + ")"); got == "" || got != identity {
			t.Errorf("%s: the connection names certificate %q, the identity is %q", name, got, identity)
		}
		if n := query("count(//string[.='com.apple.vpn.managed'])"); n != count(len(p.Gateways)) {
			t.Errorf("%s: %s connections", name, n)
		}
		// Each payload has its own identifier.
		all := strings.Fields(query(value("PayloadUUID") + "/text()"))
		seen := map[string]bool{}
		for _, id := range all {
			if seen[id] {
				t.Errorf("%s: UUID %s stands twice", name, id)
			}
			seen[id] = true
		}
		if len(all) != len(p.Gateways)+4 {
			t.Errorf("%s: UUIDs %v", name, all)
		}
	}
}

// TestContainers: openssl opens every PKCS#12 container with the password and
// no other, and finds key and certificates in it.
func TestContainers(t *testing.T) {
	openssl := tool(t, "openssl")
	t.Setenv("PASSWORD", password)
	t.Setenv("WRONG", password+".")
	containers := map[string][]byte{}
	for _, f := range build(t, profile.Windows, plain(t), options()).Files {
		if strings.HasSuffix(f.Name, ".p12") {
			containers["windows"] = f.Data
		}
	}
	var app struct {
		Local struct{ P12 []byte }
	}
	if err := json.Unmarshal(build(t, profile.SSwan, plain(t), options()).Files[0].Data, &app); err != nil {
		t.Fatal(err)
	}
	containers["sswan"] = app.Local.P12
	apple := build(t, profile.Apple, plain(t), options()).Files[0].Data
	_, rest, _ := bytes.Cut(apple, []byte(".p12</string>"))
	_, rest, _ = bytes.Cut(rest, []byte("<data>"))
	text, _, _ := bytes.Cut(rest, []byte("</data>"))
	p12, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	containers["apple"] = p12
	for name, data := range containers {
		path := filepath.Join(t.TempDir(), "device.p12")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		info := openssl("pkcs12", "-info", "-nodes", "-legacy", "-in", path, "-passin", "env:PASSWORD")
		algorithm := map[bool]string{true: "AES-256-CBC", false: "TripleDES"}[name == "windows"]
		if strings.Count(info, "BEGIN CERTIFICATE") != 2 || strings.Count(info, "BEGIN PRIVATE KEY") != 1 || !strings.Contains(info, algorithm) {
			t.Errorf("%s:\n%s", name, info)
		}
		if out, err := exec.CommandContext(t.Context(), "openssl", "pkcs12", "-noout", "-legacy", "-in", path, "-passin", "env:WRONG").CombinedOutput(); err == nil {
			t.Errorf("%s opens with another password: %s", name, out)
		}
	}
}

// TestAppJSON reads the files of the app as the app does: by key, no others.
func TestAppJSON(t *testing.T) {
	for name, p := range cases(t) {
		for _, f := range build(t, profile.Android, p, options()).Files {
			var v map[string]any
			if err := json.Unmarshal(f.Data, &v); err != nil {
				t.Errorf("%s, %s: %v", name, f.Name, err)
			}
			keys := []string{"uuid", "name", "type", "remote", "local", "ike-proposal", "esp-proposal", "mtu", "dns-servers", "split-tunneling"}
			if strings.HasSuffix(f.Name, ".managed.json") {
				keys = []string{"allow_profile_create", "allow_profile_import", "allow_existing_profiles", "allow_certificate_import",
					"allow_settings_access", "pref_default_vpn_profile", "managed_profiles"}
				if list, ok := v["managed_profiles"].([]any); !ok || len(list) != len(p.Gateways) {
					t.Errorf("%s: managed profiles %v", name, v["managed_profiles"])
				}
			}
			for key := range v {
				if !strings.Contains(" "+strings.Join(keys, " ")+" ", " "+key+" ") {
					t.Errorf("%s, %s: the app knows no %q", name, f.Name, key)
				}
			}
		}
	}
}

// TestQRIsRead: a decoder that we did not write reads the picture, and the
// blocks for a terminal show the same modules.
func TestQRIsRead(t *testing.T) {
	zbarimg := tool(t, "zbarimg")
	code, err := profile.QR(profile.SSwan, "phone-1.sswan", "https://get.example.org/p/")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "code.png")
	if err := os.WriteFile(path, code.PNG(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(zbarimg("--quiet", "--nodbus", "--raw", path)); got != code.Text {
		t.Errorf("zbarimg reads %q, want %q", got, code.Text)
	}
	// The terminal's picture, four pixels a module.
	lines := strings.Split(strings.TrimSuffix(code.Blocks(), "\n"), "\n")
	pbm := filepath.Join(t.TempDir(), "blocks.pbm")
	if err := os.WriteFile(pbm, blocksAsPBM(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(zbarimg("--quiet", "--nodbus", "--raw", pbm)); got != code.Text {
		t.Errorf("from the terminal zbarimg reads %q, want %q", got, code.Text)
	}
}

func blocksAsPBM(lines []string) []byte {
	const scale = 4
	var rows []string
	for _, line := range lines {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;47m"), "\x1b[0m")
		var upper, lower strings.Builder
		for _, r := range line {
			u, l := "0", "0"
			if r == '█' || r == '▀' {
				u = "1"
			}
			if r == '█' || r == '▄' {
				l = "1"
			}
			upper.WriteString(strings.Repeat(u, scale))
			lower.WriteString(strings.Repeat(l, scale))
		}
		for range scale {
			rows = append(rows, upper.String())
		}
		for range scale {
			rows = append(rows, lower.String())
		}
	}
	return []byte("P1\n" + count(len(rows[0])) + " " + count(len(rows)) + "\n" + strings.Join(rows, "\n") + "\n")
}
