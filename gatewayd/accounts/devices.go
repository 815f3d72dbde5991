package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// Source is enrollment's name among what the store follows.
const Source = "enrollment"

// ErrGap: events are missing that nobody here has taken, so accounts can't be
// trusted to be complete. It doesn't go away by itself: a database was put
// together from two backups, or a second installation trims its outbox.
var ErrGap = errors.New("events of enrollment are missing")

// Accounts is the store of devices.
type Accounts interface {
	Followed(ctx context.Context, source string) (int64, error)
	Follow(ctx context.Context, source string, after, upTo int64, steps []store.Step) (taken bool, err error)
}

// Desk says what a device is told first.
type Desk interface {
	Welcome(ctx context.Context, v store.Device) (store.Task, error)
	Recheck(ctx context.Context, device string, welcome store.Task) error
	Introduce(v store.Device) (*session.Account, store.Task)
}

// Directory is what enrollment knows.
type Directory interface {
	Outbox(ctx context.Context, after int64, max int) ([]directory.Event, error)
	Certificates(ctx context.Context, f directory.CertificateFilter) ([]directory.Certificate, error)
}

// Devices makes and closes accounts of devices as enrollment's events say:
//
//	enrolled  an account by certificate, whose first commands are the schedule
//	          and the secret of notifications; what the device had before is gone
//	renewed   nothing: the account is the device's, whichever certificate it shows
//	revoked   nothing, while the device has another good certificate; otherwise
//	          its account is closed
//	closed    its account is closed
type Devices struct {
	directory Directory
	accounts  Accounts
	desk      Desk
	identity  *Identity
	now       func() time.Time
	log       *slog.Logger
	last      atomic.Int64 // the cursor, as far as this process knows
}

// NewDevices that tells identity, which may be nil, whose certificates changed.
func NewDevices(d Directory, a Accounts, desk Desk, identity *Identity, now func() time.Time, log *slog.Logger) *Devices {
	return &Devices{directory: d, accounts: a, desk: desk, identity: identity, now: now, log: log}
}

// Reader for a Feed.
func (d *Devices) Reader() Reader { return Reader{Name: "accounts", Cursor: d.cursor, Read: d.Read} }

func (d *Devices) cursor(ctx context.Context) (int64, error) { return d.accounts.Followed(ctx, Source) }

// Followed is the number of the last event that was taken, as far as this process
// knows; for metrics.
func (d *Devices) Followed() int64 { return d.last.Load() }

// Read takes all events that there are.
func (d *Devices) Read(ctx context.Context) error {
	after := d.last.Load()
	if after == 0 {
		var err error
		if after, err = d.cursor(ctx); err != nil {
			return err
		}
		d.last.Store(after)
	}
	for {
		events, err := d.directory.Outbox(ctx, after, page)
		if err != nil || len(events) == 0 {
			return err
		}
		taken, err := d.take(ctx, after, events)
		if err != nil {
			return err
		}
		// Even if another server took them: its word counts here, too.
		for _, e := range events {
			d.identity.forget(e.Serial)
		}
		after = events[len(events)-1].Number
		if !taken {
			if after, err = d.cursor(ctx); err != nil {
				return err
			}
		}
		d.last.Store(after)
	}
}

func (d *Devices) take(ctx context.Context, after int64, events []directory.Event) (bool, error) {
	if first := events[0].Number; first != after+1 {
		return false, d.gap(ctx, after, first)
	}
	steps := make([]store.Step, len(events))
	for i, e := range events {
		var err error
		if steps[i], err = d.step(ctx, e); err != nil {
			return false, fmt.Errorf("event %d, %s %s: %w", e.Number, e.Device, e.Kind, err)
		}
	}
	upTo := events[len(events)-1].Number
	taken, err := d.accounts.Follow(ctx, Source, after, upTo, steps)
	if err != nil || !taken {
		return taken, err
	}
	for i, e := range events {
		d.log.Info("account of a device", slog.String("device", e.Device), slog.String("event", string(e.Kind)), slog.Int64("number", e.Number))
		if steps[i].Enroll == nil {
			continue
		}
		if err := d.desk.Recheck(ctx, e.Device, steps[i].Welcome); err != nil {
			// The device has the schedule of before until the next change of it.
			d.log.Warn("schedule of a new device isn't compared", slog.String("device", e.Device), slog.Any("error", err))
		}
	}
	return true, nil
}

// gap is no error if another server has taken what is missing.
func (d *Devices) gap(ctx context.Context, after, first int64) error {
	now, err := d.cursor(ctx)
	if err != nil || now > after {
		return err
	}
	return fmt.Errorf("%w: the first one after %d is %d", ErrGap, after, first)
}

func (d *Devices) step(ctx context.Context, e directory.Event) (store.Step, error) {
	if e.Device == "" {
		return store.Step{}, nil // of a manager, an administrator
	}
	switch e.Kind {
	case directory.Enrolled:
		v := store.Device{Name: e.Device, User: e.User, Groups: e.Groups, Enrolled: e.At}
		welcome, err := d.desk.Welcome(ctx, v)
		account, introduction := d.desk.Introduce(v)
		return store.Step{Enroll: &v, Welcome: welcome, Account: account, Introduction: introduction}, err
	case directory.Revoked:
		// What took its place is in the events that follow.
		if e.Reason == ca.Superseded {
			return store.Step{}, nil
		}
		good, err := d.directory.Certificates(ctx, directory.CertificateFilter{Device: e.Device, ValidAt: d.now(), Limit: 1})
		if err != nil || len(good) > 0 {
			return store.Step{}, err
		}
		return store.Step{Close: e.Device, Reason: "certificate revoked: " + e.Reason.String()}, nil
	case directory.Closed:
		return store.Step{Close: e.Device, Reason: "closed: " + e.Reason.String()}, nil
	case directory.Renewed:
	}
	return store.Step{}, nil
}
