package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// Tables of one package, which are nobody else's.
type Tables struct {
	// Version is the table that knows which migrations were made.
	Version string
	// Files has a folder migrations with one for each engine: sqlite and postgres.
	// In these are the migrations of goose: 00001_NAME.sql and so on.
	Files fs.FS
}

// ErrNewer: the tables are of a newer program.
var ErrNewer = errors.New("the database was migrated by a newer gatewayd: run that one, or restore the backup from before")

// Migrate brings the tables up to date, or returns an ErrNewer. Processes that
// start at the same time take turns.
func (s Tables) Migrate(ctx context.Context, db *DB) error {
	p, err := s.Provider(db)
	if err != nil {
		return err
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate tables of %s: %w", s.Version, err)
	}
	// Only now: Up takes turns where the first of all makes the table of versions.
	now, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("version of tables of %s: %w", s.Version, err)
	}
	if now > known {
		return fmt.Errorf("tables of %s have version %d, known is %d: %w", s.Version, now, known, ErrNewer)
	}
	if len(done) > 0 && done[0].Source.Version > 1 && db.Migrated != nil {
		db.Migrated(s.Version, done[0].Source.Version-1, now)
	}
	return nil
}

// Provider of the migrations, for tests that want a former version.
func (s Tables) Provider(db *DB) (*goose.Provider, error) {
	var (
		kind    database.Dialect
		options []goose.ProviderOption
	)
	switch db.Engine {
	case SQLite:
		kind = database.DialectSQLite3
	case Postgres:
		kind = database.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	default:
		return nil, fmt.Errorf("engine %q is none of %s, %s", db.Engine, SQLite, Postgres)
	}
	store, err := database.NewStore(kind, s.Version)
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(s.Files, "migrations/"+string(db.Engine))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", db.DB, files, append(options, goose.WithStore(store))...)
}
