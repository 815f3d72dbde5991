package integration

import (
	"fmt"
	"os"
	"testing"
	"time"
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

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
