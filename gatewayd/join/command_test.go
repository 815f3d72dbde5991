package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/jointest"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// run the command as a user does, with the code on standard input.
func run(t *testing.T, i *jointest.Instance, code otp.Code, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return runUntil(t.Context(), i, code, args...)
}

func runUntil(ctx context.Context, i *jointest.Instance, code otp.Code, args ...string) (stdout, stderr string, err error) {
	c := joinCommand(jointest.NewDial(map[string]string{i.Name + ":443": i.Address}).Context)
	var out, errs bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetIn(strings.NewReader(strings.ToLower(code.Reveal()) + "\n"))
	c.SetArgs(append([]string{"--code-file", "-"}, args...))
	err = c.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

// tree of what lies in a folder: names with modes, folders with a slash.
func tree(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	found := make(map[string]fs.FileMode)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if !d.IsDir() {
			found[name] = info.Mode().Perm()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func names(files map[string]fs.FileMode) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func TestPEM(t *testing.T) {
	i := jointest.New(t, jointest.Options{Name: "mobileenroll.example.com"})
	dir := t.TempDir()
	out := filepath.Join(dir, "laptop")
	stdout, stderr, err := run(t, i, i.Request(), "--email", "ann@example.com", "--out", out, "-o", "json")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	files := tree(t, dir)
	want := []string{"laptop/device-1.ca.pem", "laptop/device-1.configuration.json", "laptop/device-1.key", "laptop/device-1.pem"}
	if !slices.Equal(names(files), want) || files["laptop/device-1.key"] != 0o600 || files["laptop/device-1.pem"] != 0o644 {
		t.Errorf("%v, want %v", files, want)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(out, "device-1.pem"), filepath.Join(out, "device-1.key")); err != nil {
		t.Error(err)
	}
	var r result
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%s: %v", stdout, err)
	}
	if r.Device != "device-1" || r.Instance != "Instance mobileenroll.example.com" || len(r.Files) != 4 || r.Serial == "" {
		t.Errorf("%+v", r)
	}
	for _, file := range r.Files {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	for _, said := range []string{"asking mobileenroll.example.com", "it knows the code", "asking for the certificate"} {
		if !strings.Contains(stderr, said) {
			t.Errorf("progress doesn't say %q: %s", said, stderr)
		}
	}
	var told enroll.Configuration
	data, err := os.ReadFile(filepath.Join(out, "device-1.configuration.json"))
	if err == nil {
		err = json.Unmarshal(data, &told)
	}
	if err != nil || len(told.Gateways) != 1 {
		t.Errorf("%s: %v", data, err)
	}
}

func TestPKCS12(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	dir := t.TempDir()
	out := filepath.Join(dir, "phone")
	if _, stderr, err := run(t, i, i.Request(), "--server", i.Name, "--out", out, "--format", "p12", "--key", "rsa-2048"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	password, err := os.ReadFile(filepath.Join(out, "device-1.password"))
	if err != nil {
		t.Fatal(err)
	}
	container, err := os.ReadFile(filepath.Join(out, "device-1.p12"))
	if err != nil {
		t.Fatal(err)
	}
	_, certificate, chain, err := pkcs12.DecodeChain(container, strings.TrimSpace(string(password)))
	if err != nil || certificate.Subject.CommonName != "device-1" || len(chain) != 2 {
		t.Errorf("%v, chain of %d", err, len(chain))
	}
	if files := tree(t, dir); files["phone/device-1.p12"] != 0o600 || files["phone/device-1.password"] != 0o600 || len(files) != 3 {
		t.Errorf("%v", files)
	}
}

func TestProfiles(t *testing.T) {
	for kind, file := range map[profile.Kind]string{
		profile.StrongSwan: "device-1.swanctl/swanctl.conf", profile.SSwan: "device-1.sswan", profile.Windows: "device-1.p12", profile.Apple: "device-1.mobileconfig",
	} {
		t.Run(string(kind), func(t *testing.T) {
			i := jointest.New(t, jointest.Options{Configuration: new(enroll.Configuration{
				Title: "Example", Gateways: []enroll.Gateway{{Address: "vpn.example"}},
				IKE: []string{"aes256gcm16-prfsha384-ecp384"}, ESP: []string{"aes256gcm16"},
			})})
			out := filepath.Join(t.TempDir(), "device")
			_, stderr, err := run(t, i, i.Request(), "--server", i.Name, "--out", out, "--profile", string(kind), "--connect", "always", "--key", "rsa-2048")
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			data, err := os.ReadFile(filepath.Join(out, file))
			if err != nil {
				t.Fatalf("%v, there is %v", err, tree(t, out))
			}
			if kind == profile.StrongSwan && !bytes.Contains(data, []byte("remote_addrs = vpn.example")) {
				t.Errorf("%s", data)
			}
		})
	}
}

// Nothing is written if it doesn't work out, and nothing overwritten if it does.
func TestAllOrNothing(t *testing.T) {
	i := jointest.New(t, jointest.Options{Configuration: new(enroll.Configuration{})})
	dir := t.TempDir()
	out := filepath.Join(dir, "device")
	wrong := i.Request()
	wrong.Password[0] ^= 1
	if _, _, err := run(t, i, wrong, "--server", i.Name, "--out", out); !errors.Is(err, client.ErrUnproven) || !strings.Contains(err.Error(), "compare the code") {
		t.Errorf("%v", err)
	}
	if left := tree(t, dir); len(left) != 0 {
		t.Errorf("after a wrong code: %v", left)
	}
	// The server names no gateway: a profile can't be made of that, but the
	// enrollment isn't lost.
	code := i.Request()
	_, _, err := run(t, i, code, "--server", i.Name, "--out", out, "--profile", "strongswan")
	if err == nil || !strings.Contains(err.Error(), "was issued, but") || !strings.Contains(err.Error(), "--format") {
		t.Errorf("%v", err)
	}
	if left := names(tree(t, dir)); !slices.Equal(left, []string{".device.joining"}) {
		t.Errorf("left behind: %v", left)
	}
	if _, stderr, err := run(t, i, code, "--server", i.Name, "--out", out); err != nil || !strings.Contains(stderr, "going on") {
		t.Errorf("%v: %s", err, stderr)
	}
	before := tree(t, dir)
	if len(before) != 4 {
		t.Errorf("%v", before)
	}
	fresh := i.Request()
	if _, _, err := run(t, i, fresh, "--server", i.Name, "--out", out); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	if _, _, err := run(t, i, fresh, "--server", i.Name, "--out", out+"2"); err != nil {
		t.Errorf("the code was used for nothing: %v", err)
	}
}

// The answer is lost and the program ends: the same command goes on, with the
// key of before; another code begins anew.
func TestGoingOn(t *testing.T) {
	var cut atomic.Bool
	cut.Store(true)
	ctx, lost := context.WithCancel(t.Context())
	i := jointest.New(t, jointest.Options{Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/join/certificate" && cut.Load() {
				h.ServeHTTP(httptest.NewRecorder(), r)
				lost()
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	}})
	out := filepath.Join(t.TempDir(), "device")
	code := i.Request()
	if _, _, err := runUntil(ctx, i, code, "--server", i.Name, "--out", out); !errors.Is(err, context.Canceled) {
		t.Fatalf("there was no answer: %v", err)
	}
	saved, err := newPlace(out)
	if err != nil {
		t.Fatal(err)
	}
	pending, err := saved.pending(code.ID)
	if err != nil || pending == nil {
		t.Fatalf("%v, %v", pending, err)
	}
	if other, err := saved.pending(otp.New().ID); other != nil || err != nil {
		t.Errorf("for another request: %v, %v", other, err)
	}
	if info, err := os.Stat(saved.joining); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	cut.Store(false)
	if _, _, err := run(t, i, code, "--server", i.Name, "--out", out); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, "device-1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !pending.Key.Public().(*ecdsa.PublicKey).Equal(certificate.PublicKey) {
		t.Errorf("a certificate of another key: %v", err)
	}
	if _, err := os.Stat(saved.joining); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there", saved.joining)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{}, {"--email", "nobody"}, {"--email", "a@b.example", "--server", "c"}, {"--server", "a/b"}, {"--server", "http://a"},
		{"--server", "a", "--key", "dsa"}, {"--server", "a", "--format", "zip"}, {"--server", "a", "--profile", "nokia"},
		{"--server", "a", "--profile", "apple", "--format", "p12"}, {"--server", "a", "--connect", "always"},
		{"--server", "a", "-o", "xml"}, {"--server", "a", "--timeout", "0s"}, {"--server", "a", "--unknown"},
		{"--server", "a", "CODE"}, {"--server", "a", "--code-env", "ROAMGATE_NO_SUCH"},
	} {
		c := Command()
		c.SetArgs(append(args, "--out", filepath.Join(t.TempDir(), "x")))
		c.SetOut(new(bytes.Buffer))
		c.SetErr(new(bytes.Buffer))
		var usage *command.UsageError
		if err := c.ExecuteContext(t.Context()); !errors.As(err, &usage) || usage.ExitCode() != 2 {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestCodeThatIsNone(t *testing.T) {
	c := Command()
	c.SetIn(strings.NewReader("XK7M-29QA\n"))
	c.SetErr(new(bytes.Buffer))
	c.SetArgs([]string{"--server", "a.example", "--code-file", "-", "--out", filepath.Join(t.TempDir(), "x")})
	if err := c.ExecuteContext(t.Context()); !errors.Is(err, otp.ErrFormat) || !strings.Contains(err.Error(), "24") {
		t.Errorf("%v", err)
	}
}
