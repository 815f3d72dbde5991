package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/session"
)

func record(device string, event session.RecordEvent) session.Record {
	r := session.Record{
		Time: time.Unix(1700000060, 0).UTC(), Event: event, Session: "00a1b2c3d4e5f607", Device: device,
		VirtualIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("2001:db8:9::1")},
		Remote:     netip.MustParseAddrPort("192.0.2.7:4500"), IKE: "AES_GCM_16_128", ESP: "AES_GCM_16_128", Auth: "ECDSA",
		Established: time.Unix(1700000000, 0).UTC(), Traffic: session.Traffic{BytesIn: 1, PacketsIn: 2, BytesOut: 3, PacketsOut: 4},
	}
	if event == session.RecordStop {
		r.Reason = ike.CloseKilled
	}
	return r
}

func start(t *testing.T, name string) *Writer {
	t.Helper()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	w := New(slog.New(slog.DiscardHandler))
	w.Use(f)
	return w
}

func devices(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		var r session.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		list = append(list, r.Device)
	}
	return strings.Join(list, " ")
}

// The keys are an interface: programs that bill or audit read them.
func TestLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sessions.jsonl")
	w := start(t, name)
	w.Write(record("phone-1", session.RecordStop))
	w.Close()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"2023-11-14T22:14:20Z","event":"stop","session":"00a1b2c3d4e5f607","device":"phone-1",` +
		`"virtual_ips":["10.9.0.1","2001:db8:9::1"],"remote":"192.0.2.7:4500","ike":"AES_GCM_16_128","esp":"AES_GCM_16_128","auth":"ECDSA",` +
		`"established":"2023-11-14T22:13:20Z","bytes_in":1,"packets_in":2,"bytes_out":3,"packets_out":4,"reason":"killed"}` + "\n"
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := w.Stats(); s != (Stats{Written: 1}) {
		t.Errorf("%+v", s)
	}
}

// The umask of a service doesn't lock out the group, and what an administrator
// has set stays.
func TestMode(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sessions.jsonl")
	before := unix.Umask(0o077)
	defer unix.Umask(before)
	start(t, name).Close()
	check := func(want os.FileMode) {
		t.Helper()
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, want)
		}
	}
	check(0o640)
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, name).Close()
	check(0o600)
}

// A second life appends. After a rotation the old file keeps what was written
// to it, and the new one has the rest, also while records come in.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "sessions.jsonl")
	w := start(t, name)
	w.Write(record("one", session.RecordStart))
	w.Close()
	w = start(t, name)
	w.Write(record("two", session.RecordStart))
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	w.Write(record("three", session.RecordStart))
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	w.Use(f)
	w.Write(record("four", session.RecordStart))
	if a, b := devices(t, name+".1"), devices(t, name); a != "one two three" || b != "four" {
		t.Errorf("got %q and %q", a, b)
	}
	const writers, each = 4, 50
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				w.Write(record("x", session.RecordInterim))
			}
		})
	}
	for range 20 {
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Use(f)
		w.flush()
	}
	all.Wait()
	w.Close()
	if n := strings.Count(devices(t, name), "x"); n != writers*each || w.Stats() != (Stats{Written: 3 + writers*each}) {
		t.Errorf("%d lines, %+v", n, w.Stats())
	}
}

// What can't be a file is refused before anything has changed, and a pipe that
// nobody reads holds nobody up.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, pipe, "/dev/null", filepath.Join(dir, "none", "sessions.jsonl")} {
		if f, err := Open(name); err == nil || f != nil {
			t.Errorf("%s was opened", name)
		}
	}
	if _, err := Open("/dev/null"); !errors.Is(err, ErrNotFile) {
		t.Errorf("/dev/null: %v", err)
	}
	// Off is no error.
	w := start(t, "")
	w.Write(record("phone-1", session.RecordStart))
	w.Close()
	if s := w.Stats(); s != (Stats{}) {
		t.Errorf("%+v without a file", s)
	}
}

// A full disk loses records, which is counted and told once a series; a line
// that was torn doesn't spoil the next.
func TestDiskFull(t *testing.T) {
	var log bytes.Buffer
	w := New(slog.New(slog.NewTextHandler(&log, nil)))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	w.Use(full)
	for range 3 {
		w.Write(record("lost", session.RecordStart))
	}
	if s := w.Stats(); s.Errors != 3 || s.Written != 0 {
		t.Errorf("%+v", s)
	}
	if n := strings.Count(log.String(), "session records are lost"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &log)
	}

	name := filepath.Join(t.TempDir(), "sessions.jsonl")
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	w.Use(f)
	if _, err := f.WriteString(`{"device":"to`); err != nil {
		t.Fatal(err)
	}
	w.torn = true
	w.Write(record("whole", session.RecordStart))
	w.Write(record("next", session.RecordStart))
	w.Close()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(string(text), "\n"); len(lines) != 4 || !strings.Contains(lines[1], `"whole"`) || !strings.Contains(lines[2], `"next"`) {
		t.Errorf("got\n%s", text)
	}
}
