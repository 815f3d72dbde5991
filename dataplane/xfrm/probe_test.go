package xfrm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/dataplane/xfrm"
)

// A probe is over when it has returned: no thread is left in its namespace, least of
// all the main one, by which /proc/net tells of a process.
func TestProbeLeavesNoThreadBehind(t *testing.T) {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		xfrm.Probe()
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		if at, err := os.Readlink(thread); err == nil && at != own {
			t.Errorf("%s is %s, want %s", thread, at, own)
		}
	}
}
