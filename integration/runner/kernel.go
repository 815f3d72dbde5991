package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/vm/machine"
)

// Tests whose names begin so need IPsec in the kernel.
const kernelPrefix = "TestXFRM"

// kernelTimeout bounds each run of tests, and partTimeout all of them. In
// emulation they have to do for a busy host.
const (
	kernelTimeout = 15 * time.Minute
	partTimeout   = 25 * time.Minute
)

// variants are scenarios that run again with other ends: strongSwan with the
// kernel's ESP, which elsewhere is its own, and a gateway that forwards by the
// kernel; once with the gateway's userspace data plane. Tests that have the
// prefix choose the backend themselves, or have the gateway choose, which takes
// the kernel.
var variants = []machine.Test{
	{
		Package: module + "/integration", Env: []string{"ROAMGATE_CLIENT=kernel", "ROAMGATE_BACKEND=xfrm"},
		Run: "^(TestContentArrivesBothWays|TestPortRemapInMidStream|TestRekeyUnderTraffic|TestKillAndRestart|TestReleaseFromQuarantine)$" +
			"/^(|IPv4_with_MOBIKE|RSA,_CBC.*|client,_IKE_SA|client,_Child_SA_with_PFS|bpf)$",
	},
	{
		Package: module + "/integration", Env: []string{"ROAMGATE_CLIENT=kernel", "ROAMGATE_BACKEND=userspace"},
		Run: "^(TestContentArrivesBothWays|TestRekeyUnderTraffic)$/^(RSA,_CBC.*|client,_IKE_SA)$",
	},
}

// kernelTests are the variants and, of every package, the tests that have the
// prefix.
func kernelTests(ctx context.Context) ([]machine.Test, error) {
	out, err := goList(ctx, `{{.ImportPath}} {{.Dir}} {{join .TestGoFiles " "}} {{join .XTestGoFiles " "}}`)
	if err != nil {
		return nil, err
	}
	tests := slices.Clone(variants)
	for _, line := range out {
		fields := strings.Fields(line)
		for _, file := range fields[2:] {
			source, err := os.ReadFile(filepath.Join(fields[1], file))
			if err != nil {
				return nil, err
			}
			if bytes.Contains(source, []byte("\nfunc "+kernelPrefix)) {
				tests = append(tests, machine.Test{Package: fields[0], Run: "^" + kernelPrefix})
				break
			}
		}
	}
	for i := range tests {
		tests[i].Timeout, tests[i].JSON = kernelTimeout, true
	}
	return tests, nil
}

// probeWord makes the runner say by its exit status whether the kernel has
// IPsec, which only root can find out.
const probeWord = "probe-kernel-ipsec"

func probe() {
	if err := netns.KernelIPsec(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// missing says what the host's kernel lacks; nothing where it has all.
func missing(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", probeWord)
	if os.Geteuid() != 0 {
		self, err := os.Executable()
		if err != nil {
			return err.Error()
		}
		cmd = exec.CommandContext(ctx, "sudo", "-n", self, probeWord)
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		return strings.TrimSpace(string(said))
	}
	return ""
}

// runKernel runs tests that need IPsec in the kernel: on this host where it has
// that, otherwise in a virtual machine that is booted once for all.
func runKernel(ctx context.Context, p part, r *report) {
	if ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	lacks := missing(ctx)
	if lacks == "" {
		for i, t := range p.kernel {
			native := part{name: fmt.Sprintf("%s, natively, %d of %d", p.name, i+1, len(p.kernel)), strict: true, root: true, env: append(t.Env, p.env...)}
			native.args = []string{"-count=1", "-timeout=" + t.Timeout.String(), "-run=" + t.Run, t.Package}
			run(ctx, native, r)
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.fail(p.name, fmt.Sprintf("not everything ran within %v", partTimeout))
		}
		return
	}
	r.begin(p)
	fmt.Fprintf(r.out, "In a virtual machine, because this kernel lacks something: %s\n", lacks)
	r.end(inMachine(ctx, p.kernel, r))
}

func inMachine(ctx context.Context, tests []machine.Test, r *report) error {
	cache, err := filepath.Abs(".cache/vm")
	if err != nil {
		return err
	}
	image, err := machine.Build(ctx, cache)
	if err != nil {
		return err
	}
	vm, err := machine.Boot(ctx, cache, image, machine.Options{})
	if err != nil {
		return err
	}
	defer vm.Close()
	fmt.Fprintf(r.out, "Linux %s by %s, up in %.1fs\n", vm.Kernel, vm.Accelerator, vm.Boot.Seconds())
	for _, w := range vm.Warnings {
		r.fail("the virtual machine", w)
	}
	var failed error
	for _, t := range tests {
		events, out := io.Pipe()
		read := make(chan error, 1)
		go func() {
			err := r.read(events)
			events.CloseWithError(err) // the writer isn't to wait for nobody
			read <- err
		}()
		err := vm.Test(ctx, t, out)
		out.Close()
		failed = errors.Join(failed, err, <-read)
		if errors.Is(err, machine.ErrGone) {
			return failed
		}
	}
	return failed
}
