// Package machine makes the virtual machine of the tests from packages of the
// distribution, boots it with QEMU and runs programs in it. See the comment of
// command integration/vm for what the guest is like.
//
// Nothing here needs root, and nothing of the guest touches the host but
// through the virtio-serial port of integration/vm/wire.
package machine

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/vm/wire"
)

const qemu = "qemu-system-x86_64"

// ErrGone says that the machine ended, by itself or by Close.
var ErrGone = errors.New("the virtual machine is gone")

// Options of a boot. The zero value is what the tests run in.
type Options struct {
	// Memory in MB; 2048 where zero.
	Memory int
	// Shell on the terminal of this process instead of programs by Run.
	Shell bool
}

// VM is a running machine. Its methods may be called from one goroutine at a
// time, Close from any.
type VM struct {
	// Kernel release of the guest, Accelerator "kvm" or "tcg", Boot how long it
	// took until the guest answered, Warnings what failed in it until then.
	Kernel, Accelerator string
	Boot                time.Duration
	Warnings            []string

	dir      string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when QEMU has ended
	port     *os.File
	requests *gob.Encoder
	replies  *gob.Decoder
	compiled map[string]bool // by path in the guest
	close    sync.Once
}

// Boot starts the image. Where the host has /dev/kvm it is tried first; a host
// on which that fails is remembered in the cache until it is started anew. The
// machine ends with ctx, with Close, and with this process.
func Boot(ctx context.Context, cache string, image *Image, o Options) (*VM, error) {
	var failed error
	for _, accelerator := range accelerators(cache) {
		vm, err := boot(ctx, cache, image, o, accelerator)
		if err == nil {
			return vm, nil
		}
		failed = errors.Join(failed, fmt.Errorf("booting with %s: %w", accelerator, err))
		if accelerator == "kvm" && ctx.Err() == nil {
			failed = errors.Join(failed, os.WriteFile(noKVM(cache), hostBoot(), 0o644))
		}
	}
	return nil, failed
}

func noKVM(cache string) string { return filepath.Join(cache, "no-kvm") }

// hostBoot differs each time the host is started.
func hostBoot() []byte {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without one, all are alike
	return id
}

func accelerators(cache string) []string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return []string{"tcg"}
	}
	f.Close()
	if before, err := os.ReadFile(noKVM(cache)); err == nil && bytes.Equal(before, hostBoot()) {
		return []string{"tcg"}
	}
	return []string{"kvm", "tcg"}
}

// patience with a boot. Emulation is slow where others use the processors.
func patience(accelerator string) time.Duration {
	if accelerator == "kvm" {
		return 20 * time.Second
	}
	return 3 * time.Minute
}

func boot(ctx context.Context, cache string, image *Image, o Options, accelerator string) (_ *VM, err error) {
	dir, err := os.MkdirTemp(cache, "making-vm-")
	if err != nil {
		return nil, err
	}
	vm := &VM{dir: dir, Accelerator: accelerator, ended: make(chan struct{}), compiled: map[string]bool{}}
	initrd, err := withGuest(ctx, dir, image.Root)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	began := time.Now()
	if err := vm.start(image.Kernel, initrd, o); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	context.AfterFunc(ctx, func() { _ = vm.Close() })
	if o.Shell {
		return vm, nil
	}
	late := time.AfterFunc(patience(accelerator), vm.kill)
	hello, err := vm.reply()
	if !late.Stop() && err == nil {
		err = ErrGone
	}
	if err == nil && hello.Hello == nil {
		err = errors.New("it didn't begin with Hello")
	}
	if err != nil {
		return nil, errors.Join(err, vm.Close())
	}
	vm.Kernel, vm.Warnings, vm.Boot = hello.Hello.Kernel, hello.Hello.Warnings, time.Since(began)
	return vm, nil
}

// withGuest writes the initramfs of one boot: the image, and behind it the
// guest's first process as it is now.
func withGuest(ctx context.Context, dir, root string) (path string, err error) {
	program := filepath.Join(dir, "guest")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", program, "github.com/roamgate/roamgate/integration/vm/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if _, err := run(build); err != nil {
		return "", err
	}
	guest, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	in, err := os.Open(root)
	if err != nil {
		return "", err
	}
	defer in.Close()
	path = filepath.Join(dir, "initrd")
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	a := &archive{w: out}
	a.add("init", cpioFile, 0o755, guest)
	return path, errors.Join(err, a.close(), out.Close())
}

