package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeSource remembers what it was asked to do.
type fakeSource struct {
	killed    Kill
	sent      Redirect
	released  string
	reloadErr error
}

func (f *fakeSource) Status() Status { return Status{State: "ready", Sessions: 1} }
func (f *fakeSource) Sessions() []Session {
	return []Session{{ID: "0700000000000001", Device: "phone-1", Traffic: Traffic{BytesIn: 42}}}
}
func (f *fakeSource) Kill(k Kill) (Killed, error) {
	if k.Device == "nobody" {
		return Killed{}, ErrNotFound
	}
	f.killed = k
	return Killed{Sessions: 1}, nil
}
func (f *fakeSource) Redirect(r Redirect) (Redirected, error) {
	f.sent = r
	return Redirected{Sessions: 2}, nil
}
func (f *fakeSource) Leases() []Lease { return []Lease{{Device: "phone-1", State: "live"}} }
func (f *fakeSource) Release(device string) error {
	if device == "phone-1" {
		return ErrConflict
	}
	f.released = device
	return nil
}
func (f *fakeSource) WatchDrops(context.Context) (<-chan DroppedPacket, error) {
	return nil, ErrConflict
}

func (f *fakeSource) Drops() []Drop         { return []Drop{{"dataplane", "replay", 3}} }
func (f *fakeSource) ForgetVersions() error { return ErrConflict }

func (f *fakeSource) Reload() (Reloaded, error) {
	return Reloaded{NeedRestart: []string{"state_dir"}}, f.reloadErr
}
func (f *fakeSource) Stop(how Stop) (<-chan Progress, error) {
	if how != (Stop{Drain: time.Minute, To: "gw2.example"}) {
		return nil, fmt.Errorf("got %+v", how)
	}
	c := make(chan Progress, 2)
	c <- Progress{Step: "deleting sessions", Sessions: 1}
	c <- Progress{Step: "done", Done: true}
	close(c)
	return c, nil
}

// start serves a fake gateway to its own user.
func start(t *testing.T, c Config) (*Client, *fakeSource) {
	t.Helper()
	src := &fakeSource{}
	c.Path, c.Source = filepath.Join(t.TempDir(), "s.sock"), src
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return Dial(c.Path), src
}

func own() Access { return Access{UID: uint32(os.Getuid())} }

// A command of each kind goes there and back.
func TestCommands(t *testing.T) {
	client, src := start(t, Config{Access: own()})
	ctx := t.Context()
	if s, err := client.Status(ctx); err != nil || s.State != "ready" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if s, err := client.Sessions(ctx); err != nil || len(s) != 1 || s[0].BytesIn != 42 || !s[0].Until.IsZero() {
		t.Errorf("sessions: %+v, %v", s, err)
	}
	if k, err := client.Kill(ctx, Kill{Device: "phone-1"}); err != nil || k.Sessions != 1 || src.killed.Device != "phone-1" {
		t.Errorf("kill: %+v, %v", k, err)
	}
	if r, err := client.Redirect(ctx, Redirect{All: true, To: "vpn2.example.com"}); err != nil || r.Sessions != 2 || src.sent.To != "vpn2.example.com" || !src.sent.All {
		t.Errorf("redirect: %+v, %v, %+v", r, err, src.sent)
	}
	if l, err := client.Leases(ctx); err != nil || len(l) != 1 {
		t.Errorf("leases: %+v, %v", l, err)
	}
	if err := client.Release(ctx, "a name/with% anything"); err != nil || src.released != "a name/with% anything" {
		t.Errorf("release: %q, %v", src.released, err)
	}
	if d, err := client.Drops(ctx); err != nil || len(d) != 1 || d[0].Count != 3 {
		t.Errorf("drops: %+v, %v", d, err)
	}
	if r, err := client.Reload(ctx); err != nil || len(r.NeedRestart) != 1 {
		t.Errorf("reload: %+v, %v", r, err)
	}
	var steps []string
	if err := client.Stop(ctx, Stop{Drain: time.Minute, To: "gw2.example"}, func(p Progress) { steps = append(steps, p.Step) }); err != nil || strings.Join(steps, "|") != "deleting sessions|done" {
		t.Errorf("stop: %v, %v", steps, err)
	}
}

