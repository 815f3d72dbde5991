package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestMigrations: a database of each earlier version, with what a server of
// that version left in it (testdata/version1.sql and so on), is brought up to
// date, and everything is there and works. A new version only needs its file.
func TestMigrations(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		migrations(t, store.SQLite, func(t *testing.T) *sql.DB { return storetest.SQLite(t).DB })
	})
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		migrations(t, store.Postgres, func(t *testing.T) *sql.DB { return p.Database(t) })
	})
}

func migrations(t *testing.T, dialect store.Dialect, open func(*testing.T) *sql.DB) {
	files, err := filepath.Glob("migrations/" + string(dialect) + "/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("migrations %v, %v", files, err)
	}
	last := int64(len(files))
	for version := int64(1); version <= last; version++ {
		t.Run(fmt.Sprint("from version ", version), func(t *testing.T) {
			db := open(t)
			p, err := store.Migrator(db, dialect)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.UpTo(t.Context(), version); err != nil {
				t.Fatal(err)
			}
			seed(t, db, dialect, version)
			// Twice: a server that starts again migrates nothing.
			for range 2 {
				s, err := store.New(t.Context(), db, dialect, store.Options{SealKey: storetest.SealKey})
				if err != nil {
					t.Fatal(err)
				}
				checkSeed(t, s)
			}
			if got, err := p.GetDBVersion(t.Context()); err != nil || got != last {
				t.Errorf("version %d, %v, want %d", got, err, last)
			}
		})
	}
}

// seed what the files of all versions up to this one add, in order.
func seed(t *testing.T, db *sql.DB, dialect store.Dialect, version int64) {
	t.Helper()
	for v := int64(1); v <= version; v++ {
		text, err := os.ReadFile(fmt.Sprintf("testdata/version%d.sql", v))
		if err != nil {
			t.Fatalf("each version has a file of what it left behind: %v", err)
		}
		statements := string(text)
		if dialect == store.Postgres {
			// Octets are written as SQLite has them: x'00ff'.
			statements = strings.ReplaceAll(statements, " x'", ` '\x`)
		}
		for statement := range strings.SplitSeq(statements, ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("version %d: %v\n%s", v, err, statement)
			}
		}
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
	db := postgres.Start(t).Database(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			_, err := store.New(t.Context(), db, store.Postgres, store.Options{})
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
