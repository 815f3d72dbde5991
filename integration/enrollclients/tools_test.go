package enrollclients

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
)

// clients runs programs in a folder of the test's own.
type clients struct {
	t   *testing.T
	dir string
	env []string
}

// newClients skips the test unless the programs were installed.
func newClients(t *testing.T) *clients {
	t.Helper()
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs enrollment clients: run `make test`, or set " + netns.IntegrationEnv + "=1")
	}
	dir := t.TempDir()
	return &clients{t: t, dir: dir, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C", "TMPDIR=" + dir}}
}

// try runs a program; out is its standard output.
func (c *clients) try(name string, args ...string) (out []byte, err error) {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(c.t.Context(), name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, c.env, &stdout, &stderr
	err = cmd.Run()
	c.t.Logf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	return stdout.Bytes(), err
}

// run a program that has to succeed.
func (c *clients) run(name string, args ...string) []byte {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}

// runTo writes the standard output into a file.
func (c *clients) runTo(file, name string, args ...string) {
	c.t.Helper()
	c.write(file, c.run(name, args...))
}

func (c *clients) write(file string, data []byte) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, file), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clients) read(file string) []byte {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// certificate in a file, in PEM or DER.
func (c *clients) certificate(file string) *x509.Certificate {
	c.t.Helper()
	der := c.read(file)
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatalf("%s: %v", file, err)
	}
	return certificate
}

// same says whether a certificate is for the key in a file, as openssl sees it.
func (c *clients) same(certificate, key string) {
	c.t.Helper()
	of := c.run("openssl", "x509", "-in", certificate, "-noout", "-pubkey")
	if want := c.run("openssl", "pkey", "-in", key, "-pubout"); !bytes.Equal(of, want) {
		c.t.Errorf("%s is for another key than that of %s", certificate, key)
	}
}

func writePEM(c *clients, file string, certificates ...*x509.Certificate) {
	c.t.Helper()
	var b bytes.Buffer
	for _, certificate := range certificates {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(file, b.Bytes())
}
