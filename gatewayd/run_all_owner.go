package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/gatewayd/config"
)

// belongings are what a role that runs as a user of its own has to own.
type belongings struct {
	// public folders are made for everybody to look into, private ones with what is
	// in them for the role alone; files are keys that it reads.
	public, private, files []string
}

func gatewayBelongings(cfg *config.Config) belongings {
	b := belongings{public: []string{cfg.RuntimeDir}, private: []string{cfg.StateDir}}
	b.addKeys(cfg.Gateway.Identity.Credentials)
	b.files = append(b.files, cfg.Gateway.Management.Key)
	return b.at(cfg)
}

func serversBelongings(cfg *config.Config) belongings {
	e, m := &cfg.Enrollment, &cfg.Manager
	b := belongings{public: []string{m.RuntimeDir, e.CA.Dir}, private: []string{filepath.Dir(e.KeyFile), filepath.Dir(m.KeyFile)}}
	if e.Database.SQLite != "" {
		b.private = append(b.private, filepath.Dir(e.Database.SQLite))
	}
	for _, list := range [][]config.Credential{e.Credentials, e.Admin.Credentials, m.Credentials, m.Admin.Credentials} {
		b.addKeys(list)
	}
	b.files = append(b.files, m.Gateways.Key, e.CA.PassphraseFile)
	return b.at(cfg)
}

func (b *belongings) addKeys(list []config.Credential) {
	for _, c := range list {
		b.files = append(b.files, c.Key)
	}
}

// at makes the names paths.
func (b belongings) at(cfg *config.Config) belongings {
	for _, list := range [][]string{b.public, b.private, b.files} {
		for i := range list {
			if list[i] != "" {
				list[i] = cfg.Path(list[i])
			}
		}
	}
	return b
}

// give everything to the user; what is neither root's nor the user's stays whose it
// is. The key of the root CA stays root's.
func (b belongings) give(uid, gid int) error {
	var errs []error
	for _, dir := range b.public {
		errs = append(errs, giveTree(dir, 0o755, uid, gid))
	}
	for _, dir := range b.private {
		errs = append(errs, giveTree(dir, 0o700, uid, gid))
	}
	for _, file := range b.files {
		if file == "" {
			continue
		}
		errs = append(errs, giveOne(file, uid, gid))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give a role what is its own: %w", err)
	}
	return nil
}

func giveTree(dir string, mode fs.FileMode, uid, gid int) error {
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "root.key" || d.Name() == "root.p12" {
			return err
		}
		return giveOne(path, uid, gid)
	})
}

func giveOne(path string, uid, gid int) error {
	root, err := ownedByRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the role says what it misses
	}
	if err != nil || !root {
		return err
	}
	return os.Lchown(path, uid, gid)
}

func ownedByRoot(path string) (bool, error) {
	var of unix.Stat_t
	if err := unix.Lstat(path, &of); err != nil {
		return false, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return of.Uid == 0, nil
}
