package directorytest

import (
	"testing"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Directory in a database.
func Directory(t testing.TB, db *database.DB) *directory.SQL {
	t.Helper()
	d, err := directory.New(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// SQLite is a new directory in a file of the test's folder.
func SQLite(t testing.TB) *directory.SQL {
	t.Helper()
	return Directory(t, databasetest.SQLite(t))
}

// Postgres is a PostgreSQL server of a test.
type Postgres struct{ *postgres.Server }

// StartPostgres starts a server, see postgres.Start.
func StartPostgres(t testing.TB) *Postgres { return &Postgres{postgres.Start(t)} }

// Directory in a new database.
func (p *Postgres) Directory(t testing.TB) *directory.SQL {
	t.Helper()
	return Directory(t, databasetest.Postgres(t, p.Server))
}
