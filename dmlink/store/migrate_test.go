package store_test

import (
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestMigrations: databases of all former versions are brought up to date.
func TestMigrations(t *testing.T) {
	databasetest.Versions(t, store.Tables, func(t *testing.T, db *database.DB) {
		s := storetest.Store(t, db, nil)
		checkSeed(t, s)
		if v, err := s.Device(t.Context(), "phone-1"); err == nil && v.Unit != "" { // seeded with version 2
			checkPolicy(t, s)
			return
		}
		// Version 1 had no policies: its devices are computed, and asked within a week.
		if m, err := s.Policies().Marked(t.Context(), time.Now(), 10); err != nil || len(m) != 1 || m[0].Facts.User != "bob" {
			t.Errorf("marked %+v, %v", m, err)
		}
		if next, _, err := s.Inventories().Surveyed(t.Context(), "phone-1"); err != nil || time.Until(next) > 7*24*time.Hour || time.Since(next) > time.Hour {
			t.Errorf("survey %v, %v", next, err)
		}
	})
}

// checkPolicy reads what testdata/version2.sql wrote.
func checkPolicy(t *testing.T, s *store.SQL) {
	t.Helper()
	ctx := t.Context()
	p := s.Policies()
	if v, err := p.Document(ctx, 0); err != nil || v.Number != 1 || v.By != "alice" || len(v.Document.Sets) != 1 {
		t.Errorf("document %+v, %v", v, err)
	}
	m, err := p.Marked(ctx, time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), 10)
	if err != nil || len(m) != 1 || m[0].Mark != 7 || len(m[0].State.Commands) != 1 || len(m[0].Claimed) != 1 || m[0].Facts.Inventory["./DevInfo/Mod"] != "M" {
		t.Errorf("due %+v, %v", m, err)
	}
	if all, err := s.Inventories().History(ctx, "phone-1", 0, 10); err != nil || len(all) != 1 || string(all[0].After.Data) != "M" {
		t.Errorf("history %+v, %v", all, err)
	}
	if _, now, err := s.Inventories().Surveyed(ctx, "phone-1"); err != nil || !now {
		t.Errorf("survey %v, %v", now, err)
	}
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
	if err != nil || len(tasks) == 0 || tasks[0].Attempt != 1 || tasks[0].Semantics != session.OnceOnly || tasks[0].Command.Name() != "Exec" {
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
