package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Names of what is pinned, by direction.
var pins = [2]string{"access_in", "access_out"}

// Attach puts the programs on the interface. Where an earlier run left links on
// the same interface they change to these programs, with no packet in between
// that isn't judged; devices that are to be known have to be added before. With
// an error nothing is attached by this Access. It is called once.
func (a *Access) Attach() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	err := a.attach()
	if err != nil {
		err = errors.Join(err, a.detach())
	}
	return err
}

func (a *Access) attach() error {
	a.pinned = a.config.Pins != "" && makePins(a.config.Pins) == nil
	for i, d := range []struct {
		program *ebpf.Program
		at      ebpf.AttachType
	}{{a.programs.AccessIn, ebpf.AttachTCXIngress}, {a.programs.AccessOut, ebpf.AttachTCXEgress}} {
		if a.config.clsact {
			break
		}
		l, err := a.takeOver(pins[i], d.program)
		if err != nil {
			return err
		}
		if l == nil {
			l, err = link.AttachTCX(link.TCXOptions{Interface: a.config.Interface, Program: d.program, Attach: d.at, Anchor: link.Head()})
			if errors.Is(err, link.ErrNotSupported) && i == 0 {
				break
			}
			if err != nil {
				return fmt.Errorf("attach to the interface: %w", err)
			}
			if a.pinned {
				if err := l.Pin(filepath.Join(a.config.Pins, pins[i])); err != nil {
					return errors.Join(fmt.Errorf("pin: %w", err), l.Close())
				}
			}
		}
		a.links = append(a.links, l)
	}
	if len(a.links) > 0 {
		return nil
	}
	var err error
	a.clsacted, err = attachClsact(a.config.Interface, a.programs.AccessIn, a.programs.AccessOut)
	return err
}

// takeOver has a link of an earlier run change to a program, if it is one of
// this interface; otherwise it goes.
func (a *Access) takeOver(name string, program *ebpf.Program) (link.Link, error) {
	if !a.pinned {
		return nil, nil
	}
	path := filepath.Join(a.config.Pins, name)
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, os.Remove(path) // whatever it is, it isn't ours to use
	}
	if info, err := l.Info(); err == nil {
		if tcx := info.TCX(); tcx != nil && int(tcx.Ifindex) == a.config.Interface && l.Update(program) == nil {
			return l, nil
		}
	}
	return nil, errors.Join(l.Unpin(), l.Close())
}

// Attached says how: "tcx, pinned", "tcx", "clsact", or nothing.
func (a *Access) Attached() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(a.links) > 0 && a.pinned:
		return "tcx, pinned"
	case len(a.links) > 0:
		return "tcx"
	case a.clsacted != nil:
		return "clsact"
	}
	return ""
}

func (a *Access) detach() error {
	var errs []error
	for _, l := range a.links {
		if a.pinned {
			errs = append(errs, l.Unpin())
		}
		errs = append(errs, l.Close())
	}
	a.links = nil
	if a.clsacted != nil {
		errs = append(errs, a.clsacted.detach())
		a.clsacted = nil
	}
	if a.pinned {
		errs = append(errs, Clear(a.config.Pins))
	}
	return errors.Join(errs...)
}

// Clear takes back what an earlier run left pinned, for whoever doesn't take it
// over. It isn't an error if there is nothing.
func Clear(folder string) error {
	var errs []error
	for _, name := range append(pins[:], "") {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makePins makes the folder, in a bpffs only.
func makePins(folder string) error {
	var fs unix.Statfs_t
	parent := filepath.Dir(folder)
	for {
		err := unix.Statfs(parent, &fs)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOENT) || parent == filepath.Dir(parent) {
			return err
		}
		parent = filepath.Dir(parent)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not in a bpffs", folder)
	}
	return os.MkdirAll(folder, 0o700)
}
