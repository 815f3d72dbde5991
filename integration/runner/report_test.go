package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const pkg = module + "/control/lease"

func TestSumsAndExit(t *testing.T) {
	pass := line("pass", "TestA", "")
	skip := line("output", "TestB", "    b_test.go:9: needs root\n") + line("skip", "TestB", "")
	broken := line("output", "TestC", "    c_test.go:3: got 1, want 2\n") + line("fail", "TestC", "") + line("fail", "", "")
	for _, c := range []struct {
		name, events string
		strict       bool
		err          error
		want         string
		good         bool
		says         string
	}{
		{name: "all pass", events: pass + line("pass", "", ""), want: "1 passed, 0 failed, 0 skipped", good: true, says: "ok    control/lease"},
		{name: "a skip tells why", events: pass + skip, want: "1 passed, 0 failed, 1 skipped", good: true, says: "control/lease.TestB: b_test.go:9: needs root"},
		{name: "a skip where nothing may be missing", events: pass + skip, strict: true, want: "1 passed, 1 failed, 0 skipped", says: "needs root"},
		{name: "a failure shows its output", events: pass + broken, err: errors.New("exit status 1"), want: "1 passed, 1 failed, 0 skipped", says: "got 1, want 2"},
		{name: "a package that doesn't build", events: pass + line("fail", "", ""), err: errors.New("exit status 1"), want: "1 passed, 1 failed, 0 skipped", says: "FAIL  control/lease"},
		{
			name: "a test that never ended", events: pass + line("output", "TestD", "panic: test timed out\n") + line("fail", "", ""),
			want: "1 passed, 1 failed, 0 skipped", says: "panic: test timed out",
		},
		{name: "go test fails without a word", events: pass, err: errors.New("exit status 2"), want: "1 passed, 1 failed, 0 skipped", says: "exit status 2"},
		{name: "nothing ran", want: "0 passed, 1 failed, 0 skipped", says: "no test ran"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			r.begin(part{name: "unit", strict: c.strict})
			if err := r.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			r.end(c.err)
			if good := r.summary(); good != c.good {
				t.Errorf("exit says good = %t, want %t", good, c.good)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; last != c.want {
				t.Errorf("last line %q, want %q", last, c.want)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("no %q in:\n%s", c.says, out.String())
			}
		})
	}
}

func line(action, test, output string) string {
	return fmt.Sprintf(`{"Action":%q,"Package":%q,"Test":%q,"Output":%q,"Elapsed":0.5}`+"\n", action, pkg, test, output)
}
