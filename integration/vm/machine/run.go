package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/roamgate/roamgate/integration/vm/wire"
)

// Command to run in the guest.
type Command struct {
	// Args begins with the program's path in the guest.
	Args []string
	// Env is added to the guest's own: PATH, HOME, TMPDIR.
	Env []string
	// Dir is made where it doesn't exist; / where empty.
	Dir   string
	Stdin []byte
}

// ExitError is the exit status of a program that failed: its own, or 128 and
// the signal that ended it.
type ExitError struct {
	Program string
	Status  int
}

func (e *ExitError) Error() string { return fmt.Sprintf("%s: exit status %d", e.Program, e.Status) }

// Run runs a program to its end and writes to out, as they come, its standard
// output and standard error. When ctx ends, the program is killed with all of
// its process group. The error is an *ExitError where the program failed.
func (vm *VM) Run(ctx context.Context, c Command, out io.Writer) error {
	return vm.ask(ctx, wire.Request{Run: &wire.Run{Args: c.Args, Env: c.Env, Dir: c.Dir, Stdin: c.Stdin}}, out)
}

// Get returns the content of a file of the guest.
func (vm *VM) Get(ctx context.Context, name string) ([]byte, error) {
	var content bytes.Buffer
	err := vm.ask(ctx, wire.Request{Get: &wire.Get{Path: name}}, &content)
	return content.Bytes(), err
}

// Put copies a file of the host, or a folder with all files in it, to a path of
// the guest. Permission bits are kept.
func (vm *VM) Put(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		return vm.putFile(ctx, p, path.Join(to, filepath.ToSlash(rel)))
	})
}

func (vm *VM) putFile(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	piece := make([]byte, wire.Chunk)
	for first := true; ; first = false {
		n, err := io.ReadFull(f, piece)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return err
		}
		if n > 0 || first {
			request := wire.Request{Put: &wire.Put{Path: to, Mode: uint32(info.Mode().Perm()), First: first, Data: piece[:n]}}
			if err := vm.ask(ctx, request, io.Discard); err != nil {
				return fmt.Errorf("%s: %w", to, err)
			}
		}
		if ended {
			return nil
		}
	}
}

// ask sends a request and reads replies until it is done.
func (vm *VM) ask(ctx context.Context, r wire.Request, out io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := vm.requests.Encode(r); err != nil {
		return fmt.Errorf("%w: %w\n%s", ErrGone, err, vm.lastWords())
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		// Fails where the machine is gone, and then so does the answer.
		_ = vm.requests.Encode(wire.Request{Signal: &wire.Signal{Number: int(syscall.SIGKILL)}})
	})
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	var failed error
	for {
		reply, err := vm.reply()
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		if reply.Done == nil {
			if _, err := out.Write(append(reply.Output, reply.Data...)); err != nil {
				failed = errors.Join(failed, err)
			}
			continue
		}
		failed = errors.Join(ctx.Err(), failed)
		if reply.Done.Error != "" {
			return errors.Join(failed, errors.New("in the virtual machine: "+reply.Done.Error))
		}
		if reply.Done.Status != 0 {
			failed = errors.Join(failed, &ExitError{Program: r.Run.Args[0], Status: reply.Done.Status})
		}
		return failed
	}
}
