package management

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

func contains(text string, all ...string) bool {
	for _, s := range all {
		if !strings.Contains(text, s) {
			return false
		}
	}
	return true
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// Whoever is not the device, or not any more, gets no session: by no certificate,
// another's, one of another installation, a revoked one, one that was signed and
// never recorded, one for something else. Who has a certificate is who it says,
// whatever the message says.
func TestStrangers(t *testing.T) {
	w := newWorld(t, "")
	w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	ann, eve := w.enroll("ann-1"), w.enroll("eve-1")
	ann.comesIn()
	eve.comesIn()
	url := ann.told.Management

	ann.refused("no certificate", ann.at(url))

	// Another installation has a CA of its own, and may know the same names.
	other := newWorld(t, "")
	other.run("manager,enrollment", other.file, portEnrollMetrics, portDMMetrics)
	foreign := other.enroll("ann-1")
	ann.refused("another installation's", ann.at(url, foreign.certificate()))

	// A certificate that was signed by our CA behind the directory's back.
	forged := w.sign(ca.Device, "ann-1")
	ann.refused("not recorded", ann.at(url, forged))
	// The administrator's own is no device's.
	own, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "admin.pem"), filepath.Join(w.dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	ann.refused("an administrator's", ann.at(url, own))

	// Eve says that she is Ann, with her own certificate: what is for Ann stays, and
	// what Eve answers is Eve's.
	lock := w.place("lock", "ann-1")
	liar := &phone{w: w, name: "ann-1", joined: eve.joined, told: eve.told, tree: eve.tree, journal: eve.journal}
	if err := liar.come(); err != nil {
		t.Logf("eve as ann: %v", err)
	}
	if eve.locked.Load() != 0 {
		t.Error("eve got ann's command")
	}
	all, err := w.store.CommandsOfTask(t.Context(), lock, "", 0)
	if err != nil || len(all) != 1 || all[0].State != "waiting" || all[0].Attempt != 0 {
		t.Errorf("ann's command: %+v, %v", all, err)
	}
	if err := ann.come(); err != nil || ann.locked.Load() != 1 {
		t.Errorf("ann: %v, locked %d times", err, ann.locked.Load())
	}

	// Revoked: her account is closed with her last certificate, at once.
	if _, err := w.admins.Revoke(t.Context(), ca.SerialString(eve.joined.Certificate.SerialNumber), "key-compromise"); err != nil {
		t.Fatal(err)
	}
	w.until("eve is let in no more", func() bool { return eve.come() != nil })
	eve.refused("revoked", eve.come())
	w.until("eve's account is closed", func() bool {
		v, err := w.store.Device(t.Context(), "eve-1")
		return err == nil && !v.Open
	})
	if err := ann.come(); err != nil {
		t.Errorf("ann, who did nothing: %v", err)
	}

	// The metrics tell why, and nobody was told more than that it is refused.
	answer, err := http.Get("http://" + w.port(portDMMetrics) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text := readAll(t, answer.Body)
	for _, reason := range []string{"no_certificate", "untrusted", "unrecorded", "revoked", "other_instance"} {
		if contains(text, `gatewayd_dm_certificates_refused_total{reason="`+reason+`"} 0`) {
			t.Errorf("no certificate was refused as %s", reason)
		}
	}
}

// sign a certificate with the CA's key, in a copy of its folder from before the
// enrollment server took the record over.
func (w *world) sign(profile ca.Profile, name string) tls.Certificate {
	w.t.Helper()
	a, err := ca.Open(filepath.Join(w.dir, "pki"), func() ([]byte, error) { return nil, nil })
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Close()
	key, err := ca.GenerateKey("")
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := a.Issuer().Sign(time.Now(), ca.Request{Profile: profile, Name: name, PublicKey: key.Public()})
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{c.Raw, a.Issuing().Raw}, PrivateKey: key, Leaf: c}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
