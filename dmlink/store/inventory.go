package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Inventories is the store as inventories use it. What changes marks the device
// if a filter of a policy reads it, in the same transaction.
type Inventories struct{ d *SQL }

var _ inventory.Store = (*Inventories)(nil)

// Inventories of the store.
func (d *SQL) Inventories() *Inventories { return &Inventories{d} }

// Snapshot implements inventory.Store.
func (v *Inventories) Snapshot(ctx context.Context, device string) (inventory.Snapshot, error) {
	s, err := snapshot(v.d.db.QueryRowContext(ctx, snapshotText, device))
	return s, unavailable(err)
}

const snapshotText = `SELECT snapshot FROM dm_inventory WHERE device_name = $1`

func snapshot(r database.Row) (s inventory.Snapshot, err error) {
	var packed []byte
	err = r.Scan(&packed)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return s, unpack(packed, &s)
}

// Put implements inventory.Store. ErrNotFound: no such device.
func (v *Inventories) Put(ctx context.Context, device string, s inventory.Snapshot, changes []inventory.Change) error {
	return v.d.write(ctx, func(t *tx) error {
		if err := t.lockInventory(device); err != nil {
			return err
		}
		old, err := snapshot(t.Row(snapshotText, device))
		if err != nil {
			return err
		}
		want := old.Version
		if len(changes) > 0 {
			want++
		}
		if s.Version != want {
			return fmt.Errorf("device %q: version %d after %d: %w", device, s.Version, old.Version, inventory.ErrChanged)
		}
		return t.putInventory(device, s, changes)
	})
}

// lockInventory of a device, by its row and then by its mark: who computes its
// policies knows what was written before the lock, or notices.
func (t *tx) lockInventory(device string) error {
	if err := t.Row(`SELECT name FROM dm_device WHERE name = $1`+t.ForUpdate(), device).Scan(new(string)); err != nil {
		return found(err, "device", device)
	}
	return t.bump(device)
}

// inventory of a device, locked by lockInventory, becomes what an update makes
// of it.
func (t *tx) inventory(device string, u inventory.Update) error {
	old, err := snapshot(t.Row(snapshotText, device))
	if err != nil {
		return err
	}
	if u.At.Before(old.Updated) {
		u.At = old.Updated // the clocks of servers differ; history doesn't go back
	}
	s, changes := old.Apply(u)
	return t.putInventory(device, s, changes)
}

func (t *tx) putInventory(device string, s inventory.Snapshot, changes []inventory.Change) error {
	packed, err := pack(s)
	if err != nil {
		return err
	}
	facts, err := packFacts(s.Facts())
	if err != nil {
		return err
	}
	if _, err := t.Exec(`INSERT INTO dm_inventory (device_name, version, snapshot, facts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (device_name) DO UPDATE SET version = excluded.version, snapshot = excluded.snapshot, facts = excluded.facts`,
		device, s.Version, packed, facts); err != nil {
		return err
	}
	if len(changes) == 0 {
		return nil
	}
	if packed, err = pack(changes); err != nil {
		return err
	}
	if _, err := t.Exec(`INSERT INTO dm_inventory_change (device_name, at_us, changes) VALUES ($1, $2, $3)`,
		device, changes[0].At.UnixMicro(), packed); err != nil {
		return err
	}
	if _, err := t.Exec(`DELETE FROM dm_inventory_change WHERE device_name = $1 AND id <= (
			SELECT id FROM dm_inventory_change WHERE device_name = $2 ORDER BY id DESC LIMIT 1 OFFSET `+strconv.Itoa(keptUpdates)+`)`, device, device); err != nil {
		return err
	}
	uris := inventory.Changed(changes)
	var read bool
	if err := t.Row(`SELECT EXISTS (SELECT 1 FROM dm_policy_read WHERE `+t.Among("uri", "TEXT", 1)+`)`,
		database.Several(t.Engine, append(uris, anyNode))).Scan(&read); err != nil || !read {
		return err
	}
	return t.mark(device)
}

// keptUpdates of a device are kept, the newest: one that says something else of
// itself in each session doesn't fill the disk.
const keptUpdates = 500

// The changes of one update are a row. Its ID and the place in it are a change's
// number; a snapshot has fewer nodes than there are places.
const placeBits = 15

// History implements inventory.Store.
func (v *Inventories) History(ctx context.Context, device string, before int64, n int) (all []inventory.Change, err error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	for row := before >> placeBits; len(all) < n; {
		type update struct {
			id     int64
			packed []byte
		}
		updates, err := query(ctx, v.d.db, func(r database.Row) (u update, err error) { return u, r.Scan(&u.id, &u.packed) },
			`SELECT id, changes FROM dm_inventory_change WHERE device_name = $1 AND id <= $2 ORDER BY id DESC LIMIT 10`, device, row)
		if err != nil || len(updates) == 0 {
			return all, err
		}
		for _, u := range updates {
			var changes []inventory.Change
			if err := unpack(u.packed, &changes); err != nil {
				return nil, err
			}
			for i, c := range slices.Backward(changes) {
				if c.Number = u.id<<placeBits | int64(i); c.Number < before && len(all) < n {
					all = append(all, c)
				}
			}
			row = u.id - 1
		}
	}
	return all, nil
}

// Prune implements inventory.Store.
func (v *Inventories) Prune(ctx context.Context, before time.Time, n int) (done int, err error) {
	err = v.d.write(ctx, func(t *tx) error {
		ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_inventory_change WHERE at_us < $1 ORDER BY at_us LIMIT $2`+
			t.SkipLocked("dm_inventory_change"), before.UnixMicro(), database.Page(n))
		if done = len(ids); err != nil || done == 0 {
			return err
		}
		_, err = t.Exec(`DELETE FROM dm_inventory_change WHERE `+t.Among("id", "BIGINT", 1), database.Several(t.Engine, ids))
		return err
	})
	return done, err
}
