package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event of `go test -json`, see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build-output and build-fail
	Elapsed                       float64
}

// report collects what the parts did. Its output while they run is a line a
// package and everything a failed test wrote.
type report struct {
	out                     io.Writer
	passed, failed, skipped int
	part                    part
	began                   time.Time
	times                   []string
	tests                   []timed
	skips                   []string
	output                  map[string]*strings.Builder // of what runs, by key
	failedBefore            map[string]bool             // packages with a failed test
	partFailed              bool
}

type timed struct {
	name    string
	seconds float64
}

func newReport(out io.Writer) *report { return &report{out: out} }

func (r *report) begin(p part) {
	fmt.Fprintf(r.out, "\n== %s\n", p.name)
	r.part, r.began = p, time.Now()
	r.output = map[string]*strings.Builder{}
	r.failedBefore = map[string]bool{}
	r.partFailed = false
}

// read takes the events of one go test. Lines that are no events are shown.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.event(e)
	}
	return lines.Err()
}

func (r *report) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if r.output[key] == nil {
			r.output[key] = &strings.Builder{}
		}
		r.output[key].WriteString(e.Output)
		return
	case "build-output":
		fmt.Fprint(r.out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	said := ""
	if b := r.output[key]; b != nil {
		said = b.String()
		delete(r.output, key)
	}
	if e.Test == "" {
		r.packageEnd(e, said)
	} else {
		r.testEnd(e, said)
	}
}

func (r *report) testEnd(e event, said string) {
	name := short(e.Package) + "." + e.Test
	if !strings.Contains(e.Test, "/") {
		r.tests = append(r.tests, timed{name, e.Elapsed})
	}
	switch {
	case e.Action == "pass":
		r.passed++
	case e.Action == "skip" && !r.part.strict:
		r.skipped++
		r.skips = append(r.skips, name+": "+reason(said))
	case e.Action == "skip":
		r.failedBefore[e.Package] = true
		r.fail(name, "skipped, though what it needs is counted on: "+reason(said))
	default:
		r.failedBefore[e.Package] = true
		r.fail(name, said)
	}
}

// packageEnd: a package that failed without a failed test didn't build, or
// ended in the middle of one.
func (r *report) packageEnd(e event, said string) {
	switch {
	case e.Action == "skip": // no test files
	case e.Action == "pass":
		fmt.Fprintf(r.out, "ok    %-40s %6.1fs\n", short(e.Package), e.Elapsed)
	case r.failedBefore[e.Package]:
		fmt.Fprintf(r.out, "FAIL  %-40s %6.1fs\n", short(e.Package), e.Elapsed)
	default:
		for key, b := range r.output {
			if strings.HasPrefix(key, e.Package+" ") {
				said += b.String()
			}
		}
		r.fail(short(e.Package), said)
	}
}

func (r *report) fail(name, said string) {
	r.failed++
	r.partFailed = true
	fmt.Fprintf(r.out, "FAIL  %s\n", name)
	for line := range strings.Lines(said) {
		fmt.Fprintf(r.out, "      %s", line)
	}
	if !strings.HasSuffix(said, "\n") {
		fmt.Fprintln(r.out)
	}
}

// end of a part; err is how go test ended.
func (r *report) end(err error) {
	if err != nil && !r.partFailed {
		r.fail(r.part.name, "go test: "+err.Error())
	}
	r.times = append(r.times, fmt.Sprintf("%-20s %7.1fs", r.part.name, time.Since(r.began).Seconds()))
}

// summary tells the sums and reports whether nothing failed.
func (r *report) summary() bool {
	r.list("Time of each part", r.times)
	slices.SortStableFunc(r.tests, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	var slowest []string
	for _, t := range r.tests[:min(10, len(r.tests))] {
		slowest = append(slowest, fmt.Sprintf("%7.2fs %s", t.seconds, t.name))
	}
	r.list("Slowest tests", slowest)
	r.list("Skipped", r.skips)
	if r.passed == 0 {
		r.fail("runner", "no test ran")
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0
}

func (r *report) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(r.out, "\n%s\n", title)
	for _, line := range lines {
		fmt.Fprintf(r.out, "  %s\n", line)
	}
}

// reason is what a test said when it skipped: its lines without go test's own.
func reason(said string) string {
	var kept []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, " ")
}

func short(pkg string) string { return strings.TrimPrefix(pkg, module+"/") }
