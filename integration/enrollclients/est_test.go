package enrollclients

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
	"github.com/roamgate/roamgate/enrollment/est"
	"github.com/roamgate/roamgate/enrollment/otp"
)

func serveEST(w *enrolltest.World) string {
	return w.Serve(est.New(est.Options{Enroller: w, Chain: w.Chain, Log: w.Log})).URL
}

// TestCurl: openssl makes a request, curl brings it, openssl reads what comes
// back; then with the certificate for another key.
func TestCurl(t *testing.T) {
	c := newClients(t)
	w := enrolltest.New(t)
	url := serveEST(w) + est.Root
	code := w.Request("till-1")
	root := filepath.Join(w.Dir, "root.pem")
	login := code.ID.String() + ":" + code.Password.Reveal()

	c.runTo("cacerts.b64", "curl", "--silent", "--show-error", "--fail", "--cacert", root, url+"cacerts")
	c.run("openssl", "base64", "-d", "-A", "-in", "cacerts.b64", "-out", "cacerts.p7")
	if got := string(c.run("openssl", "pkcs7", "-inform", "DER", "-in", "cacerts.p7", "-print_certs", "-noout")); strings.Count(got, "subject=") != 2 {
		t.Errorf("CA certificates:\n%s", got)
	}
	c.runTo("csrattrs.b64", "curl", "--silent", "--show-error", "--fail", "--cacert", root, url+"csrattrs")
	c.run("openssl", "base64", "-d", "-A", "-in", "csrattrs.b64", "-out", "csrattrs.der")
	if got := string(c.run("openssl", "asn1parse", "-inform", "DER", "-in", "csrattrs.der")); !strings.Contains(got, "prime256v1") {
		t.Errorf("attributes:\n%s", got)
	}

	enroll := func(operation, name string, how ...string) {
		t.Helper()
		c.run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=whatever",
			"-keyout", name+".key", "-outform", "DER", "-out", name+".csr")
		c.run("openssl", "base64", "-e", "-in", name+".csr", "-out", name+".b64")
		args := append([]string{
			"--silent", "--show-error", "--fail", "--cacert", root, "--header", "Content-Type: application/pkcs10",
			"--data-binary", "@" + name + ".b64", "--output", name + ".p7.b64",
		}, how...)
		c.run("curl", append(args, url+operation)...)
		c.run("openssl", "base64", "-d", "-A", "-in", name+".p7.b64", "-out", name+".p7")
		c.run("openssl", "pkcs7", "-inform", "DER", "-in", name+".p7", "-print_certs", "-out", name+".pem")
		c.same(name+".pem", name+".key")
		c.run("openssl", "verify", "-purpose", "sslclient", "-CAfile", root, "-untrusted", filepath.Join(w.Dir, "issuing.pem"), name+".pem")
		certificate := c.certificate(name + ".pem")
		w.Verify(certificate, "till-1", certificate.PublicKey)
	}
	enroll("simpleenroll", "first", "--user", login)
	enroll("simplereenroll", "second", "--cert", "first.pem", "--key", "first.key")
	if out, err := c.try("curl", "--silent", "--show-error", "--fail", "--cacert", root, "--user", login,
		"--header", "Content-Type: application/pkcs10", "--data-binary", "@second.b64", url+"simpleenroll"); err == nil {
		t.Errorf("a used password with another key: %s", out)
	}
	if n := len(w.Recorded()); n != 2 {
		t.Errorf("%d certificates recorded, want 2", n)
	}
}

// TestStrongswanEST: pki --estca, --est by password, --est by certificate.
func TestStrongswanEST(t *testing.T) {
	for _, algorithm := range []ca.KeyAlgorithm{ca.ECDSAP256, ca.RSA3072} {
		t.Run(string(algorithm), func(t *testing.T) { strongswanEST(t, algorithm) })
	}
}

func strongswanEST(t *testing.T, algorithm ca.KeyAlgorithm) {
	c := newClients(t)
	w := enrolltest.NewWith(t, ca.Options{Key: algorithm})
	url := serveEST(w)
	root := filepath.Join(w.Dir, "root.pem")
	code := w.Request("laptop-7")

	c.run("pki", "--estca", "--url", url, "--cacert", root, "--caout", "ca.crt", "--outform", "pem")
	ca := c.certificate("ca.crt")
	if !ca.Equal(w.Chain()[len(w.Chain())-1]) {
		t.Errorf("it took %s for the root", ca.Subject)
	}
	request := func(name string) {
		c.runTo(name+".key", "pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
		c.runTo(name+".csr", "pki", "--req", "--in", name+".key", "--type", "ecdsa", "--dn", "CN=laptop-7", "--outform", "pem")
	}
	request("first")
	wrong := otp.New()
	if out, err := c.try("pki", "--est", "--url", url, "--in", "first.csr", "--cacert", root,
		"--userpass", code.ID.String()+":"+wrong.Password.Reveal(), "--maxpolltime", "1"); err == nil {
		t.Errorf("a wrong password: %s", out)
	}
	c.runTo("first.pem", "pki", "--est", "--url", url, "--in", "first.csr", "--cacert", root,
		"--userpass", code.ID.String()+":"+code.Password.Reveal(), "--outform", "pem")
	c.same("first.pem", "first.key")
	first := c.certificate("first.pem")
	w.Verify(first, "laptop-7", first.PublicKey)

	request("second")
	c.runTo("second.pem", "pki", "--est", "--url", url, "--in", "second.csr", "--cacert", root, "--cacert", filepath.Join(w.Dir, "issuing.pem"),
		"--cert", "first.pem", "--key", "first.key", "--outform", "pem")
	c.same("second.pem", "second.key")
	second := c.certificate("second.pem")
	w.Verify(second, "laptop-7", second.PublicKey)
	if n := len(w.Recorded()); n != 2 {
		t.Errorf("%d certificates recorded, want 2", n)
	}
}
