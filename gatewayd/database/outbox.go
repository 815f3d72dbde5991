package database

import (
	"context"
	"fmt"
)

// Outbox is a table in which a package tells others, in the transactions of what
// it tells. They read it by numbers that begin at 1, rise by one, and are in the
// order of the commits of what concerns one thing. Whoever tells inserts a row
// with neither of the table's columns id, a key that rises, and number, NULL
// until the row is read first: a number that is drawn before the commit may be
// seen after a higher one.
type Outbox[T any] struct {
	Table string
	// Columns of the table that Scan reads a T from.
	Columns string
	Scan    func(Row) (T, error)
	// Lock is taken by whoever numbers, see Tx.Lock: this table's alone.
	Lock int64
}

// After is what has numbers above after, in order, at most limit (1 to MaxPage).
func (o Outbox[T]) After(ctx context.Context, d *DB, after int64, limit int) ([]T, error) {
	var fresh bool
	err := d.QueryRowContext(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT 1 FROM %s WHERE number IS NULL)`, o.Table)).Scan(&fresh)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := d.Write(ctx, o.number); err != nil {
			return nil, err
		}
	}
	return Query(ctx, d, o.Scan, fmt.Sprintf(`SELECT %s FROM %s WHERE number > $1 ORDER BY number LIMIT $2`, o.Columns, o.Table), after, Page(limit))
}

func (o Outbox[T]) number(t *Tx) error {
	if err := t.Lock(o.Lock); err != nil {
		return err
	}
	_, err := t.Exec(fmt.Sprintf(`UPDATE %[1]s SET number = fresh.number FROM (
			SELECT id, (SELECT COALESCE(MAX(number), 0) FROM %[1]s) + ROW_NUMBER() OVER (ORDER BY id) AS number
			FROM %[1]s WHERE number IS NULL
		) AS fresh WHERE %[1]s.id = fresh.id`, o.Table))
	return err
}

// Trim takes away what has numbers up to one, which all who read have seen. The
// newest stays, so that numbers go on.
func (o Outbox[T]) Trim(ctx context.Context, d *DB, upTo int64) error {
	return d.Write(ctx, func(t *Tx) error {
		_, err := t.Exec(fmt.Sprintf(`DELETE FROM %[1]s WHERE number <= $1
			AND number < (SELECT MAX(number) FROM %[1]s)`, o.Table), upTo)
		return err
	})
}
