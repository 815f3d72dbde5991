package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// staging is where an init makes its files before they appear: what a crash
// leaves is either nothing that counts, and the next init throws it away, or
// complete, and the next init moves it into place.
//
// It is a folder beside the configuration and, for a new CA on what may be
// another file system, one beside the CA's, which configurations elsewhere may
// share. Until the file stagingDone is in the first one nothing outside of the two
// has changed.
type staging struct {
	final initPaths
	// dir takes what belongs beside the configuration; pki is the CA's folder, in
	// place where there is one already.
	dir, pki string
	// before is what the configuration was, nil for none.
	before []byte
	// held are the folders, locked: dir, and the one beside the CA's if it is
	// another one and we may write there.
	held []heldFolder
}

const (
	stagingName = ".init"
	// stagingDone says that all is made: a promise, in JSON.
	stagingDone = ".done"
	// stagingFor is beside a staged CA and names the folder beside the
	// configuration that it belongs to, where that is another one.
	stagingFor = ".for"
)

// promise of an init that has made all its files: the next one moves them.
type promise struct {
	// Configuration is the file that it makes or changes.
	Configuration string `json:"configuration"`
	// Replaces is the SHA-256 of the one that was there, in hexadecimal; nothing
	// for none.
	Replaces string `json:"replaces,omitempty"`
	// CA is the folder that the staged CA goes to; nothing where none was made.
	CA string `json:"ca,omitempty"`
}

// errFinished: an init before this one was interrupted when all its files were
// made, and is in force now.
var errFinished = errors.New("finished what an interrupted init had made")

// staged has write make the files of an init; it commits.
func staged(w io.Writer, final initPaths, write func(*staging) error) error {
	s, err := stage(final)
	if errors.Is(err, errFinished) {
		fmt.Fprintf(w, "configuration  %s\n\nThat %v.\n", final.file, err)
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return hinted{err, "Run it as root, or write to a folder of yours with --dir."}
	}
	if err != nil {
		return err
	}
	return errors.Join(write(s), s.drop())
}

// adding has write make the files of an init that adds to a configuration, in the
// folder of --dir.
func adding(c *cobra.Command, g *global, dir string, write func(io.Writer, *staging) error) error {
	p, err := pathsIn(dir, g, c.Flags().Changed("config"))
	if err != nil {
		return err
	}
	return staged(c.OutOrStdout(), p, func(s *staging) error {
		if err := write(c.OutOrStdout(), s); err != nil {
			return err
		}
		return s.commit()
	})
}

