package lease

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// kill: a process that hands out addresses is killed at a random moment. Each
// answer that it gave is in its file.
func TestKill(t *testing.T) {
	if path := os.Getenv("LEASE_TEST_KILL"); path != "" {
		handOut(path)
		return
	}
	for range 3 {
		path := filepath.Join(t.TempDir(), "leases.db")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$", "-test.count=1")
		cmd.Env = append(os.Environ(), "LEASE_TEST_KILL="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		answers := make(map[string]string)
		lines := bufio.NewScanner(out)
		for killAt := 50 + rand.IntN(1000); lines.Scan(); {
			if device, address, ok := strings.Cut(lines.Text(), " "); ok && strings.HasPrefix(device, "device-") {
				answers[device] = address
			}
			if len(answers) == killAt {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
		r := open(t, path, Config{Pools: prefixes("10.0.0.0/8")})
		for _, l := range r.List() {
			if a := answers[l.Device]; a != "" && a != l.Address.String() {
				t.Errorf("%s was answered %s, the file says %v", l.Device, a, l.Address)
			}
			delete(answers, l.Device)
		}
		if len(answers) > 0 {
			t.Fatalf("%d answers are not in the file", len(answers))
		}
	}
}

// handOut runs in the process that is killed, for a minute at most.
func handOut(path string) {
	r, err := Open(path, Config{Pools: prefixes("10.0.0.0/8")})
	if err != nil {
		panic(err)
	}
	// Turns of the journal and folds are to be among what is killed.
	if _, err := acquire(r, Request{Device: "first", Session: 1}); err != nil {
		panic(err)
	}
	shrink(r)
	for i, end := 0, time.Now().Add(time.Minute); time.Now().Before(end); i++ {
		device := fmt.Sprintf("device-%d", i)
		answer := func(g Grant, err error) {
			if err == nil {
				fmt.Fprintf(os.Stdout, "%s %v\n", device, g.Address)
			}
		}
		if i%10 == 0 {
			if g, err := acquire(r, Request{Device: device, Session: 1}); err == nil {
				answer(g, nil)
			}
			continue
		}
		r.Acquire(Request{Device: device, Session: 1}, answer)
	}
}

// shrink makes the halves of a journal small. The registry has written before.
func shrink(r *Registry) {
	err := r.do(func() { r.store.journal.half, r.store.journal.end = 3*frameAlign, 3*frameAlign })
	if err != nil {
		panic(err)
	}
}

// A process is killed before and after each step of its writes, one step later
// each time. Each answer that it gave is in its files, and no other address.
func TestKillAtEachStep(t *testing.T) {
	if path := os.Getenv("LEASE_TEST_STEP_FILE"); path != "" {
		killedAt(path, os.Getenv("LEASE_TEST_STEP"))
		return
	}
	steps := 1
	for ; ; steps++ {
		path := filepath.Join(t.TempDir(), "leases.db")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillAtEachStep$", "-test.count=1")
		cmd.Env = append(os.Environ(), "LEASE_TEST_STEP_FILE="+path, "LEASE_TEST_STEP="+strconv.Itoa(steps))
		out, err := cmd.Output()
		r := open(t, path, pool24)
		has := make(map[string]string)
		for _, l := range r.List() {
			has[l.Device] = l.Address.String()
		}
		for line := range strings.Lines(string(out)) {
			if device, address, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(device, "device-") && has[device] != address {
				t.Fatalf("killed at step %d: %s was answered %q, the files say %q", steps, device, address, has[device])
			}
		}
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v\n%s", steps, err, out)
		}
		// The next run goes on from here.
		if g := mustAcquire(t, r, "after", 1); has["after"] != "" || !g.New {
			t.Fatalf("step %d: %+v", steps, g)
		}
		if err := r.Close(); err != nil {
			t.Fatalf("step %d: %v", steps, err)
		}
	}
	if steps < 40 {
		t.Fatalf("only %d steps", steps)
	}
}

// stepDisk kills the process at its step.
type stepDisk struct {
	disk
	step func()
}

func (d stepDisk) WriteAt(b []byte, at int64) (int, error) {
	d.step()
	defer d.step()
	return d.disk.WriteAt(b, at)
}

func (d stepDisk) Sync() error {
	d.step()
	defer d.step()
	return d.disk.Sync()
}

// killedAt runs in the process that is killed at a step, or ends.
func killedAt(path, at string) {
	left, err := strconv.Atoi(at)
	if err != nil {
		panic(err)
	}
	r, err := Open(path, pool24)
	if err != nil {
		panic(err)
	}
	steps := make(chan int, 1) // a fold makes them from its own goroutine
	steps <- left
	step := func() {
		n := <-steps
		if n == 1 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		steps <- n - 1
	}
	err = r.do(func() {
		r.store.put = func(db *bbolt.DB, changes map[key]change, p position) error {
			step()
			defer step()
			return putChanges(db, changes, p)
		}
	})
	if err != nil {
		panic(err)
	}
	connect := func(device string) {
		g, err := acquire(r, Request{Device: device, Session: 1})
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(os.Stdout, "%s %v\n", device, g.Address)
		r.End(device, 1)
	}
	connect("device-0")
	shrink(r)
	if err := r.do(func() { r.store.journal.disk = stepDisk{r.store.journal.disk, step} }); err != nil {
		panic(err)
	}
	for i := 1; i < 12; i++ {
		connect(fmt.Sprintf("device-%d", i))
	}
	if err := r.Close(); err != nil {
		panic(err)
	}
}
