package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// What a newcomer runs first works, leaves nothing behind when it is
// interrupted, and with -keep leaves what -stop then ends. It is also the test of
// `gatewayd run all`: enrollment, quarantine and its release by push, seen by a
// running ping, roaming, an alert, a lock, a wipe and the refusal after it, with
// strongSwan as the VPN client, and of what the gateway sends toward the inside.
func TestDemo(t *testing.T) {
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs root and network namespaces: run `make test`")
	}
	demo := program(t, demoProgram)
	start := func(args ...string) (*exec.Cmd, *strings.Builder) {
		var out strings.Builder
		cmd := exec.CommandContext(t.Context(), demo, append([]string{"-gatewayd", program(t, gatewayd), "-bytes", "10000000"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}

	t.Run("shows the whole life", func(t *testing.T) {
		cmd, out := start()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"content verified", "userspace", "quarantine", "MOBIKE", "locked and confirmed", "wiped after", "refused: ", "not one connection of its own"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		if left := demoNamespaces(t); len(left) > 0 {
			t.Errorf("namespaces left behind: %v", left)
		}
	})

	t.Run("interrupted", func(t *testing.T) {
		cmd, out := start()
		for range 200 {
			if len(demoNamespaces(t)) == 3 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("an interrupted demo ends with status 0:\n%s", out)
		}
		if left := demoNamespaces(t); len(left) > 0 {
			t.Errorf("namespaces left behind: %v\n%s", left, out)
		}
	})

	t.Run("kept and stopped", func(t *testing.T) {
		cmd, out := start("-keep")
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command(demo, "-stop").Run() }) // where the test failed before
		for _, line := range strings.Split(out.String(), "\n") {
			// The commands that it tells to paste work.
			if command := strings.TrimSpace(line); strings.Contains(command, "--config") {
				if said, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", command, err, said)
				}
			}
		}
		if again, err := exec.Command(demo, "-gatewayd", program(t, gatewayd)).CombinedOutput(); err == nil {
			t.Errorf("a second demo beside a kept one:\n%s", again)
		}
		if said, err := exec.Command(demo, "-stop").CombinedOutput(); err != nil {
			t.Fatalf("-stop: %v\n%s", err, said)
		}
		if left := demoNamespaces(t); len(left) > 0 {
			t.Errorf("namespaces left behind: %v", left)
		}
	})
}

func demoNamespaces(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/run/netns/rgdemo-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}
