package netns

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// IntegrationEnv is the variable that says: what integration tests need was
// installed, so what is missing now is a failure.
const IntegrationEnv = "ROAMGATE_INTEGRATION"

// VMEnv is the variable that tells tests, by any value, that they run in the
// virtual machine of integration/vm: in emulation, so they move less.
const VMEnv = "ROAMGATE_VM"

// ForTest lays a topology that ends with the test. Without IntegrationEnv the
// test is skipped; with it, whatever is missing fails. An interrupt removes the
// topology too.
func ForTest(t testing.TB, o Options) *Topology {
	t.Helper()
	if os.Getenv(IntegrationEnv) == "" {
		t.Skip("needs root and network namespaces: run `make test`, or set " + IntegrationEnv + "=1")
	}
	topology, err := Lay(o)
	if err != nil {
		t.Fatal(err)
	}
	interrupted, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-interrupted:
			_ = topology.Close() // what is left, the next run sweeps
			os.Exit(1)
		case <-done:
		}
	}()
	t.Cleanup(func() {
		signal.Stop(interrupted)
		close(done)
		if err := topology.Close(); err != nil {
			t.Errorf("removing the topology: %v", err)
		}
	})
	return topology
}
