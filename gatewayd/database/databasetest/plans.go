package databasetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Recorder hears every statement on a package's tables, and asks the engine how
// it goes about each.
type Recorder struct {
	// Prefix of the tables.
	Prefix string
	// Small says which tables may be read whole, by which statement.
	Small func(table, text string) bool

	mu    sync.Mutex
	texts map[string]int
	calls int
}

// SQLite in a new file, whose statements are heard.
func (r *Recorder) SQLite(t testing.TB) *database.DB {
	return r.SQLiteFile(t, filepath.Join(t.TempDir(), "heard.db"))
}

// SQLiteFile is an existing or new file whose statements are heard.
func (r *Recorder) SQLiteFile(t testing.TB, path string) *database.DB {
	t.Helper()
	plain, err := sql.Open("sqlite", path) // for its driver alone
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	db := sql.OpenDB(&connector{plain.Driver(), database.SQLiteName(path), r})
	t.Cleanup(func() { db.Close() })
	return database.New(db, database.SQLite)
}

// Postgres in a new database, whose statements are heard.
func (r *Recorder) Postgres(t testing.TB, p *postgres.Server) *database.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(p.Name(p.Create(t)))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tracer = r
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { db.Close() })
	return database.New(db, database.Postgres)
}

// Check that no statement that was heard reads a whole table of db, which has
// the tables, empty or not. There have to be at least so many, so that a
// recorder that hears nothing is noticed.
func (r *Recorder) Check(t *testing.T, db *database.DB, least int) {
	t.Helper()
	texts := r.Statements()
	if len(texts) < least {
		t.Errorf("heard only %d statements", len(texts))
	}
	one, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	plan, scan := planSQLite, regexp.MustCompile(`^SCAN (`+r.Prefix+`\w+)`)
	if db.Engine == database.Postgres {
		plan, scan = planPostgres, regexp.MustCompile(`Seq Scan on (`+r.Prefix+`\w+)`)
		set := []string{"SET plan_cache_mode = force_generic_plan"}
		if empty(t, one) {
			// Reading a small table is what the planner would rather do: now it does if
			// nothing else is possible.
			set = append(set, "SET enable_seqscan = off")
		}
		for _, text := range set {
			if _, err := one.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
	}
	for text, n := range texts {
		for _, line := range plan(t, one, text, n) {
			if m := scan.FindStringSubmatch(line); m != nil && !strings.Contains(line, "USING") && (r.Small == nil || !r.Small(m[1], text)) {
				t.Errorf("reads all of %s:\n%s\n%s", m[1], text, line)
			}
		}
	}
}

// empty or nearly so: the planner knows of no table with a thousand rows.
func empty(t *testing.T, one *sql.Conn) (yes bool) {
	t.Helper()
	if err := one.QueryRowContext(t.Context(), `SELECT COALESCE(MAX(reltuples), 0) < 1000 FROM pg_class
		WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`).Scan(&yes); err != nil {
		t.Fatal(err)
	}
	return yes
}

func planSQLite(t *testing.T, one *sql.Conn, text string, parameters int) []string {
	args := make([]any, parameters)
	for i := range args {
		args[i] = "0"
	}
	return explain(t, one, "EXPLAIN QUERY PLAN "+text, 3, args...)
}

// planPostgres is the one for any arguments.
func planPostgres(t *testing.T, one *sql.Conn, text string, parameters int) []string {
	if _, err := one.ExecContext(t.Context(), "PREPARE s AS "+text); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	execute := "EXPLAIN EXECUTE s"
	if parameters > 0 {
		execute += "(" + strings.TrimSuffix(strings.Repeat("NULL,", parameters), ",") + ")"
	}
	lines := explain(t, one, execute, 0)
	if _, err := one.ExecContext(t.Context(), "DEALLOCATE s"); err != nil {
		t.Fatal(err)
	}
	return lines
}

func explain(t *testing.T, one *sql.Conn, text string, column int, args ...any) (lines []string) {
	t.Helper()
	rows, err := one.QueryContext(t.Context(), text, args...)
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

// PlanSQLite of a statement, a line a step.
func PlanSQLite(t *testing.T, db *database.DB, text string, parameters int) []string {
	t.Helper()
	one, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	return planSQLite(t, one, text, parameters)
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// changes tells statements on tables from those that make them.
var changes = regexp.MustCompile(`^\s*(SELECT|UPDATE|DELETE|INSERT|WITH)\b`)

func (r *Recorder) hear(text string) {
	if strings.HasSuffix(strings.TrimSpace(text), ";") || !changes.MatchString(text) || !strings.Contains(text, r.Prefix) || regexp.MustCompile(`\b`+r.Prefix+`version\b`).MatchString(text) {
		return // a migration, not on tables, or on that of the migrations
	}
	n := 0
	for _, m := range parameter.FindAllStringSubmatch(text, -1) {
		i, _ := strconv.Atoi(m[1])
		n = max(n, i)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.texts == nil {
		r.texts = make(map[string]int)
	}
	r.texts[text] = n
	r.calls++
}

// Calls is how many statements were heard.
func (r *Recorder) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// Statements that were heard, with how many parameters they have.
func (r *Recorder) Statements() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.texts)
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *Recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	r.hear(q.SQL)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (r *Recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// connector puts the recorder before a driver.
type connector struct {
	driver driver.Driver
	name   string
	r      *Recorder
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
	r *Recorder
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
