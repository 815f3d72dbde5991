// Package database opens the one database of a role, SQLite in a file or
// PostgreSQL, with what must hold for either: durable commits, bounded waits,
// and TLS that proves the server's name unless the operator says otherwise. To
// the packages that keep tables in it, it is one kind of transaction: statements
// are the same for both engines but for what Engine has methods for.
//
// What lives here: drivers, connection strings, pools; transactions and their
// retries; migrations of a package's Tables; the numbers of an Outbox. What
// doesn't: tables and their statements. Each package owns its tables, by a
// prefix, and migrates them.
//
// # Statements
//
// Parameters are $1 to $n, in the order in which they first appear. Times are
// BIGINT, microseconds since 1970 UTC (Instant, Micros). A row that decides is
// read with ForUpdate, in one order by all who lock several; work that servers
// share is read with SkipLocked. Many rows are one statement by Rows and Insert;
// where PostgreSQL can do all of it in one, AtOnce saves the round trips.
//
// # SQLite
//
// It has one writer. Who calls Write while another transaction runs shares the
// next one with all who wait, each in a savepoint of its own, so that what one of
// them does wrong is undone alone and the disk is waited for once.
package database

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // driver "sqlite"
)

// Engine of a database.
type Engine string

// Engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Config of a database: File or Postgres, one of them.
type Config struct {
	// File of SQLite; made, with its folder, where it is missing.
	File string
	// Postgres is a connection string without sslmode, or with verify-full.
	Postgres string
	// Insecure lets Postgres go without TLS.
	Insecure bool
	// Connections at once.
	Connections int
}

// ErrTLS: a connection string asks for less than the configuration allows.
var ErrTLS = errors.New("TLS to PostgreSQL")

// Bounds on waiting.
const (
	connectTimeout = 10 * time.Second
	// statementTimeout bounds what a lost client leaves behind, too.
	statementTimeout = 30 * time.Second
	busyTimeout      = 10 * time.Second
	connectionLife   = 30 * time.Minute
)

// Check finds what Open would refuse without connecting.
func Check(c Config) error {
	if c.Postgres == "" {
		return nil
	}
	_, err := postgresConfig(c)
	return err
}

// Open connects and pings.
func Open(ctx context.Context, c Config) (*DB, error) {
	var db *sql.DB
	var err error
	engine := SQLite
	if c.Postgres != "" {
		engine = Postgres
		db, err = openPostgres(c)
	} else {
		db, err = openSQLite(c)
	}
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(c.Connections)
	db.SetMaxIdleConns(c.Connections)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the database: %w", err), db.Close())
	}
	return New(db, engine), nil
}

// openSQLite: a commit is on disk when it returns, and writers take turns from
// the beginning of their transaction.
func openSQLite(c Config) (*sql.DB, error) {
	if err := os.MkdirAll(filepath.Dir(c.File), 0o700); err != nil {
		return nil, err
	}
	// The log and its index take the mode of the file.
	f, err := os.OpenFile(c.File, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(c.File)
	if err != nil {
		return nil, err
	}
	return sql.Open("sqlite", SQLiteName(path))
}

// SQLiteName is the data source name of a file by its absolute path.
func SQLiteName(path string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "secure_delete(1)",
	}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

func openPostgres(c Config) (*sql.DB, error) {
	config, err := postgresConfig(c)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetConnMaxLifetime(connectionLife)
	return db, nil
}

func postgresConfig(c Config) (*pgx.ConnConfig, error) {
	mode, err := sslMode(c.Postgres)
	if err != nil {
		return nil, err
	}
	want := "verify-full"
	if c.Insecure {
		want = cmp.Or(mode, "disable")
	} else if mode != "" && mode != want {
		return nil, fmt.Errorf("%w: got sslmode=%s, expected verify-full or none; `tls: insecure-without-tls` allows others", ErrTLS, mode)
	}
	config, err := pgx.ParseConfig(with(c.Postgres, "sslmode", want))
	if err != nil {
		return nil, fmt.Errorf("connection string: %w", err)
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, connectTimeout)
	for name, value := range map[string]string{
		"application_name":                    "gatewayd",
		"default_transaction_isolation":       "read committed", // see Write and AtOnce
		"statement_timeout":                   fmt.Sprint(statementTimeout.Milliseconds()),
		"idle_in_transaction_session_timeout": fmt.Sprint(statementTimeout.Milliseconds()),
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// sslMode of a connection string.
func sslMode(dsn string) (mode string, err error) {
	if isURL(dsn) {
		u, err := url.Parse(dsn)
		if err != nil {
			return "", errors.New("connection string: not a URL") // the error would repeat it
		}
		return u.Query().Get("sslmode"), nil
	}
	for _, word := range strings.Fields(dsn) {
		if key, value, ok := strings.Cut(word, "="); ok && key == "sslmode" {
			mode = strings.Trim(value, "'")
		}
	}
	return mode, nil
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// with sets a parameter; the last one counts.
func with(dsn, key, value string) string {
	if !isURL(dsn) {
		return dsn + " " + key + "=" + value
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}
