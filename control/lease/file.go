package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The lease file is a bbolt database with two buckets, all numbers in network
// order:
//
//	meta       "version" -> 4 octets; "written" -> time of the last write, 8 octets;
//	           "journal" -> position, 24 octets, absent before there was one
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
	keyJournal      = []byte("journal")
)

// position is how far the file has the journal in it: frames of that life with
// a higher sequence come on top.
type position struct {
	life, sequence uint64
	// written is "written" of the same transaction. If "written" is another, a
	// gatewayd that knows no journal has written the file since.
	written int64
}

const positionSize = 24

func (p position) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.life)
	b = binary.BigEndian.AppendUint64(b, p.sequence)
	return binary.BigEndian.AppendUint64(b, uint64(p.written))
}

func parsePosition(b []byte) (position, error) {
	if len(b) != positionSize {
		return position{}, fmt.Errorf("position in the journal has %d octets", len(b))
	}
	return position{
		life:     binary.BigEndian.Uint64(b),
		sequence: binary.BigEndian.Uint64(b[8:]),
		written:  int64(binary.BigEndian.Uint64(b[16:])),
	}, nil
}

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

// openFile opens or makes the file, and restores t from it and the journal. since
// is what only the journal says.
func openFile(path string, t *table, log *slog.Logger) (db *bbolt.DB, since map[key]change, err error) {
	// A damaged page can lead bbolt to an index or a mapping that doesn't
	// exist.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(path, fmt.Errorf("%v", r))
			if db != nil {
				err = errors.Join(err, db.Close())
			}
			db = nil
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("%w: %s: %w; move it away or name another file", ErrForeign, path, err)
	case errors.Is(err, berrors.ErrChecksum):
		return nil, nil, damaged(path, err)
	case err != nil:
		return nil, nil, fmt.Errorf("open lease file %s: %w", path, err)
	}
	// A file that somebody else made may be open to all.
	err = os.Chmod(path, 0o600)
	if err == nil {
		since, err = load(db, path, t, log)
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, since, nil
}

// load restores t. It writes only if the file is new.
func load(db *bbolt.DB, path string, t *table, log *slog.Logger) (since map[key]change, err error) {
	fresh := false
	err = db.View(func(tx *bbolt.Tx) error {
		if k, _ := tx.Cursor().First(); k == nil {
			fresh = true
			return nil
		}
		since, err = readFile(tx, path, t, log)
		return err
	})
	if err != nil || !fresh {
		return since, err
	}
	if err := db.Update(initFile); err != nil {
		return nil, fmt.Errorf("make lease file %s: %w", path, err)
	}
	return nil, syncDir(path)
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

// syncDir makes the name of a new file, or that one is gone, durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readFile(tx *bbolt.Tx, path string, t *table, log *slog.Logger) (since map[key]change, err error) {
	meta, addresses := tx.Bucket(bucketMeta), tx.Bucket(bucketAddresses)
	if meta == nil || len(meta.Get(keyVersion)) != 4 {
		return nil, fmt.Errorf("%w: %s; move it away or name another file", ErrForeign, path)
	}
	if v := binary.BigEndian.Uint32(meta.Get(keyVersion)); v != fileVersion {
		return nil, fmt.Errorf("%w: %s has version %d, this gatewayd reads %d; use the gatewayd that wrote it or move the file away",
			ErrVersion, path, v, fileVersion)
	}
	if addresses == nil {
		return nil, damaged(path, errors.New("bucket of addresses is missing"))
	}
	if len(meta.Get(keyWritten)) != 8 {
		return nil, damaged(path, errors.New("time of the last write is missing"))
	}
	written := int64(binary.BigEndian.Uint64(meta.Get(keyWritten)))
	if b := meta.Get(keyJournal); b != nil {
		p, err := parsePosition(b)
		if err != nil {
			return nil, damaged(path, err)
		}
		var last int64
		if since, last, err = readSince(path, p, written, log); err != nil {
			return nil, err
		}
		written = max(written, last)
	}
	restore := func(k key, e entry) error {
		if e.live {
			e.used = max(e.used, written)
		}
		return t.restore(k, e)
	}
	err = addresses.ForEach(func(k, v []byte) error {
		address, err := parseKey(k)
		if err != nil {
			return err
		}
		e, err := parseEntry(v)
		if err != nil {
			return fmt.Errorf("%v: %w", address.addr(), err)
		}
		if _, newer := since[address]; newer {
			return nil
		}
		return restore(address, e)
	})
	if err != nil {
		return nil, damaged(path, err)
	}
	for k, c := range since {
		if c.gone {
			continue
		}
		if err := restore(k, c.entry); err != nil {
			return nil, damaged(path, fmt.Errorf("with its journal: %w", err))
		}
	}
	return since, nil
}

// readSince reads the journal of the file at path. written is "written".
func readSince(path string, p position, written int64, log *slog.Logger) (since map[key]change, last int64, err error) {
	name := journalPath(path)
	b, err := readJournal(name)
	if err != nil {
		return nil, 0, fmt.Errorf("open journal of leases: %w", err)
	}
	since, last, err = readFrames(b, p)
	switch {
	case p.written != written:
		if len(since) > 0 {
			log.Warn("an older gatewayd has written the lease file after a crash; what the journal says from before doesn't count", slog.String("journal", name))
		}
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("%w: %s: %w; restore a copy of both files, or move this one away: devices that got an address since the last checkpoint then get others",
			ErrCorrupt, name, err)
	}
	return since, last, nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; move it away to start with no leases, or restore a copy", ErrCorrupt, path, err)
}

// putChanges writes all of this in one transaction that is on disk when it returns
// nil. If it fails, it may be on disk or not.
func putChanges(db *bbolt.DB, changes map[key]change, p position) error {
	return db.Update(func(tx *bbolt.Tx) error {
		addresses := tx.Bucket(bucketAddresses)
		for _, k := range slices.SortedFunc(maps.Keys(changes), key.compare) {
			c, name := changes[k], k.addr().AsSlice()
			var err error
			if c.gone {
				err = addresses.Delete(name)
			} else {
				err = addresses.Put(name, c.entry.append(nil))
			}
			if err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if err := meta.Put(keyJournal, p.append(nil)); err != nil {
			return err
		}
		return meta.Put(keyWritten, binary.BigEndian.AppendUint64(nil, uint64(p.written)))
	})
}
