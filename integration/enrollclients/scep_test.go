package enrollclients

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/scep"
)

// serveSCEP without TLS, which these clients don't use or can't be told to
// trust: SCEP protects its messages itself. It returns the URL and writes the
// authority's certificate to ra.pem.
func serveSCEP(t *testing.T, c *clients, w *enrolltest.World, legacy bool) string {
	t.Helper()
	certificate, key := w.Authority()
	writePEM(c, "ra.pem", certificate)
	ra := scep.Authority{Certificate: certificate, Key: key}
	server := httptest.NewServer(scep.New(scep.Options{
		Enroller: w, Authority: func() scep.Authority { return ra }, Chain: w.Chain, Legacy: legacy, Log: w.Log,
	}))
	t.Cleanup(server.Close)
	return server.URL + "/scep"
}

// TestStrongswanSCEP: pki --scepca, --scep by password, --scep by certificate.
func TestStrongswanSCEP(t *testing.T) {
	c := newClients(t)
	w := enrolltest.New(t)
	url := serveSCEP(t, c, w, false)
	code := w.Request("laptop-7")
	root, issuing := filepath.Join(w.Dir, "root.pem"), filepath.Join(w.Dir, "issuing.pem")

	c.run("pki", "--scepca", "--url", url, "--caout", "ca.crt", "--raout", "ra.crt", "--outform", "pem")
	if ca := c.certificate("ca.crt"); !ca.Equal(w.Chain()[1]) {
		t.Errorf("it took %s for the root", ca.Subject)
	}
	if ra := c.certificate("ra.crt"); !ra.Equal(c.certificate("ra.pem")) {
		t.Errorf("it took %s for the authority", ra.Subject)
	}
	enroll := func(name string, how ...string) ([]byte, error) {
		c.runTo(name+".key", "pki", "--gen", "--type", "rsa", "--size", "2048", "--outform", "pem")
		return c.try("pki", append([]string{
			"--scep", "--url", url, "--in", name + ".key", "--dn", "CN=laptop-7", "--cacert-enc", "ra.crt", "--cacert-sig", "ra.crt",
			"--cacert", root, "--cacert", issuing, "--maxpolltime", "1", "--outform", "pem",
		}, how...)...)
	}
	wrong := otp.New()
	if out, err := enroll("wrong", "--password", wrong.Reveal()); err == nil {
		t.Errorf("a wrong password: %s", out)
	}
	out, err := enroll("first", "--password", code.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	c.write("first.pem", out)
	c.same("first.pem", "first.key")
	first := c.certificate("first.pem")
	w.Verify(first, "laptop-7", first.PublicKey)

	if out, err = enroll("second", "--cert", "first.pem", "--key", "first.key"); err != nil {
		t.Fatal(err)
	}
	c.write("second.pem", out)
	c.same("second.pem", "second.key")
	second := c.certificate("second.pem")
	w.Verify(second, "laptop-7", second.PublicKey)
	if n := len(w.Recorded()); n != 2 {
		t.Errorf("%d certificates recorded, want 2", n)
	}
}

// TestMicromdmSCEP: scepclient makes its key itself. What Debian 12 has was built
// with a Go that can't read certificate policies with arcs above 31 bits, which
// an instance OID has unless one is given.
func TestMicromdmSCEP(t *testing.T) {
	c := newClients(t)
	oid, err := x509.ParseOID("1.3.6.1.4.1.32473.1") // RFC 5612
	if err != nil {
		t.Fatal(err)
	}
	w := enrolltest.NewWith(t, ca.Options{InstanceOID: oid})
	strict := serveSCEP(t, c, w, false)
	code := w.Request("phone-3")
	enroll := func(url string) error {
		fingerprint := fmt.Sprintf("%x", sha256.Sum256(c.certificate("ra.pem").Raw))
		_, err := c.try("scepclient", "-server-url", url, "-challenge", code.Reveal(), "-ca-fingerprint", fingerprint,
			"-private-key", "phone.key", "-certificate", "phone.pem")
		return err
	}
	// It knows SHA-1 and DES only.
	if enroll(strict) == nil {
		t.Error("enrolled by SHA-1 and DES, which weren't allowed")
	}
	if err := enroll(serveSCEP(t, c, w, true)); err != nil {
		t.Fatal(err)
	}
	certificate := c.certificate("phone.pem")
	w.Verify(certificate, "phone-3", certificate.PublicKey)
	c.same("phone.pem", "phone.key")
}

// TestCertmonger: its daemon with a socket of its own, told by getcert as an
// administrator does; then a new key, for which it renews.
func TestCertmonger(t *testing.T) {
	c := newClients(t)
	w := enrolltest.New(t)
	url := serveSCEP(t, c, w, false)
	code := w.Request("till-9")
	c.write("talk.sh", []byte(`set -e
cd "$(dirname "$0")"
getcert add-scep-ca -c test -u "$1" -r "$PWD/ra.pem" -I "$2"
tries=0 # without what the server can do, which it is still being asked, it takes MD5 and DES
until grep -qrs '^ca_capabilities=' "$HOME/.config/certmonger/cas"; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { echo "certmonger doesn't learn what the server can do" >&2; exit 1; }
  sleep 0.1
done
getcert request -c test -I till -k "$PWD/till.key" -f "$PWD/till.pem" -g 2048 -N CN=whatever -L "$3" -w -v
cp till.key first.key
cp till.pem first.pem
getcert rekey -i till -w -v
getcert list
`))
	// It looks after its own files below HOME, and ends with the command.
	c.run("/usr/lib/certmonger/certmonger-session", "-n", "-L", "-P", filepath.Join(c.dir, "bus"),
		"-c", "sh "+filepath.Join(c.dir, "talk.sh")+" "+url+" "+filepath.Join(w.Dir, "chain.pem")+" "+code.Reveal())
	for _, name := range []string{"first", "till"} {
		certificate := c.certificate(name + ".pem")
		w.Verify(certificate, "till-9", certificate.PublicKey)
		c.same(name+".pem", name+".key")
	}
	if c.certificate("first.pem").Equal(c.certificate("till.pem")) || len(w.Recorded()) != 2 {
		t.Errorf("%d certificates recorded, want 2", len(w.Recorded()))
	}
}
