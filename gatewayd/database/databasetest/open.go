// Package databasetest has databases for tests of packages that keep tables, in
// SQLite and in a PostgreSQL that the test starts, and two tests that each of
// them passes: databases of former versions are brought up to date (Versions),
// and no statement reads a whole table (Recorder).
package databasetest

import (
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Each runs a test on both engines, with a function that makes new, empty
// databases.
func Each(t *testing.T, test func(t *testing.T, open func(testing.TB) *database.DB)) {
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite) })
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		test(t, func(t testing.TB) *database.DB { return Postgres(t, p) })
	})
}

// SQLite in a new file of the test's folder.
func SQLite(t testing.TB) *database.DB {
	t.Helper()
	return SQLiteFile(t, filepath.Join(t.TempDir(), "test.db"))
}

// SQLiteFile opens a file as a server does.
func SQLiteFile(t testing.TB, path string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), database.Config{File: path, Connections: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Postgres in a new database of a server.
func Postgres(t testing.TB, p *postgres.Server) *database.DB {
	t.Helper()
	return database.New(p.Database(t), database.Postgres)
}

// Driver is the name of an engine's driver, for processes that are given the
// name of a data source.
func Driver(e database.Engine) string {
	if e == database.Postgres {
		return "pgx"
	}
	return "sqlite"
}
