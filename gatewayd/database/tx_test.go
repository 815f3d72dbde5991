package database_test

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

func TestTransactions(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, open func(testing.TB) *database.DB) {
		for _, c := range []struct {
			name string
			test func(*testing.T, func(testing.TB) *database.DB)
		}{
			{"one of many fails", testOneOfManyFails},
			{"a caller is gone", testCallerGone},
			{"contention", testContention},
			{"read", testRead},
			{"packages share", testPackagesShare},
			{"values", testValues},
			{"rows", testInsert},
			{"at once", testAtOnce},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, open) })
		}
	})
}

const noteTable = `CREATE TABLE note (id BIGINT PRIMARY KEY, text TEXT NOT NULL)`

func notes(t *testing.T, open func(testing.TB) *database.DB) *database.DB {
	t.Helper()
	db := open(t)
	if _, err := db.ExecContext(t.Context(), noteTable); err != nil {
		t.Fatal(err)
	}
	return db
}

func add(id int64) func(*database.Tx) error {
	return func(t *database.Tx) error {
		_, err := t.Exec(`INSERT INTO note (id, text) VALUES ($1, 'x')`, id)
		return err
	}
}

func ids(t *testing.T, db *database.DB) []int64 {
	t.Helper()
	all, err := database.Query(t.Context(), db, database.Scan[int64], `SELECT id FROM note ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// together starts writes while another one holds SQLite's writer, so that they
// share a transaction, and returns their errors.
func together(t *testing.T, db *database.DB, works ...func(*database.Tx) error) []error {
	t.Helper()
	hold, held := make(chan struct{}), make(chan struct{})
	errs := make([]error, len(works))
	var all sync.WaitGroup
	all.Go(func() {
		err := db.Write(t.Context(), func(*database.Tx) error {
			close(held)
			<-hold
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	for i, work := range works {
		all.Go(func() { errs[i] = db.Write(t.Context(), work) })
	}
	time.Sleep(20 * time.Millisecond) // whoever is later has a transaction of his own
	close(hold)
	all.Wait()
	return errs
}

// What one caller does wrong is undone alone: an error, a statement that fails,
// rows that are left open, a panic. The process goes on, and so do the others.
func testOneOfManyFails(t *testing.T, open func(testing.TB) *database.DB) {
	db := notes(t, open)
	refused := errors.New("refused")
	half := func(then func(*database.Tx) error) func(*database.Tx) error {
		return func(t *database.Tx) error {
			if err := add(100)(t); err != nil {
				return err
			}
			return then(t)
		}
	}
	errs := together(t, db,
		add(1),
		half(func(*database.Tx) error { return refused }),
		add(2),
		half(func(*database.Tx) error { panic("an index out of range") }),
		add(3),
		half(func(t *database.Tx) error {
			rows, err := t.QueryContext(t.Context(), `UPDATE note SET text = 'y' RETURNING id`)
			if err != nil {
				return err
			}
			rows.Next()
			panic(rows)
		}),
		half(func(t *database.Tx) error {
			_, err := t.Exec(`INSERT INTO nowhere VALUES (1)`)
			return err
		}),
		add(4),
	)
	for i, want := range []error{nil, refused, nil, database.ErrPanic, nil, database.ErrPanic, nil, nil} {
		if i == 6 {
			if errs[i] == nil || errors.Is(errs[i], database.ErrPanic) {
				t.Errorf("a statement that fails: %v", errs[i])
			}
			continue
		}
		if !errors.Is(errs[i], want) {
			t.Errorf("caller %d: %v, want %v", i, errs[i], want)
		}
	}
	if text := fmt.Sprint(errs[3]); !strings.Contains(text, "an index out of range") || !strings.Contains(text, "testOneOfManyFails") {
		t.Errorf("the panic's text doesn't say where: %s", text)
	}
	if got := ids(t, db); !slices.Equal(got, []int64{1, 2, 3, 4}) {
		t.Errorf("written %v", got)
	}
	// And goes on.
	if err := db.Write(t.Context(), add(5)); err != nil {
		t.Error(err)
	}
}

// A caller that has gone away does nothing, and those with it notice nothing.
func testCallerGone(t *testing.T, open func(testing.TB) *database.DB) {
	db := notes(t, open)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Write(gone, add(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := db.Write(t.Context(), add(2)); err != nil {
		t.Error(err)
	}
	if got := ids(t, db); !slices.Equal(got, []int64{2}) {
		t.Errorf("written %v", got)
	}
}

// Two that read and then write what both have read: one is done after the other,
// whoever of them has to begin anew.
func testContention(t *testing.T, open func(testing.TB) *database.DB) {
	db := notes(t, open)
	for id := range int64(2) {
		if err := db.Write(t.Context(), add(id)); err != nil {
			t.Fatal(err)
		}
	}
	const writers, times = 4, 10
	var all sync.WaitGroup
	for i := range int64(writers) {
		all.Go(func() {
			for range times {
				// In opposite orders, so that PostgreSQL finds deadlocks.
				err := db.Write(t.Context(), func(t *database.Tx) error {
					for k := range int64(2) {
						var text string
						id := (i + k) % 2
						if err := t.Row(`SELECT text FROM note WHERE id = $1`+t.ForUpdate(), id).Scan(&text); err != nil {
							return err
						}
						if _, err := t.Exec(`UPDATE note SET text = $1 WHERE id = $2`, text+"x", id); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	texts, err := database.Query(t.Context(), db, database.Scan[string], `SELECT text FROM note`)
	if err != nil || len(texts) != 2 {
		t.Fatal(texts, err)
	}
	for _, text := range texts {
		if len(text) != 1+writers*times {
			t.Errorf("%d changes of %d", len(text)-1, writers*times)
		}
	}
}

// Read sees one moment, whatever is written meanwhile, and holds nobody up.
func testRead(t *testing.T, open func(testing.TB) *database.DB) {
	db := notes(t, open)
	if err := db.Write(t.Context(), add(1)); err != nil {
		t.Fatal(err)
	}
	err := db.Read(t.Context(), func(r *database.Tx) error {
		for range 2 {
			var n int
			if err := r.Row(`SELECT COUNT(*) FROM note`).Scan(&n); err != nil {
				return err
			}
			if n != 1 {
				t.Errorf("%d notes", n)
			}
			if err := db.Write(t.Context(), add(int64(len(ids(t, db))+1))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(t, db); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

//go:embed testdata/migrations
var folder embed.FS

// Two packages in one database have their own versions, and join one
// transaction: both changes or neither.
func testPackagesShare(t *testing.T, open func(testing.TB) *database.DB) {
	files, err := fs.Sub(folder, "testdata")
	if err != nil {
		t.Fatal(err)
	}
	first := database.Tables{Version: "first_version", Files: files}
	statement := &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE second_thing (id BIGINT PRIMARY KEY);\n")}
	second := database.Tables{Version: "second_version", Files: fstest.MapFS{
		"migrations/sqlite/00001_begin.sql": statement, "migrations/postgres/00001_begin.sql": statement,
	}}
	db := open(t)
	for range 2 {
		for _, s := range []database.Tables{first, second} {
			if err := s.Migrate(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := func(id int64) error {
		return db.Write(t.Context(), func(t *database.Tx) error {
			if _, err := t.Exec(`INSERT INTO first_thing (id, octets) VALUES ($1, $2)`, id, []byte{0, 255}); err != nil {
				return err
			}
			_, err := t.Exec(`INSERT INTO second_thing (id) VALUES ($1)`, id)
			return err
		})
	}
	if err := both(1); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO second_thing (id) VALUES (2)`); err != nil {
		t.Fatal(err)
	}
	if err := both(2); err == nil {
		t.Error("written twice")
	}
	got, err := database.Query(t.Context(), db, database.Scan[int64], `SELECT id FROM first_thing`)
	if err != nil || !slices.Equal(got, []int64{1}) {
		t.Errorf("first_thing has %v, %v", got, err)
	}
}

