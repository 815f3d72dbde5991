package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// Each operation of the API is a command of its name, and each command below its
// noun is an operation; one that isn't says here why.
func TestCommandsAreTheTable(t *testing.T) {
	besides := map[string]string{
		"gatewayd policy export":           "policy.show as a file",
		"gatewayd gateway forget-versions": "at the gateway itself, where no manager has a say",
	}
	operations, nouns := map[string]*api.Operation{}, map[string]bool{}
	for _, o := range api.Operations() {
		operations[o.ID] = o
		nouns[o.Noun()] = true
	}
	found := map[string]bool{}
	var walk func(c *cobra.Command, ours bool)
	walk = func(c *cobra.Command, ours bool) {
		id, annotated := c.Annotations[operationAnnotation]
		switch {
		case annotated && (operations[id] == nil || c.CommandPath() != "gatewayd "+operations[id].Command()):
			t.Errorf("%s is said to be the operation %q", c.CommandPath(), id)
		case annotated && found[id]:
			t.Errorf("%s is there twice", id)
		case annotated:
			found[id] = true
			if c.Example == "" || !strings.Contains(c.Long, operations[id].May.String()) {
				t.Errorf("%s: its help has no example, or doesn't say who may", c.CommandPath())
			}
		case ours && !c.HasSubCommands() && besides[c.CommandPath()] == "":
			t.Errorf("%s is no operation", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub, ours || c.Parent() == nil && nouns[sub.Name()])
		}
	}
	walk(rootCommand(), false)
	for id := range operations {
		if !found[id] {
			t.Errorf("operation %s has no command", id)
		}
	}
}

// manager is the API of a manager on a local socket.
type manager struct {
	t       *testing.T
	socket  string
	access  *access.SQL
	store   *store.SQL
	handler http.Handler
	user    atomic.Value // who the kernel says is calling, if not the one who is
}

func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, socket: filepath.Join(t.TempDir(), "m.sock")}
	m.user.Store("root")
	db := databasetest.SQLite(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	m.store, err = store.New(t.Context(), db, store.Options{SealKey: bytes.Repeat([]byte{7}, 32)})
	must(err)
	m.access, err = access.New(t.Context(), db, access.Options{Instance: "1.2.3", Key: bytes.Repeat([]byte{9}, access.KeySize)})
	must(err)
	keeper := inventory.NewKeeper(m.store.Inventories())
	for _, v := range []store.Device{{Name: "phone-1", User: "ann", IMEI: "35-1", Groups: []string{"sales"}}, {Name: "phone-2", User: "bob\x1b[31m"}} {
		v.Enrolled = time.Now()
		must(m.store.Enroll(t.Context(), v))
	}
	_, err = m.store.SetUnit(t.Context(), "corp", "phone-1", "phone-2")
	must(err)
	_, err = keeper.Record(t.Context(), "phone-1", inventory.Update{At: time.Now(), Values: []session.Value{{URI: "./DevInfo/Mod", Data: []byte("X1")}}})
	must(err)
	h, err := api.New(api.Options{
		Access: m.access, Devices: m.store, Tasks: m.store, Desk: task.New(task.Options{Store: m.store, Provider: "test"}),
		Policies: policy.NewEngine(m.store.Policies(), policy.Config{}), Versions: m.store.Policies(), Inventories: keeper, Fleet: noGateways(t, db), Version: "test", Database: string(database.SQLite),
		Local: func(r *http.Request) (string, bool) {
			_, ok := local.User(r)
			return m.user.Load().(string), ok
		},
	})
	must(err)
	m.handler = h
	s, err := local.Serve(m.socket, local.Access{UID: uint32(os.Geteuid())}, h, slog.New(slog.DiscardHandler))
	must(err)
	t.Cleanup(func() { s.Close(t.Context()) })
	return m
}

// do runs a command that has to succeed.
func (m *manager) do(line ...string) string {
	m.t.Helper()
	code, out, errOut := cli(m.t, append(line, "--local", "--socket", m.socket)...)
	if code != exitOK {
		m.t.Errorf("%q: %d, %s%s", line, code, out, errOut)
	}
	return out
}

// fails runs one that doesn't.
func (m *manager) fails(want int, text string, line ...string) {
	m.t.Helper()
	code, out, errOut := cli(m.t, append(line, "--local", "--socket", m.socket)...)
	if code != want || !strings.Contains(errOut, text) {
		m.t.Errorf("%q: %d, %s%s, want %d and %q", line, code, out, errOut, want, text)
	}
}

