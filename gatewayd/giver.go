package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// giver makes a user the owner of files. It goes from folder to folder by
// descriptors and gives what it has open, not what a name stands for: whoever owns
// a folder on the way may put a symbolic link in the place of anything there, at
// any time.
type giver struct {
	// uid and gid of the new owner; -1 for a group that stays.
	uid, gid int
	// anybodys: what belongs to others than root too.
	anybodys bool
}

// mostDepth is how many folders below one that is given are looked into: what root
// makes for a role lies less deep, and the role could make any number.
const mostDepth = 8

// mostLinks that a path may have, as many as the kernel follows.
const mostLinks = 40

var (
	errLink  = errors.New("a symbolic link where others than root could have put it")
	errNames = errors.New("the file has other names (hard links)")
	errKind  = errors.New("not a regular file")
)

// node is a file that is open by O_PATH: a descriptor that says what it is, and
// goes on meaning the same.
type node struct {
	fd   int
	path string
	unix.Stat_t
}

// openNode opens a name in a folder, a symbolic link as such.
func openNode(dir int, name, path string) (*node, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	n := &node{fd: fd, path: path}
	if err := unix.Fstat(fd, &n.Stat_t); err != nil {
		n.close()
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return n, nil
}

func (n *node) close() { unix.Close(n.fd) }

func (n *node) is(kind uint32) bool { return n.Mode&unix.S_IFMT == kind }

// ours: a folder where nobody but root, and who runs this, can put anything.
func (n *node) ours() bool {
	return (n.Uid == 0 || int(n.Uid) == os.Geteuid()) && n.Mode&0o022 == 0
}

// target of a symbolic link.
func (n *node) target() (string, error) {
	b := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(n.fd, "", b)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: n.path, Err: err}
	}
	return string(b[:size]), nil
}

// openPath opens an absolute path; symbolic links are followed in folders of ours
// only. Unless mode is zero, folders that miss are made: the last one with it, the
// others for everybody to look into.
func openPath(path string, mode fs.FileMode) (*node, error) {
	names := strings.Split(path, "/")
	here, err := openNode(unix.AT_FDCWD, "/", "/")
	if err != nil {
		return nil, err
	}
	for links := 0; len(names) > 0; {
		name := names[0]
		names = names[1:]
		if name == "" || name == "." {
			continue
		}
		at := filepath.Join(here.path, name)
		next, err := openNode(here.fd, name, at)
		if errors.Is(err, fs.ErrNotExist) && mode != 0 {
			as := fs.FileMode(0o755)
			if len(names) == 0 {
				as = mode
			}
			if err = unix.Mkdirat(here.fd, name, uint32(as)); err == nil || errors.Is(err, fs.ErrExist) {
				next, err = openNode(here.fd, name, at)
			}
		}
		if err != nil {
			here.close()
			return nil, err
		}
		if !next.is(unix.S_IFLNK) {
			here.close()
			here = next
			continue
		}
		to, err := next.target()
		next.close()
		if links++; err == nil && (links > mostLinks || !here.ours()) {
			err = fmt.Errorf("%s: %w", at, errLink)
		}
		if err == nil && filepath.IsAbs(to) {
			here.close()
			here, err = openNode(unix.AT_FDCWD, "/", "/")
			if err != nil {
				return nil, err
			}
		}
		if err != nil {
			here.close()
			return nil, err
		}
		names = append(strings.Split(to, "/"), names...)
	}
	return here, nil
}

// openFile opens the file of a path, which may be a symbolic link.
func openFile(path string) (*node, error) {
	dir, err := openPath(filepath.Dir(path), 0)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	return openNode(dir.fd, filepath.Base(path), path)
}

// one gives the file itself. A symbolic link is nobody's to use, and a file with
// other names may be of use elsewhere.
func (g giver) one(n *node) error {
	switch {
	case n.is(unix.S_IFLNK), int(n.Uid) == g.uid, n.Uid != 0 && !g.anybodys:
		return nil
	case !n.is(unix.S_IFDIR) && n.Nlink > 1:
		return fmt.Errorf("%s: %w", n.path, errNames)
	}
	if err := unix.Fchownat(n.fd, "", g.uid, g.gid, unix.AT_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "chown", Path: n.path, Err: err}
	}
	return nil
}

// tree gives a folder and what is in it; the key of the root CA stays whose it is.
func (g giver) tree(n *node) error { return g.within(n, mostDepth) }

func (g giver) within(n *node, depth int) error {
	if err := g.one(n); err != nil {
		return err
	}
	if !n.is(unix.S_IFDIR) || depth == 0 {
		return nil
	}
	fd, err := unix.Openat(n.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: n.path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), n.path)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if name == "root.key" || name == "root.p12" {
				continue
			}
			if err := g.named(n, name, depth-1); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
}

func (g giver) named(dir *node, name string, depth int) error {
	n, err := openNode(dir.fd, name, filepath.Join(dir.path, name))
	if err != nil {
		return err
	}
	defer n.close()
	return g.within(n, depth)
}
