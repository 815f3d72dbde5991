package directory

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// Dialect of a database.
type Dialect string

// Dialects.
const (
	// SQLite through modernc.org/sqlite, opened with _txlock=immediate.
	SQLite Dialect = "sqlite"
	// Postgres through the database/sql driver of pgx.
	Postgres Dialect = "postgres"
)

// SQL is the directory in a database. It is safe for concurrent use, and on
// PostgreSQL several processes may share it.
type SQL struct {
	db      *sql.DB
	dialect Dialect
	id      string
	news    news

	// SQLite has one writer. Those that wait for it share one transaction, each
	// in a savepoint of its own, and so one wait for the disk.
	mu      sync.Mutex
	waiting []*job
	leading bool
	// Statements of SQLite transactions, prepared once: parsing them costs more
	// than running them. PostgreSQL's driver does that by itself. The leader
	// alone uses them.
	prepared map[string]*sql.Stmt
	wanted   []string
}

type job struct {
	ctx  context.Context
	work func(*tx) error
	err  error
	done chan struct{}
}

// maxBatch bounds how many share a transaction, and so how long one waits.
const maxBatch = 64

// maxPrepared bounds statements; there are about forty texts.
const maxPrepared = 100

// New brings the tables up to date and returns the directory. The database
// stays the caller's.
func New(ctx context.Context, db *sql.DB, dialect Dialect) (*SQL, error) {
	if err := Migrate(ctx, db, dialect); err != nil {
		return nil, err
	}
	d := &SQL{db: db, dialect: dialect, prepared: make(map[string]*sql.Stmt)}
	err := d.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO directory_identity (id, one) VALUES ($1, 1) ON CONFLICT (one) DO NOTHING`, rand.Text()); err != nil {
			return err
		}
		return t.row(`SELECT id FROM directory_identity`).Scan(&d.id)
	})
	return d, err
}

// ID tells databases apart; it was drawn when this one was new.
func (d *SQL) ID() string { return d.id }

// DB is the database behind it.
func (d *SQL) DB() *sql.DB { return d.db }

// tx is a transaction with what differs between databases.
type tx struct {
	*sql.Tx
	ctx     context.Context
	dialect Dialect
	d       *SQL
}

// statement that is prepared, nil if it isn't. It is prepared between two
// transactions, because in one it would take a second connection.
func (t *tx) statement(text string) *sql.Stmt {
	if t.dialect != SQLite {
		return nil
	}
	if s, ok := t.d.prepared[text]; ok {
		return t.StmtContext(t.ctx, s)
	}
	t.d.wanted = append(t.d.wanted, text)
	return nil
}

func (d *SQL) prepare(ctx context.Context) {
	for _, text := range d.wanted {
		if d.prepared[text] != nil || len(d.prepared) >= maxPrepared {
			continue
		}
		// Without one it goes on as before.
		if s, err := d.db.PrepareContext(ctx, text); err == nil {
			d.prepared[text] = s
		}
	}
	d.wanted = d.wanted[:0]
}

// forUpdate ends a SELECT of rows that decide. SQLite has one writer anyway.
func (t *tx) forUpdate() string {
	if t.dialect == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// forUpdateOf names the table whose rows they are, where several are joined.
func (t *tx) forUpdateOf(table string) string {
	if t.dialect == Postgres {
		return " FOR UPDATE OF " + table
	}
	return ""
}

func (t *tx) exec(text string, args ...any) (int64, error) {
	var result sql.Result
	var err error
	if s := t.statement(text); s != nil {
		result, err = s.ExecContext(t.ctx, args...)
	} else {
		result, err = t.ExecContext(t.ctx, text, args...)
	}
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t *tx) row(text string, args ...any) *sql.Row {
	if s := t.statement(text); s != nil {
		return s.QueryRowContext(t.ctx, args...)
	}
	return t.QueryRowContext(t.ctx, text, args...)
}

// QueryContext is that of sql.Tx, by a prepared statement if there is one.
func (t *tx) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if s := t.statement(text); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, text, args...)
}

// write runs work in a transaction and returns when it is committed.
func (d *SQL) write(ctx context.Context, work func(*tx) error) error {
	var err error
	if d.dialect == SQLite {
		err = d.share(ctx, work)
	} else {
		err = d.retry(ctx, work)
	}
	return unavailable(err)
}

// unavailable wraps what a database says.
func unavailable(err error) error {
	if err == nil || isDecided(err) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// share queues the work; the first who comes leads those who come meanwhile.
func (d *SQL) share(ctx context.Context, work func(*tx) error) error {
	j := &job{ctx: ctx, work: work, done: make(chan struct{})}
	d.mu.Lock()
	d.waiting = append(d.waiting, j)
	lead := !d.leading
	d.leading = true
	d.mu.Unlock()
	if lead {
		// Who leads may be long done with its own work; the rest is on a
		// goroutine, so that its caller doesn't wait.
		go d.lead()
	}
	<-j.done
	return j.err
}

func (d *SQL) lead() {
	for {
		d.mu.Lock()
		n := min(len(d.waiting), maxBatch)
		batch := d.waiting[:n:n]
		d.waiting = d.waiting[n:]
		if n == 0 {
			d.waiting, d.leading = nil, false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		err := d.batch(batch)
		for _, j := range batch {
			if err != nil && j.err == nil {
				j.err = err
			}
			close(j.done)
		}
	}
}

// batch returns the error of the commit; each job has its own besides.
func (d *SQL) batch(jobs []*job) error {
	// One caller that goes away must not take the work of others with it.
	ctx := context.Background()
	d.prepare(ctx)
	t, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback()
	for _, j := range jobs {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if _, err := t.ExecContext(ctx, "SAVEPOINT job"); err != nil {
			return err
		}
		if j.err = j.work(&tx{t, ctx, d.dialect, d}); j.err != nil {
			if _, err := t.ExecContext(ctx, "ROLLBACK TO job"); err != nil {
				return err
			}
		}
		if _, err := t.ExecContext(ctx, "RELEASE job"); err != nil {
			return err
		}
	}
	return t.Commit()
}

// attempts of a transaction that PostgreSQL gave up in favour of another one.
const attempts = 8

func (d *SQL) retry(ctx context.Context, work func(*tx) error) error {
	for attempt := 1; ; attempt++ {
		err := d.once(ctx, work)
		if err == nil || attempt == attempts || !isContention(err) {
			return err
		}
		pause := time.NewTimer(mathrand.N(time.Duration(attempt) * 10 * time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

func (d *SQL) once(ctx context.Context, work func(*tx) error) error {
	// Whatever the server's default: locks are taken, and what comes after a lock
	// has to see what was committed while it was waited for.
	t, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer t.Rollback()
	if err := work(&tx{t, ctx, d.dialect, d}); err != nil {
		return err
	}
	return t.Commit()
}

// isContention: serialization_failure or deadlock_detected.
func isContention(err error) bool {
	var state interface{ SQLState() string }
	return errors.As(err, &state) && (state.SQLState() == "40001" || state.SQLState() == "40P01")
}

// query scans all rows.
func query[T any](ctx context.Context, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, scan func(row) (T, error), text string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, unavailable(err)
		}
		all = append(all, one)
	}
	return all, unavailable(rows.Err())
}

type row interface{ Scan(...any) error }

// found turns the absence of a row into ErrNotFound.
func found(err error, what, name string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s %q: %w", what, name, ErrNotFound)
	}
	return unavailable(err)
}

// micros is how a time is stored; the zero time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// instant is a time as it is read.
type instant struct{ time.Time }

func (i *instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		i.Time = time.Time{}
	case int64:
		i.Time = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("time of type %T", v)
	}
	return nil
}

// optional is text that is NULL when it is empty.
type optional string

func (o *optional) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*o = ""
	case string:
		*o = optional(v)
	case []byte:
		*o = optional(v)
	default:
		return fmt.Errorf("text of type %T", v)
	}
	return nil
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// list of names, stored as JSON.
type list []string

func (l *list) Scan(v any) error {
	var text optional
	if err := text.Scan(v); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), l)
}

func (l list) text() string {
	if l == nil {
		l = list{}
	}
	out, err := json.Marshal([]string(l))
	if err != nil {
		panic(err) // strings only
	}
	return string(out)
}