// What the gateway refuses arrives as the error it was.
func TestRefusals(t *testing.T) {
	client, src := start(t, Config{Access: own()})
	ctx := t.Context()
	if _, err := client.Kill(ctx, Kill{Device: "nobody"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("kill of nobody: %v", err)
	}
	if err := client.Release(ctx, "phone-1"); !errors.Is(err, ErrConflict) {
		t.Errorf("release of a live lease: %v", err)
	}
	src.reloadErr = errors.Join(errors.New("gatewayd.yaml:3: a"), errors.New("gatewayd.yaml:4: b"))
	var refused *Refused
	if _, err := client.Reload(ctx); !errors.As(err, &refused) || len(refused.Errors) != 2 {
		t.Errorf("reload of a broken file: %v", err)
	}
	response, err := client.http.Post("http://gateway/v1/sessions/kill", "application/json", strings.NewReader(`{"devices": "all"}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest || src.killed != (Kill{}) {
		t.Errorf("unknown field: status %d, killed %+v", response.StatusCode, src.killed)
	}
}

func TestNotRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("socket of a dead gateway: %v", err)
	}
}

func TestAccess(t *testing.T) {
	open := Access{UID: 900, Group: "vpnadmin", GID: 70}
	closed := Access{UID: 900}
	for name, tt := range map[string]struct {
		access Access
		peer   peer
		in     bool
	}{
		"root":                      {closed, peer{}, true},
		"own user":                  {closed, peer{uid: 900, gid: 900}, true},
		"stranger":                  {closed, peer{uid: 1000, gid: 1000}, false},
		"stranger of group 0":       {closed, peer{uid: 1000, gid: 0, groups: []uint32{0}}, false},
		"primary group":             {open, peer{uid: 1000, gid: 70}, true},
		"supplementary group":       {open, peer{uid: 1000, gid: 1000, groups: []uint32{4, 70}}, true},
		"another group":             {open, peer{uid: 1000, gid: 1000, groups: []uint32{4, 71}}, false},
		"credentials can't be read": {open, peer{err: errors.New("x")}, false},
	} {
		if err := tt.access.check(tt.peer); (err == nil) != tt.in || err != nil && !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const childSocket = "GATEWAYD_TEST_SOCKET"

// The kernel's word counts: a process of another user is refused even where the
// mode of the socket lets it connect, and let in by a supplementary group.
func TestPeerCredentials(t *testing.T) {
	if path := os.Getenv(childSocket); path != "" {
		_, err := Dial(path).Status(t.Context())
		switch {
		case err == nil:
			os.Exit(10)
		case errors.Is(err, ErrForbidden):
			os.Exit(11)
		}
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	const group = 54321
	client, _ := start(t, Config{Access: Access{Group: "vpnadmin", GID: group}})
	if err := os.Chmod(client.path, 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(client.path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self := copyOf(t, os.Args[0])
	for _, tt := range []struct {
		groups []uint32
		want   int
	}{{nil, 11}, {[]uint32{group}, 10}} {
		cmd := exec.Command(self, "-test.run=^TestPeerCredentials$")
		cmd.Env = append(os.Environ(), childSocket+"="+client.path)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: tt.groups}}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != tt.want {
			t.Errorf("user 65534 with groups %v: %v, want exit code %d\n%s", tt.groups, err, tt.want, out)
		}
	}
}

// copyOf puts the test program where another user may run it.
func copyOf(t *testing.T, program string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "self")
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// A second life takes the path over; the first one's end leaves it alone.
func TestSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	listen := func() *Server {
		s, err := Listen(Config{Path: path, Access: own(), Source: &fakeSource{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := listen()
	first.Remove()
	second := listen()
	defer second.Close(context.Background())
	first.Close(context.Background())
	if _, err := Dial(path).Status(t.Context()); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

// Profiles hold keys: they are there only on demand.
func TestPProf(t *testing.T) {
	for _, on := range []bool{false, true} {
		client, _ := start(t, Config{Access: own(), PProf: on})
		response, err := client.http.Get("http://gateway/debug/pprof/heap")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if found := response.StatusCode == http.StatusOK; found != on {
			t.Errorf("pprof %v: status %d", on, response.StatusCode)
		}
	}
}
