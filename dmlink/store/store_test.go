package store_test

import (
	"testing"

	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database { return storetest.SQLite(t) })
}

func TestPostgres(t *testing.T) {
	p := postgres.Start(t)
	storetest.Run(t, func(t *testing.T) storetest.Database { return storetest.Postgres(t, p) })
}

// What DM sessions need of any queue.
func TestSessions(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		sessiontest.Run(t, func(t *testing.T) sessiontest.Feeder {
			return storetest.NewFeeder(t, storetest.SQLite(t).Store(t, nil))
		})
	})
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		sessiontest.Run(t, func(t *testing.T) sessiontest.Feeder {
			return storetest.NewFeeder(t, storetest.Postgres(t, p).Store(t, nil))
		})
	})
}
