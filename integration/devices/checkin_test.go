package devices

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/checkin"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Sessions a second that one server has on this machine, with `bench dm` beside
// it: an empty queue and ten commands, tickets and full handshakes, XML and
// WBXML, on both databases. It measures and judges nothing but that all worked.
// ROAMGATE_SOAK_DM_SECONDS is how long each takes, 10 without it;
// ROAMGATE_SOAK_DM_PROFILE a folder for CPU profiles of the server.
func TestSoakCheckIns(t *testing.T) {
	onEach(t, func(m *measured) {
		m.enroll("bench-%07d", 2000)
		m.visit("bench-%07d", 2000)
		m.run("empty queue, tickets", 0, "--devices", "2000", "--warm-up")
		m.run("empty queue, full handshakes", 0, "--devices", "2000", "--full-handshakes")
		m.run("empty queue, WBXML, tickets", 0, "--devices", "2000", "--warm-up", "--syntax", "wbxml")
		m.run("ten commands, full handshakes", 10, "--full-handshakes")
		m.run("ten commands, WBXML, full handshakes", 10, "--full-handshakes", "--syntax", "wbxml")
	})
}

// 100,000 devices that come each 8 hours, in real time and 100 times as fast.
func TestSoakSchedule(t *testing.T) {
	onEach(t, func(m *measured) {
		m.enroll("bench-%07d", 100_000)
		for _, speed := range []string{"1", "100"} {
			m.run("100,000 devices, 8 hours, speed "+speed, 0, "--devices", "100000", "--schedule", "8h", "--speed", speed, "--for", fmt.Sprint(m.seconds, "s"))
		}
	})
}

// onEach database one server.
func onEach(t *testing.T, measure func(m *measured)) {
	if os.Getenv("ROAMGATE_SOAK") != "1" {
		t.Skip("a measurement: ROAMGATE_SOAK=1")
	}
	seconds := 10
	if text := os.Getenv("ROAMGATE_SOAK_DM_SECONDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		seconds = n
	}
	bench := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-o", bench, "github.com/roamgate/roamgate/bench").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, engine := range []database.Engine{database.SQLite, database.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			m := &measured{t: t, program: bench, seconds: seconds, engine: engine, lab: newLaboratory(t)}
			if engine == database.Postgres {
				m.postgres = postgres.Start(t)
				m.name = m.postgres.Name(m.postgres.Create(t))
			} else {
				m.name = database.SQLiteName(filepath.Join(t.TempDir(), "dm.db"))
			}
			measure(m)
		})
	}
}

// measured is one server with its database.
type measured struct {
	t        *testing.T
	program  string
	seconds  int
	engine   database.Engine
	name     string
	postgres *postgres.Server // nil on SQLite
	lab      laboratory
	runs     int
}

func (m *measured) store(work func(*store.SQL)) {
	m.t.Helper()
	db, err := sql.Open(databasetest.Driver(m.engine), m.name)
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	work(storetest.Store(m.t, database.New(db, m.engine), nil))
}

// enroll devices of this name.
func (m *measured) enroll(name string, devices int) (names []string) {
	m.t.Helper()
	names = make([]string, devices)
	m.store(func(s *store.SQL) {
		var next atomic.Int64
		var workers sync.WaitGroup
		for range 64 { // they share transactions
			workers.Go(func() {
				for n := next.Add(1) - 1; n < int64(devices) && !m.t.Failed(); n = next.Add(1) - 1 {
					names[n] = fmt.Sprintf(name, n)
					if err := s.Enroll(m.t.Context(), store.Device{Name: names[n], Enrolled: time.Now()}); err != nil {
						m.t.Error(err)
					}
				}
			})
		}
		workers.Wait()
	})
	return names
}

// visit by each device, which tells what it is.
func (m *measured) visit(name string, devices int) {
	m.t.Helper()
	n := newNode(m.t, m.engine, m.name, m.lab)
	defer n.kill()
	m.bench(n, "--name", name, "--devices", strconv.Itoa(devices), "--count", strconv.Itoa(devices), "--duration", "0").wait()
}

