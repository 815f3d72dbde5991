// Package records writes the session records of a gateway to a file, a JSON
// object a line: who was connected, from where to where, when and how much. The
// file is for accounting, so it is synced to the disk, some lines at a time.
//
// What lives here: the file, its rotation, its errors. What doesn't: what a
// record says (package session).
package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/control/session"
)

// ErrNotFile: the name is that of a folder, a pipe or a device.
var ErrNotFile = errors.New("not a regular file")

const (
	// mode of a file that is made here: a group may read it.
	mode = 0o640
	// syncEvery is how long a line may be in the kernel's memory only.
	syncEvery = time.Second
)

// Writer appends records. It is safe for concurrent use. Without a file it
// drops them.
type Writer struct {
	logger *slog.Logger
	quit   chan struct{}
	synced sync.WaitGroup

	mu     sync.Mutex
	file   *os.File // nil: none is wanted
	dirty  bool
	torn   bool // the last line has no end
	failed bool // the last write failed; only the first of a series is logged
	stats  Stats
}

// Stats only grow.
type Stats struct {
	// Written lines, and Errors of writing and syncing.
	Written, Errors uint64
}

// New makes a writer without a file. Close ends it.
func New(logger *slog.Logger) *Writer {
	w := &Writer{logger: logger, quit: make(chan struct{})}
	w.synced.Go(w.sync)
	return w
}

// Open opens a file to append to, or makes one; no file for an empty name.
// Errors: ErrNotFile, and those of the system.
func Open(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	// A pipe without a reader must not hold up the gateway.
	const flags = os.O_APPEND | os.O_WRONLY | unix.O_NONBLOCK
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, mode); err == nil {
			err = f.Chmod(mode) // whatever the umask is
		}
	}
	if err != nil {
		return nil, fmt.Errorf("session records: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("session records: %s: %w", name, ErrNotFile), err)
	}
	return f, nil
}

// Use goes on with another file, or none, and closes the one before.
func (w *Writer) Use(f *os.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
	w.file, w.torn = f, false
}

// Write appends a record.
func (w *Writer) Write(r session.Record) {
	if !w.wanted() {
		return
	}
	line, err := json.Marshal(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return
	}
	if err == nil {
		if w.torn {
			line = append([]byte{'\n'}, line...)
		}
		var n int
		n, err = w.file.Write(append(line, '\n'))
		w.dirty = w.dirty || n > 0
		w.torn = n < len(line)+1 && (w.torn || n > 0)
	}
	if w.told(err) {
		w.stats.Written++
	}
}

// wanted says whether there is a file.
func (w *Writer) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.file != nil
}

// told counts an error and logs the first of a series.
func (w *Writer) told(err error) (ok bool) {
	if err != nil {
		w.stats.Errors++
		if !w.failed {
			w.logger.Error("session records are lost", slog.Any("error", err))
		}
	}
	w.failed = err != nil
	return err == nil
}

// sync gathers what was written in a second.
func (w *Writer) sync() {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-tick.C:
			w.flush()
		}
	}
}

// flush syncs without holding up Write: a slow disk is no reason to lose
// records.
func (w *Writer) flush() {
	w.mu.Lock()
	file, dirty := w.file, w.dirty
	w.dirty = false
	w.mu.Unlock()
	if !dirty {
		return
	}
	// Use may have closed it meanwhile, synced.
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told(err)
	}
}

// end syncs and closes the file. The caller holds mu.
func (w *Writer) end() {
	if w.file == nil {
		return
	}
	err := w.file.Sync()
	if err = errors.Join(err, w.file.Close()); err != nil {
		w.told(err)
	}
	w.file, w.dirty = nil, false
}

// Stats of all files so far.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close syncs and closes the file. It is called once.
func (w *Writer) Close() {
	close(w.quit)
	w.synced.Wait()
	w.Use(nil)
}
