package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

const module = "github.com/roamgate/roamgate"

// Test is what `go test` would run, if the guest had Go.
type Test struct {
	// Package is an import path, or a path such as ./dataplane/xfrm.
	Package string
	// Run and Skip choose tests as the flags of go test do; all where empty.
	Run, Skip string
	// Timeout; 10 minutes where zero.
	Timeout time.Duration
	// Env is added to the guest's, netns.IntegrationEnv and netns.VMEnv, which are set.
	Env []string
	// Args are further ones for the test binary, such as "-test.bench=.".
	Args []string
	// JSON: out gets events as `go test -json` writes them.
	JSON bool
}

// Test compiles the tests of a package as a static binary, runs them in the
// guest, in a folder with the package's testdata, and writes what they say to
// out. Those that drive a gatewayd find one. The error is an *ExitError where
// tests failed.
func (vm *VM) Test(ctx context.Context, t Test, out io.Writer) error {
	listed, err := run(exec.CommandContext(ctx, "go", "list", "-f", `{{.ImportPath}} {{.Dir}} {{join .TestImports ","}},{{join .XTestImports ","}}`, t.Package))
	if err != nil {
		return err
	}
	fields := strings.Fields(listed)
	if len(fields) != 3 {
		return fmt.Errorf("%s isn't one package with tests: %q", t.Package, listed)
	}
	pkg, dir, imports := fields[0], fields[1], strings.Split(fields[2], ",")
	home := path.Join("/root", strings.TrimPrefix(pkg, module+"/"))
	program := path.Join(home, path.Base(pkg)+".test")
	if err := vm.compile(ctx, program, "test", "-c", pkg); err != nil {
		return err
	}
	if err := vm.Put(ctx, filepath.Join(dir, "testdata"), path.Join(home, "testdata")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	c := Command{Dir: home, Env: append([]string{netns.IntegrationEnv + "=1", netns.VMEnv + "=1"}, t.Env...)}
	if slices.Contains(imports, module+"/integration/gateway") {
		const gatewayd = "/usr/local/bin/gatewayd"
		if err := vm.compile(ctx, gatewayd, "build", module+"/gatewayd"); err != nil {
			return err
		}
		c.Env = append(c.Env, "ROAMGATE_GATEWAYD="+gatewayd)
	}
	if t.Timeout == 0 {
		t.Timeout = 10 * time.Minute
	}
	verbose := "-test.v"
	if t.JSON {
		verbose = "-test.v=test2json"
	}
	c.Args = []string{program, verbose, "-test.paniconexit0", "-test.timeout=" + t.Timeout.String()}
	if t.Run != "" {
		c.Args = append(c.Args, "-test.run="+t.Run)
	}
	if t.Skip != "" {
		c.Args = append(c.Args, "-test.skip="+t.Skip)
	}
	c.Args = append(c.Args, t.Args...)
	// A test binary ends itself at its timeout; this is for one that can't.
	ctx, cancel := context.WithTimeout(ctx, t.Timeout+30*time.Second)
	defer cancel()
	if !t.JSON {
		return vm.Run(ctx, c, out)
	}
	return vm.runAsEvents(ctx, c, pkg, out)
}

// runAsEvents sends the output through test2json, which tells by its -exit-less
// end of input only that the output ended: the verdict comes with FAIL or PASS
// in its last line, and where the binary didn't get to write one, we do.
func (vm *VM) runAsEvents(ctx context.Context, c Command, pkg string, out io.Writer) error {
	converter := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", pkg)
	converter.Stdout, converter.Stderr = out, os.Stderr
	in, err := converter.StdinPipe()
	if err != nil {
		return err
	}
	if err := converter.Start(); err != nil {
		return err
	}
	err = vm.Run(ctx, c, in)
	if err != nil {
		_, said := fmt.Fprintf(in, "\n%v\nFAIL\n", err)
		err = errors.Join(err, said)
	}
	return errors.Join(err, in.Close(), converter.Wait())
}

// compile makes a static binary and puts it into the guest; what was put there
// before by this VM isn't made again.
func (vm *VM) compile(ctx context.Context, to string, command ...string) error {
	if vm.compiled[to] {
		return nil
	}
	local := filepath.Join(vm.dir, path.Base(to))
	args := append([]string{command[0], "-trimpath", "-o", local}, command[1:]...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if _, err := run(build); err != nil {
		return err
	}
	if err := vm.Put(ctx, local, to); err != nil {
		return err
	}
	vm.compiled[to] = true
	return os.Remove(local)
}
