package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// heldFolder keeps other inits out of a folder for as long as the file is open.
type heldFolder struct {
	*os.File
	// madeParent: the folder that it is in wasn't there.
	madeParent bool
}

// hold makes a folder and keeps other inits out for as long as this one works.
func (s *staging) hold(dir string) error {
	if slices.ContainsFunc(s.held, func(f heldFolder) bool { return f.Name() == dir }) {
		return nil
	}
	f, err := holdFolder(dir)
	if err != nil {
		return err
	}
	s.held = append(s.held, f)
	return nil
}

func holdFolder(dir string) (h heldFolder, err error) {
	parent := filepath.Dir(dir)
	h.madeParent = !exists(parent)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return h, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return h, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return h, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var held, named os.FileInfo
		held, err = f.Stat()
		if err == nil {
			named, err = os.Stat(dir)
		}
		if err == nil && os.SameFile(held, named) {
			h.File = f
			return h, nil
		}
	}
	return h, errors.Join(fmt.Errorf("another init is at work in %s", dir), f.Close())
}

func (s *staging) release() {
	for _, f := range s.held {
		f.Close()
	}
}

// giveUp what is held: folders that are empty go.
func (s *staging) giveUp() {
	for _, f := range s.held {
		_ = os.Remove(f.Name())
		if f.madeParent {
			_ = os.Remove(filepath.Dir(f.Name()))
		}
	}
	s.release()
}

// others says whether the interrupted init of another configuration needs what is
// in our folders.
func (s *staging) others() error {
	for _, f := range s.held {
		owner := f.Name()
		if text, err := os.ReadFile(filepath.Join(owner, stagingFor)); err == nil {
			owner = string(text)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		known, err := readPromise(owner)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has changed nothing
		}
		if err != nil {
			return err
		}
		if owner == s.dir && known.Configuration == s.final.file {
			continue // ours
		}
		return hinted{fmt.Errorf("an init for %s was interrupted, and what it made is in %s", known.Configuration, f.Name()),
			fmt.Sprintf("Finish it first: `gatewayd init --config %s`; or remove %s to forget it, with its CA.", known.Configuration, owner)}
	}
	return nil
}

// clear what is in the folders, keys among it. What is beside the CA goes first:
// as long as it is there, somebody says whose it is.
func (s *staging) clear() error {
	var errs []error
	for _, f := range slices.Backward(s.held) {
		entries, err := os.ReadDir(f.Name())
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.RemoveAll(filepath.Join(f.Name(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// remove the folders with what is in them.
func (s *staging) remove() error {
	errs := []error{s.clear()}
	for _, f := range slices.Backward(s.held) {
		errs = append(errs, os.Remove(f.Name()))
	}
	return errors.Join(errs...)
}

// drop forgets what was not committed; after commit there is nothing to forget.
func (s *staging) drop() error {
	defer s.release()
	if exists(filepath.Join(s.dir, stagingDone)) {
		return nil // the next init goes on
	}
	var err error
	if exists(s.dir) {
		err = s.remove()
	}
	for _, f := range s.held {
		if f.madeParent {
			_ = os.Remove(filepath.Dir(f.Name())) // only where it is empty
		}
	}
	return err
}
