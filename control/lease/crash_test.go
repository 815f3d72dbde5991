package lease

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

// sector is what a disk writes as a whole.
const sector = 512

// powerDisk is a journal's disk whose power can fail: only what was synced is in
// the file.
type powerDisk struct {
	rnd     *rand.Rand
	path    string
	durable []byte
	cache   map[int][]byte // sectors that were written and not synced
	failing int            // in a hundred
}

func newPowerDisk(t *testing.T, path string, rnd *rand.Rand) *powerDisk {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return &powerDisk{rnd: rnd, path: path, durable: b, cache: make(map[int][]byte)}
}

func (d *powerDisk) fails() bool { return d.rnd.IntN(100) < d.failing }

func (d *powerDisk) WriteAt(b []byte, at int64) (int, error) {
	for i := 0; i < len(b); i += sector {
		if d.failing > 0 && d.rnd.IntN(1000) == 0 {
			return i, syscall.ENOSPC
		}
		d.cache[int(at)+i] = bytes.Clone(b[i : i+sector])
	}
	return len(b), nil
}

// Sync that fails has written some of it.
func (d *powerDisk) Sync() error {
	if d.fails() {
		d.flush(d.rnd.IntN(100))
		return syscall.EIO
	}
	d.flush(100)
	return nil
}

func (d *powerDisk) flush(percent int) {
	for at, b := range d.cache {
		if d.rnd.IntN(100) >= percent {
			continue
		}
		if missing := at + sector - len(d.durable); missing > 0 {
			d.durable = append(d.durable, make([]byte, missing)...)
		}
		copy(d.durable[at:], b)
	}
	clear(d.cache)
}

func (d *powerDisk) Close() error { return nil }

// world drives a store as the registry does, and knows what the disk may say.
type world struct {
	*rand.Rand
	t       *testing.T
	dir     string
	n       int // of the store
	store   *store
	disk    *powerDisk
	failing atomic.Int64 // transactions, of a hundred
	broken  int          // syncs of the journal, of a hundred
	puts    *rand.Rand   // of transactions, of which there is one at a time
	before  []byte       // the lease file before the last transaction
	// acknowledged is what was written for sure; tried is what it may be instead,
	// after a failure: one of these.
	acknowledged map[key]change
	tried        []map[key]change
	unsaved      map[key]struct{}
	now          int64
	frames       int
	checkpoints  int
}

func (w *world) path() string { return filepath.Join(w.dir, fmt.Sprintf("%d.db", w.n)) }

