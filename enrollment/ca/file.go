package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteFile writes a file so that a crash leaves the old content or the new
// one, never a part: temporary file, fsync, rename, fsync of the directory.
// Without replace an existing file is an ErrExists, even against a writer at
// the same moment; with it the owner stays, so that a daemon that runs as
// another user can read its renewed key.
func WriteFile(path string, data []byte, mode fs.FileMode, replace bool) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+strings.TrimPrefix(name, ".")+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if replace {
		if err := keepOwner(f, path); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if replace {
		err = os.Rename(f.Name(), path)
	} else if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func keepOwner(f *os.File, path string) error {
	var old, ours unix.Stat_t
	err := unix.Lstat(path, &old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := unix.Fstat(int(f.Fd()), &ours); err != nil {
		return err
	}
	if old.Uid == ours.Uid && old.Gid == ours.Gid {
		return nil
	}
	err = f.Chown(int(old.Uid), int(old.Gid))
	if old.Uid == ours.Uid && errors.Is(err, fs.ErrPermission) {
		return nil // a daemon's own file, of a group that it isn't in
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
