package netns

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Within runs f on a thread of its own in a new network namespace, which has no
// name and goes away with the thread and what was opened in it. The test is
// skipped where that needs more rights.
func Within(t testing.TB, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	done := make(chan error)
	apart(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		done <- f()
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
