// Command runner runs the tests of `make test` and `make soak` in parts, and
// tells at the end how long each part took, which tests were slowest, what was
// skipped and why, and in its last line the sums. It exits with 0 only if no
// test failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/vm/machine"
)

const module = "github.com/roamgate/roamgate"

// part is one run of go test.
type part struct {
	name string
	// strict: everything it needs was installed, so a skip is a failure.
	strict bool
	args   []string
	env    []string
	// root: the test binaries run as root, through sudo where we aren't.
	root bool
	// kernel: runs of tests that need IPsec in the kernel, instead of args.
	kernel []machine.Test
}

func main() {
	fuzzTime := flag.Duration("fuzztime", 5*time.Minute, "how long soak fuzzes each target")
	if len(os.Args) == 2 && os.Args[1] == probeWord {
		probe()
	}
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: runner [flags] test|vm|soak")
		flag.PrintDefaults()
	}
	flag.Parse()
	// A Ctrl-C reaches go test as well, which ends; then the sums are told.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var parts []part
	var err error
	switch flag.Arg(0) {
	case "test":
		parts, err = testParts(ctx)
	case "vm": // the last part of test alone
		if parts, err = testParts(ctx); err == nil {
			parts = parts[len(parts)-1:]
		}
	case "soak":
		parts, err = soakParts(ctx, *fuzzTime)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
	report := newReport(os.Stdout)
	for _, p := range parts {
		if p.kernel != nil {
			runKernel(ctx, p, report)
		} else {
			run(ctx, p, report)
		}
	}
	if os.Geteuid() == 0 {
		if err := netns.Sweep("rg"); err != nil {
			report.fail("namespaces", err.Error())
		}
	}
	if ctx.Err() != nil {
		report.fail("runner", "interrupted: not everything ran")
	}
	if !report.summary() {
		os.Exit(1)
	}
}

// testParts: packages whose tests lay topologies run one after the other, with
// all that they need; all others run once with the race detector. Those are
// root too, because some make namespaces and devices of their own. What needs
// IPsec in the kernel comes last.
func testParts(ctx context.Context) ([]part, error) {
	out, err := goList(ctx, `{{.ImportPath}} {{join .Imports ","}},{{join .TestImports ","}},{{join .XTestImports ","}}`)
	if err != nil {
		return nil, err
	}
	var unit, spaces []string
	for _, line := range out {
		path, imports, _ := strings.Cut(line, " ")
		inside := strings.HasPrefix(path, module+"/integration")
		if inside || slices.Contains(strings.Split(imports, ","), module+"/integration/netns") {
			spaces = append(spaces, path)
		} else {
			unit = append(unit, path)
		}
	}
	programs, err := programs()
	if err != nil {
		return nil, err
	}
	kernel, err := kernelTests(ctx)
	if err != nil {
		return nil, err
	}
	return []part{
		{
			name: "unit", strict: true, root: true,
			env: []string{netns.IntegrationEnv + "=1"},
			// What only measures, at the scale that it is told, isn't part of the gate.
			args: append([]string{"-race", "-shuffle=on", "-skip=^TestSoak|^TestFleet$|^TestFleetHalfOpen$|^" + kernelPrefix}, unit...),
		},
		{
			name: "pkcs11", strict: true, root: true, // cgo, so it is apart
			env:  []string{netns.IntegrationEnv + "=1"},
			args: []string{"-race", "-tags=pkcs11", "-run=Token", module + "/enrollment/ca"},
		},
		{
			name: "ipsecmb", strict: true, root: true, // as above
			env:  []string{netns.IntegrationEnv + "=1"},
			args: []string{"-tags=ipsecmb", "-run=^TestConformance$|^TestConformanceFourLoops$|Round|Together|Keys|GiveWay|Like", module + "/dataplane/userspace", module + "/dataplane/esp/ipsecmb"},
		},
		{
			name: "namespaces", strict: true, root: true,
			env: programs,
			// Tests that say t.Parallel wait most of the time.
			args: append([]string{"-count=1", "-p=1", "-parallel=4", "-timeout=30m", "-skip=^TestSoak|^" + kernelPrefix}, spaces...),
		},
		{name: "vm", strict: true, root: true, env: programs, kernel: kernel},
	}, nil
}

// programs are the environment of scenarios. They were built by the Makefile,
// so that root compiles nothing into our caches.
func programs() ([]string, error) {
	env := []string{netns.IntegrationEnv + "=1"}
	for name, path := range map[string]string{"ROAMGATE_GATEWAYD": "bin/gatewayd", "ROAMGATE_BENCH": "bin/bench", "ROAMGATE_DEMO": ".cache/bin/demo"} {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		env = append(env, name+"="+path)
	}
	return env, nil
}

func goList(ctx context.Context, format string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", format, "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n"), nil
}

// moduleCache is where our modules are, for root who has none.
func moduleCache(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func run(ctx context.Context, p part, r *report) {
	if ctx.Err() != nil {
		return
	}
	args := []string{"test", "-json"}
	if p.root && os.Geteuid() != 0 {
		environment := append([]string{"PATH=" + os.Getenv("PATH"), "GOMODCACHE=" + moduleCache(ctx)}, p.env...)
		args = append(args, "-exec=sudo -n env "+strings.Join(environment, " "))
	}
	cmd := exec.Command("go", append(args, p.args...)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.fail(p.name, err.Error())
		return
	}
	r.begin(p)
	if err := cmd.Start(); err != nil {
		r.fail(p.name, err.Error())
		return
	}
	forward := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer forward()
	readErr := r.read(out)
	err = cmd.Wait()
	r.end(errors.Join(readErr, err))
}
