package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/gatewayd/pki"
)

// someone is the user whom tests give to.
const someone = 4711

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
}

// put a file of root's, with its folders.
func put(t *testing.T, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name
}

func ownerIs(t *testing.T, uid int, paths ...string) {
	t.Helper()
	for _, path := range paths {
		var of unix.Stat_t
		if err := unix.Lstat(path, &of); err != nil {
			t.Errorf("%s: %v", path, err)
		} else if int(of.Uid) != uid {
			t.Errorf("%s is of %d, want %d", path, of.Uid, uid)
		}
	}
}

func giveAll(t *testing.T, dir string) error {
	t.Helper()
	n, err := openPath(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	return giver{uid: someone, gid: someone}.tree(n)
}

func TestGiverGivesATree(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	file, root, deep := put(t, mine, "a"), put(t, mine, "root.key"), put(t, mine, "b", "c", "d")
	outside := put(t, dir, "outside", "f")
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(mine, "link")); err != nil {
		t.Fatal(err)
	}
	if err := giveAll(t, mine); err != nil {
		t.Fatal(err)
	}
	ownerIs(t, someone, mine, file, deep, filepath.Dir(deep))
	ownerIs(t, 0, root, outside, filepath.Dir(outside), dir)
}

// Who owns the folder swaps one in it for a link to another one, all the time.
func TestGiverFollowsNoLink(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	theirs := filepath.Join(dir, "theirs")
	sub := filepath.Dir(put(t, theirs, "sub", "f"))
	victim := put(t, dir, "victim", "f")
	link := filepath.Join(theirs, "link")
	if err := os.Symlink(filepath.Dir(victim), link); err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, sub, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		}
	}()
	var err error
	for range 2000 {
		err = errors.Join(err, giveAll(t, theirs))
	}
	over.Store(true)
	<-done
	if err != nil {
		t.Error(err)
	}
	ownerIs(t, 0, victim, filepath.Dir(victim))
}

// Another name of a file that is root's doesn't make it the role's.
func TestGiverGivesNoFileWithOtherNames(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	victim := put(t, dir, "victim")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "theirs"), 0o755), os.Link(victim, filepath.Join(dir, "theirs", "f"))); err != nil {
		t.Fatal(err)
	}
	if err := giveAll(t, filepath.Join(dir, "theirs")); !errors.Is(err, errNames) {
		t.Errorf("%v", err)
	}
	ownerIs(t, 0, victim)
}

// Links of root's count, others don't.
func TestOpenPath(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	file := put(t, dir, "place", "f")
	theirs := filepath.Join(dir, "theirs")
	if err := errors.Join(
		os.Symlink("place", filepath.Join(dir, "link")), os.Symlink("round", filepath.Join(dir, "round")),
		os.Mkdir(theirs, 0o755), os.Symlink("../place", filepath.Join(theirs, "link")), os.Lchown(theirs, someone, someone),
	); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "link", "f"), nil},
		{filepath.Join(dir, "round", "f"), errLink},
		{filepath.Join(theirs, "link", "f"), errLink},
		{filepath.Join(dir, "none", "f"), fs.ErrNotExist},
	} {
		n, err := openPath(tt.path, 0)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.path, err, tt.want)
		}
		if err == nil {
			if n.path != file {
				t.Errorf("%s is %s, want %s", tt.path, n.path, file)
			}
			n.close()
		}
	}
	made, err := openPath(filepath.Join(dir, "a", "b"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	made.close()
	if info, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

// An init that gives the CA away goes by the same rules.
func TestInitGivesTheCA(t *testing.T) {
	needsRoot(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, root, issuing := put(t, dir, "server.key"), put(t, dir, "pki", "root.key"), put(t, dir, "pki", "issuing.key")
	f := &initEnrollmentFlags{owner: "nobody"}
	if err := f.give(pki.EnrollmentResult{ServerKey: key, Dir: filepath.Dir(root)}, false); err != nil {
		t.Fatal(err)
	}
	ownerIs(t, uid, key, issuing, filepath.Dir(issuing))
	ownerIs(t, 0, root)

	victim, theirs := put(t, dir, "victim", "pki", "f"), filepath.Join(dir, "theirs")
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.Symlink("../victim", filepath.Join(theirs, "link")), os.Lchown(theirs, someone, someone)); err != nil {
		t.Fatal(err)
	}
	if err := f.give(pki.EnrollmentResult{ServerKey: key, Dir: filepath.Join(theirs, "link", "pki")}, false); !errors.Is(err, errLink) {
		t.Errorf("%v", err)
	}
	ownerIs(t, 0, victim, filepath.Dir(victim))
}
