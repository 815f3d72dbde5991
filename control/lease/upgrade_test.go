package lease

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// before is what a gatewayd that knows no journal does with a file: entries and
// the time of the write.
func before(t *testing.T, path string, now int64, leases map[string]entry) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketMeta) == nil {
			if err := initFile(tx); err != nil {
				return err
			}
		}
		for a, e := range leases {
			if err := tx.Bucket(bucketAddresses).Put(addrs(a)[0].AsSlice(), e.append(nil)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyWritten, binary.BigEndian.AppendUint64(nil, uint64(now)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A file without a journal is taken over, and what a stop leaves is one again.
func TestUpgradeAndBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	now := time.Now().UnixNano()
	before(t, path, now, map[string]entry{"10.0.0.7": {device: "old", since: now, used: now}})
	for round := range 2 {
		r := open(t, path, pool24)
		if g := mustAcquire(t, r, "old", 1); g.New || g.Address.String() != "10.0.0.7" {
			t.Fatalf("%+v", g)
		}
		mustAcquire(t, r, "new", 2)
		mustAcquire(t, r, "newer", 3)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			if v := tx.Bucket(bucketMeta).Get(keyVersion); binary.BigEndian.Uint32(v) != 1 {
				t.Errorf("version %x", v)
			}
			if n := tx.Bucket(bucketAddresses).Stats().KeyN; n != 3+round {
				t.Errorf("%d leases, want %d", n, 3+round)
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		before(t, path, time.Now().UnixNano(), map[string]entry{"10.0.0.77": {device: "between", since: now, used: now}})
	}
}

// A gatewayd that knows no journal starts after a crash and gives an address out
// that the journal has given to another device. The journal is of before.
func TestOlderVersionAfterCrash(t *testing.T) {
	dir := t.TempDir()
	path, crashed := filepath.Join(dir, "leases.db"), filepath.Join(dir, "crashed.db")
	r := open(t, path, pool24)
	mustAcquire(t, r, "first", 1)
	second := mustAcquire(t, r, "second", 2).Address
	copied := func() {
		t.Helper()
		err := r.do(func() {
			if err := errors.Join(copyFile(path, crashed), copyFile(journalPath(path), journalPath(crashed))); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	copied()
	before(t, crashed, time.Now().UnixNano(), map[string]entry{second.String(): {device: "other"}})
	again := open(t, crashed, pool24)
	if l := again.List(); len(l) != 2 || l[0].Device != "first" || l[1].Device != "other" {
		t.Fatalf("%+v", l)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}

	// One that was started and wrote nothing takes nothing away.
	copied()
	again = open(t, crashed, pool24)
	if l := again.List(); len(l) != 2 || l[1].Device != "second" {
		t.Fatalf("%+v", l)
	}
}

// A journal with a hole is refused with its name, and neither file is changed.
func TestDamagedJournalIsRefused(t *testing.T) {
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "leases.db"), filepath.Join(dir, "bad.db")
	r := open(t, path, pool24)
	for i, device := range []string{"first", "second", "third", "fourth"} {
		mustAcquire(t, r, device, SessionID(i+1))
	}
	err := r.do(func() {
		b, err := os.ReadFile(journalPath(path))
		if err == nil {
			b[frameAlign+frameHeader]++ // the third's
			err = errors.Join(copyFile(path, bad), os.WriteFile(journalPath(bad), b, 0o600))
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	journal, err := os.ReadFile(journalPath(bad))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "journal", bad, ErrCorrupt)
	if after, err := os.ReadFile(journalPath(bad)); err != nil || string(after) != string(journal) {
		t.Errorf("the journal was changed (%v)", err)
	}
	// Without it, what the last checkpoint says goes on.
	if err := os.Remove(journalPath(bad)); err != nil {
		t.Fatal(err)
	}
	if l := open(t, bad, pool24).List(); len(l) != 1 || l[0].Device != "first" {
		t.Fatalf("%+v", l)
	}
}
