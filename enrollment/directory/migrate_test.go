package directory_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// TestMigrations: a database of each earlier version, with what a server of
// that version left in it (testdata/version1.sql and so on), is brought up to
// date, and everything is there and works. A new version only needs its file.
func TestMigrations(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		migrations(t, directory.SQLite, func(t *testing.T) *sql.DB {
			return directorytest.SQLiteFile(t, filepath.Join(t.TempDir(), "directory.db"))
		})
	})
	t.Run("postgres", func(t *testing.T) {
		p := directorytest.StartPostgres(t)
		migrations(t, directory.Postgres, func(t *testing.T) *sql.DB { return p.Database(t) })
	})
}

func migrations(t *testing.T, dialect directory.Dialect, open func(*testing.T) *sql.DB) {
	files, err := filepath.Glob("migrations/" + string(dialect) + "/*.sql")
	if err != nil || len(files) < 2 {
		t.Fatalf("migrations %v, %v", files, err)
	}
	last := int64(len(files))
	for version := int64(1); version <= last; version++ {
		t.Run(fmt.Sprint("from version ", version), func(t *testing.T) {
			db := open(t)
			p, err := directory.Migrator(db, dialect)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.UpTo(t.Context(), version); err != nil {
				t.Fatal(err)
			}
			seed(t, db, dialect, version)
			// Twice: a server that starts again migrates nothing.
			for range 2 {
				if _, err := directory.New(t.Context(), db, dialect); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := p.GetDBVersion(t.Context()); err != nil || got != last {
				t.Errorf("version %d, %v, want %d", got, err, last)
			}
			d, err := directory.New(t.Context(), db, dialect)
			if err != nil {
				t.Fatal(err)
			}
			checkSeed(t, d)
		})
	}
}

// seed what the files of all versions up to this one add, in order.
func seed(t *testing.T, db *sql.DB, dialect directory.Dialect, version int64) {
	t.Helper()
	for v := int64(1); v <= version; v++ {
		text, err := os.ReadFile(fmt.Sprintf("testdata/version%d.sql", v))
		if err != nil {
			t.Fatalf("each version has a file of what it left behind: %v", err)
		}
		statements := string(text)
		if dialect == directory.Postgres {
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
func checkSeed(t *testing.T, d *directory.SQL) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	id, err := otp.ParseID("XK7M-29QA")
	if err != nil {
		t.Fatal(err)
	}
	q, err := d.Request(ctx, id)
	if err != nil || q.State != directory.Used || q.Email != "bob@example.org" || len(q.Groups) != 1 || q.Serial != "4a" || q.Created.Year() != 2030 {
		t.Errorf("request %+v, %v", q, err)
	}
	v, err := d.Device(ctx, "phone-1")
	if err != nil || !v.Open || v.User != "bob" || len(v.Groups) != 1 {
		t.Errorf("device %+v, %v", v, err)
	}
	c, err := d.Certificate(ctx, "4a")
	if err != nil || c.Device != "phone-1" || c.Request != "XK7M-29QA" || string(c.DER) != "\x00\xff" || c.Revoked.IsZero() {
		t.Errorf("certificate %+v, %v", c, err)
	}
	events, err := d.Outbox(ctx, 0, 0)
	if err != nil || len(events) < 2 || events[0].Number != 1 || events[0].Kind != directory.Enrolled || events[1].Kind != directory.Revoked {
		t.Errorf("outbox %+v, %v", events, err)
	}
	entries, err := d.Audit(ctx, 0, 0)
	if err != nil || len(entries) == 0 || entries[0].Action != directory.ActEnroll || entries[0].By.Name != "device by est" {
		t.Errorf("audit %+v, %v", entries, err)
	}
	if l, err := d.Lists(ctx, "issuer"); err != nil || !l.Behind {
		t.Errorf("lists %+v, %v", l, err)
	}
}

// TestManyStartAtOnce: servers that share a new database.
func TestManyStartAtOnce(t *testing.T) {
	p := directorytest.StartPostgres(t)
	db := p.Database(t)
	const n = 4
	ids, errs := make(chan string, n), make(chan error, n)
	for range n {
		go func() {
			d, err := directory.New(t.Context(), db, directory.Postgres)
			if err == nil {
				ids <- d.ID()
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	first := <-ids
	for range n - 1 {
		if id := <-ids; id != first || id == "" {
			t.Errorf("one database is %q and %q", first, id)
		}
	}
}