// A day of administrators, from the command line.
func TestManagerCommands(t *testing.T) {
	m := startManager(t)
	if out := m.do("role", "whoami"); !strings.Contains(out, "local:root") || !strings.Contains(out, "server") {
		t.Errorf("%s", out)
	}
	m.fails(exitFailed, "needs one of the roles device, security", "task", "place", "wipe", "--device", "phone-1", "--yes")
	m.do("role", "grant", "local:root", "device")
	m.do("role", "grant", "certificate:alice", "helpdesk")
	if out := m.do("role", "list"); !strings.Contains(out, "certificate:alice") {
		t.Errorf("%s", out)
	}
	m.fails(exitFailed, "server, device, security, helpdesk, auditor", "role", "grant", "certificate:alice", "king")
	m.fails(exitUsage, "accepts 2 arg", "role", "grant", "certificate:alice")
	m.do("role", "revoke", "certificate:alice", "helpdesk")
	if out := m.do("role", "operations"); !strings.Contains(out, "task.place.wipe") {
		t.Errorf("%s", out)
	}

	var created api.CreatedToken
	if err := json.Unmarshal([]byte(m.do("role", "token", "create", "script", "--role", "auditor", "--valid", "24h", "-o", "json")), &created); err != nil || !strings.HasPrefix(created.Secret, "rgm_") {
		t.Errorf("%+v, %v", created, err)
	}
	if out := m.do("role", "token", "create", "second", "--role", "auditor"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "rgm_") {
		t.Errorf("on standard output: %q", out)
	}
	m.do("role", "token", "revoke", "second")
	if out := m.do("role", "token", "list"); !strings.Contains(out, "revoked") || strings.Contains(out, created.Secret) {
		t.Errorf("%s", out)
	}
	m.fails(exitUsage, "--role", "role", "token", "create", "third")

	if out := m.do("device", "list"); !strings.Contains(out, "phone-1") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	var devices []api.Device
	if err := json.Unmarshal([]byte(m.do("device", "list", "--imei", "35-1", "-o", "json")), &devices); err != nil || len(devices) != 1 || devices[0].Name != "phone-1" {
		t.Errorf("%+v, %v", devices, err)
	}
	m.fails(exitFailed, "gatewayd device list", "device", "show", "nobody")
	m.do("device", "groups", "phone-1", "--group", "a,b")
	if out := m.do("device", "show", "phone-1", "-o", "yaml"); !strings.Contains(out, "- a\n") {
		t.Errorf("%s", out)
	}
	m.fails(exitUsage, "--group", "device", "groups", "phone-1")
	m.do("device", "unit", "phone-1", "--unit", "corp/sales")
	m.fails(exitUsage, "--unit", "device", "unit", "phone-1")
	for _, verb := range []string{"commands", "alerts", "messages"} {
		m.do("device", verb, "phone-1")
	}
	m.do("schedule", "set", "--group", "a", "--every", "4h", "--jitter", "5m")
	if out := m.do("schedule", "show", "phone-1"); !strings.Contains(out, "each 4h0m0s") {
		t.Errorf("%s", out)
	}
	m.do("schedule", "delete", "--group", "a")

	m.fails(exitUsage, "--yes", "task", "place", "wipe", "--device", "phone-1")
	m.fails(exitUsage, "for whom", "task", "place", "lock")
	m.do("task", "place", "wipe", "--device", "phone-1", "--yes", "--id", "w1", "--valid", "72h")
	m.do("task", "place", "query", "--group", "a", "--uri", "./DevInfo", "--id", "q1")
	if out := m.do("task", "list"); !strings.Contains(out, "w1") || !strings.Contains(out, "q1") {
		t.Errorf("%s", out)
	}
	m.do("task", "show", "q1")
	m.do("task", "wipes")
	m.do("task", "types")
	m.do("task", "cancel", "w1")
	if out := m.do("task", "commands", "w1"); !strings.Contains(out, "cancelled") {
		t.Errorf("%s", out)
	}
	secret := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.do("task", "place", "replace", "--device", "phone-1", "--uri", "./A", "--value-file", secret, "--id", "r1")
	if k, err := m.store.Task(t.Context(), "r1"); err != nil || k.Detail != `{"uri":"./A","value":"hunter2"}` {
		t.Errorf("%+v, %v", k, err)
	}

	m.do("inventory", "show", "phone-1")
	if out := m.do("inventory", "history", "phone-1"); !strings.Contains(out, "X1") {
		t.Errorf("%s", out)
	}
	m.do("server", "show")
	var verified api.Verified
	if err := json.Unmarshal([]byte(m.do("audit", "verify", "-o", "json")), &verified); err != nil || !verified.Intact {
		t.Errorf("%+v, %v", verified, err)
	}
	if out := m.do("audit", "list", "--operation", "task.place.replace", "--since", "1h"); !strings.Contains(out, "value=(hidden)") || strings.Contains(out, "hunter2") {
		t.Errorf("%s", out)
	}
	m.fails(exitFailed, "", "audit", "verify", "--number", "1", "--hash", strings.Repeat("00", 32))
}

