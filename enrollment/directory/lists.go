package directory

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Lists are the published revocation lists of an authority.
type Lists struct {
	// Number of the newest, complete or not.
	Number int64
	// Complete list in DER, with its number.
	Complete       []byte
	CompleteNumber int64
	// Delta to the complete list, in DER; empty while the complete one says
	// all.
	Delta []byte
	// Until is the nextUpdate of the complete list.
	Until time.Time
	// Entries of the complete list.
	Entries int64
	// Behind is set if something was revoked since.
	Behind bool
}

// AddAuthority makes an issuing CA known; its certificate may be a newer one.
func (d *SQL) AddAuthority(ctx context.Context, id string, certificate *x509.Certificate) error {
	return d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`INSERT INTO directory_authority (id, certificate) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET certificate = excluded.certificate`, id, certificate.Raw)
		return err
	})
}

// Lists of an authority. Number is 0 before the first.
func (d *SQL) Lists(ctx context.Context, authority string) (Lists, error) {
	l, err := lists(ctx, d.db, authority)
	return l, unavailable(err)
}

type reader interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func lists(ctx context.Context, db reader, authority string) (l Lists, err error) {
	var until database.Instant
	err = db.QueryRowContext(ctx, `SELECT number, der, entries, next_update_us FROM directory_list
		WHERE authority = $1 AND base = 0 ORDER BY number DESC LIMIT 1`, authority).Scan(&l.CompleteNumber, &l.Complete, &l.Entries, &until)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return l, err
	}
	l.Number, l.Until = l.CompleteNumber, until.Time
	err = db.QueryRowContext(ctx, `SELECT number, der FROM directory_list
		WHERE authority = $1 AND base = $2 AND number > $3 ORDER BY number DESC LIMIT 1`,
		authority, l.CompleteNumber, l.CompleteNumber).Scan(&l.Number, &l.Delta)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return l, err
	}
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM directory_certificate
		WHERE authority = $1 AND revoked_us IS NOT NULL AND listed IS NULL)`, authority).Scan(&l.Behind)
	return l, err
}

// Publish says when lists are made, and how long they hold.
type Publish struct {
	Authority string
	Now       time.Time
	Lifetime  time.Duration
	// DeltaOnly leaves the complete list as it is while it has more than this
	// many entries, isn't half-way to its end and is younger than CompleteEvery
	// (0: however old): readers of the complete list hear later, readers of the
	// delta at once.
	DeltaOnly     int64
	CompleteEvery time.Duration
	// Force makes new lists although nothing changed.
	Force bool
	Sign  func(ca.List) ([]byte, error)
	By    By
}

// Due says whether a complete list has to be made although nothing was revoked
// since the newest one.
func (p *Publish) Due(l Lists) bool {
	if l.CompleteNumber == 0 || !p.Now.Before(l.Until.Add(-p.Lifetime/2)) {
		return true
	}
	return p.CompleteEvery > 0 && l.Number > l.CompleteNumber && !p.Now.Before(l.Until.Add(p.CompleteEvery-p.Lifetime))
}

// Publish makes new lists if something was revoked since the last ones or they
// are half-way to their end. Their number is taken in the transaction that
// records them, so that no two lists share one.
func (d *SQL) Publish(ctx context.Context, p Publish) (Lists, error) {
	var out Lists
	err := d.write(ctx, func(t *tx) error {
		var number int64
		if err := t.Row(`SELECT number FROM directory_authority WHERE id = $1`+t.ForUpdate(), p.Authority).Scan(&number); err != nil {
			return found(err, "authority", p.Authority)
		}
		l, err := lists(ctx, t, p.Authority)
		if err != nil {
			return err
		}
		due := p.Due(l)
		if !due && !l.Behind && !p.Force {
			out = l
			return nil
		}
		number++
		if _, err := t.Exec(`UPDATE directory_authority SET number = $1 WHERE id = $2`, number, p.Authority); err != nil {
			return err
		}
		if _, err := t.Exec(`UPDATE directory_certificate SET listed = $1 WHERE authority = $2 AND revoked_us IS NOT NULL AND listed IS NULL`,
			number, p.Authority); err != nil {
			return err
		}
		if due || p.Force || l.Entries <= p.DeltaOnly {
			err = t.publish(p, number, 0)
		} else {
			err = t.publish(p, number, l.CompleteNumber)
		}
		if err != nil {
			return err
		}
		out, err = lists(ctx, t, p.Authority)
		return err
	})
	return out, err
}

// publish a complete list, or a delta to base.
func (t *tx) publish(p Publish, number, base int64) error {
	l := ca.List{Number: number, Base: base, ThisUpdate: p.Now, NextUpdate: p.Now.Add(p.Lifetime)}
	var err error
	l.Revoked, err = query(t.Context(), t, scanRevocation, `SELECT serial, revoked_us, reason FROM directory_certificate
		WHERE authority = $1 AND revoked_us IS NOT NULL AND listed > $2 AND not_after_us >= $3 ORDER BY listed, serial`,
		p.Authority, base, p.Now.Add(-ca.CRLLifetime).UnixMicro())
	if err != nil {
		return err
	}
	der, err := p.Sign(l)
	if err != nil {
		return err
	}
	if _, err := t.Exec(`INSERT INTO directory_list (authority, number, base, der, entries, this_update_us, next_update_us)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		p.Authority, number, base, der, len(l.Revoked), l.ThisUpdate.UnixMicro(), l.NextUpdate.UnixMicro()); err != nil {
		return err
	}
	// What nobody is given any more: lists before the complete one, and deltas
	// before this one.
	if _, err := t.Exec(`DELETE FROM directory_list WHERE authority = $1 AND number < $2 AND (base <> 0 OR $3 = 0)`,
		p.Authority, number, base); err != nil {
		return err
	}
	kind := "complete"
	if base > 0 {
		kind = fmt.Sprintf("delta to %d", base)
	}
	return t.audit(Entry{At: p.Now, By: p.By, Action: ActList, Detail: fmt.Sprintf("number %d, %s, %d entries", number, kind, len(l.Revoked))})
}

func scanRevocation(r database.Row) (v ca.Revocation, err error) {
	var serial string
	var at database.Instant
	if err = r.Scan(&serial, &at, &v.Reason); err != nil {
		return v, err
	}
	v.At = at.Time
	v.Serial, err = ca.ParseSerial(serial)
	return v, err
}
