package fleet

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

const tickets = string(gcm.Tickets)

// ticketKey without its secret.
type ticketKey struct {
	id   [8]byte
	from time.Time
}

func ticketKeys(ctx context.Context, q database.Querier) ([]ticketKey, error) {
	return database.Query(ctx, q, func(r database.Row) (k ticketKey, err error) {
		var id []byte
		var from database.Instant
		if err = r.Scan(&id, &from); err == nil && len(id) != len(k.id) {
			err = fmt.Errorf("%w: a ticket key's ID of %d octets", ErrInvalid, len(id))
		}
		if err == nil {
			k.id, k.from = [8]byte(id), from.Time
		}
		return k, err
	}, `SELECT id, from_us FROM gcm_ticket_key ORDER BY from_us, id`)
}

// keepTickets makes a key a period before it seals, so that all gateways have it
// by then, and erases those by which no ticket can be opened any more.
func (f *Fleet) keepTickets(ctx context.Context) error {
	keys, err := ticketKeys(ctx, f.db)
	if err != nil || f.ticketsDone(keys) {
		return err
	}
	return f.change(ctx, func(c *change) error {
		keys, err := ticketKeys(c.Context(), c)
		if err != nil {
			return err
		}
		for n, k := range keys {
			if !f.outlived(keys, n) {
				break
			}
			if _, err := c.Exec(`DELETE FROM gcm_ticket_key WHERE id = $1`, k.id[:]); err != nil {
				return err
			}
			c.touch(tickets)
		}
		now := c.now.Truncate(time.Second)
		for next := now; !f.madeAhead(keys); {
			if len(keys) > 0 {
				// Whoever was away for long begins at once.
				if next = keys[len(keys)-1].from.Add(f.TicketPeriod); next.Before(now) {
					next = now
				}
			}
			k, err := c.newTicketKey(next)
			if err != nil {
				return err
			}
			keys = append(keys, k)
			c.touch(tickets)
		}
		return nil
	}, tickets)
}

func (f *Fleet) ticketsDone(keys []ticketKey) bool {
	return f.madeAhead(keys) && !f.outlived(keys, 0)
}

// madeAhead: there is a key for the next period, too.
func (f *Fleet) madeAhead(keys []ticketKey) bool {
	return len(keys) > 1 && keys[len(keys)-1].from.After(f.Now())
}

// outlived: a key sealed until the next one began, and its last ticket is over.
func (f *Fleet) outlived(keys []ticketKey, n int) bool {
	return n+1 < len(keys) && keys[n+1].from.Add(f.TicketLifetime).Before(f.Now())
}

func (c *change) newTicketKey(from time.Time) (ticketKey, error) {
	var k ticketKey
	var secret [32]byte
	defer clear(secret[:])
	_, _ = rand.Read(k.id[:]) // never fails
	_, _ = rand.Read(secret[:])
	k.from = from
	_, err := c.Exec(`INSERT INTO gcm_ticket_key (id, secret, from_us) VALUES ($1, $2, $3)`, k.id[:], c.f.seal.seal(k.id, secret[:]), from.UnixMicro())
	return k, err
}

func (f *Fleet) ticketRecords(t *database.Tx) ([]gcm.Record, error) {
	return database.Query(t.Context(), t, func(r database.Row) (gcm.Record, error) {
		var id, sealed []byte
		var from database.Instant
		if err := r.Scan(&id, &sealed, &from); err != nil {
			return gcm.Record{}, err
		}
		k := gcm.TicketKey{From: from.Time}
		defer clear(k.Secret[:])
		if copy(k.ID[:], id) != len(id) || len(id) != len(k.ID) {
			return gcm.Record{}, fmt.Errorf("%w: a ticket key's ID of %d octets", ErrInvalid, len(id))
		}
		secret, err := f.seal.open(k.ID, sealed)
		if err != nil {
			return gcm.Record{}, err
		}
		defer clear(secret)
		if copy(k.Secret[:], secret) != len(k.Secret) || len(secret) != len(k.Secret) {
			return gcm.Record{}, fmt.Errorf("%w: a ticket key of %d octets", ErrInvalid, len(secret))
		}
		return k.Record(), nil
	}, `SELECT id, secret, from_us FROM gcm_ticket_key`)
}
