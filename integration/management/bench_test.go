package management

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/checkin"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/integration/postgres"
)

// bencher is the load generators with devices that they enrolled.
type bencher struct {
	w       *world
	program string
	devices string // file of certificates and keys
	count   int
}

// newBencher enrolls devices by `bench enroll` and waits until the manager has
// their accounts.
func (w *world) newBencher(count int) *bencher {
	w.t.Helper()
	dir := w.t.TempDir()
	b := &bencher{w: w, program: filepath.Join(dir, "bench"), devices: filepath.Join(dir, "devices.pem"), count: count}
	if said, err := exec.Command("go", "build", "-o", b.program, "../../bench").CombinedOutput(); err != nil {
		w.t.Fatalf("building bench: %v\n%s", err, said)
	}
	codes := filepath.Join(dir, "codes")
	if err := os.WriteFile(codes, []byte(strings.Join(w.codes(count), "\n")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	b.run("enroll", "--server", w.port(portEnroll), "--codes", codes, "--devices", "8", "--keep", b.devices)
	w.until("all devices have accounts", func() bool {
		have, after := 0, ""
		for {
			all, err := w.store.Devices(w.t.Context(), store.DeviceFilter{After: after})
			if err != nil || len(all) == 0 {
				return have == count
			}
			have, after = have+len(all), all[len(all)-1].Name
		}
	})
	return b
}

// codes of new requests, made by several administrators at a time.
func (w *world) codes(count int) []string {
	w.t.Helper()
	codes := make([]string, count)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(count); n = next.Add(1) - 1 {
				made, err := w.admins.CreateRequest(w.t.Context(), admin.NewRequest{User: fmt.Sprint("user-", n), Device: fmt.Sprintf("phone-%05d", n), Groups: []string{"sales"}})
				if err != nil {
					w.t.Error(err)
					return
				}
				codes[n] = made.Code
			}
		})
	}
	workers.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
	return codes
}

func (b *bencher) run(args ...string) report.Report {
	b.w.t.Helper()
	var stdout, stderr bytes.Buffer
	c := exec.Command(b.program, append(args, "--json", "-", "--quiet")...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		b.w.t.Fatalf("%v: %v\n%s", c.Args, err, &stderr)
	}
	var r report.Report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		b.w.t.Fatal(err)
	}
	if len(r.Failures) > 0 {
		b.w.t.Errorf("%v: failures %v", c.Args, r.Failures)
	}
	return r
}

func (b *bencher) dm(p *process, args ...string) report.Report {
	return b.run(append([]string{
		"dm", "--server", "https://" + b.w.port(portDM) + "/dm", "--root", filepath.Join(b.w.dir, "pki", "root.pem"),
		"--identities", b.devices, "--devices", strconv.Itoa(b.count), "--server-pid", strconv.Itoa(p.command.Process.Pid),
	}, args...)...)
}

// give every device n commands, by the group that they are in.
func (b *bencher) give(n int) {
	b.w.t.Helper()
	for i := range n {
		b.w.must(b.w.command("task", "place", "replace", "--group", "sales", "--uri", fmt.Sprint(checkin.Root, "/", i), "--value", "new", "-o", "json", "--config", b.w.file))
	}
}

func value(r report.Report, name string) float64 { f, _ := r.Figure(name); return f.Value }

// Devices that `bench enroll` enrolled come to the manager by `bench dm`, with
// nothing to do and with commands.
func TestBench(t *testing.T) {
	w := newWorld(t, "")
	p := w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	b := w.newBencher(20)
	r := b.dm(p, "--count", "40", "--concurrency", "4")
	if done, again := value(r, "sessions"), value(r, "TLS handshakes by a ticket"); done != 40 || again != 20 {
		t.Errorf("%v sessions, %v of them by a ticket", done, again)
	}
	b.give(3)
	r = b.dm(p, "--count", "20", "--syntax", "wbxml")
	if done, commands := value(r, "sessions"), value(r, "commands executed"); done != 20 || commands != 60 {
		t.Errorf("%v sessions with %v commands", done, commands)
	}
}

// Sessions a second of the manager as it is, with enrollment in a process of its
// own, on both databases; see TestSoakCheckIns of integration/devices.
// ROAMGATE_SOAK_DM_SECONDS is how long each run takes, 10 without it;
// ROAMGATE_SOAK_DM_PROFILE a folder for CPU profiles.
func TestSoakBench(t *testing.T) {
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
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			source := ""
			if engine == "postgres" {
				p := postgres.Start(t)
				source = p.Name(p.Create(t))
			}
			w := newWorld(t, source)
			if os.Getenv("ROAMGATE_SOAK_DM_PROFILE") != "" {
				if err := os.WriteFile(w.file, append(w.read("gatewayd.yaml"), "\ndebug:\n  pprof: true\n"...), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			w.run("enrollment", w.file, portEnrollMetrics)
			p := w.run("manager", w.file, portDMMetrics)
			b := w.newBencher(1500)
			once := []string{"--count", strconv.Itoa(b.count), "--duration", "0", "--full-handshakes"}
			b.dm(p, once...) // they tell what they are
			for _, m := range []struct {
				what     string
				commands int
				flags    []string
			}{
				{"empty queue, tickets", 0, []string{"--warm-up", "--duration", fmt.Sprint(seconds, "s")}},
				{"empty queue, full handshakes", 0, []string{"--full-handshakes", "--duration", fmt.Sprint(seconds, "s")}},
				{"ten commands, full handshakes", 10, once},
				{"ten commands, WBXML, full handshakes", 10, append(once, "--syntax", "wbxml")},
			} {
				b.give(m.commands)
				profiled := w.profile(p, fmt.Sprint(engine, "-", strings.ReplaceAll(m.what, " ", "-")), seconds/2)
				r := b.dm(p, m.flags...)
				profiled()
				l := r.Latencies[0]
				t.Logf("%-8s %-36s %5.0f sessions/s, %6.0f commands/s, p50 %6.2f ms, p99 %6.2f ms; manager %4.0f us a session, %.2f processors, generator %.2f; steal %.1f %%",
					engine, m.what, value(r, "rate"), value(r, "rate of commands"), l.P50/1e3, l.P99/1e3,
					value(r, "server's processor time a session"), value(r, "server's processors in use"), r.Load*float64(r.Environment.Processors), 100*r.Steal)
				if want := value(r, "sessions") * float64(m.commands); value(r, "commands executed") != want {
					t.Errorf("%s: %v commands executed, want %v", m.what, value(r, "commands executed"), want)
				}
			}
		})
	}
}

// profile a process for some seconds, where that is wanted; the function that it
// returns waits for it.
func (w *world) profile(p *process, name string, seconds int) (wait func()) {
	w.t.Helper()
	folder := os.Getenv("ROAMGATE_SOAK_DM_PROFILE")
	if folder == "" {
		return func() {}
	}
	sockets, err := filepath.Glob(filepath.Join(w.dir, "*", "manager.sock"))
	if err != nil || len(sockets) != 1 {
		w.t.Fatalf("sockets %v, %v", sockets, err)
	}
	c := exec.Command("curl", "-sf", "--unix-socket", sockets[0], "-o", filepath.Join(folder, name+".pprof"),
		fmt.Sprintf("http://manager/debug/pprof/profile?seconds=%d", max(seconds, 1)))
	began := time.Now()
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if err := c.Wait(); err != nil {
			w.t.Errorf("profile of %d after %v: %v", p.command.Process.Pid, time.Since(began), err)
		}
	}
}
