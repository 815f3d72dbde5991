package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/bench/report"
)

// ran is the report of a run of bench itself.
type ran struct{ *report.Report }

func (r *ran) figure(name string) (float64, error) {
	f, ok := r.Figure(name)
	if !ok {
		return 0, fmt.Errorf("bench %s reported no %q", r.Bench, name)
	}
	return f.Value, nil
}

// bench runs in the device's namespace and returns what it reported.
func (l *lab) bench(ctx context.Context, args ...string) (*ran, error) {
	cmd := exec.Command(l.Bench, args...)
	cmd.Dir = l.dir
	out, err := l.Devices[0].Run(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("bench %s: %w", args[0], err)
	}
	r, err := report.Read(bytes.NewReader(out))
	if err != nil {
		return nil, err
	}
	return &ran{r}, nil
}

// result is the JSON line at the end of a program's output.
func (l *lab) result(name string, into any) error {
	out, err := os.ReadFile(l.path(name + ".out"))
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), into); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, tail(out))
	}
	return nil
}

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Linux still knows.
const tick = 10 * time.Millisecond

// processorTime of a process, user and system.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything: the fields begin behind it
	// (proc(5): state is field 3, utime and stime are 14 and 15).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
