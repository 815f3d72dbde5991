package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

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

// bench runs in the device's namespace, on the generator's processor, and returns
// what it reported.
func (l *lab) bench(ctx context.Context, args ...string) (*ran, error) {
	program, args := l.onGenerator(l.Bench, args...)
	cmd := exec.Command(program, args...)
	cmd.Dir = l.dir
	out, err := l.Devices[0].Run(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
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