// give each device so many tasks.
func (m *measured) give(names []string, tasks int) {
	m.t.Helper()
	m.store(func(s *store.SQL) {
		for i := range tasks {
			if _, _, err := s.Put(m.t.Context(), store.Task{
				ID: fmt.Sprintf("bench%d-%d", m.runs, i), Kind: "replace", By: "test", Created: time.Now(), Expires: time.Now().Add(time.Hour),
				Semantics: session.Idempotent, Command: one(syncml.Replace, fmt.Sprint(checkin.Root, "/", i), "new"),
			}, names...); err != nil {
				m.t.Fatal(err)
			}
		}
	})
}

// run the bench in a test of its own. With commands each device comes once.
func (m *measured) run(what string, commands int, flags ...string) {
	m.runs++
	m.t.Run(what, func(t *testing.T) {
		one := *m
		one.t = t
		one.measure(what, commands, flags...)
	})
}

func (m *measured) measure(what string, commands int, flags ...string) {
	m.t.Helper()
	if commands > 0 {
		devices := 700 * m.seconds
		name := fmt.Sprintf("bench-%d-%%07d", m.runs)
		names := m.enroll(name, devices)
		m.visit(name, devices)
		m.give(names, commands)
		flags = append(flags, "--name", name, "--devices", strconv.Itoa(devices), "--count", strconv.Itoa(devices))
	}
	profile := fmt.Sprintf("127.0.0.1:%d", 24600+m.runs)
	folder := os.Getenv("ROAMGATE_SOAK_DM_PROFILE")
	var env []string
	if folder != "" {
		env = append(env, profileEnv+"="+profile)
	}
	if !slices.Contains(flags, "--schedule") {
		flags = append(flags, "--duration", fmt.Sprint(m.seconds, "s"))
	}
	n := newNode(m.t, m.engine, m.name, m.lab, env...)
	defer n.kill()
	var before time.Duration
	if m.postgres != nil {
		before = m.postgres.Time()
	}
	running := m.bench(n, flags...)
	if folder != "" {
		file := filepath.Join(folder, fmt.Sprintf("%s-%d.pprof", m.engine, m.runs))
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", profile, max(m.seconds/2, 1))
		time.Sleep(time.Duration(m.seconds) * time.Second / 4)
		if out, err := exec.Command("curl", "-sf", "-o", file, url).CombinedOutput(); err != nil {
			m.t.Errorf("profile: %v %s", err, out)
		}
	}
	r := running.wait()
	var database time.Duration
	if m.postgres != nil {
		database = m.postgres.Time() - before
	}
	value := func(name string) float64 { f, _ := r.Figure(name); return f.Value }
	l := r.Latencies[0]
	m.t.Logf("%-8s %-37s %5.0f sessions/s, %6.0f commands/s, p50 %6.2f ms, p99 %6.2f ms; server %4.0f us a session, %.2f processors, PostgreSQL %4.0f us a session, generator %.2f; steal %.1f %%",
		m.engine, what, value("rate"), value("rate of commands"), l.P50/1e3, l.P99/1e3,
		value("server's processor time a session"), value("server's processors in use"), float64(database.Microseconds())/value("sessions"), r.Load*float64(r.Environment.Processors), 100*r.Steal)
	if want := value("sessions") * float64(commands); value("commands executed") != want {
		m.t.Errorf("%s: %v commands executed, want %v", what, value("commands executed"), want)
	}
}

// running is a `bench dm`.
type running struct {
	*measured
	command        *exec.Cmd
	stdout, stderr bytes.Buffer
}

func (m *measured) bench(n *node, flags ...string) *running {
	m.t.Helper()
	r := &running{measured: m}
	r.command = exec.Command(m.program, append([]string{
		"dm", "--server", n.url, "--root", m.lab.file("root.pem"), "--ca", m.lab.file("root.pem"), "--ca-key", m.lab.file("root.key"),
		"--server-pid", strconv.Itoa(n.command.Process.Pid), "--json", "-", "--quiet",
	}, flags...)...)
	r.command.Stdout, r.command.Stderr = &r.stdout, &r.stderr
	if err := r.command.Start(); err != nil {
		m.t.Fatal(err)
	}
	return r
}

func (r *running) wait() (out report.Report) {
	r.t.Helper()
	if err := r.command.Wait(); err != nil {
		r.t.Fatalf("%v: %v\n%s", r.command.Args, err, &r.stderr)
	}
	if err := json.Unmarshal(r.stdout.Bytes(), &out); err != nil {
		r.t.Fatal(err)
	}
	if len(out.Failures) > 0 {
		r.t.Errorf("%v: failures %v", r.command.Args, out.Failures)
	}
	return out
}
