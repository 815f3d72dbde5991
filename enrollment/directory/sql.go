package directory

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/roamgate/roamgate/gatewayd/database"
)

//go:embed migrations
var migrations embed.FS

var tables = database.Tables{Version: "directory_version", Files: migrations}

// SQL is the directory in a database. It is safe for concurrent use, and on
// PostgreSQL several processes may share it.
type SQL struct {
	db   *database.DB
	id   string
	news news
}

// New brings the tables up to date and returns the directory. The database
// stays the caller's.
func New(ctx context.Context, db *database.DB) (*SQL, error) {
	if err := tables.Migrate(ctx, db); err != nil {
		return nil, unavailable(err)
	}
	d := &SQL{db: db}
	err := d.write(ctx, func(t *tx) error {
		if _, err := t.Exec(`INSERT INTO directory_identity (id, one) VALUES ($1, 1) ON CONFLICT (one) DO NOTHING`, rand.Text()); err != nil {
			return err
		}
		return t.Row(`SELECT id FROM directory_identity`).Scan(&d.id)
	})
	return d, err
}

// ID tells databases apart; it was drawn when this one was new.
func (d *SQL) ID() string { return d.id }

// DB is the database behind it.
func (d *SQL) DB() *database.DB { return d.db }

// tx is a transaction on the tables of this package.
type tx struct{ *database.Tx }

func (d *SQL) write(ctx context.Context, work func(*tx) error) error {
	return unavailable(d.db.Write(ctx, func(t *database.Tx) error { return work(&tx{t}) }))
}

// unavailable wraps what a database says.
func unavailable(err error) error {
	if err == nil || isDecided(err) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func query[T any](ctx context.Context, q database.Querier, scan func(database.Row) (T, error), text string, args ...any) ([]T, error) {
	all, err := database.Query(ctx, q, scan, text, args...)
	return all, unavailable(err)
}

// found turns the absence of a row into ErrNotFound.
func found(err error, what, name string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s %q: %w", what, name, ErrNotFound)
	}
	return unavailable(err)
}

// list of names, stored as JSON.
type list []string

func (l *list) Scan(v any) error {
	var text database.Text
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
