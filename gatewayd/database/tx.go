package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/semaphore"
)

// DB is the database of a role. Packages that keep tables in it share one, so
// that on SQLite they share its writer, too. It is safe for concurrent use.
//
// What reads outside of a transaction uses the methods of sql.DB; what changes
// anything uses Write.
type DB struct {
	*sql.DB
	// Engine that it is in.
	Engine
	// Migrated, where it isn't nil, hears of tables that were there and are of a
	// newer version now.
	Migrated func(tables string, from, to int64)

	writer writer              // SQLite
	turns  *semaphore.Weighted // PostgreSQL: see again
	often  prepared
}

// New makes a DB of one that was opened otherwise than by Open, as tests do. One
// of SQLite has to begin its transactions with a lock (_txlock=immediate).
func New(db *sql.DB, e Engine) *DB {
	return &DB{
		DB: db, Engine: e,
		writer: writer{prepared: make(map[string]*sql.Stmt)}, turns: semaphore.NewWeighted(everybody),
		often: prepared{db: db},
	}
}

// ErrPanic: what was to be done in a transaction panicked. Nothing of it stays,
// and who shared the transaction is not touched. The text has the stack.
var ErrPanic = errors.New("panic in a transaction")

// Write runs work in a transaction and returns when that is durable. If work
// returns an error or panics, nothing of it stays, and Write returns that error
// or ErrPanic. Any other error means that it may or may not have been committed.
//
// Work may run more than once, when PostgreSQL gave a transaction up in favour of
// another one: what it sets outside, it sets anew. It must not call Write, which
// would wait for itself, nor wait for anybody else: on SQLite it holds the one
// writer up. Several packages are in one transaction if the one that calls Write
// hands its Tx to functions of the others.
func (d *DB) Write(ctx context.Context, work func(*Tx) error) error {
	if d.Engine == SQLite {
		return d.share(ctx, work)
	}
	// Whatever the server's default: locks are taken, and what comes after a lock
	// has to see what was committed while it was waited for.
	o := &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	return d.again(ctx, func() error { return d.once(ctx, o, work) })
}

// AtOnce is a transaction of PostgreSQL that is one statement, with the rows that
// it returns: one round trip, where Write has three. It may be executed again as
// what Write does is; an error leaves as little, or as much unknown.
func AtOnce[T any](ctx context.Context, d *DB, scan func(Row) (T, error), text string, args ...any) (all []T, err error) {
	err = d.again(ctx, func() error {
		// The last row is followed by the word that it is committed, which Query waits
		// for; or by why it isn't.
		all, err = Query(ctx, d, scan, text, args...)
		return err
	})
	return all, err
}

// Read runs work in a transaction that sees the database as it is at one moment
// and changes nothing. It waits for no writer.
func (d *DB) Read(ctx context.Context, work func(*Tx) error) error {
	o := &sql.TxOptions{ReadOnly: true}
	if d.Engine == Postgres {
		o.Isolation = sql.LevelRepeatableRead
	}
	return d.once(ctx, o, work)
}

func (d *DB) once(ctx context.Context, o *sql.TxOptions, work func(*Tx) error) error {
	t, err := d.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if err := run(&Tx{Engine: d.Engine, sql: t, ctx: ctx}, work); err != nil {
		return err
	}
	return t.Commit()
}

// run work, and close what it left open: rows would be in the way of a rollback.
func run(t *Tx, work func(*Tx) error) (err error) {
	defer func() {
		for _, rows := range t.rows {
			rows.Close()
		}
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, v, debug.Stack())
		}
	}()
	return work(t)
}

// Tx is a transaction. It is good until the function that it was given to
// returns, for one goroutine.
type Tx struct {
	// Engine that it runs on.
	Engine
	sql  *sql.Tx
	ctx  context.Context
	rows []*sql.Rows

	writer *writer // of a transaction that is shared, for its statements
}

// Context of what is done in the transaction. On SQLite it isn't the caller's:
// one that goes away must not take along the work of those it shares with.
func (t *Tx) Context() context.Context { return t.ctx }

// Exec a statement and say how many rows it touched.
func (t *Tx) Exec(text string, args ...any) (int64, error) {
	var result sql.Result
	var err error
	if s := t.statement(text); s != nil {
		result, err = s.ExecContext(t.ctx, args...)
	} else {
		result, err = t.sql.ExecContext(t.ctx, text, args...)
	}
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Row of a query that has one, to be scanned at once.
func (t *Tx) Row(text string, args ...any) *sql.Row { return t.QueryRowContext(t.ctx, text, args...) }

// QueryRowContext is that of sql.Tx.
func (t *Tx) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	if s := t.statement(text); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return t.sql.QueryRowContext(ctx, text, args...)
}

// QueryContext is that of sql.Tx.
func (t *Tx) QueryContext(ctx context.Context, text string, args ...any) (rows *sql.Rows, err error) {
	if s := t.statement(text); s != nil {
		rows, err = s.QueryContext(ctx, args...)
	} else {
		rows, err = t.sql.QueryContext(ctx, text, args...)
	}
	if err == nil {
		t.rows = append(t.rows, rows)
	}
	return rows, err
}

// Lock keeps transactions apart that lock the same number, until they end. Two
// packages draw theirs so that they don't meet.
func (t *Tx) Lock(number int64) error {
	if t.Engine != Postgres {
		return nil
	}
	_, err := t.Exec(`SELECT pg_advisory_xact_lock($1)`, number)
	return err
}