func (vm *VM) start(kernel, initrd string, o Options) error {
	memory := o.Memory
	if memory == 0 {
		memory = 2048
	}
	accelerator, words := vm.Accelerator, "console=ttyS0 panic=-1 oops=panic quiet"
	if accelerator == "tcg" {
		accelerator = "tcg,thread=single"
	}
	vm.cmd = exec.Command(qemu, "-M", "q35", "-accel", accelerator, "-cpu", "max",
		"-smp", "1", "-m", fmt.Sprint(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", kernel, "-initrd", initrd)
	if vm.Accelerator == "tcg" {
		// Guest time is a count of instructions, a nanosecond each, and leaps
		// while nothing runs: however busy the host is, no test in the guest
		// sees it, and what waits doesn't take long. It takes one processor:
		// with two, QEMU 7.2 breaks the kernel's cmpxchg16b.
		vm.cmd.Args = append(vm.cmd.Args, "-icount", "shift=0,sleep=off", "-rtc", "clock=vm")
	}
	if o.Shell {
		words += " roamgate.shell"
		vm.cmd.Args = append(vm.cmd.Args, "-serial", "stdio")
		vm.cmd.Stdin, vm.cmd.Stdout = os.Stdin, os.Stdout
	} else {
		ours, theirs, err := pair()
		if err != nil {
			return err
		}
		defer theirs.Close()
		vm.port = ours
		vm.requests, vm.replies = gob.NewEncoder(ours), gob.NewDecoder(ours)
		vm.cmd.ExtraFiles = []*os.File{theirs} // becomes 3
		vm.cmd.Args = append(vm.cmd.Args, "-serial", "file:"+vm.console(),
			"-device", "virtio-serial-pci", "-chardev", "socket,id=port,fd=3",
			"-device", "virtserialport,chardev=port,name="+wire.Port)
	}
	vm.cmd.Args = append(vm.cmd.Args, "-append", words)
	log, err := os.Create(filepath.Join(vm.dir, "qemu.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	vm.cmd.Stderr = log
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !o.Shell}
	started := make(chan error)
	go vm.watch(started)
	return <-started
}

// watch starts QEMU and waits for its end. It keeps its thread, to whose life
// the parent-death signal is tied.
func (vm *VM) watch(started chan<- error) {
	runtime.LockOSThread()
	vm.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	err := vm.cmd.Start()
	started <- err
	if err == nil {
		_ = vm.cmd.Wait() // how it ends says nothing: the guest tells
	}
	close(vm.ended)
}

// pair is a connected pair of stream sockets.
func pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	// Non-blocking, so that Close ends a read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "port"), nil
}

func (vm *VM) console() string { return filepath.Join(vm.dir, "console") }

// kill ends QEMU.
func (vm *VM) kill() { _ = vm.cmd.Process.Kill() }

// Wait waits for the machine's end.
func (vm *VM) Wait() { <-vm.ended }

// Close ends the machine and removes its files. It is safe to call twice.
func (vm *VM) Close() (err error) {
	vm.close.Do(func() {
		if vm.port != nil {
			err = vm.port.Close()
		}
		vm.kill()
		<-vm.ended
		err = errors.Join(err, os.RemoveAll(vm.dir))
	})
	return err
}

// reply reads one; where there is none, the error holds the last that the
// machine wrote to its console.
func (vm *VM) reply() (wire.Reply, error) {
	var r wire.Reply
	if err := vm.replies.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %w\n%s", ErrGone, err, vm.lastWords())
	}
	return r, nil
}

func (vm *VM) lastWords() string {
	var words strings.Builder
	for _, name := range []string{filepath.Join(vm.dir, "qemu.log"), vm.console()} {
		if b, err := os.ReadFile(name); err == nil {
			words.Write(b[max(0, len(b)-3000):])
		}
	}
	return strings.TrimSpace(words.String())
}
