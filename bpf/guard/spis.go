package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// spisLayout counts the layouts of the table of SPIs: a table of another layout
// isn't taken over.
const spisLayout = 1

// A BPF file system reserves names with dots.
func spisName(layout int) string { return fmt.Sprintf("spis-v%d", layout) }

// spiTable is the table of SPIs, the only map that outlives a daemon.
type spiTable struct {
	table *ebpf.Map
	// pinned: it is the one in the folder.
	pinned bool
}

type spiKey [4]byte

func keyOf(spi uint32) (k spiKey) {
	binary.BigEndian.PutUint32(k[:], spi)
	return k
}

// openSPIs takes over the pinned table; one of another size is copied, as far as
// there is room. The folder is not changed.
func openSPIs(dir string, spec *ebpf.MapSpec) (*spiTable, error) {
	old := pinnedSPIs(dir, spec)
	if old != nil && old.MaxEntries() == spec.MaxEntries {
		return &spiTable{table: old, pinned: true}, nil
	}
	fresh, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("table of %d SPIs: %w", spec.MaxEntries, err)
	}
	t := &spiTable{table: fresh}
	if old == nil {
		return t, nil
	}
	defer old.Close()
	list, err := (&spiTable{table: old}).list()
	if err != nil {
		fresh.Close()
		return nil, err
	}
	for _, err := range t.add(list) {
		if err != nil && !errors.Is(err, ErrFull) {
			fresh.Close()
			return nil, err
		}
	}
	return t, nil
}

// pinnedSPIs returns nil where there is no table that can be used.
func pinnedSPIs(dir string, spec *ebpf.MapSpec) *ebpf.Map {
	if dir == "" {
		return nil
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, spisName(spisLayout)), nil)
	if err != nil {
		return nil
	}
	if m.Type() != spec.Type || m.KeySize() != spec.KeySize || m.ValueSize() != spec.ValueSize || m.Flags() != spec.Flags {
		m.Close()
		return nil
	}
	return m
}

// pin puts the table into the folder, in place of what has its name.
func (t *spiTable) pin(dir string) error {
	if t.pinned {
		return nil
	}
	name := filepath.Join(dir, spisName(spisLayout))
	fresh := name + "-new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("table of SPIs: %w", err)
	}
	if err := t.table.Pin(fresh); err != nil {
		return fmt.Errorf("table of SPIs: %w", err)
	}
	if err := os.Rename(fresh, name); err != nil {
		return fmt.Errorf("table of SPIs: %w", err)
	}
	t.pinned = true
	return nil
}

func (t *spiTable) close() { _ = t.table.Close() }

// list all SPIs. Nobody else changes the table.
func (t *spiTable) list() ([]uint32, error) {
	var out []uint32
	var k spiKey
	var v uint32
	entries := t.table.Iterate()
	for entries.Next(&k, &v) {
		out = append(out, binary.BigEndian.Uint32(k[:]))
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list SPIs: %w", err)
	}
	return out, nil
}

// add in one system call where the kernel can (5.6); behind the first that
// doesn't fit, one by one.
func (t *spiTable) add(spis []uint32) []error {
	errs := make([]error, len(spis))
	keys, values := make([]spiKey, len(spis)), make([]uint32, len(spis))
	for i, spi := range spis {
		keys[i], values[i] = keyOf(spi), 1
	}
	done := 0
	if len(spis) > 1 {
		done, _ = t.table.BatchUpdate(keys, values, nil)
	}
	for i := done; i < len(spis); i++ {
		err := t.table.Put(keys[i], values[i])
		switch {
		case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOMEM):
			errs[i] = fmt.Errorf("SPI %08x: %w", spis[i], ErrFull)
		case err != nil:
			errs[i] = fmt.Errorf("SPI %08x: %w", spis[i], err)
		}
	}
	return errs
}

// remove passes over those that aren't there.
func (t *spiTable) remove(spis []uint32) error {
	keys := make([]spiKey, len(spis))
	for i, spi := range spis {
		keys[i] = keyOf(spi)
	}
	done := 0
	if len(spis) > 1 {
		done, _ = t.table.BatchDelete(keys, nil)
	}
	var first error
	for ; done < len(keys); done++ {
		if err := t.table.Delete(keys[done]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && first == nil {
			first = fmt.Errorf("remove SPI %08x: %w", spis[done], err)
		}
	}
	return first
}

// Add lets ESP of these SPIs pass, from the next packet on, and returns one
// error for each. Errors: ErrFull.
func (g *Guard) Add(spis []uint32) []error { return g.spis.add(spis) }

// Remove ends what Add began; unknown SPIs are passed over. With an error, the
// others are removed all the same.
func (g *Guard) Remove(spis []uint32) error { return g.spis.remove(spis) }

// Retain removes those that keep doesn't say yes to: what a predecessor knew and
// this daemon doesn't. It returns how many. Nobody may call Add meanwhile.
func (g *Guard) Retain(keep func(spi uint32) bool) (int, error) {
	list, err := g.spis.list()
	if err != nil {
		return 0, err
	}
	gone := list[:0]
	for _, spi := range list {
		if !keep(spi) {
			gone = append(gone, spi)
		}
	}
	return len(gone), g.spis.remove(gone)
}
