package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The file is a bbolt database with two buckets, all numbers in network order:
//
//	meta       "version" -> 4 octets; "written" -> time of the last write, 8 octets
//	addresses  address, 4 or 16 octets -> entry
//
// Time is Unix time in nanoseconds. The address is the key, so that the file
// can't give one to two devices.
const fileVersion = 1

var (
	bucketMeta      = []byte("meta")
	bucketAddresses = []byte("addresses")
	keyVersion      = []byte("version")
	keyWritten      = []byte("written")
)

// entry is what the file says about an address: 1 octet of flags, 8 since,
// 8 used, then the name of the device, empty for a free address.
type entry struct {
	live        bool
	since, used int64
	device      string
}

const (
	entryHeader = 17
	flagLive    = 1
)

func (e entry) append(b []byte) []byte {
	var flags byte
	if e.live {
		flags |= flagLive
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(e.since))
	b = binary.BigEndian.AppendUint64(b, uint64(e.used))
	return append(b, e.device...)
}

func parseEntry(b []byte) (entry, error) {
	if len(b) < entryHeader || len(b) > entryHeader+maxDevice {
		return entry{}, fmt.Errorf("entry of %d octets", len(b))
	}
	if b[0]&^flagLive != 0 {
		return entry{}, fmt.Errorf("unknown flags %#x", b[0])
	}
	e := entry{
		live:   b[0]&flagLive != 0,
		since:  int64(binary.BigEndian.Uint64(b[1:])),
		used:   int64(binary.BigEndian.Uint64(b[9:])),
		device: string(b[entryHeader:]),
	}
	if e.live && e.device == "" {
		return entry{}, errors.New("free address is marked live")
	}
	return e, nil
}

func parseKey(b []byte) (key, error) {
	switch len(b) {
	case 4:
		return keyOf(netip.AddrFrom4([4]byte(b))), nil
	case 16:
		if a := netip.AddrFrom16([16]byte(b)); !a.Is4In6() {
			return keyOf(a), nil
		}
	}
	return key{}, fmt.Errorf("%x is not an address", b)
}

// store is the file. A nil store keeps nothing.
type store struct {
	db *bbolt.DB
}

// openStore opens or makes the file, and restores t from it.
func openStore(path string, t *table) (st *store, err error) {
	// A damaged page can lead bbolt to an index or a mapping that doesn't
	// exist.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	defer func() {
		if r := recover(); r != nil {
			st, err = nil, damaged(path, fmt.Errorf("%v", r))
			if db != nil {
				err = errors.Join(err, db.Close())
			}
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w; move it away or name another file", ErrForeign, path, err)
	case errors.Is(err, berrors.ErrChecksum):
		return nil, damaged(path, err)
	case err != nil:
		return nil, fmt.Errorf("open lease file %s: %w", path, err)
	}
	// A file that somebody else made may be open to all.
	err = os.Chmod(path, 0o600)
	if err == nil {
		// A gatewayd that was killed may have left a transaction in the kernel's
		// memory only. What is read here is answered without another write.
		err = db.Sync()
	}
	if err == nil {
		err = loadStore(db, path, t)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &store{db: db}, nil
}

func loadStore(db *bbolt.DB, path string, t *table) error {
	fresh := false
	err := db.View(func(tx *bbolt.Tx) error {
		if k, _ := tx.Cursor().First(); k == nil {
			fresh = true
			return nil
		}
		return readFile(tx, path, t)
	})
	if err != nil || !fresh {
		return err
	}
	if err := db.Update(initFile); err != nil {
		return fmt.Errorf("make lease file %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func initFile(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucket(bucketAddresses); err != nil {
		return err
	}
	meta, err := tx.CreateBucket(bucketMeta)
	if err != nil {
		return err
	}
	if err := meta.Put(keyVersion, binary.BigEndian.AppendUint32(nil, fileVersion)); err != nil {
		return err
	}
	return meta.Put(keyWritten, make([]byte, 8))
}

// syncDir makes the name of a new file durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readFile(tx *bbolt.Tx, path string, t *table) error {
	meta, addresses := tx.Bucket(bucketMeta), tx.Bucket(bucketAddresses)
	if meta == nil || len(meta.Get(keyVersion)) != 4 {
		return fmt.Errorf("%w: %s; move it away or name another file", ErrForeign, path)
	}
	if v := binary.BigEndian.Uint32(meta.Get(keyVersion)); v != fileVersion {
		return fmt.Errorf("%w: %s has version %d, this gatewayd reads %d; use the gatewayd that wrote it or move the file away",
			ErrVersion, path, v, fileVersion)
	}
	if addresses == nil {
		return damaged(path, errors.New("bucket of addresses is missing"))
	}
	if len(meta.Get(keyWritten)) != 8 {
		return damaged(path, errors.New("time of the last write is missing"))
	}
	written := int64(binary.BigEndian.Uint64(meta.Get(keyWritten)))
	err := addresses.ForEach(func(k, v []byte) error {
		address, err := parseKey(k)
		if err != nil {
			return err
		}
		e, err := parseEntry(v)
		if err != nil {
			return fmt.Errorf("%v: %w", address.addr(), err)
		}
		if e.live {
			e.used = max(e.used, written)
		}
		return t.restore(address, e)
	})
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; move it away to start with no leases, or restore a copy", ErrCorrupt, path, err)
}

// write puts what the table says of these addresses into the file, in one
// transaction that is on disk when write returns nil.
func (s *store) write(t *table, keys map[key]struct{}, now int64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		addresses := tx.Bucket(bucketAddresses)
		for k := range keys {
			name := k.addr().AsSlice()
			l := t.leases[k]
			if l == nil {
				if err := addresses.Delete(name); err != nil {
					return err
				}
				continue
			}
			e := entry{live: l.live(), since: l.since, used: l.used}
			if l.device != nil {
				e.device = l.device.name
			}
			value := e.append(nil)
			if err := addresses.Put(name, value); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyWritten, binary.BigEndian.AppendUint64(nil, uint64(now)))
	})
}

func (s *store) close() error { return s.db.Close() }
