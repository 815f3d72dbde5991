package store_test

import (
	"testing"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestMigrations: databases of all former versions are brought up to date.
func TestMigrations(t *testing.T) {
	databasetest.Versions(t, store.Tables, func(t *testing.T, db *database.DB) { checkSeed(t, storetest.Store(t, db, nil)) })
}

// checkSeed reads by today's code what testdata/version1.sql wrote.
func checkSeed(t *testing.T, s *store.SQL) {
	t.Helper()
	ctx := t.Context()
	v, err := s.Device(ctx, "phone-1")
	if err != nil || !v.Open || v.User != "bob" || v.IMEI != "35-1" || len(v.Groups) != 1 || v.Enrolled.Year() != 2030 {
		t.Errorf("device %+v, %v", v, err)
	}
	a, err := s.Account(ctx, "phone-1")
	if err != nil || a.Idle || a.Scheme != session.MD5 || string(a.Nonce) != "\x00\xff" || a.Password != nil {
		t.Errorf("account %+v, %v", a, err)
	}
	tasks, err := s.Next(ctx, "phone-1", nil, 10)
	if err != nil || len(tasks) != 1 || tasks[0].Attempt != 1 || tasks[0].Semantics != session.OnceOnly || tasks[0].Command.Name() != "Exec" {
		t.Errorf("tasks %+v, %v", tasks, err)
	}
	if w, err := s.Wipe(ctx, "phone-1"); err != nil || w.State != store.WipeOrdered || w.Task != "T1" {
		t.Errorf("wipe %+v, %v", w, err)
	}
	if info, err := s.Info(ctx, "phone-1"); err != nil || len(info) != 1 || string(info[0].Data) != "M" {
		t.Errorf("info %+v, %v", info, err)
	}
	if events, err := s.Outbox(ctx, 0, 0); err != nil || len(events) != 1 || events[0].Device != "phone-2" {
		t.Errorf("outbox %+v, %v", events, err)
	}
	if text, err := s.ScheduleOf(ctx, "phone-1"); err != nil || text != "{}" {
		t.Errorf("schedule %q, %v", text, err)
	}
}

// TestManyStartAtOnce: servers that share a new database.
func TestManyStartAtOnce(t *testing.T) {
	db := databasetest.Postgres(t, postgres.Start(t))
	databasetest.StartAtOnce(t, db, func() error {
		_, err := store.New(t.Context(), db, store.Options{})
		return err
	})
}
