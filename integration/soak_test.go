package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/peer"
)

// A device comes and goes five hundred times: it always has its address, and
// gatewayd holds no more files open at the end than at the beginning.
//
//	dev1 (strongSwan) -- gw (gatewayd) -- lan
func TestSoakComeAndGo(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("takes minutes: run `make soak`")
	}
	s := newScenario(t, options{patience: time.Hour})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	first := s.connect(t, client)
	files := openFiles(t, s.gw.PID())
	for i := range 500 {
		if err := client.Disconnect(s.ctx); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if again := s.connect(t, client); again != first {
			t.Fatalf("round %d: virtual IP %s, had %s", i, again, first)
		}
		s.ping(t, client, first)
	}
	if n := len(s.sessions(t)); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	if now := openFiles(t, s.gw.PID()); now > files {
		t.Errorf("%d open files after 500 rounds, %d after the first", now, files)
	}
}

// soakFloodEnv is how long the flood lasts, where ten minutes are too long.
const soakFloodEnv = "ROAMGATE_SOAK_FLOOD"

// While attackers of six networks begin IKE SAs and never finish them, honest
// devices come and go, and none is refused. What the gateway holds for the
// attackers is bounded, and when they are gone nothing of it is left: no
// half-open IKE SA, no goroutine, no file.
//
//	dev1, dev2 (strongSwan)                    -- net -- gw (gatewayd, 5 s for a handshake) -- lan
//	dev3 (attackers) 10.1.101.0/24 and so on   -/
func TestSoakHalfOpenChurn(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("takes minutes: run `make soak`")
	}
	lasts := 10 * time.Minute
	if text := os.Getenv(soakFloodEnv); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil || lasts < 90*time.Second {
			t.Fatalf("%s is %q (%v), expected 90s or more: memory takes its time to warm up", soakFloodEnv, text, err)
		}
	}
	s := newScenario(t, options{devices: 3, patience: lasts + 5*time.Minute, configure: func(s *scenario) {
		s.conf.HalfOpen, s.conf.LogLevel = 5*time.Second, "info"
		s.conf.Guard = "{mode: off}" // the gateway by itself
	}})
	var honest []*peer.Charon
	for i := range 2 {
		honest = append(honest, s.client(t, s.top.Devices[i], s.root.device(t, fmt.Sprintf("dev%d", i+1), keyECDSA(t))))
	}
	comeAndGo := func() {
		t.Helper()
		for _, client := range honest {
			s.ping(t, client, s.connect(t, client))
			if err := client.Disconnect(s.ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	comeAndGo()
	goroutines, files, start := s.metric(t, "go_goroutines"), openFiles(t, s.gw.PID()), residentMemory(t, s.gw.PID())
	started := s.metric(t, "handshakes_started_total")

	ctx, cancel := context.WithTimeout(s.ctx, lasts)
	began := time.Now()
	f := s.startFlood(t, ctx, s.top.Devices[2], s.root.device(t, "dev3", keyECDSA(t)))
	defer func() { cancel(); f.runs.Wait() }()
	var curve []int // MiB in each tenth of the time, the highest
	var halfOpen float64
	rounds := 0
	for ; ctx.Err() == nil; rounds++ {
		comeAndGo()
		halfOpen = max(halfOpen, s.metric(t, "half_open"))
		tenth := min(9, int(10*time.Since(began)/lasts))
		for len(curve) <= tenth {
			curve = append(curve, 0)
		}
		curve[tenth] = max(curve[tenth], residentMemory(t, s.gw.PID()))
	}
	f.runs.Wait()
	seconds := time.Since(began).Seconds()
	t.Logf("%.0f s: %.0f IKE_SA_INIT a second, %.0f IKE SAs begun a second, up to %.0f half-open; cookies asked %d, answered IKE_SA_INIT %d, IKE_AUTH in part %d; honest devices came %d times",
		seconds, float64(f.sent.Load())/seconds, (s.metric(t, "handshakes_started_total")-started)/seconds, halfOpen,
		f.cookies.Load(), f.begun.Load(), f.partial.Load(), len(honest)*rounds)

	drops, err := s.gw.Drops(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("drops %+v", drops)

	s.within(t, time.Minute, "everything half-open to end", func() (bool, string) {
		n := s.metric(t, "half_open")
		return n == 0, fmt.Sprint(n)
	})
	if n := len(s.sessions(t)); n != 0 {
		t.Errorf("%d sessions, want none", n)
	}
	s.eventually(t, "the goroutines of before", func() (bool, string) {
		n := s.metric(t, "go_goroutines")
		return n <= goroutines, fmt.Sprintf("%v, before %v", n, goroutines)
	})
	s.eventually(t, "the open files of before", func() (bool, string) {
		n := openFiles(t, s.gw.PID())
		return n <= files, fmt.Sprintf("%d, before %d", n, files)
	})
	t.Logf("resident memory in MiB: %d before, %v in each tenth, %d at the end", start, curve, residentMemory(t, s.gw.PID()))
	// After the first four tenths everything that is bounded is full.
	warm, late := slices.Max(curve[:4]), slices.Max(curve[4:])
	if late > warm+warm/4+8 {
		t.Errorf("resident memory grows: %d MiB at most in the first four tenths, %d later", warm, late)
	}
	if late > 256 {
		t.Errorf("%d MiB resident for %.0f half-open IKE SAs", late, halfOpen)
	}
	// Otherwise it was no flood.
	if halfOpen < 1024 || f.cookies.Load() == 0 || f.partial.Load() == 0 {
		t.Errorf("up to %.0f half-open, %d cookies, %d IKE_AUTH in part", halfOpen, f.cookies.Load(), f.partial.Load())
	}
	if n := f.complete.Load(); n != 0 {
		t.Errorf("%d IKE_AUTH of attackers were whole", n)
	}
	comeAndGo()
}

// residentMemory of a process in MiB.
func residentMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize() >> 20
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// liveHeap is what gatewayd's heap holds after a collection, in octets. It needs
// PProf. What holds it is in the file NAME.pprof of the test's artifacts (go test
// -artifacts).
func (s *scenario) liveHeap(t *testing.T, name string) uint64 {
	t.Helper()
	live, err := s.gw.LiveHeap(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := s.gw.HeapProfile(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name+".pprof"), profile, 0o644); err != nil {
		t.Fatal(err)
	}
	return live
}
