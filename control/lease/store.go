package lease

import (
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync/atomic"

	"go.etcd.io/bbolt"
)

// store is what is on disk: the lease file, and the journal that each batch is
// appended to. The file is a checkpoint: it has everything up to a frame of the
// journal, and frames after that come on top. There are two ways from the one to
// the other:
//
//   - a fold: when a half of the journal is full, what its frames said is written
//     into the file while the loop goes on with the other half. A half is written
//     over when its fold is on disk, so what the file lacks is always in the
//     journal.
//   - a checkpoint, which the loop waits for: a transaction of all that the file
//     lacks and of the batch itself. A new life of the journal begins with it, so
//     that no frame of before counts any more. It is the first write after Open,
//     the last one, the one of a batch that is larger than half a journal, and the
//     one after any failure.
//
// The last is the rule for errors: a write that failed may be on disk or not, and
// both is right as long as nothing is built on either. So after one the journal
// isn't appended to; the next write is a checkpoint, until one succeeds.
type store struct {
	path string
	log  *slog.Logger
	db   *bbolt.DB
	// put is putChanges, and in tests one that fails.
	put func(*bbolt.DB, map[key]change, position) error
	// journal is nil before the first write, and where it can't be made.
	journal *journal
	// since is what the half in use says, or what was found in the journal by
	// Open, and written the time of its last frame.
	since   map[key]change
	written int64
	// folding is what the other half says, as long as the file doesn't, and
	// folded has the end of the fold under way; nil: there is none, or it failed.
	folding map[key]change
	folded  chan error
	// failedFolds is for the statistics.
	failedFolds atomic.Uint64
}

var errFold = errors.New("half of the journal couldn't be written into the lease file")

func journalPath(path string) string { return path + ".journal" }

// openStore opens or makes the file, and restores t from it and its journal.
func openStore(path string, t *table, log *slog.Logger) (*store, error) {
	db, since, err := openFile(path, t, log)
	if err != nil {
		return nil, err
	}
	if since == nil {
		since = make(map[key]change)
	}
	return &store{path: path, log: log, db: db, put: putChanges, since: since}, nil
}

// entries returns what the file is to say about these addresses.
func entries(t *table, keys map[key]struct{}) map[key]change {
	changes := make(map[key]change, len(keys))
	for k := range keys {
		l := t.leases[k]
		if l == nil {
			changes[k] = change{gone: true}
			continue
		}
		e := entry{live: l.live(), since: l.since, used: l.used}
		if l.device != nil {
			e.device = l.device.name
		}
		changes[k] = change{entry: e}
	}
	return changes
}

// write returns when these changes are on disk. If it fails, they may be or not.
func (s *store) write(changes map[key]change, now int64) error {
	j := s.journal
	if j == nil || j.life == 0 {
		return s.checkpoint(changes, now)
	}
	frame := j.frame(changes, now)
	if !j.fits(frame) {
		if len(frame) > j.half || s.settle() != nil {
			return s.checkpoint(changes, now)
		}
		s.fold()
	}
	if err := j.append(frame); err != nil {
		j.life = 0
		return err
	}
	maps.Copy(s.since, changes)
	s.written = now
	return nil
}

// fold begins to write the half in use into the file, and turns to the other one.
// There must be no other fold.
func (s *store) fold() {
	changes, folded := s.since, make(chan error, 1)
	p := position{life: s.journal.life, sequence: s.journal.sequence, written: s.written}
	go func() {
		err := s.put(s.db, changes, p)
		if err != nil {
			s.failedFolds.Add(1)
		}
		folded <- err
	}()
	s.folding, s.folded, s.since = changes, folded, make(map[key]change)
	s.journal.turn()
}

// settle waits for the end of a fold, if there is one. With an error the other
// half must not be written over.
func (s *store) settle() error {
	if s.folded != nil {
		if err := <-s.folded; err == nil {
			s.folding = nil
		}
		s.folded = nil
	}
	if s.folding != nil {
		return errFold
	}
	return nil
}

// checkpoint writes these changes and all that the file lacks into it, and begins
// a new life of the journal.
func (s *store) checkpoint(changes map[key]change, now int64) error {
	life, err := s.commit(changes, now)
	if err != nil {
		return err
	}
	if s.journal == nil {
		if s.journal, err = openJournal(journalPath(s.path)); err != nil {
			s.log.Warn("no journal of leases; the lease file is written each time", slog.Any("error", err))
			return nil
		}
	}
	s.journal.begin(life)
	return nil
}

func (s *store) commit(changes map[key]change, now int64) (life uint64, err error) {
	_ = s.settle() // what failed is in folding
	all := maps.Clone(s.since)
	for k, c := range s.folding {
		if _, newer := all[k]; !newer {
			all[k] = c
		}
	}
	maps.Copy(all, changes)
	if s.journal != nil {
		s.journal.life = 0
	}
	for life == 0 {
		life = rand.Uint64()
	}
	if err := s.put(s.db, all, position{life: life, written: now}); err != nil {
		return 0, err
	}
	s.folding, s.since = nil, make(map[key]change)
	return life, nil
}

// finish leaves everything in the file and no journal. With live, the file says
// that it was written now. The write before must not have failed: what the file
// got of it would be mixed with what was before it.
func (s *store) finish(live bool, now int64) error {
	err := s.settle()
	if live || err != nil || len(s.since) > 0 {
		_, err = s.commit(nil, now)
	}
	if err != nil {
		return err
	}
	return removeJournal(journalPath(s.path))
}

// close leaves the files as they are.
func (s *store) close() error {
	_ = s.settle() // what failed is in the journal
	var err error
	if s.journal != nil {
		err = s.journal.disk.Close()
	}
	return errors.Join(err, s.db.Close())
}

func removeJournal(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(path))
}
