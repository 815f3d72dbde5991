package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// follow reads what was committed since, by whoever.
func (f *Fleet) follow(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := database.Query(ctx, f.db, func(r database.Row) (p namedPosition, err error) {
		return p, r.Scan(&p.name, &p.Epoch, &p.Number, &p.mark)
	}, `SELECT name, epoch, number, mark FROM gcm_section`)
	if err != nil {
		return err
	}
	var trouble []error
	for _, p := range now {
		had := f.read[p.name]
		if p.position = p.begun(); p.position == had {
			f.restored[p.name] = false
			continue
		}
		if p.name == registry {
			if err = f.reconcile(ctx); err == nil {
				f.read[p.name] = p.position
			}
		} else if f.restored[p.name] = p.Compare(had.Version) <= 0; f.restored[p.name] {
			err = fmt.Errorf("%w: %s was %v and is %v", ErrRestored, p.name, had.Version, p.Version)
		} else {
			err = f.catchUp(ctx, gcm.Section(p.name), p.position)
		}
		trouble = append(trouble, err)
	}
	return errors.Join(trouble...)
}

// Restored says whether the database went back, see ErrRestored.
func (f *Fleet) Restored() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.restored {
		if r {
			return true
		}
	}
	return false
}

func (f *Fleet) catchUp(ctx context.Context, section gcm.Section, to position) error {
	if section == gcm.Devices {
		if done, err := f.steps(ctx, to); done || err != nil {
			return err
		}
	}
	set, at, err := f.load(ctx, section)
	if err != nil {
		return fmt.Errorf("read the section %s: %w", section, err)
	}
	if err := f.documents.Replace(set); err != nil {
		return err
	}
	f.read[string(section)] = at
	return nil
}

// pageOfChanges is how many are read at once.
const pageOfChanges = 256

// steps from what was read last to what is there now, if they are all kept.
func (f *Fleet) steps(ctx context.Context, to position) (bool, error) {
	type step struct {
		position
		before int64
		body   []byte
	}
	had := f.read[string(gcm.Devices)]
	for had.Compare(to.Version) < 0 {
		if had.Epoch != to.Epoch || to.Number-had.Number > keptChanges {
			return false, nil
		}
		page, err := database.Query(ctx, f.db, func(r database.Row) (s step, err error) {
			return s, r.Scan(&s.Epoch, &s.Number, &s.before, &s.mark, &s.body)
		}, fmt.Sprintf(`SELECT epoch, number, before, mark, body FROM gcm_change
			WHERE epoch = $1 AND number > $2 ORDER BY number LIMIT %d`, pageOfChanges), int64(had.Epoch), int64(had.Number))
		if err != nil {
			return false, err
		}
		if len(page) == 0 {
			return false, nil
		}
		for _, s := range page {
			if s.Number != had.Number+1 || s.before != had.mark || s.body == nil {
				return false, nil
			}
			d, err := gcm.ReadDelta(bytes.NewReader(s.body))
			if err != nil {
				return false, err
			}
			if err := f.documents.Commit(gcm.Devices, s.Version, d.Put, d.Delete); err != nil {
				return false, err
			}
			had = s.position
			f.read[string(gcm.Devices)] = had
		}
	}
	return true, nil
}

// load a section with its version, as they are at one moment.
func (f *Fleet) load(ctx context.Context, section gcm.Section) (set *gcm.Set, at position, err error) {
	err = f.db.Read(ctx, func(t *database.Tx) error {
		err := t.Row(`SELECT epoch, number, mark FROM gcm_section WHERE name = $1`, string(section)).Scan(&at.Epoch, &at.Number, &at.mark)
		if err != nil {
			return err
		}
		at = at.begun()
		set, err = gcm.Load(section, at.Version, f.records(t, section))
		return err
	})
	return set, at, err
}

// begun is the zero position while nothing was ever committed: gateways aren't
// told of it.
func (p position) begun() position {
	if p.Number == 0 {
		return position{}
	}
	return p
}

// records of a section, as they are in the tables.
func (f *Fleet) records(t *database.Tx, section gcm.Section) iter.Seq2[gcm.Record, error] {
	switch section {
	case gcm.Devices:
		return f.deviceRecords(t)
	case gcm.Access:
		return sequence(groups(t))
	case gcm.Addresses:
		return sequence(pools(t))
	case gcm.Tickets:
		return sequence(f.ticketRecords(t))
	case gcm.Settings:
		return sequence(settings(t))
	case gcm.Trust:
		return sequence(authorities(t))
	}
	return sequence(nil, fmt.Errorf("%w: section %q", ErrInvalid, section))
}

func sequence(all []gcm.Record, err error) iter.Seq2[gcm.Record, error] {
	return func(yield func(gcm.Record, error) bool) {
		if err != nil {
			yield(gcm.Record{}, err)
			return
		}
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// rowsAtOnce bounds a page of a table that is read as a whole, so that no
// statement takes long.
const rowsAtOnce = 20_000

// deviceRecords are read by pages: there may be millions.
func (f *Fleet) deviceRecords(t *database.Tx) iter.Seq2[gcm.Record, error] {
	return func(yield func(gcm.Record, error) bool) {
		authorisation := func(r database.Row) (gcm.Record, error) {
			var name string
			var value []byte
			err := r.Scan(&name, &value)
			return gcm.Record{Key: gcm.DeviceKey(name), Value: value}, err
		}
		for last := ""; ; {
			page, err := database.Query(t.Context(), t, authorisation,
				fmt.Sprintf(`SELECT name, value FROM gcm_device WHERE name > $1 ORDER BY name LIMIT %d`, rowsAtOnce), last)
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				last = string(r.Key[1:])
			}
			if err != nil {
				yield(gcm.Record{}, err)
				return
			}
			if len(page) < rowsAtOnce {
				break
			}
		}
		for last := (gcm.Revocation{}); ; {
			page, err := database.Query(t.Context(), t, scanRevocation,
				fmt.Sprintf(`SELECT issuer, serial, reason, at_us FROM gcm_revocation WHERE (issuer, serial) > ($1, $2)
					ORDER BY issuer, serial LIMIT %d`, rowsAtOnce), last.Issuer[:], []byte(last.Serial))
			for _, r := range page {
				if !yield(r.Record(), nil) {
					return
				}
				last = r
			}
			if err != nil {
				yield(gcm.Record{}, err)
				return
			}
			if len(page) < rowsAtOnce {
				return
			}
		}
	}
}
