package directorytest

import (
	"testing"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Postgres is a PostgreSQL server of a test.
type Postgres struct{ *postgres.Server }

// StartPostgres starts a server, see postgres.Start.
func StartPostgres(t testing.TB) *Postgres { return &Postgres{postgres.Start(t)} }

// Directory in a new database.
func (p *Postgres) Directory(t testing.TB) *directory.SQL {
	t.Helper()
	d, err := directory.New(t.Context(), p.Database(t), directory.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