// Policies as files: exported, planned, applied on what they were made of.
func TestPolicyCommands(t *testing.T) {
	m := startManager(t)
	m.do("role", "grant", "local:root", "device")
	name := filepath.Join(t.TempDir(), "policies.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const text = "sets:\n- name: camera\n  settings:\n  - uri: ./Vendor/Camera\n    format: int\n    data: \"%s\"\nlinks:\n- unit: corp\n  set: camera\n  order: 1\n"
	write(strings.ReplaceAll(text, "%s", "0"))
	if out := m.do("policy", "plan", name); !strings.Contains(out, "./Vendor/Camera") || !strings.Contains(out, "devices that change    2") {
		t.Errorf("%s", out)
	}
	m.fails(exitUsage, "--base", "policy", "apply", name)
	m.do("policy", "apply", name, "--base", "0", "--comment", "first")
	first := m.do("policy", "export")
	if !strings.HasPrefix(first, "# policies, version 1 of instance 1.2.3\n") {
		t.Errorf("%s", first)
	}
	write(strings.ReplaceAll(first, `data: "0"`, `data: "1"`))
	m.do("policy", "import", name)
	m.fails(exitFailed, "changed in the meantime", "policy", "apply", name)
	if out := m.do("policy", "explain", "phone-1"); !strings.Contains(out, "./Vendor/Camera") || !strings.Contains(out, "camera") {
		t.Errorf("%s", out)
	}
	if out := m.do("policy", "status"); !strings.Contains(out, "devices to compute") {
		t.Errorf("%s", out)
	}
	if out := m.do("policy", "history"); !strings.Contains(out, "first") {
		t.Errorf("%s", out)
	}
	if out := m.do("policy", "export", "--version", "1"); out != first {
		t.Errorf("version 1 became\n%s", out)
	}
	m.do("policy", "show")
	write("sets:\n- name: camera\n  colour: red\n")
	m.fails(exitFailed, "colour", "policy", "plan", name)
}

// --wait tells how far it is, and fails if a device does.
func TestTaskWait(t *testing.T) {
	m := startManager(t)
	m.do("role", "grant", "local:root", "device")
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The device comes, once there is something for it.
		for t.Context().Err() == nil {
			next, err := m.store.Next(t.Context(), "phone-1", nil, 1)
			if err == nil && len(next) == 1 {
				_, err = m.store.Claim(t.Context(), "phone-1", []session.Claim{{Task: next[0].ID, Attempt: next[0].Attempt}})
				if err == nil {
					err = m.store.Record(t.Context(), "phone-1", session.Report{Outcomes: []session.Outcome{{Task: next[0].ID, State: session.Answered, Code: 200}}})
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	code, out, errOut := cli(t, "task", "place", "lock", "--device", "phone-1", "--wait", "--local", "--socket", m.socket)
	<-done
	if code != exitOK || !strings.Contains(out, "answered") || !strings.Contains(errOut, "1 of 1 devices have done it, 0 failed, 0 to come") {
		t.Errorf("%d\n%s%s", code, out, errOut)
	}
	placed := make(chan int)
	go func() {
		code, _, _ := cli(t, "task", "place", "lock", "--device", "phone-1", "--wait", "--id", "late", "--local", "--socket", m.socket)
		placed <- code
	}()
	for t.Context().Err() == nil {
		if n, err := m.store.Cancel(t.Context(), "late"); err == nil && n == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if code := <-placed; code != exitFailed {
		t.Errorf("cancelled: %d", code)
	}
}

// Over the network a token says who it is; the server is named by flags or in the
// configuration.
func TestManagerOverTLS(t *testing.T) {
	m := startManager(t)
	server := httptest.NewTLSServer(m.handler)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	root := file("root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	token := file("reader.token", m.do("role", "token", "create", "reader", "--role", "auditor"))
	flags := []string{"-c", filepath.Join(dir, "none.yaml"), "--admin-url", server.URL, "--admin-root", root, "--admin-token-file", token}
	cfg := file("gatewayd.yaml", "client:\n  manager:\n    server: "+server.URL+"\n    token_file: reader.token\n    roots: [root.pem]\n")
	for _, who := range [][]string{flags, {"-c", cfg}} {
		code, out, errOut := cli(t, append([]string{"role", "whoami"}, who...)...)
		if code != exitOK || !strings.Contains(out, "token:reader") {
			t.Errorf("%q: %d, %s%s", who, code, out, errOut)
		}
		if code, _, errOut = cli(t, append([]string{"task", "place", "lock", "--device", "phone-1"}, who...)...); code != exitFailed || !strings.Contains(errOut, "token:reader has auditor") {
			t.Errorf("%q: %d, %s", who, code, errOut)
		}
	}
	// Another root vouches for another server.
	other, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	code, _, errOut := cli(t, "device", "list", "-c", cfg, "--admin-root", file("other.pem", string(other)))
	if code != exitFailed || !strings.Contains(errOut, "certificate") {
		t.Errorf("%d, %s", code, errOut)
	}
	// The administrator's own word wins over the configuration's.
	if code, _, errOut := cli(t, "device", "list", "-c", cfg, "--admin-token-file", file("bad.token", "rgm_nothing\n")); code != exitFailed || !strings.Contains(errOut, "no valid token") {
		t.Errorf("%d, %s", code, errOut)
	}
}

// selfSigned certificate that nobody knows.
func selfSigned() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// Who is told apart by the kernel has the roles that they were granted.
func TestManagerUsers(t *testing.T) {
	m := startManager(t)
	m.do("role", "grant", "local:ann", "helpdesk")
	m.user.Store("ann")
	m.do("device", "list")
	m.fails(exitFailed, "local:ann has helpdesk", "policy", "show")
	m.user.Store("bob")
	m.fails(exitFailed, "gatewayd role grant local:bob ROLE", "device", "list")
}

// What a user hears who names no server, or a wrong one.
func TestManagerUnreachable(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "none.yaml")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("rgm_x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line []string
		code int
		text string
	}{
		{[]string{"--socket", "/nonexistent/m.sock"}, exitFailed, "gatewayd run manager"},
		{[]string{"--local", "--admin-url", "https://dm.example"}, exitUsage, "name one"},
		{[]string{"--admin-token-file", token}, exitUsage, "--admin-url"},
		{[]string{"--admin-url", "https://dm.example", "--admin-token-file", token}, exitFailed, "chmod 600"},
		{[]string{"--admin-url", "http://dm.example", "--admin-certificate", "x", "--admin-key", "y"}, exitFailed, "certificate"},
		{[]string{"--admin-url", "https://dm.example", "--admin-certificate", "x", "--admin-key", "y", "--admin-token-file", token}, exitUsage, "give one"},
	} {
		code, _, errOut := cli(t, append([]string{"device", "list", "-c", empty}, c.line...)...)
		if code != c.code || !strings.Contains(errOut, c.text) {
			t.Errorf("%q: %d, %s", c.line, code, errOut)
		}
	}
}

// Names complete by what the manager has.
func TestManagerCompletion(t *testing.T) {
	m := startManager(t)
	m.do("role", "grant", "local:root", "device")
	m.do("task", "place", "lock", "--device", "phone-1", "--id", "L1")
	for _, c := range []struct {
		line []string
		want string
	}{
		{[]string{"device", "show", ""}, "phone-1\tann"},
		{[]string{"policy", "explain", ""}, "phone-1\tann"},
		{[]string{"task", "show", ""}, "L1\tlock"},
		{[]string{"task", "place", "lock", "--device", ""}, "phone-1\tann"},
		{[]string{"role", "grant", ""}, "local:root"},
		{[]string{"role", "grant", "local:root", ""}, "security"},
		{[]string{"audit", "list", "--phase", ""}, "refused"},
	} {
		at := len(c.line) - 1
		if strings.HasPrefix(c.line[at-1], "--") {
			at--
		}
		line := append([]string{"__complete"}, slices.Insert(slices.Clone(c.line), at, "--local", "--socket", m.socket)...)
		if _, out, errOut := cli(t, line...); !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool { return strings.HasPrefix(l, c.want) }) {
			t.Errorf("%q: %q %s", c.line, out, errOut)
		}
	}
}
