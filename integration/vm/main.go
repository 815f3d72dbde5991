// Command vm makes and runs the virtual machine in which tests meet a kernel
// with IPsec that the host may lack:
//
//	go run ./integration/vm run ./dataplane/xfrm -run Conformance
//	go run ./integration/vm run -env ROAMGATE_CLIENT=kernel ./integration -run Rekey
//	go run ./integration/vm exec 'ip xfrm state; uname -a'
//	go run ./integration/vm exec -put bin/bench,bin/gatewayd 'bench compare --measure cost'
//	go run ./integration/vm shell
//	go run ./integration/vm build
//
// It is made from packages of the distribution: the kernel
// linux-image-6.12-cloud-amd64 with its modules for networks and cryptography
// (ESP, GCM, xfrm_interface, veth, TUN, dummy, netem, vrf, BTF), strongSwan with
// its kernel-netlink plugin, libreswan, iproute2, nftables, iperf3, tcpdump and
// busybox. They are downloaded and unpacked into .cache/vm, and made anew when
// the distribution has other versions; the host gets nothing installed but
// QEMU. No root is needed, no network reaches in or out, and
// nothing in the guest outlives it.
//
// The guest is a tree in memory. Its first process (integration/vm/guest)
// mounts /proc, /sys, /dev, /run, /tmp, bpffs at /sys/fs/bpf, cgroup2 at
// /sys/fs/cgroup, tracefs and debugfs, and everything runs as root. /bin/sh is
// dash; what neither a package nor a link provides is busybox's. Files and
// results travel over a virtio-serial port (integration/vm/wire), so the kernel
// can't write between them. A panic of the guest ends the machine, and what it
// last wrote to its console stands in the error.
//
// Tests whose names begin with TestXFRM need IPsec in the kernel and call
// netns.NeedKernelIPsec; `make test` runs those of every package in one machine,
// or on the host where its kernel has IPsec.
//
// `run` compiles the tests of a package as a static binary (no cgo, so no
// -race), copies it and the package's testdata there, and runs it with
// ROAMGATE_INTEGRATION=1 and ROAMGATE_VM=1; where the tests use
// integration/gateway, ROAMGATE_GATEWAYD names a gatewayd of this tree. Flags
// behind the package go to the test binary, with or without "test." before
// their name. The namespaces, topologies and peers of integration work inside
// as they do outside.
//
// Without KVM it is an emulation of one processor that does a thousand million
// instructions in each second of its own clock, which leaps while all programs
// wait. So nothing in the guest depends on how busy the host is, waiting costs
// nothing, and times measured inside are counts of instructions: good for
// ratios inside one run, and for nothing else.
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
	"strings"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/integration/vm/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:])
	var exit *machine.ExitError
	if errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exit.Status)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vm", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), `usage: vm build | vm shell | vm exec [flags] 'shell script' | vm run [flags] PACKAGE [test flags]`)
		flags.PrintDefaults()
	}
	memory := flags.Int("memory", 2048, "of the guest, in MB")
	env := flags.String("env", "", "more of the environment, NAME=VALUE separated by commas")
	timeout := flags.Duration("timeout", 20*time.Minute, "of the tests")
	get := flags.String("get", "", "files to fetch from the guest afterwards into the current folder, separated by commas")
	put := flags.String("put", "", "files to copy into the guest's /usr/local/bin before, separated by commas")
	if len(args) == 0 {
		args = []string{"help"}
	}
	verb := args[0]
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	cache, err := cacheFolder(ctx)
	if err != nil {
		return err
	}
	o := machine.Options{Memory: *memory, Shell: verb == "shell"}
	switch {
	case verb == "run" && flags.NArg() > 0, verb == "exec" && flags.NArg() == 1, verb == "shell":
	case verb == "build":
		image, err := machine.Build(ctx, cache)
		if err == nil {
			fmt.Println(filepath.Dir(image.Root))
		}
		return err
	default:
		flags.Usage()
		return errors.New("nothing to do")
	}
	vm, err := start(ctx, cache, o)
	if err != nil {
		return err
	}
	defer vm.Close()
	for _, file := range strings.FieldsFunc(*put, func(r rune) bool { return r == ',' }) {
		if err := vm.Put(ctx, file, "/usr/local/bin/"+filepath.Base(file)); err != nil {
			return err
		}
	}
	environment := strings.FieldsFunc(*env, func(r rune) bool { return r == ',' })
	switch verb {
	case "shell":
		vm.Wait()
		return nil
	case "exec":
		err = vm.Run(ctx, machine.Command{Args: []string{"/bin/sh", "-c", flags.Arg(0)}, Env: environment, Dir: "/root"}, os.Stdout)
	default:
		test := machine.Test{Package: flags.Arg(0), Timeout: *timeout, Env: environment, Args: testFlags(flags.Args()[1:])}
		err = vm.Test(ctx, test, os.Stdout)
	}
	for _, path := range strings.FieldsFunc(*get, func(r rune) bool { return r == ',' }) {
		content, failed := vm.Get(ctx, path)
		if failed == nil {
			failed = os.WriteFile(filepath.Base(path), content, 0o644)
		}
		err = errors.Join(err, failed)
	}
	return err
}

func start(ctx context.Context, cache string, o machine.Options) (*machine.VM, error) {
	image, err := machine.Build(ctx, cache)
	if err != nil {
		return nil, err
	}
	vm, err := machine.Boot(ctx, cache, image, o)
	if err != nil || o.Shell {
		return vm, err
	}
	fmt.Fprintf(os.Stderr, "vm: Linux %s by %s, up in %.1fs\n", vm.Kernel, vm.Accelerator, vm.Boot.Seconds())
	for _, w := range vm.Warnings {
		fmt.Fprintln(os.Stderr, "vm:", w)
	}
	return vm, nil
}

// cacheFolder lies at the top of the module.
func cacheFolder(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), ".cache/vm"), nil
}

// testFlags are those of go test, as the test binary calls them.
func testFlags(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		name := strings.TrimLeft(arg, "-")
		if name != arg && !strings.HasPrefix(name, "test.") {
			arg = "-test." + name
		}
		out[i] = arg
	}
	return out
}
