package inventory

import (
	"context"
	"errors"
	"time"
)

// Store keeps snapshots and their history. Several servers use it at once.
// dmlink/store is one; inventorytest has one in memory and the suite for all.
type Store interface {
	// Snapshot of a device; the zero Snapshot if there is none.
	Snapshot(ctx context.Context, device string) (Snapshot, error)
	// Put replaces the snapshot, whose Version follows the stored one if there are
	// changes and is the same if there are none, or else ErrChanged, and appends
	// the changes. One transaction.
	Put(ctx context.Context, device string, s Snapshot, changes []Change) error
	// History of a device, the newest first: up to n changes with numbers below
	// before, of all if that is 0.
	History(ctx context.Context, device string, before int64, n int) ([]Change, error)
	// Prune deletes what up to n updates from before a time changed, and says how
	// many those were.
	Prune(ctx context.Context, before time.Time, n int) (int, error)
}

// ErrChanged: somebody else was faster. Read again.
var ErrChanged = errors.New("changed in the meantime")

// SoftwareChanged stands for all changes of software in what Record returns.
const SoftwareChanged = "software"

// maxTries of a Record that others are faster than.
const maxTries = 10

// Keeper brings updates into a store.
type Keeper struct{ store Store }

// NewKeeper on a store.
func NewKeeper(s Store) *Keeper { return &Keeper{s} }

// Record what a device told. It returns the URIs of nodes that changed, and
// SoftwareChanged if some of them list software: what depends on them may have to
// be computed anew.
func (k *Keeper) Record(ctx context.Context, device string, u Update) ([]string, error) {
	for try := 1; ; try++ {
		old, err := k.store.Snapshot(ctx, device)
		if err != nil {
			return nil, err
		}
		if u.At.Before(old.Updated) {
			u.At = old.Updated // the clocks of servers differ; history doesn't go back
		}
		s, changes := old.Apply(u)
		switch err := k.store.Put(ctx, device, s, changes); {
		case errors.Is(err, ErrChanged) && try < maxTries:
			continue
		case err != nil:
			return nil, err
		}
		return Changed(changes), nil
	}
}

// Changed are the URIs of changes, and SoftwareChanged if there are some of
// software.
func Changed(changes []Change) (uris []string) {
	software := false
	for _, c := range changes {
		uris = append(uris, c.URI)
		software = software || isSoftware(c.URI)
	}
	if software {
		uris = append(uris, SoftwareChanged)
	}
	return uris
}

// Snapshot of a device; the zero Snapshot if nothing is known.
func (k *Keeper) Snapshot(ctx context.Context, device string) (Snapshot, error) {
	return k.store.Snapshot(ctx, device)
}

// History of a device, see Store.
func (k *Keeper) History(ctx context.Context, device string, before int64, n int) ([]Change, error) {
	return k.store.History(ctx, device, before, n)
}
