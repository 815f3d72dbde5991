package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const journalVersion = 1

// maxJournal is more than any journal has: a few hundred octets for each pool
// and interface.
const maxJournal = 4 << 20

// journal is what has to be taken back. The whole of it is written before the
// first change, so a change in it may have been made or not: taking back looks
// first.
type journal struct {
	Version int `json:"version"`
	// BootID and Namespace say whose values these are.
	BootID    string `json:"boot_id"`
	Namespace uint64 `json:"namespace"` // inode of the network namespace
	// TUN and Index: an interface is the one of that run if both are right.
	TUN   string `json:"tun"`
	Index int    `json:"index"`
	// Changes in the order in which they are made.
	Changes []change `json:"changes"`
}

func newJournal(tun netlink.Link) (journal, error) {
	boot, err := readSysctl("kernel/random/boot_id")
	if err != nil {
		return journal{}, err
	}
	var namespace unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &namespace); err != nil {
		return journal{}, fmt.Errorf("network namespace: %w", err)
	}
	return journal{
		Version: journalVersion, BootID: boot, Namespace: namespace.Ino,
		TUN: tun.Attrs().Name, Index: tun.Attrs().Index,
	}, nil
}

// tun returns the interface of that run, nil if it is gone.
func (j *journal) tun() (netlink.Link, error) {
	l, err := byName(j.TUN)
	if errors.Is(err, ErrNoInterface) {
		return nil, nil
	}
	if err != nil || l.Attrs().Index != j.Index {
		return nil, err
	}
	return l, nil
}

// takeBack takes the changes back, last first, and leaves those that it could
// not in the journal.
func (j *journal) takeBack() error {
	tun, err := j.tun()
	if err != nil {
		return err
	}
	var errs []error
	var left []change
	for _, c := range slices.Backward(j.Changes) {
		if err := c.takeBack(tun); err != nil {
			errs = append(errs, err)
			left = append(left, c)
		}
	}
	slices.Reverse(left)
	j.Changes = left
	return errors.Join(errs...)
}

// removeTUN removes the interface of that run if it has outlived it.
func (j *journal) removeTUN() error {
	l, err := j.tun()
	if l == nil || err != nil || l.Type() != "tuntap" && l.Type() != "xfrm" {
		return err
	}
	if err := netlink.LinkDel(l); err != nil {
		return fmt.Errorf("remove interface %q: %w", j.TUN, err)
	}
	return nil
}

// write replaces the file at path as a whole and waits until it is on disk.
func (j *journal) write(path string) error {
	data, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		os.Remove(path + ".new")
		return fmt.Errorf("journal: %w", err)
	}
	if err := syncDir(path); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func readJournal(path string) (journal, error) {
	f, err := os.Open(path)
	if err != nil {
		return journal{}, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return journal{}, fmt.Errorf("journal: %w", err)
	}
	j, err := parseJournal(data)
	if err != nil {
		return journal{}, fmt.Errorf("%w: %s: %w", ErrJournal, path, err)
	}
	return j, nil
}

func parseJournal(data []byte) (journal, error) {
	var j journal
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil {
		return journal{}, err
	}
	if j.Version != journalVersion {
		return journal{}, fmt.Errorf("version %d, expected %d", j.Version, journalVersion)
	}
	for i, c := range j.Changes {
		if err := c.validate(); err != nil {
			return journal{}, fmt.Errorf("change %d: %w", i, err)
		}
	}
	return j, nil
}

func remove(path string) error {
	if err := errors.Join(os.Remove(path), syncDir(path)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// syncDir waits until the directory that holds path is on disk.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// acquire makes this process the owner of the journal until the file is closed
// or the process ends. The journal itself can't be locked: it is replaced.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrInUse, path)
		}
		return nil, fmt.Errorf("lock %s.lock: %w", path, err)
	}
	return f, nil
}

// validSysctl keeps a journal from naming any other file.
func validSysctl(path string) bool {
	return filepath.IsLocal(path) && filepath.Clean(path) == path && strings.HasPrefix(path, "net/")
}