// Times, texts and sets come back as they were written.
func testValues(t *testing.T, open func(testing.TB) *database.DB) {
	db := open(t)
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE v (id BIGINT, at_us BIGINT, name TEXT)`); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2030, 5, 1, 12, 0, 0, 123456000, time.UTC)
	err := db.Write(t.Context(), func(t *database.Tx) error {
		for id, v := range map[int64]struct {
			at   time.Time
			name string
		}{1: {at, "a"}, 2: {time.Time{}, ""}, 3: {at, `b"'`}} {
			if _, err := t.Exec(`INSERT INTO v (id, at_us, name) VALUES ($1, $2, $3)`, id, database.Micros(v.at), database.OrNull(v.name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var when, never database.Instant
	var name, nobody database.Text
	for id, to := range map[int64][]any{1: {&when, &name}, 2: {&never, &nobody}} {
		if err := db.QueryRowContext(t.Context(), `SELECT at_us, name FROM v WHERE id = $1`, id).Scan(to...); err != nil {
			t.Fatal(err)
		}
	}
	if !when.Equal(at) || !never.IsZero() || name != "a" || nobody != "" {
		t.Errorf("%v, %v, %q, %q", when, never, name, nobody)
	}
	var n, m int
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM v WHERE `+db.Among("id", "BIGINT", 1), database.Several(db.Engine, []int64{1, 3, 9})).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM v WHERE `+db.Among("name", "TEXT", 1), database.Several(db.Engine, []string{`b"'`})).Scan(&m); err != nil {
		t.Fatal(err)
	}
	if n != 2 || m != 1 {
		t.Errorf("among numbers %d, among texts %d", n, m)
	}
}

// Insert writes what is in its columns, and ends as it was told.
func testInsert(t *testing.T, open func(testing.TB) *database.DB) {
	db := open(t)
	octets := "BYTEA"
	if db.Engine == database.SQLite {
		octets = "BLOB"
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE r (id BIGINT PRIMARY KEY, name TEXT NOT NULL, octets `+octets+` NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	insert := func(end string, ids []int64, names []string, octets [][]byte) error {
		return db.Write(t.Context(), func(t *database.Tx) error {
			return t.Insert("r", end, database.Numbers("id", ids), database.Texts("name", names), database.Blobs("octets", octets))
		})
	}
	if err := insert("", nil, nil, nil); err != nil {
		t.Error(err)
	}
	if err := insert("", []int64{1, 2}, []string{`b"'`, ""}, [][]byte{{0, 255}, {}}); err != nil {
		t.Fatal(err)
	}
	if err := insert("", []int64{3, 2}, []string{"x", "y"}, [][]byte{{1}, {2}}); err == nil {
		t.Error("a row is there twice")
	}
	if err := insert("ON CONFLICT (id) DO UPDATE SET name = excluded.name", []int64{4, 2}, []string{"x", "y"}, [][]byte{{1}, {2}}); err != nil {
		t.Fatal(err)
	}
	got, err := database.Query(t.Context(), db, func(r database.Row) (text string, err error) {
		var id int64
		var name string
		var octets []byte
		err = r.Scan(&id, &name, &octets)
		return fmt.Sprintf("%d %s %x", id, name, octets), err
	}, `SELECT id, name, octets FROM r ORDER BY id`)
	if want := []string{`1 b"' 00ff`, "2 y ", "4 x 01"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// One statement is done or not, and who asked hears which: also of what is only
// found when it is committed.
func testAtOnce(t *testing.T, open func(testing.TB) *database.DB) {
	db := open(t)
	if db.Engine != database.Postgres {
		return // it has one writer, see Write
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE note (id BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED, text TEXT)`); err != nil {
		t.Fatal(err)
	}
	add := func(ids ...int64) ([]int64, error) {
		return database.AtOnce(t.Context(), db, database.Scan[int64], `INSERT INTO note (id) SELECT * FROM unnest(CAST($1 AS BIGINT[])) RETURNING id`, ids)
	}
	if got, err := add(1, 2); err != nil || !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := add(3, 2); err == nil {
		t.Error("a row is there twice, and nobody says so")
	}
	if got := ids(t, db); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("written %v", got)
	}
	// Two in a circle: the one that PostgreSQL gives up begins anew.
	var all sync.WaitGroup
	for _, order := range []string{"ASC", "DESC"} {
		all.Go(func() {
			for range 3 {
				if _, err := database.AtOnce(t.Context(), db, database.Scan[int64], `WITH locked AS (SELECT id FROM note ORDER BY id `+order+` FOR UPDATE)
					UPDATE note SET text = COALESCE(text, '') || 'x' FROM locked WHERE note.id = locked.id RETURNING note.id`); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	texts, err := database.Query(t.Context(), db, database.Scan[string], `SELECT text FROM note`)
	if err != nil || !slices.Equal(texts, []string{"xxxxxx", "xxxxxx"}) {
		t.Errorf("%q, %v", texts, err)
	}
}
