package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// instanceLock makes sure that one of a role runs with a runtime folder. The
// kernel lets go of it when the process ends, however it ends.
type instanceLock struct{ file *os.File }

var errSecondInstance = errors.New("is running")

// lockInstance takes the lock, or says who has it.
func lockInstance(dir, role string) (*instanceLock, error) {
	path := filepath.Join(dir, role+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, hinted{fmt.Errorf("another %s %w with runtime_dir %s (pid %s)", role, errSecondInstance, dir, strings.TrimSpace(string(pid))),
			"End it first, or give this one a runtime_dir of its own."}
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &instanceLock{f}, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// release lets a successor in. The file stays: removing it would let two have
// "the" lock.
func (l *instanceLock) release() { l.file.Close() }
