package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/roamgate/roamgate/control/gcm"
)

const fileVersion = 1

var (
	bucketMeta  = []byte("meta")
	keyVersion  = []byte("version")
	keyRun      = []byte("run")
	keyIdentity = []byte("identity")
	keyHeard    = []byte("heard")
)

func bucketOf(section gcm.Section) []byte { return []byte("records:" + section) }

// store is the file. What its methods wrote is on disk when they return nil.
type store struct {
	db   *bbolt.DB
	path string
}

// openStore opens or makes the file, and counts the start.
func openStore(path string) (st *store, run uint64, err error) {
	// A damaged page can lead bbolt to an index or a mapping that doesn't
	// exist.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	defer func() {
		if r := recover(); r != nil {
			st, err = nil, damaged(path, fmt.Errorf("%v", r))
		}
		if err != nil && db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, 0, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, 0, fmt.Errorf("%w: %s: %w; move it away or name another file", ErrForeign, path, err)
	case errors.Is(err, berrors.ErrChecksum):
		return nil, 0, damaged(path, err)
	case err != nil:
		return nil, 0, fmt.Errorf("open %s: %w", path, err)
	}
	// A file that somebody else made may be open to all.
	if err = os.Chmod(path, 0o600); err != nil {
		return nil, 0, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return fmt.Errorf("%w: %s; move it away or name another file", ErrForeign, path)
			}
			var err error
			if meta, err = tx.CreateBucket(bucketMeta); err != nil {
				return err
			}
			if err := meta.Put(keyVersion, binary.BigEndian.AppendUint32(nil, fileVersion)); err != nil {
				return err
			}
		}
		v := meta.Get(keyVersion)
		if len(v) != 4 {
			return fmt.Errorf("%w: %s; move it away or name another file", ErrForeign, path)
		}
		if n := binary.BigEndian.Uint32(v); n != fileVersion {
			return fmt.Errorf("%w: %s has version %d, this gatewayd reads %d; use the gatewayd that wrote it or move the file away",
				ErrVersion, path, n, fileVersion)
		}
		if b := meta.Get(keyRun); len(b) == 8 {
			run = binary.BigEndian.Uint64(b)
		}
		run++
		return meta.Put(keyRun, binary.BigEndian.AppendUint64(nil, run))
	})
	if err != nil {
		return nil, 0, err
	}
	if err = syncDir(filepath.Dir(path)); err != nil {
		return nil, 0, err
	}
	return &store{db, path}, run, nil
}

// load a section; nothing stored is an empty set of the zero version.
func (s *store) load(section gcm.Section) (set *gcm.Set, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			set, err = nil, damaged(s.path, fmt.Errorf("%v", r))
		}
	}()
	err = s.db.View(func(tx *bbolt.Tx) error {
		head := tx.Bucket(bucketMeta).Get([]byte(section))
		records := tx.Bucket(bucketOf(section))
		if head == nil && records == nil {
			var err error
			set, err = gcm.NewSet(section)
			return err
		}
		if len(head) != 48 || records == nil {
			return damaged(s.path, fmt.Errorf("section %s is half there", section))
		}
		v := gcm.Version{Epoch: binary.BigEndian.Uint64(head), Number: binary.BigEndian.Uint64(head[8:])}
		set, err = gcm.Restore(section, v, gcm.Hash(head[16:]), func(yield func(gcm.Record) bool) {
			c := records.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if !yield(gcm.Record{Key: k, Value: v}) {
					return
				}
			}
		})
		if err != nil {
			return damaged(s.path, fmt.Errorf("section %s: %w", section, err))
		}
		return nil
	})
	return set, err
}

// replace a section by a set.
func (s *store) replace(set *gcm.Set) error {
	return s.update(set.Section(), set.Version(), set.Hash(), func(tx *bbolt.Tx) error {
		name := bucketOf(set.Section())
		if tx.Bucket(name) != nil {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucket(name)
		if err != nil {
			return err
		}
		// Keys come in order, so pages can be filled.
		b.FillPercent = 0.9
		for r := range set.Sorted() {
			if err := b.Put(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// patch a section by a delta that its set takes.
func (s *store) patch(d gcm.Delta) error {
	return s.update(d.Section, d.Version, d.Hash, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketOf(d.Section))
		if err != nil {
			return err
		}
		for _, k := range d.Delete {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		for _, r := range d.Put {
			if err := b.Put(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// setVersion of a section whose content stays.
func (s *store) setVersion(section gcm.Section, v gcm.Version, h gcm.Hash) error {
	return s.update(section, v, h, func(*bbolt.Tx) error { return nil })
}

func (s *store) update(section gcm.Section, v gcm.Version, h gcm.Hash, records func(*bbolt.Tx) error) error {
	head := binary.BigEndian.AppendUint64(nil, v.Epoch)
	head = append(binary.BigEndian.AppendUint64(head, v.Number), h[:]...)
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := records(tx); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put([]byte(section), head)
	})
}

// identity is the chain that was pushed last, in PEM, or nothing.
func (s *store) identity() (chain []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		chain = slices.Clone(tx.Bucket(bucketMeta).Get(keyIdentity))
		return nil
	})
	return chain, err
}

func (s *store) setIdentity(chain []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyIdentity, chain) })
}

// heard is when a manager was, Unix time in nanoseconds; 0 for never.
func (s *store) heard() (at int64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketMeta).Get(keyHeard); len(b) == 8 {
			at = int64(binary.BigEndian.Uint64(b))
		}
		return nil
	})
	return at, err
}

func (s *store) setHeard(at int64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyHeard, binary.BigEndian.AppendUint64(nil, uint64(at)))
	})
}

func (s *store) close() error { return s.db.Close() }

// syncDir makes the name of a new file durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; move it away to start without what was pushed, and the manager sends it anew", ErrCorrupt, path, err)
}
