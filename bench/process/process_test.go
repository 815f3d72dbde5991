package process

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who computes uses processor time, who waits doesn't.
func TestTime(t *testing.T) {
	before, err := Time(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	after, err := Time(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("%v before, %v after, %v", before, after, err)
	}
	if _, err := Time(1 << 22); err == nil {
		t.Error("a process that isn't there has used time")
	}
}

func TestResident(t *testing.T) {
	before, err := Resident(os.Getpid())
	if err != nil || before == 0 {
		t.Fatal(before, err)
	}
	b := make([]byte, 64<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	after, err := Resident(os.Getpid())
	if err != nil || after-before < 32<<20 {
		t.Errorf("%d before, %d after 64 MiB were touched, %v", before, after, err)
	}
	runtime.KeepAlive(b)
}

// A program that was started on one processor sees one, and one that runs
// already is moved with all its threads.
func TestPin(t *testing.T) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	processor := 0
	for !mine.IsSet(processor) {
		processor++
	}
	program, args := Pinned(processor, "nproc", nil)
	out, err := exec.CommandContext(t.Context(), program, args...).Output()
	if err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Errorf("nproc says %q, %v", out, err)
	}
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	if err := Pin(other.Process.Pid, processor); err != nil {
		t.Fatal(err)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(other.Process.Pid, &set); err != nil || set.Count() != 1 || !set.IsSet(processor) {
		t.Errorf("runs on %d processors, %v", set.Count(), err)
	}
}
