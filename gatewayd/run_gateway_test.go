package main

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/gatewayd/local"
)

// What was put in place last is taken back first, and an error doesn't keep the
// rest from being taken back.
func TestUndoStack(t *testing.T) {
	var undo undoStack
	var order []string
	broken := errors.New("broken")
	for _, name := range []string{"one", "two", "three"} {
		undo.push(name, func() error {
			order = append(order, name)
			if name == "two" {
				return broken
			}
			return nil
		})
	}
	s := &steps{}
	if err := undo.run(slog.New(slog.DiscardHandler), s); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(order, " "); got != "three two one" {
		t.Errorf("order: %s", got)
	}
	s.tell(local.Progress{Done: true})
	var told []string
	for p := range s.follow() {
		told = append(told, p.Step)
	}
	if len(told) != 4 || told[0] != "taking back: three" {
		t.Errorf("told %q", told)
	}
}

// Those who ask late, early and twice hear the same, however much is told.
func TestSteps(t *testing.T) {
	s := &steps{}
	early := s.follow()
	for i := range 3 * maxSteps {
		s.tell(local.Progress{Step: strconv.Itoa(i)})
	}
	s.tell(local.Progress{Done: true})
	s.tell(local.Progress{Step: "after the end"})
	for _, f := range []<-chan local.Progress{early, s.follow()} {
		var last local.Progress
		n := 0
		for p := range f {
			last = p
			n++
		}
		if n != maxSteps || !last.Done {
			t.Errorf("heard %d steps, the last %+v", n, last)
		}
	}
}

func TestSecondInstance(t *testing.T) {
	dir := t.TempDir()
	first, err := lockInstance(dir, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockInstance(dir, "gateway")
	if !errors.Is(err, errSecondInstance) || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("second instance: %v", err)
	}
	first.release()
	again, err := lockInstance(dir, "gateway")
	if err != nil {
		t.Fatalf("after the first one's end: %v", err)
	}
	again.release()
}

// The service manager hears what sd_notify(3) says.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n := notify{slog.New(slog.DiscardHandler)}
	n.ready() // without a manager: nothing happens
	t.Setenv("NOTIFY_SOCKET", path)
	for want, tell := range map[string]func(){"READY=1\n": n.ready, "STOPPING=1": n.stopping, "RELOADING=1\nMONOTONIC_USEC=": n.reloading} {
		tell()
		buffer := make([]byte, 200)
		size, err := conn.Read(buffer)
		if err != nil || !strings.HasPrefix(string(buffer[:size]), want) {
			t.Errorf("got %q, %v, want %q", buffer[:size], err, want)
		}
	}
}
