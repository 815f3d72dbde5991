package xfrm_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane/xfrm"
)

// A probe is over when it has returned: no thread is left in its namespace, least of
// all the main one, by which /proc/net tells of a process.
func TestProbeLeavesNoThreadBehind(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a namespace to probe in")
	}
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		xfrm.Probe()
	}
	// Threads of tests before this one may be about to end.
	elsewhere := func() (list []string) {
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil || len(threads) == 0 {
			t.Fatal(threads, err)
		}
		for _, thread := range threads {
			if at, err := os.Readlink(thread); err == nil && at != own {
				list = append(list, thread+" is "+at)
			}
		}
		return list
	}
	for end := time.Now().Add(10 * time.Second); len(elsewhere()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v, want %s", elsewhere(), own)
		}
	}
}
