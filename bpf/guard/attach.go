package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The link is pinned under the name of its mode: the kernel doesn't tell that.
func linkName(m Mode) string { return "link-" + m.String() }

// attach puts the program on the interface.
func (g *Guard) attach(cfg *Config) error {
	if cfg.Dir != "" {
		g.takeOver(cfg)
	}
	if g.link != nil {
		return nil
	}
	err := g.attachNew(cfg)
	if err == nil {
		return nil
	}
	// Who holds the interface may be a former daemon's, pinned in another folder.
	switch found, lookErr := Displace(cfg.Interface, cfg.Locals); {
	case found:
		return g.attachNew(cfg)
	case lookErr != nil:
		return errors.Join(err, lookErr)
	}
	return err
}

// takeOver puts the program in the place of a predecessor's. A link of another
// interface, or in a mode that isn't wanted, is taken away.
func (g *Guard) takeOver(cfg *Config) {
	for _, mode := range []Mode{Native, Generic} {
		path := filepath.Join(cfg.Dir, linkName(mode))
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			continue
		}
		wanted := g.link == nil && (cfg.Mode == mode || cfg.Mode == Auto)
		if wanted && linkedTo(l, cfg.Interface) && l.Update(g.objects.Guard) == nil {
			g.link, g.mode, g.took = l, mode, true
			continue
		}
		_ = discard(l, path)
	}
}

// discard a pinned link. The kernel takes the program off some time after the
// last reference is gone; detaching doesn't wait for that (5.9).
func discard(l link.Link, path string) error {
	return errors.Join(l.Detach(), os.Remove(path), l.Close())
}

// linkedTo: the interface of a link may be gone, and its index another's.
func linkedTo(l link.Link, index int) bool {
	info, err := l.Info()
	if err != nil || info.XDP() == nil {
		return false
	}
	return int(info.XDP().Ifindex) == index
}

// attachNew tries native XDP first.
func (g *Guard) attachNew(cfg *Config) error {
	var errs []error
	for _, m := range []struct {
		mode  Mode
		flags link.XDPAttachFlags
	}{{Native, link.XDPDriverMode}, {Generic, link.XDPGenericMode}} {
		if cfg.Mode != Auto && cfg.Mode != m.mode {
			continue
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: g.objects.Guard, Interface: cfg.Interface, Flags: m.flags})
		if err == nil {
			g.link, g.mode, g.reason = l, m.mode, errors.Join(errs...)
			return nil
		}
		errs = append(errs, fmt.Errorf("%v XDP: %w", m.mode, err))
	}
	return fmt.Errorf("%w: %w", ErrAttach, errors.Join(errs...))
}

// Pin keeps link and SPIs beyond this process, in Config.Dir. A guard that took
// over is pinned already, and only its table may be new. With an error the
// filter goes on, and ends with the daemon unless it took over.
func (g *Guard) Pin() error {
	if g.dir == "" || g.pinned {
		return nil
	}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	if err := g.spis.pin(g.dir); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	if !g.took {
		if err := g.link.Pin(filepath.Join(g.dir, linkName(g.mode))); err != nil {
			return fmt.Errorf("pin the link: %w", err)
		}
	}
	g.pinned = true
	return g.sweep(g.dir)
}

// sweep removes tables of other layouts.
func (g *Guard) sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "spis-") && e.Name() != spisName(spisLayout) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clear takes away what a guard left in dir: packets pass as if it had never
// been. It says whether there was anything. A folder that isn't there is no
// error.
func Clear(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	found := false
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "spis-") && !strings.HasPrefix(e.Name(), "link-") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil { // a table
			err = os.Remove(path)
		} else {
			err = discard(l, path)
		}
		if err != nil {
			return found, err
		}
		found = true
	}
	_ = os.Remove(dir) // unless somebody else has files there
	return found, nil
}

// Pinnable says whether a folder, or the one that it is to be made in, is in a
// BPF file system.
func Pinnable(dir string) bool {
	for range 2 {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil {
			return fs.Type == unix.BPF_FS_MAGIC
		}
		dir = filepath.Dir(dir)
	}
	return false
}
