// Command guest is the first process of the virtual machine. It mounts what
// programs expect, loads modules, and hands a copy of itself the work: to carry
// out what the host asks for (integration/vm/wire). It itself reaps orphans,
// which a first process has to, and turns the machine off at the end.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// role of the second process.
const servant = "serve"

// shellWord on the kernel's command line asks for a shell on the console.
const shellWord = "roamgate.shell"

func main() {
	if len(os.Args) > 1 && os.Args[1] == servant {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the first process of the virtual machine of integration/vm, and of no other")
		os.Exit(2)
	}
	if err := beInit(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func beInit() error {
	warnings := prepare()
	child := exec.Command("/proc/self/exe", append([]string{servant}, warnings...)...)
	if words, err := os.ReadFile("/proc/cmdline"); err == nil && strings.Contains(string(words), shellWord) {
		child = exec.Command("/usr/lib/busybox/setsid", "/usr/lib/busybox/cttyhack", "/bin/sh", "-i")
		child.Stdin = os.Stdin
	}
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.Env = environment()
	if err := child.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case pid == child.Process.Pid:
			return nil
		}
	}
}

func environment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/lib/busybox",
		"HOME=/root", "TMPDIR=/tmp", "TERM=linux", "LANG=C.UTF-8",
	}
}

// mounts in their order.
var mounts = []struct{ kind, at, options string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"devpts", "/dev/pts", ""},
	{"tmpfs", "/dev/shm", ""},
	{"tmpfs", "/run", "mode=755"},
	{"tmpfs", "/tmp", "mode=1777,size=75%"},
	{"bpf", "/sys/fs/bpf", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
	{"debugfs", "/sys/kernel/debug", ""},
}

// modules that are there before anybody asks: the kernel finds all others by
// itself where a netlink request or a socket names them.
var modules = []string{
	"xfrm_user", "esp4", "esp6", "xfrm_interface", "veth", "tun", "dummy", "nf_tables",
}

// processor are modules that udev of a distribution loads because the processor
// can do it; a kernel that has them built in lacks the modules. SHA-512 is in each
// SA that the kernel makes: its generator of random numbers has it.
var processor = []string{"sha256-ssse3", "sha512-ssse3"}

// prepare returns what failed; the host tells it.
func prepare() (warnings []string) {
	complain := func(what string, err error) {
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: %v", what, err))
		}
	}
	for _, m := range mounts {
		complain("mkdir "+m.at, os.MkdirAll(m.at, 0o755))
		complain("mount "+m.at, unix.Mount(m.kind, m.at, m.kind, 0, m.options))
	}
	complain("PATH", os.Setenv("PATH", "/usr/sbin:/usr/bin:/usr/lib/busybox"))
	for _, m := range processor {
		_ = exec.Command("modprobe", m).Run()
	}
	for _, command := range [][]string{
		append([]string{"modprobe", "-a"}, modules...),
		{"ip", "link", "set", "lo", "up"},
		{"hostname", "vm"},
	} {
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		complain(strings.Join(command, " "), err)
	}
	return warnings
}
