package main

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/vm/wire"
)

// server carries out requests. The reader goroutine hands it one after the
// other; signals it sends itself.
type server struct {
	mu      sync.Mutex // of what follows
	replies *gob.Encoder
	group   int // process group of the running program, 0 where none runs
}

// serve returns when the host has closed its end.
func serve(warnings []string) error {
	port, err := os.OpenFile(wire.Device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s := &server{replies: gob.NewEncoder(port)}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	hello := &wire.Hello{Kernel: unix.ByteSliceToString(name.Release[:]), Warnings: warnings}
	if err := s.reply(wire.Reply{Hello: hello}); err != nil {
		return err
	}
	work := make(chan wire.Request, 16)
	go func() {
		defer close(work)
		requests := gob.NewDecoder(port)
		for {
			var r wire.Request
			if err := requests.Decode(&r); err != nil {
				return
			}
			if r.Signal != nil {
				s.signal(r.Signal)
				continue
			}
			work <- r
		}
	}()
	for r := range work {
		done := &wire.Done{}
		err := errors.New("the guest doesn't know this request")
		switch {
		case r.Put != nil:
			err = put(r.Put)
		case r.Run != nil:
			done.Status, err = s.run(r.Run)
		case r.Get != nil:
			err = s.get(r.Get)
		}
		if err != nil {
			done.Error = err.Error()
		}
		if err := s.reply(wire.Reply{Done: done}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) reply(r wire.Reply) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replies.Encode(r)
}

// Write makes a server the output of a program.
func (s *server) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), wire.Chunk)
		if err := s.reply(wire.Reply{Output: rest[:n]}); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func put(p *wire.Put) error {
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o755); err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_WRONLY
	if p.First {
		flags |= os.O_TRUNC
	} else {
		flags |= os.O_APPEND
	}
	f, err := os.OpenFile(p.Path, flags, os.FileMode(p.Mode))
	if err != nil {
		return err
	}
	_, err = f.Write(p.Data)
	return errors.Join(err, f.Close())
}

// run returns the exit status; the error says that nothing ran.
func (s *server) run(r *wire.Run) (int, error) {
	if len(r.Args) == 0 {
		return 0, errors.New("no program named")
	}
	if r.Dir != "" {
		if err := os.MkdirAll(r.Dir, 0o755); err != nil {
			return 0, err
		}
	}
	cmd := exec.Command(r.Args[0], r.Args[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Dir = r.Dir
	cmd.Stdin = bytes.NewReader(r.Stdin)
	cmd.Stdout, cmd.Stderr = s, s // one pipe, so that both keep their order
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // orphans may hold the pipe open
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	s.setGroup(cmd.Process.Pid)
	err := cmd.Wait()
	s.setGroup(0)
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // whom it left behind
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

func (s *server) setGroup(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group = pid
}

func (s *server) signal(r *wire.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.group != 0 {
		_ = unix.Kill(-s.group, syscall.Signal(r.Number)) // it may have ended
	}
}

func (s *server) get(r *wire.Get) error {
	f, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, wire.Chunk)
	for {
		n, err := f.Read(piece)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.reply(wire.Reply{Data: piece[:n]}); err != nil {
			return err
		}
	}
}
