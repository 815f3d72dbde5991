package agent

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// TestRoll: a delta is seen by who looks devices up as soon as it is
// acknowledged, and while it is taken nobody sees half of it.
func TestRoll(t *testing.T) {
	a := open(t, new(gateway).config(filepath.Join(t.TempDir(), "agent.db"), install(t).identity(t)))
	defer a.Close()
	devices := newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1), device(2))
	if _, err := a.Replace(devices.Clone()); err != nil {
		t.Fatal(err)
	}
	if d, known := a.Device("device-1"); d.Group != "staff" || d.Barred || !known {
		t.Errorf("device-1: %+v, %t", d, known)
	}
	if _, known := a.Device("device-3"); known {
		t.Error("device-3 is known")
	}
	issuer := sha256.Sum256([]byte("a CA"))
	var all sync.WaitGroup
	stop := make(chan bool)
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if d, known := a.Device("device-2"); d.Group != "staff" || !known {
						t.Errorf("device-2 was gone: %+v, %t", d, known)
						return
					}
				}
			}
		})
	}
	for n := range 20 {
		serial := fmt.Sprintf("\x01%d", n)
		if _, revoked := a.Revoked(issuer, []byte(serial)); revoked {
			t.Errorf("%q is revoked already", serial)
		}
		d := commit(t, devices, gcm.Version{Epoch: 1, Number: uint64(n) + 2},
			gcm.Revocation{Issuer: issuer, Serial: serial, Reason: 4, At: time.Now()}.Record(),
			gcm.Authorisation{Device: "device-1", Group: "staff", Barred: n%2 == 0}.Record())
		if _, err := a.Patch(d); err != nil {
			t.Fatal(err)
		}
		if reason, revoked := a.Revoked(issuer, []byte(serial)); reason != 4 || !revoked {
			t.Errorf("%q isn't revoked", serial)
		}
		if d, known := a.Device("device-1"); d.Barred != (n%2 == 0) || !known {
			t.Errorf("after %d: barred %t, known %t", n, d.Barred, known)
		}
	}
	close(stop)
	all.Wait()
	if _, err := a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: 2, Number: 1}, device(2))); err != nil {
		t.Fatal(err)
	}
	if _, known := a.Device("device-1"); known {
		t.Error("device-1 is known after a snapshot without it")
	}
}

// TestManagerRevokedMeanwhile: a connection that is there is no longer good when
// its certificate is revoked.
func TestManagerRevokedMeanwhile(t *testing.T) {
	i := install(t)
	g := &gateway{}
	a := open(t, g.config(filepath.Join(t.TempDir(), "file"), i.identity(t)))
	address, _ := serve(t, a)
	certificate := i.manager(t)
	c := client(t, certificate)
	url := "https://" + address + gcm.PathState
	if status, body := ask(t, c, http.MethodGet, url, "", nil); status != http.StatusOK {
		t.Fatalf("before: %d %s", status, body)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	issuer := sha256.Sum256(i.issuer.Chain()[0].RawSubjectPublicKeyInfo)
	_, err = a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1},
		gcm.Revocation{Issuer: issuer, Serial: string(leaf.SerialNumber.Bytes()), Reason: 1, At: time.Now()}.Record()))
	if err != nil {
		t.Fatal(err)
	}
	heard := a.Heard()
	if status, body := ask(t, c, http.MethodGet, url, "", nil); status != http.StatusForbidden {
		t.Errorf("after it was revoked: %d %s", status, body)
	}
	if !a.Heard().Equal(heard) {
		t.Error("it counts as a manager that was heard")
	}
	if r, err := c.Get(url); err == nil {
		r.Body.Close()
		t.Error("it may connect again")
	}
}