// open opens what the disk says and looks whether it may say so.
func (w *world) open() {
	w.t.Helper()
	table := newTable([numFamilies]space{})
	s, err := openStore(w.path(), table, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	keys := make(map[key]struct{})
	for k := range table.leases {
		keys[k] = struct{}{}
	}
	got := entries(table, keys)
	for _, may := range append(w.tried, w.acknowledged) {
		may = maps.Clone(may)
		maps.DeleteFunc(may, func(_ key, c change) bool { return c.gone })
		if same(got, may) {
			w.acknowledged, w.tried = may, nil
			w.unsaved = make(map[key]struct{})
			w.store = s
			s.put, s.db.NoSync = w.put, true // bbolt's own syncs aren't what is tried
			return
		}
	}
	for i, may := range append(w.tried, w.acknowledged) {
		for k, c := range may {
			if g := got[k]; g.entry.device != c.entry.device || g.entry.since != c.entry.since {
				w.t.Errorf("%d of %d: %v: %+v, want %+v", i, len(w.tried), k.addr(), g.entry, c.entry)
			}
		}
	}
	w.t.FailNow()
}

// same but for being live, which nobody is after Open.
func same(a, b map[key]change) bool {
	return maps.EqualFunc(a, b, func(x, y change) bool {
		return x.entry.device == y.entry.device && x.entry.since == y.entry.since
	})
}

// put fails now and then, before or after it has written.
func (w *world) put(db *bbolt.DB, changes map[key]change, p position) error {
	b, err := os.ReadFile(db.Path())
	if err != nil {
		return err
	}
	w.before = b
	fails, after := w.puts.Int64N(100) < w.failing.Load(), w.puts.IntN(2) == 0
	if fails && !after {
		return syscall.EIO
	}
	if err := putChanges(db, changes, p); err != nil || fails {
		return errors.Join(err, syscall.EIO)
	}
	return nil
}

// write a batch: some devices move, each address is one device's.
func (w *world) write() {
	w.now++
	changes := make(map[key]change)
	for k := range w.unsaved {
		c, ok := w.acknowledged[k]
		changes[k] = change{gone: !ok || c.gone, entry: c.entry}
	}
	view := maps.Clone(w.acknowledged)
	set := func(k key, c change) {
		changes[k], view[k] = c, c
		w.unsaved[k] = struct{}{}
	}
	// One block, some, or more than half of the journal.
	most, name := 3, 1+w.IntN(2)*50
	switch w.IntN(50) {
	case 0:
		most, name = 200, 600
	case 1, 2, 3, 4, 5, 6, 7:
		most, name = 20, 600
	}
	for range 1 + w.IntN(most) {
		device := fmt.Sprintf("device-%0*d", name, w.IntN(40))
		k := keyOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(w.IntN(100))}))
		for other, c := range view {
			if c.entry.device == device {
				set(other, change{gone: true})
			}
		}
		set(k, change{entry: entry{device: device, since: w.now, used: w.now, live: w.IntN(2) == 0}})
	}
	if err := w.store.write(changes, w.now); err != nil {
		all := maps.Clone(w.acknowledged)
		maps.Copy(all, changes)
		w.tried = append(w.tried, all)
		return
	}
	maps.Copy(w.acknowledged, changes)
	clear(w.unsaved)
	w.tried = nil
	j := w.store.journal
	if j == nil {
		w.t.Fatal("no journal")
	}
	if w.disk == nil {
		j.disk.Close()
		w.disk = newPowerDisk(w.t, journalPath(w.path()), w.Rand)
		j.disk, j.half, j.end = w.disk, 4*frameAlign, 4*frameAlign
	}
	w.disk.failing = w.broken
	if j.sequence > 0 {
		w.frames++
	} else {
		w.checkpoints++
	}
}

