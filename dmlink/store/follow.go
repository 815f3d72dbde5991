package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
)

// Step is what an event of somebody else means here. One of its parts is set, or
// none for an event that means nothing.
type Step struct {
	// Enroll a device, for the first time or anew; Welcome, if it has a command,
	// is put for it. Whatever the clocks of those who tell: it is a new
	// enrollment, later than the one that is known.
	Enroll  *Device
	Welcome Task
	// Account that the device gets, nil for one by certificate and no more, and the
	// task, if it has a command, that tells the device its part of it.
	Account      *session.Account
	Introduction Task
	// Close the device of this name, whichever enrollment it has, for Reason.
	Close, Reason string
}

// Followed is the number of the last event of a source that was taken, 0 before
// the first.
func (d *SQL) Followed(ctx context.Context, source string) (n int64, err error) {
	err = d.db.QueryRowContext(ctx, `SELECT number FROM dm_followed WHERE source = $1`, source).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, unavailable(err)
}

// Follow takes the steps of a source's events after a number up to another one,
// in one transaction with the number: each event counts once, whatever crashes.
// It takes nothing and says so if other events were taken since, by another
// server.
func (d *SQL) Follow(ctx context.Context, source string, after, upTo int64, steps []Step) (taken bool, err error) {
	if source == "" || upTo <= after || after < 0 {
		return false, fmt.Errorf("%w: events of %q from %d to %d", ErrInvalid, source, after, upTo)
	}
	welcomes := make([]welcome, len(steps))
	for i := range steps {
		if steps[i].Enroll == nil {
			continue
		}
		if welcomes[i], err = d.newWelcome(&steps[i]); err != nil {
			return false, err
		}
	}
	err = d.write(ctx, func(t *tx) error {
		taken = false
		if _, err := t.Exec(`INSERT INTO dm_followed (source, number) VALUES ($1, 0) ON CONFLICT (source) DO NOTHING`, source); err != nil {
			return err
		}
		n, err := t.Exec(`UPDATE dm_followed SET number = $1 WHERE source = $2 AND number = $3`, upTo, source, after)
		if err != nil || n == 0 {
			return err
		}
		for i, step := range steps {
			if err := t.step(step, welcomes[i]); err != nil {
				return err
			}
		}
		taken = true
		return nil
	})
	return taken && err == nil, err
}

// welcome is what is written for a device that enrolls, made before the
// transaction.
type welcome struct {
	tasks   []*storable
	account *sealedAccount
}

func (d *SQL) newWelcome(s *Step) (w welcome, err error) {
	for _, k := range []Task{s.Welcome, s.Introduction} {
		if k.Command == nil {
			continue
		}
		one, err := newStorable(k)
		if err != nil {
			return w, err
		}
		w.tasks = append(w.tasks, one)
	}
	if s.Account != nil {
		w.account, err = d.sealAccount(s.Enroll.Name, *s.Account)
	}
	return w, err
}

func (t *tx) step(s Step, w welcome) error {
	switch {
	case s.Enroll != nil:
		v := *s.Enroll
		if !isName(v.Name) || v.Enrolled.IsZero() {
			return fmt.Errorf("%w: enrollment of device %.50q at %v", ErrInvalid, v.Name, v.Enrolled)
		}
		old, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), v.Name))
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case v.Enrolled.UnixMicro() <= old.Enrolled.UnixMicro():
			v.Enrolled = old.Enrolled.Add(time.Microsecond)
		}
		if err := t.enroll(v); err != nil {
			return err
		}
		if w.account != nil {
			if err := t.putAccount(v.Name, w.account); err != nil {
				return err
			}
		}
		for _, k := range w.tasks {
			if _, err := t.putTask(k, v.Name); err != nil {
				return err
			}
		}
		return nil
	case s.Close != "":
		v, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), s.Close))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil || !v.Open {
			return err
		}
		return t.letGo(v, s.Reason)
	}
	return nil
}
