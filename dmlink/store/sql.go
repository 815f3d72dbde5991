package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

//go:embed migrations
var migrations embed.FS

var tables = database.Tables{Version: "dm_version", Files: migrations}

// SQL is the store in a database. It is safe for concurrent use, and on
// PostgreSQL several processes may share it.
type SQL struct {
	db   *database.DB
	seal *sealer
	now  func() time.Time
}

// Options of a store.
type Options struct {
	// SealKey encrypts the secrets of accounts: 32 octets. Without it accounts
	// with secrets can neither be written nor read. It stays the caller's.
	SealKey []byte
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// New brings the tables up to date and returns the store. The database stays the
// caller's.
func New(ctx context.Context, db *database.DB, o Options) (*SQL, error) {
	seal, err := newSealer(o.SealKey)
	if err != nil {
		return nil, err
	}
	if err := tables.Migrate(ctx, db); err != nil {
		return nil, unavailable(err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &SQL{db: db, seal: seal, now: o.Now}, nil
}

// DB is the database behind it.
func (d *SQL) DB() *database.DB { return d.db }

// tx is a transaction on the tables of this package.
type tx struct {
	*database.Tx
	d *SQL
}

// write again when somebody has just taken away a content that a command needs,
// with the last command that had it: PostgreSQL finds a broken reference then.
func (d *SQL) write(ctx context.Context, work func(*tx) error) error {
	const tries = 3
	for try := 1; ; try++ {
		err := d.db.Write(ctx, func(t *database.Tx) error { return work(&tx{t, d}) })
		var state interface{ SQLState() string }
		if try == tries || !errors.As(err, &state) || state.SQLState() != "23503" {
			return unavailable(err)
		}
	}
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

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob is octets, nil being NULL.
func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// text of a device as a database takes it: UTF-8 without NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// maxName is how long names of devices and IDs of tasks are, in octets.
const maxName = 300

func isName(s string) bool { return s != "" && len(s) <= maxName && text(s) == s }
