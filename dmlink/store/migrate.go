package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// Migrate brings the tables of a database up to date. Processes that start at
// the same time take turns.
func Migrate(ctx context.Context, db *sql.DB, dialect Dialect) error {
	p, err := migrator(db, dialect)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("%w: migrate tables: %w", ErrUnavailable, err)
	}
	return nil
}

func migrator(db *sql.DB, dialect Dialect) (*goose.Provider, error) {
	var (
		kind    database.Dialect
		options []goose.ProviderOption
	)
	switch dialect {
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
		return nil, fmt.Errorf("dialect %q is none of %s, %s", dialect, SQLite, Postgres)
	}
	store, err := database.NewStore(kind, "dm_version")
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations/"+string(dialect))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", db, files, append(options, goose.WithStore(store))...)
}
