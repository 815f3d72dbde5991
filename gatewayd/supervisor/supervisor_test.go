package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the program of the children: it does what the environment
// says.
func TestMain(m *testing.M) {
	if behaviour := os.Getenv("SUPERVISOR_TEST_CHILD"); behaviour != "" {
		os.Exit(behave(behaviour, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// behave is a child: args are a folder and its name. It writes its process ID to
// NAME.pid when it serves, appends a line to NAME.starts before that, and to
// NAME.hangups for each SIGHUP.
func behave(behaviour string, args []string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	file := func(kind string) string { return filepath.Join(args[0], args[1]+"."+kind) }
	add(file("starts"), "start\n")
	if behaviour == "supervise" {
		return supervise(args[0])
	}
	if behaviour == "wrong" && args[1] == "b" {
		fmt.Fprintln(os.Stderr, "b: the configuration is wrong")
		return 2
	}
	tell("READY=1\nSTATUS=serving")
	os.WriteFile(file("pid"), []byte(strconv.Itoa(os.Getpid())), 0o600)
	for s := range signals {
		switch {
		case s == syscall.SIGHUP:
			add(file("hangups"), "hangup\n")
		case behaviour == "deaf" && args[1] == "b":
		default:
			add(filepath.Join(args[0], "ends"), args[1]+"\n")
			return 0
		}
	}
	return 1
}

// supervise is the supervisor as a process of its own, which can be killed.
func supervise(dir string) int {
	os.Setenv("SUPERVISOR_TEST_CHILD", "serve")
	err := New(Config{Children: children(dir, os.Stderr), Grace: time.Minute, Logger: slog.New(slog.DiscardHandler)}).Run(context.Background())
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func add(file, text string) {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	f.WriteString(text)
}

func tell(state string) {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	conn.Write([]byte(state))
}

func children(dir string, output *os.File) []Child {
	var list []Child
	for _, name := range []string{"a", "b"} {
		list = append(list, Child{Name: name, Program: os.Args[0], Args: []string{dir, name}, Output: output})
	}
	return list
}

// world is a supervisor that runs two children, a and b.
type world struct {
	t          *testing.T
	dir        string
	supervisor *Supervisor
	serving    chan struct{}
	end        context.CancelFunc
	result     chan error
	log        *log
}

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, behaviour string, grace time.Duration) *world {
	t.Setenv("SUPERVISOR_TEST_CHILD", behaviour)
	w := &world{t: t, dir: t.TempDir(), serving: make(chan struct{}), result: make(chan error, 1), log: new(log)}
	w.supervisor = New(Config{
		Children: children(w.dir, os.Stderr), Grace: grace, Serving: func() { close(w.serving) },
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	var ctx context.Context
	ctx, w.end = context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.result <- w.supervisor.Run(ctx)
	}()
	t.Cleanup(func() {
		w.end()
		<-ended
	})
	return w
}

func (w *world) wait(c <-chan struct{}) {
	w.t.Helper()
	select {
	case <-c:
	case err := <-w.result:
		w.t.Fatalf("supervisor returned %v", err)
	}
}

func (w *world) read(file string) string {
	b, err := os.ReadFile(filepath.Join(w.dir, file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(b)
}

// until waits for a file to have a content that is right.
func (w *world) until(file string, right func(string) bool) string {
	w.t.Helper()
	for {
		if s := w.read(file); right(s) {
			return s
		}
		if w.t.Context().Err() != nil {
			w.t.Fatalf("%s is %q", file, w.read(file))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) pid(name string) int {
	w.t.Helper()
	n, err := strconv.Atoi(w.until(name+".pid", func(s string) bool { return s != "" }))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestSiblingWorksOn: a child that dies is started again, and the other one keeps
// its process.
func TestSiblingWorksOn(t *testing.T) {
	w := newWorld(t, "serve", time.Minute)
	w.wait(w.serving)
	a, b := w.pid("a"), w.pid("b")
	if err := syscall.Kill(b, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.until("b.pid", func(s string) bool { return s != "" && s != strconv.Itoa(b) })
	if got := w.pid("a"); got != a {
		t.Errorf("a has process %d, had %d", got, a)
	}
	if got := w.read("a.starts"); got != "start\n" {
		t.Errorf("a was started: %q", got)
	}
	if s := w.log.String(); !strings.Contains(s, "role died") || !strings.Contains(s, "role=b") {
		t.Errorf("log says %q", s)
	}
	w.end()
	if err := <-w.result; err != nil {
		t.Error(err)
	}
	w.result <- nil
	// In reverse order.
	if got := w.read("ends"); got != "b\na\n" {
		t.Errorf("ends: %q", got)
	}
}

// TestWrongConfiguration: a child that never served isn't tried again, and ends
// the other one.
func TestWrongConfiguration(t *testing.T) {
	w := newWorld(t, "wrong", time.Minute)
	err := <-w.result
	w.result <- nil
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.HasPrefix(err.Error(), "b: ") {
		t.Errorf("got %v, want b's exit status 2", err)
	}
	if got := w.read("b.starts"); got != "start\n" {
		t.Errorf("b was started: %q", got)
	}
}

// TestAskedToEnd: a child that ends with status 0 was asked to.
func TestAskedToEnd(t *testing.T) {
	w := newWorld(t, "serve", time.Minute)
	w.wait(w.serving)
	if err := syscall.Kill(w.pid("a"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-w.result; err != nil {
		t.Error(err)
	}
	w.result <- nil
	if got := w.read("ends"); got != "a\nb\n" {
		t.Errorf("ends: %q", got)
	}
}

// TestDeaf: one that doesn't end is killed.
func TestDeaf(t *testing.T) {
	w := newWorld(t, "deaf", 50*time.Millisecond)
	w.wait(w.serving)
	w.end()
	if err := <-w.result; err != nil {
		t.Error(err)
	}
	w.result <- nil
	if s := w.log.String(); !strings.Contains(s, "was killed") {
		t.Errorf("log says %q", s)
	}
}

func TestHangup(t *testing.T) {
	w := newWorld(t, "serve", time.Minute)
	w.wait(w.serving)
	w.supervisor.Signal(syscall.SIGHUP)
	for _, name := range []string{"a", "b"} {
		w.until(name+".hangups", func(s string) bool { return s == "hangup\n" })
	}
}

// TestSupervisorKilled: no child outlives it.
func TestSupervisorKilled(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	c := exec.Command(os.Args[0], w.dir, "supervisor")
	c.Env = append(os.Environ(), "SUPERVISOR_TEST_CHILD=supervise")
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.pid("a")
	w.pid("b")
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	w.until("ends", func(s string) bool { return len(s) == len("a\nb\n") })
}

func TestBackoff(t *testing.T) {
	var b backoff
	for i, step := range []struct{ served, want time.Duration }{
		{0, time.Second},
		{time.Second, 2 * time.Second},
		{settled - 1, 4 * time.Second},
		{0, 8 * time.Second},
		{0, 16 * time.Second},
		{0, mostPause},
		{0, mostPause},
		{settled, time.Second},
		{0, 2 * time.Second},
	} {
		if got := b.after(step.served); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
