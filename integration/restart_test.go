package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/traffic"
)

func spell(v any) string { return fmt.Sprintf("%+v", v) }

// gatewayd is killed in the middle of traffic and started again: the client
// that comes back has its address, and no (key, sequence number) was used
// twice. After an orderly end the host is as it was.
//
//	dev1 (strongSwan) 10.1.0.2 -- 10.1.0.1 gw (gatewayd, killed) 10.2.0.1 -- 10.2.0.2 lan
func TestKillAndRestart(t *testing.T) {
	s := newScenario(t, options{})
	recorded := s.record(t, 96)
	id := s.root.device(t, "dev1", keyECDSA(t))
	client := s.client(t, s.top.Devices[0], id)
	before := s.connect(t, client)
	moving := make(chan error, 1)
	moved, stop := context.WithCancel(s.ctx)
	defer stop()
	go func() {
		_, err := traffic.TCP(moved, s.top.Devices[0].Namespace, s.top.LAN, netns.LANHost, 1<<40)
		moving <- err
	}()
	s.eventually(t, "traffic", func() (bool, string) {
		sessions := s.sessions(t)
		return len(sessions) == 1 && sessions[0].BytesIn > 1<<20, spell(sessions)
	})
	s.gw.Kill()
	s.start()
	stop()
	if err := <-moving; err == nil {
		t.Error("a transfer without an end came to its end")
	}
	if sessions := s.sessions(t); len(sessions) != 0 {
		t.Errorf("sessions after the restart: %+v", sessions)
	}
	leases, err := s.gw.Leases(s.ctx)
	if err != nil || len(leases) != 1 || leases[0].Address != before || leases[0].State != "idle" {
		t.Errorf("leases after the restart %+v (%v), want %s idle", leases, err, before)
	}
	// The old SA is dead; a device finds out, or its battery decides.
	client.Vanish()
	// Recorded apart: the one who was killed doesn't say which SPIs it has used.
	recorded()
	recorded = s.record(t, 96)
	back := s.client(t, s.top.Devices[0], id)
	if after := s.connect(t, back); after != before {
		t.Errorf("virtual IP %s after the restart, %s before", after, before)
	}
	s.ping(t, back, before)
	recorded()

	if err := s.gw.Terminate(15 * time.Second); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	s.noTraces(t)
}

// A changed file comes into force without touching a session; a wrong one
// names key and line and changes nothing. Stopping tells the clients.
//
//	dev1 (strongSwan) -- gw (gatewayd, reload and stop) -- lan
func TestReloadAndStop(t *testing.T) {
	s := newScenario(t, options{ipv6: true})
	id := s.root.device(t, "dev1", keyECDSA(t))
	client := s.client(t, s.top.Devices[0], id)
	address := s.connect(t, client)
	session := s.sessions(t)[0].ID

	good := s.conf
	s.conf.Extra = "    no_such_key: 1\n"
	s.configure()
	lines := strings.Count(s.conf.YAML(), "\n")
	if out, err := s.gw.Command(s.ctx, "reload"); err == nil {
		t.Errorf("a file with an unknown key was accepted: %s", out)
	} else if !strings.Contains(err.Error(), "no_such_key") || !strings.Contains(err.Error(), fmt.Sprint(lines)) {
		t.Errorf("the error names neither key nor line %d: %v", lines, err)
	}
	s.ping(t, client, address)

	s.conf = good
	s.conf.Barred = []string{"dev2"}
	s.configure()
	if _, err := s.gw.Command(s.ctx, "reload"); err != nil {
		t.Fatal(err)
	}
	if sessions := s.sessions(t); len(sessions) != 1 || sessions[0].ID != session {
		t.Errorf("sessions after the reload %+v, want %s", sessions, session)
	}
	s.ping(t, client, address)

	if _, err := s.gw.Command(s.ctx, "stop"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.gw.Done():
	case <-s.ctx.Done():
		t.Fatal("gatewayd is still there after stop")
	}
	s.eventually(t, "the client to be told", func() (bool, string) {
		sas, err := client.SAs()
		return err == nil && len(sas) == 0, spell(sas)
	})
	s.noTraces(t)
}