// stage begins an init; with errFinished there is nothing left to do.
func stage(final initPaths) (_ *staging, err error) {
	if final.file, err = filepath.Abs(final.file); err != nil {
		return nil, err
	}
	if final.pki, err = filepath.Abs(final.pki); err != nil {
		return nil, err
	}
	s := &staging{final: final, dir: filepath.Join(filepath.Dir(final.file), stagingName)}
	defer func() {
		if err != nil {
			s.giveUp()
		}
	}()
	if err := s.hold(s.dir); err != nil {
		return nil, err
	}
	known, err := readPromise(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	promised := err == nil
	if known.CA != "" {
		s.final.pki = known.CA
	}
	// Where nobody may write no CA can be made; not every init makes one.
	if err := s.hold(s.pkiDir()); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return nil, err
	}
	if err := s.others(); err != nil {
		return nil, err
	}
	if promised {
		if err := s.move(known); err != nil {
			return nil, hinted{fmt.Errorf("finish an init that was interrupted: %w", err),
				"Its files are in " + s.dir + " and nowhere else: move yours away and try again, or remove that folder to forget them."}
		}
		return nil, errFinished
	}
	if err := s.clear(); err != nil {
		return nil, err
	}
	if s.before, err = os.ReadFile(s.final.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.before != nil {
		if err := ca.WriteFile(s.file(), s.before, 0o644, false); err != nil {
			return nil, err
		}
	}
	s.pki = final.pki
	if files, err := os.ReadDir(final.pki); errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		s.pki = s.stagedPKI()
	} else if err != nil {
		return nil, err
	}
	if s.pki == s.stagedPKI() && len(s.held) > 1 {
		if err := ca.WriteFile(filepath.Join(s.pkiDir(), stagingFor), []byte(s.dir), 0o600, false); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// file of the configuration as it grows.
func (s *staging) file() string { return filepath.Join(s.dir, filepath.Base(s.final.file)) }

// pkiDir is the folder beside the CA's; it is dir itself where all is in one.
func (s *staging) pkiDir() string { return filepath.Join(filepath.Dir(s.final.pki), stagingName) }

func (s *staging) stagedPKI() string { return filepath.Join(s.pkiDir(), filepath.Base(s.final.pki)) }

// fresh says that there is no configuration yet.
func (s *staging) fresh() error {
	if s.before == nil {
		return nil
	}
	return hinted{fmt.Errorf("%s is there already", s.final.file), "Nothing was changed. Move it away, or write elsewhere with --dir."}
}

// soFar is the configuration as it has grown, nil for none.
func (s *staging) soFar() ([]byte, error) {
	text, err := os.ReadFile(s.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// source of what the configuration names: here while it is being made.
func (s *staging) source(path string) string {
	if path == s.final.pki {
		return s.pki
	}
	if rel, ok := within(filepath.Dir(s.final.file), path); ok {
		if at := filepath.Join(s.dir, rel); exists(at) {
			return at
		}
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// named is a file that was made here as the configuration names it.
func (s *staging) named(path string) string {
	at := path
	if rel, ok := within(s.pkiDir(), path); ok && s.pki == s.stagedPKI() {
		at = filepath.Join(filepath.Dir(s.final.pki), rel)
	} else if rel, ok := within(s.dir, path); ok {
		at = filepath.Join(filepath.Dir(s.final.file), rel)
	}
	if rel, ok := within(filepath.Dir(s.final.file), at); ok {
		return rel
	}
	return at
}

// place is where a file that was made here will be.
func (s *staging) place(path string) string {
	at := s.named(path)
	if at == "" || filepath.IsAbs(at) {
		return at
	}
	return filepath.Join(filepath.Dir(s.final.file), at)
}

func within(dir, path string) (string, bool) {
	if path == "" {
		return "", false
	}
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// absent is asked before anything is made: none of these is beside the
// configuration.
func (s *staging) absent(names ...string) error {
	for _, name := range names {
		path := filepath.Join(filepath.Dir(s.final.file), name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return hinted{errors.Join(fmt.Errorf("%s: %w", path, ca.ErrExists), err), "Nothing was changed. Move it away, or write elsewhere."}
		}
	}
	return nil
}

// commit moves everything to its place.
func (s *staging) commit() error {
	known, err := s.promise()
	if err != nil {
		return err
	}
	return s.move(known)
}

// promise to the next init that everything is here.
func (s *staging) promise() (p promise, err error) {
	entries, err := s.entries()
	if err != nil {
		return p, err
	}
	for _, name := range entries {
		if s.before == nil || name != filepath.Base(s.final.file) {
			if err := s.absent(name); err != nil {
				return p, err
			}
		}
	}
	p = promise{Configuration: s.final.file, Replaces: hashOf(s.before)}
	if s.pki == s.stagedPKI() && exists(s.pki) {
		p.CA = s.final.pki
	}
	text, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	return p, ca.WriteFile(filepath.Join(s.dir, stagingDone), text, 0o600, false)
}

func readPromise(dir string) (p promise, err error) {
	file := filepath.Join(dir, stagingDone)
	text, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func hashOf(content []byte) string {
	if content == nil {
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// entries to move, the configuration last.
func (s *staging) entries() ([]string, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	config := filepath.Base(s.final.file)
	for _, e := range list {
		// A file that was being written has a dot before its name (ca.WriteFile).
		if name := e.Name(); name[0] != '.' && name != config && filepath.Join(s.dir, name) != s.stagedPKI() {
			names = append(names, name)
		}
	}
	if slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == config }) {
		names = append(names, config)
	}
	return names, nil
}

// move what is complete; it goes on where it was interrupted.
func (s *staging) move(known promise) error {
	if known.CA != "" {
		if err := s.moveCA(); err != nil {
			return err
		}
	}
	entries, err := s.entries()
	if err != nil {
		return err
	}
	configDir := filepath.Dir(s.final.file)
	for _, name := range entries {
		if name == filepath.Base(s.final.file) {
			err = s.moveConfig(known)
		} else {
			err = moveNew(filepath.Join(s.dir, name), filepath.Join(configDir, name))
		}
		if err != nil {
			return err
		}
	}
	return s.remove()
}

// moveCA to its place, if it isn't there yet.
func (s *staging) moveCA() error {
	if !exists(s.stagedPKI()) {
		if files, err := os.ReadDir(s.final.pki); err != nil || len(files) == 0 {
			return fmt.Errorf("the CA is neither in %s nor in %s: %w", s.stagedPKI(), s.final.pki, errLost)
		}
		return nil
	}
	// Takes an empty folder away, and nothing else.
	if err := os.Remove(s.final.pki); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", s.final.pki, ca.ErrExists)
	}
	return moveNew(s.stagedPKI(), s.final.pki)
}

// moveConfig into place, over the one that it was made from and no other.
func (s *staging) moveConfig(known promise) error {
	if known.Replaces == "" {
		return moveNew(s.file(), s.final.file)
	}
	now, err := os.ReadFile(s.final.file)
	if err != nil {
		return err
	}
	if hashOf(now) != known.Replaces {
		return fmt.Errorf("%s: %w", s.final.file, errChanged)
	}
	var of unix.Stat_t
	if err := unix.Stat(s.final.file, &of); err != nil {
		return &fs.PathError{Op: "stat", Path: s.final.file, Err: err}
	}
	if err := os.Chmod(s.file(), fs.FileMode(of.Mode&0o777)); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(s.file(), int(of.Uid), int(of.Gid)); err != nil {
			return err
		}
	}
	if err := os.Rename(s.file(), s.final.file); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(s.final.file))
}

var (
	errChanged = errors.New("changed since")
	errLost    = errors.New("somebody removed it")
)

// moveNew overwrites nothing.
func moveNew(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = ca.ErrExists
		}
		return fmt.Errorf("%s: %w", to, err)
	}
	return syncFolder(filepath.Dir(to))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
