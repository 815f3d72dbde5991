// Package ticketkeys keeps the keys of resumption tickets in a file and in a
// ring, and turns them over. Gateways that share the file, or copies of it, take
// each other's tickets: whoever finds a new key due adds it, and the others read
// it before it is used, because a key is made a period ahead.
//
// The file is replaced as a whole, by rename after sync, under a lock that a
// crash lets go of: a reader sees the old keys or the new ones. It has mode
// 0600; one that others can read is refused.
//
// What lives here: the file and the clock. What doesn't: what keys are good for
// (package ticket).
package ticketkeys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/control/ticket"
)

const (
	// Period of a key.
	Period = time.Hour
	// look is how often the file is looked at.
	look    = time.Minute
	maxFile = 1 << 20
)

// ErrMode: others can read the file.
var ErrMode = errors.New("ticket keys that others can read")

// Keeper of one file. Its methods may be called from any goroutine.
type Keeper struct {
	path   string
	ring   *ticket.Ring
	logger *slog.Logger

	mu       sync.Mutex // one refresh at a time
	lifetime time.Duration
}

// Open reads the file, or makes it. lifetime is that of the tickets. Errors:
// ErrMode, ticket.ErrKeys, those of the file system.
func Open(path string, lifetime time.Duration, logger *slog.Logger) (*Keeper, error) {
	k := &Keeper{path: path, ring: ticket.NewRing(nil), logger: logger, lifetime: lifetime}
	return k, k.Refresh(time.Now(), lifetime)
}

// Ring is where the keys are in use.
func (k *Keeper) Ring() *ticket.Ring { return k.ring }

// Refresh reads the file and turns the keys over if that is due. With an error
// the ring has what it had, unless the file could be read and only not written.
func (k *Keeper) Refresh(now time.Time, lifetime time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lifetime = lifetime
	unlock, err := k.lock()
	if err != nil {
		return err
	}
	defer unlock()
	held, err := k.read()
	if err != nil {
		return err
	}
	defer held.Erase()
	next, changed, err := held.Advance(now, ticket.Schedule{Period: Period, Keep: lifetime}, rand.Reader)
	if err != nil {
		return err
	}
	if changed {
		if err = k.write(next); err != nil {
			// Keys that nobody else has, and that are gone after a restart, are no
			// use; those that were read are.
			next.Erase()
			if len(held) == 0 {
				return err
			}
			next = held.Clone()
		}
	}
	if was := k.ring.Keys(); was.Same(next) {
		next.Erase()
		was.Erase()
	} else {
		was.Erase()
		k.ring.Replace(next)
		if err == nil {
			k.logger.Debug("ticket keys were turned over", slog.Int("keys", len(next)))
		}
	}
	return err
}

// Run refreshes until over is closed. Trouble is told once while it lasts.
func (k *Keeper) Run(over <-chan struct{}) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-over:
			return
		case now := <-tick.C:
			k.mu.Lock()
			lifetime := k.lifetime
			k.mu.Unlock()
			err := k.Refresh(now, lifetime)
			switch {
			case err == nil:
				told = ""
			case err.Error() != told:
				told = err.Error()
				k.logger.Warn("ticket keys stay as they were", slog.Any("error", err))
			}
		}
	}
}

// Close erases the keys in memory.
func (k *Keeper) Close() error {
	k.ring.Replace(nil)
	return nil
}

// lock keeps other processes from the file. The lock file stays.
func (k *Keeper) lock() (unlock func(), err error) {
	f, err := os.OpenFile(k.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// read returns no keys if there is no file.
func (k *Keeper) read() (ticket.Keys, error) {
	f, err := os.Open(k.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, expected 0600", ErrMode, k.path, info.Mode().Perm())
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s has %d octets", ticket.ErrKeys, k.path, info.Size())
	}
	text := make([]byte, info.Size())
	defer clear(text)
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, fmt.Errorf("read %s: %w", k.path, err)
	}
	keys, err := ticket.ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	return keys, nil
}

// write replaces the file. What a crash leaves beside it is written over the
// next time.
func (k *Keeper) write(keys ticket.Keys) error {
	text := keys.Append(make([]byte, 0, 128*(len(keys)+1)))
	defer clear(text)
	beside := k.path + ".new"
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(beside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(beside, k.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(k.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
