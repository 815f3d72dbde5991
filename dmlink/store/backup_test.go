package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// A backup is made while the server works, and restored: all is there, and what
// may have been sent since isn't sent again.
func TestBackup(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		db := databasetest.SQLite(t)
		copied := filepath.Join(t.TempDir(), "backup.db")
		backup(t, db, func() {
			if _, err := db.ExecContext(t.Context(), `VACUUM INTO $1`, copied); err != nil {
				t.Fatal(err)
			}
		}, func() *database.DB { return databasetest.SQLiteFile(t, copied) })
	})
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		name, other := p.Create(t), p.Create(t)
		backup(t, database.New(p.Open(t, name), database.Postgres), func() { p.Dump(name, "backup") }, func() *database.DB {
			p.Restore("backup", other)
			return database.New(p.Open(t, other), database.Postgres)
		})
	})
}

func backup(t *testing.T, db *database.DB, save func(), restore func() *database.DB) {
	ctx := t.Context()
	s := storetest.Store(t, db, nil)
	if err := s.Enroll(ctx, store.Device{Name: "a", Enrolled: storetest.Noon}); err != nil {
		t.Fatal(err)
	}
	put := func(id string, semantics session.Semantics) {
		t.Helper()
		_, _, err := s.Put(ctx, store.Task{
			ID: id, Kind: "test", Created: time.Now(), Expires: time.Now().Add(time.Hour), Semantics: semantics,
			Command: &syncml.Op{Verb: syncml.Exec, Items: []syncml.Item{{Target: syncml.Location{URI: "./A"}}}},
		}, "a")
		if err != nil {
			t.Fatal(err)
		}
	}
	put("once", session.OnceOnly)
	put("again", session.Idempotent)
	save()
	// Since: it is sent, and executed.
	tasks, err := s.Next(ctx, "a", nil, 10)
	if err != nil || len(tasks) != 2 {
		t.Fatalf("%+v, %v", tasks, err)
	}
	if _, err := s.Claim(ctx, "a", []session.Claim{{Task: tasks[0].ID}}); err != nil {
		t.Fatal(err)
	}
	restored := storetest.Store(t, restore(), nil)
	if n, err := restored.AfterRestore(ctx); err != nil || n != 1 {
		t.Errorf("after restoring: %d, %v", n, err)
	}
	if tasks, err = restored.Next(ctx, "a", nil, 10); err != nil || len(tasks) != 1 || tasks[0].Semantics != session.Idempotent {
		t.Errorf("there wait %+v, %v", tasks, err)
	}
	if all, err := restored.CommandsOfTask(ctx, "once", "", 0); err != nil || len(all) != 1 || all[0].State != store.Unknown {
		t.Errorf("the once-only command %+v, %v", all, err)
	}
	if _, err := s.Device(ctx, "a"); err != nil {
		t.Error(err)
	}
}
