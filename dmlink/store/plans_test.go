package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// No statement that the suite makes reads a whole table: the database is asked
// how it would go about each of them. Whoever adds one without an index hears
// of it here.
func TestPlansSQLite(t *testing.T) {
	d := storetest.SQLite(t)
	d.Store(t, nil)
	plansSQLite(t, d.DB, recordSQLite(t))
}

func TestPlansPostgres(t *testing.T) {
	p := postgres.Start(t)
	d := storetest.Postgres(t, p)
	d.Store(t, nil)
	// Tables are small here, and reading them is what the planner would rather
	// do: it does if nothing else is possible.
	plansPostgres(t, d.DB, recordPostgres(t, p), "SET enable_seqscan = off")
}

// A check-in of a device that has nothing to do is one statement, on indices: the
// session asks for the account and nothing else.
func TestEmptyCheckIn(t *testing.T) {
	r := &recorder{texts: map[string]int{}}
	plain := storetest.SQLite(t)
	s := plain.Store(t, nil)
	if err := s.Enroll(t.Context(), store.Device{Name: "a", Enrolled: storetest.Noon}); err != nil {
		t.Fatal(err)
	}
	var path string
	if err := plain.DB.QueryRowContext(t.Context(), `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path); err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(&connector{plain.DB.Driver(), storetest.SQLiteName(path), r})
	defer db.Close()
	heard := storetest.Database{DB: db, Dialect: store.SQLite}.Store(t, nil)
	before := r.calls
	a, err := heard.Account(t.Context(), "a")
	if err != nil || !a.Idle {
		t.Errorf("account %+v, %v", a, err)
	}
	if n := r.calls - before; n != 1 {
		t.Errorf("%d statements", n)
	}
	for text := range r.texts {
		for _, line := range explain(t, plain.DB, "EXPLAIN QUERY PLAN "+text, 3, "a") {
			if !strings.HasPrefix(line, "SEARCH") && !strings.Contains(line, "SUBQUERY") {
				t.Errorf("%s:\n%s", text, line)
			}
		}
	}
}

func recordSQLite(t *testing.T) *recorder {
	r := &recorder{texts: map[string]int{}}
	t.Run("suite", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Database {
			plain := storetest.SQLiteFile(t, filepath.Join(t.TempDir(), "plain.db"))
			name := storetest.SQLiteName(filepath.Join(t.TempDir(), "dm.db"))
			db := sql.OpenDB(&connector{plain.Driver(), name, r})
			t.Cleanup(func() { db.Close() })
			return storetest.Database{DB: db, Dialect: store.SQLite}
		})
	})
	return r
}

func recordPostgres(t *testing.T, p *postgres.Server) *recorder {
	r := &recorder{texts: map[string]int{}}
	t.Run("suite", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Database {
			cfg, err := pgx.ParseConfig(p.Name(p.Create(t)))
			if err != nil {
				t.Fatal(err)
			}
			cfg.Tracer = r
			db := stdlib.OpenDB(*cfg)
			t.Cleanup(func() { db.Close() })
			return storetest.Database{DB: db, Dialect: store.Postgres}
		})
	})
	return r
}

func plansSQLite(t *testing.T, db *sql.DB, r *recorder) {
	scan := regexp.MustCompile(`^SCAN (dm_\w+)`)
	for text, n := range r.statements(t) {
		for _, line := range explain(t, db, "EXPLAIN QUERY PLAN "+text, 3, slices.Repeat([]any{"0"}, n)...) {
			if m := scan.FindStringSubmatch(line); m != nil && !strings.Contains(line, "USING") && !small(m[1], text) {
				t.Errorf("reads all of %s:\n%s\n%s", m[1], text, line)
			}
		}
	}
}

// plansPostgres of any arguments.
func plansPostgres(t *testing.T, db *sql.DB, r *recorder, settings ...string) {
	one, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for _, set := range append(settings, "SET plan_cache_mode = force_generic_plan") {
		if _, err := one.ExecContext(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	scan := regexp.MustCompile(`Seq Scan on (dm_\w+)`)
	for text, n := range r.statements(t) {
		if _, err := one.ExecContext(t.Context(), "PREPARE s AS "+text); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		execute := "EXPLAIN EXECUTE s"
		if n > 0 {
			execute += "(" + strings.TrimSuffix(strings.Repeat("NULL,", n), ",") + ")"
		}
		for _, line := range explain(t, one, execute, 0) {
			if m := scan.FindStringSubmatch(line); m != nil && !small(m[1], text) {
				t.Errorf("reads all of %s:\n%s\n%s", m[1], text, line)
			}
		}
		if _, err := one.ExecContext(t.Context(), "DEALLOCATE s"); err != nil {
			t.Fatal(err)
		}
	}
}

// small: reading all of it is what is meant.
func small(table, text string) bool {
	return table == "dm_schedule" || table == "dm_outbox" && strings.Contains(text, "MAX(number)")
}

func explain(t *testing.T, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, text string, column int, args ...any) (lines []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), text, args...)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(*values[column].(*any)))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// recorder hears every statement.
type recorder struct {
	mu    sync.Mutex
	texts map[string]int
	calls int
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// our tells statements on our tables from those of migrations.
var our = regexp.MustCompile(`(?s)^\s*(SELECT|UPDATE|DELETE|INSERT).*\bdm_`)

func (r *recorder) hear(text string) {
	if !our.MatchString(text) || strings.Contains(text, "dm_version") {
		return
	}
	n := 0
	for _, m := range parameter.FindAllStringSubmatch(text, -1) {
		i, _ := strconv.Atoi(m[1])
		n = max(n, i)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts[text] = n
	r.calls++
}

func (r *recorder) statements(t *testing.T) map[string]int {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.texts) < 50 {
		t.Errorf("heard only %d statements", len(r.texts))
	}
	return maps.Clone(r.texts)
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	r.hear(q.SQL)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// connector puts the recorder before a driver.
type connector struct {
	driver driver.Driver
	name   string
	r      *recorder
}

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.driver.Open(c.name)
	if err != nil {
		return nil, err
	}
	return &conn{inner.(fullConn), c.r}, nil
}

func (c *connector) Driver() driver.Driver { return c.driver }

type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type conn struct {
	fullConn
	r *recorder
}

func (c *conn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	c.r.hear(text)
	return c.fullConn.PrepareContext(ctx, text)
}

func (c *conn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	c.r.hear(text)
	return c.fullConn.ExecContext(ctx, text, args)
}

func (c *conn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	c.r.hear(text)
	return c.fullConn.QueryContext(ctx, text, args)
}
