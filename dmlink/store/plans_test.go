package store_test

import (
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// newRecorder; in a large database the planner knows how many devices are meant.
func newRecorder(large bool) *databasetest.Recorder {
	return &databasetest.Recorder{Prefix: "dm_", Small: func(table, text string) bool {
		// All devices are meant, or those of scopes, which can be most of them.
		if table == "dm_policy_device" && (!strings.Contains(text, "WHERE") || strings.Contains(text, "doubt = 1")) ||
			strings.Contains(text, "dm_policy_device WHERE device_name IN (SELECT") && large {
			return true
		}
		if large && (table == "dm_policy_version" || table == "dm_followed") {
			return true // nothing is generated into them
		}
		if strings.HasPrefix(text, "SELECT COUNT(*)") && !strings.Contains(text, "WHERE") {
			return true // the suite counts what is left
		}
		return table == "dm_schedule" || table == "dm_policy_read" || table == "dm_outbox" && strings.Contains(text, "MAX(number)")
	}}
}

// heard are the statements of the suite.
func heard(t *testing.T, large bool, open func(*testing.T, *databasetest.Recorder) *database.DB) *databasetest.Recorder {
	r := newRecorder(large)
	t.Run("suite", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) *database.DB { return open(t, r) })
	})
	return r
}

// What any store has to do. And no statement that the suite makes reads a whole
// table: the database is asked how it would go about each of them. Whoever adds
// one without an index hears of it here.
func TestStoreSQLite(t *testing.T) {
	db := databasetest.SQLite(t)
	storetest.Store(t, db, nil)
	heard(t, false, func(t *testing.T, r *databasetest.Recorder) *database.DB { return r.SQLite(t) }).Check(t, db, 50)
}

func TestStorePostgres(t *testing.T) {
	p := postgres.Start(t)
	db := databasetest.Postgres(t, p)
	storetest.Store(t, db, nil)
	heard(t, false, func(t *testing.T, r *databasetest.Recorder) *database.DB { return r.Postgres(t, p) }).Check(t, db, 50)
}

// A check-in of a device that has nothing to do is one statement, on indices: the
// session asks for the account and nothing else.
func TestEmptyCheckIn(t *testing.T) {
	r := newRecorder(false)
	db := r.SQLite(t)
	s := storetest.Store(t, db, nil)
	if err := s.Enroll(t.Context(), store.Device{Name: "a", Enrolled: storetest.Noon}); err != nil {
		t.Fatal(err)
	}
	before, known := r.Calls(), r.Statements()
	a, err := s.Account(t.Context(), "a")
	if err != nil || !a.Idle {
		t.Errorf("account %+v, %v", a, err)
	}
	if n := r.Calls() - before; n != 1 {
		t.Errorf("%d statements", n)
	}
	for text, n := range r.Statements() {
		if _, ok := known[text]; ok {
			continue
		}
		for _, line := range databasetest.PlanSQLite(t, db, text, n) {
			if !strings.HasPrefix(line, "SEARCH") && !strings.Contains(line, "SUBQUERY") {
				t.Errorf("%s:\n%s", text, line)
			}
		}
	}
}
