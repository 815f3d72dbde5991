package integration

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
)

func (s *scenario) command(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(s.ctx, name, args...)
}

// doctorSays wants that word on what will forward.
func (s *scenario) doctorSays(t *testing.T, want string) {
	t.Helper()
	out, err := s.gw.Command(s.ctx, "doctor", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var checks []struct{ Name, State, Found, Means string }
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.Name != "kernel IPsec" {
			continue
		}
		t.Logf("doctor: %+v", c)
		if !strings.Contains(c.Means, want) || c.Found == "" {
			t.Errorf("doctor says %q because of %q, want %q", c.Means, c.Found, want)
		}
		return
	}
	t.Errorf("doctor says nothing of the kernel: %s", out)
}

// doctor names the backend that the gateway has chosen, whatever the host.
//
//	gw (gatewayd)
func TestDoctorNamesTheBackend(t *testing.T) {
	s := newScenario(t, options{})
	status, err := s.gw.Status(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := "userspace data plane"
	if netns.KernelIPsec() == nil {
		want = "kernel data plane (xfrm)"
	}
	s.doctorSays(t, want)
	if name, _, _ := strings.Cut(want, " "); (name == "userspace") != (status.Backend == "userspace") {
		t.Errorf("the gateway forwards with %q, doctor says %q", status.Backend, want)
	}
}
