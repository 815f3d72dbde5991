// Package process reads what another process of this machine uses, and says on
// which processors programs run.
//
// What lives here: processor time, resident memory, affinity, by process ID.
// What doesn't: starting programs, and what the figures mean.
package process

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Time that the processors have spent on a process, user and system, in
// nanoseconds of resolution. Time in softirq that interrupted it is counted or
// not as the kernel was built (CONFIG_IRQ_TIME_ACCOUNTING).
func Time(pid int) (time.Duration, error) {
	// The clock of another process is its PID, inverted, above a clock's type
	// (clock_getcpuclockid(3)); 2 is the scheduler's.
	const scheduler = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Busy is how long all processors of the machine have been at work since it
// started, to 10 ms; waiting for a disk counts as work.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	var up, idle float64
	if _, err := fmt.Sscan(string(text), &up, &idle); err != nil {
		return 0, fmt.Errorf("/proc/uptime: %w", err)
	}
	return time.Duration((up*float64(runtime.NumCPU()) - idle) * float64(time.Second)), nil
}

// Resident memory of a process in octets.
func Resident(pid int) (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("/proc/%d/statm: %w", pid, err)
	}
	return resident * int64(os.Getpagesize()), nil
}

// Pin has all threads of a process run on one processor, and those that they
// start. A program that counts processors when it starts has to be started
// there: see Pinned.
func Pin(pid, processor int) error {
	var set unix.CPUSet
	set.Set(processor)
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("thread %d of process %d on processor %d: %w", tid, pid, processor, err)
		}
	}
	return nil
}

// PinThread has the calling thread run on one processor, from now on: who calls
// it has locked its goroutine to the thread and never unlocks it.
func PinThread(processor int) error {
	var set unix.CPUSet
	set.Set(processor)
	return unix.SchedSetaffinity(0, &set)
}

// Pinned is a command line that runs a program on one processor, by taskset(1),
// which keeps the process ID.
func Pinned(processor int, program string, args []string) (string, []string) {
	return "taskset", append([]string{"-c", strconv.Itoa(processor), program}, args...)
}