// crash leaves what is on the disk, and some of what was on its way there.
func (w *world) crash() {
	w.t.Helper()
	fold := w.store.folded != nil
	_ = w.store.settle()
	file, err := os.ReadFile(w.path())
	if err != nil {
		w.t.Fatal(err)
	}
	if fold && w.IntN(2) == 0 {
		file = w.before // it hadn't come that far
	}
	if err := w.store.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	old := w.path()
	w.n++
	if err := os.WriteFile(w.path(), file, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if w.disk != nil {
		w.disk.flush(w.IntN(101))
		if err := os.WriteFile(journalPath(w.path()), w.disk.durable, 0o600); err != nil {
			w.t.Fatal(err)
		}
	} else if err := copyFile(journalPath(old), journalPath(w.path())); err != nil {
		w.t.Fatal(err)
	}
	w.disk = nil
	_ = errors.Join(os.Remove(old), os.Remove(journalPath(old)))
}

// Batches, writes and syncs that fail before or after they have written
// something, folds that fail, crashes at any of these, stops: the disk always
// says what was acknowledged, and of what wasn't all of a batch or nothing.
func TestStoreAgainstModel(t *testing.T) {
	events := 6000
	if testing.Short() {
		events = 1500
	}
	w := &world{
		Rand: rand.New(rand.NewPCG(7, 8)), puts: rand.New(rand.NewPCG(9, 10)), t: t, dir: t.TempDir(),
		acknowledged: make(map[key]change), unsaved: make(map[key]struct{}),
	}
	w.open()
	crashes, failed := 0, 0
	for range events {
		switch n := w.IntN(1000); {
		case n < 940:
			w.write()
			failed += min(1, len(w.tried))
		case n < 970:
			w.failing.Store([]int64{0, 5, 60, 100}[w.IntN(4)])
			if w.broken = []int{0, 0, 5, 60, 100}[w.IntN(5)]; w.disk != nil {
				w.disk.failing = w.broken
			}
		case n < 995:
			w.crash()
			w.open()
			crashes++
		default:
			w.failing.Store(0)
			w.broken = 0
			if w.disk != nil {
				w.disk.failing = 0
			}
			if len(w.unsaved) > 0 {
				w.write()
			}
			if err := errors.Join(w.store.finish(w.IntN(2) == 0, w.now), w.store.close()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(journalPath(w.path())); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("journal after a stop: %v", err)
			}
			w.disk = nil
			w.open()
		}
	}
	said := fmt.Sprintf("%d crashes, %d failed batches, %d frames, %d checkpoints", crashes, failed, w.frames, w.checkpoints)
	if crashes == 0 || failed == 0 || w.frames == 0 || w.checkpoints == 0 {
		t.Fatal(said)
	}
	t.Log(said)
}

// A stop after writes that failed doesn't mix what may be on disk of them with
// what was before.
func TestCloseAfterFailedWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	r := open(t, path, pool24)
	mustAcquire(t, r, "first", 1)
	mustAcquire(t, r, "moves", 2) // in the journal only
	r.End("moves", 2)
	fillDisk(t, r, true)
	if _, err := acquire(r, Request{Device: "new", Session: 3}); !errors.Is(err, ErrStore) {
		t.Fatal(err)
	}
	puts := 0
	err := r.do(func() {
		r.store.put = func(db *bbolt.DB, changes map[key]change, p position) error {
			puts++
			switch puts {
			case 1: // of the move: on disk, and nobody knows
				return errors.Join(putChanges(db, changes, p), syscall.EIO)
			case 2: // of Close
				return syscall.EIO
			}
			return putChanges(db, changes, p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquire(r, Request{Device: "moves", Session: 4, Want: netip.MustParseAddr("10.0.0.200")}); err != nil && !errors.Is(err, ErrStore) {
		t.Fatal(err)
	}
	if err := r.Close(); !errors.Is(err, ErrStore) || puts != 2 {
		t.Fatalf("%v after %d transactions", err, puts)
	}
	r = open(t, path, pool24)
	if g := mustAcquire(t, r, "moves", 5); g.New {
		t.Fatalf("%+v", g)
	}
}

// A checkpoint that failed may have begun another life of the journal on disk:
// what is acknowledged after it isn't in the old one.
func TestWriteAfterFailedCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	r := open(t, path, pool24)
	mustAcquire(t, r, "first", 1)
	mustAcquire(t, r, "second", 2)
	err := r.do(func() {
		r.store.put = func(db *bbolt.DB, changes map[key]change, p position) error {
			r.store.put = putChanges
			return errors.Join(putChanges(db, changes, p), syscall.EIO)
		}
		r.store.journal.half, r.store.journal.end = 0, 0 // the next one is too large
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquire(r, Request{Device: "third", Session: 3}); !errors.Is(err, ErrStore) {
		t.Fatal(err)
	}
	if err := r.do(func() { r.store.journal.half, r.store.journal.end = journalHalf, journalHalf }); err != nil {
		t.Fatal(err)
	}
	mustAcquire(t, r, "fourth", 4)
	mustAcquire(t, r, "fifth", 5)
	has := make(map[string]bool)
	for _, l := range crash(t, r, pool24) {
		has[l.Device] = true
	}
	if !has["first"] || !has["second"] || !has["fourth"] || !has["fifth"] {
		t.Fatalf("after a crash: %v", has)
	}
}
