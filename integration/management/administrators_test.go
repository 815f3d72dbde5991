package management

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/dmlink/store"
)

// as an administrator: a command with a certificate and key in a folder.
func (w *world) as(dir string, args ...string) (string, error) {
	own := []string{"--config", w.file, "--admin-certificate", filepath.Join(dir, "admin.pem"), "--admin-key", filepath.Join(dir, "admin.key")}
	return w.command(append(args, own...)...)
}

// allowed, and what was said.
func (w *world) allowed(out string, err error) string {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("%v\n%s", err, out)
	}
	return out
}

// forbidden with a text.
func (w *world) forbidden(text, out string, err error) {
	w.t.Helper()
	if err == nil || !strings.Contains(out, text) {
		w.t.Errorf("%v, want %q in\n%s", err, text, out)
	}
}

// The first administrator lets in a second one for the help desk, who may lock a
// device and not wipe it, and is gone when his certificate is revoked. The device
// is wiped by who may, and the log has all of it.
func TestAdministrators(t *testing.T) {
	w := newWorld(t, "")
	w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	d := w.enroll("phone-1")
	d.comesIn()
	alice, bob := w.dir, filepath.Join(w.dir, "bob")
	if out := w.allowed(w.as(alice, "role", "whoami")); !strings.Contains(out, "certificate:alice") {
		t.Errorf("%s", out)
	}
	w.allowed(w.command("certificate", "issue", "admin", "bob", "--out", bob, "--config", w.file))
	out, err := w.as(bob, "device", "list")
	w.forbidden("gatewayd role grant certificate:bob ROLE", out, err)
	w.allowed(w.as(alice, "role", "grant", "certificate:bob", "helpdesk"))
	if out := w.allowed(w.as(bob, "device", "list", "--user", "bob")); !strings.Contains(out, "phone-1") {
		t.Errorf("%s", out)
	}
	// His certificate is none for enrollment, where he would make himself one as alice.
	out, err = w.as(bob, "certificate", "issue", "admin", "alice", "--out", filepath.Join(w.dir, "alias"))
	w.forbidden("not among those who administer enrollment", out, err)
	out, err = w.as(bob, "task", "place", "wipe", "--device", "phone-1", "--yes")
	w.forbidden("needs one of the roles device, security", out, err)
	w.allowed(w.as(bob, "task", "place", "lock", "--device", "phone-1", "--id", "lock-1"))
	d.comesIn()
	w.succeeded("lock-1")
	if out := w.allowed(w.as(bob, "task", "commands", "lock-1")); !strings.Contains(out, "answered") || d.locked.Load() != 1 {
		t.Errorf("locked %d times; %s", d.locked.Load(), out)
	}

	// A device's certificate, and none at all, are nobody's.
	for name, own := range map[string][]tls.Certificate{"a device": {d.certificate()}, "nobody": nil} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.root, Certificates: own}, DisableKeepAlives: true}}
		answer, err := c.Get("https://" + w.port(portDMAdmin) + "/v1/devices")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s is answered %s", name, answer.Status)
		}
	}
	if os.Geteuid() == 0 {
		if out := w.allowed(w.command("role", "whoami", "--local", "--config", w.file)); !strings.Contains(out, "local:root") {
			t.Errorf("%s", out)
		}
		out, err := w.command("task", "place", "lock", "--device", "phone-1", "--local", "--config", w.file)
		w.forbidden("local:root has server", out, err)
	}

	own, err := tls.LoadX509KeyPair(filepath.Join(bob, "admin.pem"), filepath.Join(bob, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	w.allowed(w.command("certificate", "revoke", fmt.Sprintf("%x", own.Leaf.SerialNumber), "--config", w.file))
	out, err = w.as(bob, "device", "list")
	w.forbidden("revoked", out, err)

	w.allowed(w.as(alice, "task", "place", "wipe", "--device", "phone-1", "--yes", "--valid", "1h", "--id", "wipe-1"))
	d.comesIn()
	w.until("the account is closed", func() bool {
		wipe, err := w.store.Wipe(t.Context(), "phone-1")
		return err == nil && wipe.State == store.WipeClosed
	})
	if out := w.allowed(w.as(alice, "device", "show", "phone-1")); !strings.Contains(out, "phone-1, closed") {
		t.Errorf("%s", out)
	}
	log := w.allowed(w.as(alice, "audit", "list", "-o", "json"))
	var entries []api.Entry
	if err := json.Unmarshal([]byte(log), &entries); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		seen[e.Subject+" "+e.Phase+" "+e.Operation+" "+e.Object] = true
	}
	for _, want := range []string{
		"certificate:bob refused task.place.wipe /v1/tasks/wipe", "certificate:bob done task.place.lock device phone-1",
		"certificate:alice done task.place.wipe device phone-1", "certificate:alice done role.grant certificate:bob",
		" refused device.list /v1/devices", " done role.grant certificate:alice",
	} {
		if !seen[want] {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	w.allowed(w.as(alice, "audit", "verify"))
}

// The server is killed while administrators make tokens: each token that somebody
// was told of is there, the log is whole, and says of each other one that it was
// asked for.
func TestAdministratorsAndKill(t *testing.T) {
	w := newWorld(t, "")
	p := w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	own, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "admin.pem"), filepath.Join(w.dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	dial := func() *client.Client {
		c, err := client.New(client.Config{Server: "https://" + w.port(portDMAdmin), Roots: w.root, Certificate: &own})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const administrators, before = 4, 10
	var told sync.Map
	var all sync.WaitGroup
	enough := make(chan struct{}, administrators)
	for n := range administrators {
		c := dial()
		all.Go(func() {
			defer c.Close()
			for k := 0; ; k++ {
				in := &api.CreateToken{Body: api.NewToken{Name: fmt.Sprintf("t-%d-%d", n, k), Roles: []string{"auditor"}}}
				made, err := client.Call(t.Context(), c, api.RoleTokenCreate, in)
				var p *api.Problem
				switch {
				case errors.As(err, &p):
					t.Errorf("%+v", p)
					enough <- struct{}{}
					return
				case err != nil:
					return // killed
				}
				told.Store(made.Token.Name, made.Secret)
				if k == before {
					enough <- struct{}{}
				}
			}
		})
	}
	for range administrators {
		<-enough
	}
	p.kill()
	all.Wait()
	p.start()

	c := dial()
	defer c.Close()
	in := &api.Paging{}
	list, err := client.Pages(t.Context(), c, api.RoleTokenList, in, in, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, k := range list {
		there[k.Name] = true
	}
	count := 0
	told.Range(func(name, secret any) bool {
		count++
		if !there[name.(string)] {
			t.Errorf("token %s was told of and is gone", name)
		}
		return true
	})
	if v, err := client.Call(t.Context(), c, api.AuditVerify, &api.VerifyAudit{}); err != nil || !v.Intact || v.Entries < int64(2*count) {
		t.Errorf("%+v, %v", v, err)
	}
	filter := &api.ListAudit{Operation: api.RoleTokenCreate.ID}
	entries, err := client.Pages(t.Context(), c, api.AuditList, filter, &filter.Paging, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	asked, ended := map[int64]string{}, map[int64]bool{}
	for _, e := range entries {
		if e.Phase == "asked" {
			asked[e.Number] = strings.TrimPrefix(e.Object, "token:")
		} else {
			ended[e.Of] = true
		}
	}
	open := 0
	for number, name := range asked {
		delete(there, name)
		if _, ok := told.Load(name); ok && !ended[number] {
			t.Errorf("token %s was told of before its end was written", name)
		}
		if !ended[number] {
			open++
		}
	}
	if len(there) > 0 || open > administrators {
		t.Errorf("tokens that nobody asked for: %v; %d operations without an end", there, open)
	}
	var secret any
	told.Range(func(_, s any) bool { secret = s; return false })
	with, err := client.New(client.Config{Server: "https://" + w.port(portDMAdmin), Roots: w.root, Token: secret.(string)})
	if err != nil {
		t.Fatal(err)
	}
	defer with.Close()
	if self, err := client.Call(t.Context(), with, api.RoleWhoami, &api.None{}); err != nil || len(self.Roles) != 1 || self.Roles[0] != "auditor" {
		t.Errorf("%+v, %v", self, err)
	}
}
