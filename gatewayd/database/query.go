package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Querier is a DB or a Tx.
type Querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

var (
	_ Querier = (*DB)(nil)
	_ Querier = (*Tx)(nil)
	_ Querier = (*prepared)(nil)
)

// Prepared reads with statements that are made often: SQLite parses each text
// once for each connection. PostgreSQL's driver does that by itself. Texts with
// numbers in them that callers choose don't belong here; at most 400 are kept.
func (d *DB) Prepared() Querier {
	if d.Engine == Postgres {
		return d
	}
	return &d.often
}

type prepared struct {
	db         *sql.DB
	mu         sync.RWMutex
	statements map[string]*sql.Stmt
}

// statement that is prepared; nil if it can't be, which its execution will say.
func (p *prepared) statement(ctx context.Context, text string) *sql.Stmt {
	p.mu.RLock()
	s := p.statements[text]
	p.mu.RUnlock()
	if s != nil {
		return s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s = p.statements[text]; s != nil || len(p.statements) >= maxPrepared {
		return s
	}
	s, err := p.db.PrepareContext(ctx, text)
	if err != nil {
		return nil
	}
	if p.statements == nil {
		p.statements = make(map[string]*sql.Stmt)
	}
	p.statements[text] = s
	return s
}

func (p *prepared) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if s := p.statement(ctx, text); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return p.db.QueryContext(ctx, text, args...)
}

func (p *prepared) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	if s := p.statement(ctx, text); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return p.db.QueryRowContext(ctx, text, args...)
}

// Row is what a result is scanned from.
type Row interface{ Scan(...any) error }

// Query scans all rows.
func Query[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Scan a row of one column, for Query.
func Scan[T any](r Row) (v T, err error) { return v, r.Scan(&v) }

// ForUpdate ends a SELECT of rows that decide. SQLite has one writer anyway.
func (e Engine) ForUpdate() string {
	if e == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// ForUpdateOf names the table whose rows they are, where several are joined.
func (e Engine) ForUpdateOf(table string) string {
	if e == Postgres {
		return " FOR UPDATE OF " + table
	}
	return ""
}

// SkipLocked ends a SELECT of work that several servers share: each gets rows of
// the table that no other one works on.
func (e Engine) SkipLocked(table string) string {
	if e == Postgres {
		return " FOR UPDATE OF " + table + " SKIP LOCKED"
	}
	return ""
}

// Among is a condition on a column of type kind, BIGINT or TEXT: one of the
// values that Several made parameter number i of.
func (e Engine) Among(column, kind string, i int) string {
	if e == Postgres {
		return fmt.Sprintf("%s = ANY (CAST($%d AS %s[]))", column, i, kind)
	}
	return fmt.Sprintf("%s IN (SELECT value FROM json_each($%d))", column, i)
}

// Several values as one parameter, see Among.
func Several[T int64 | string](e Engine, values []T) any {
	if e == Postgres {
		return values
	}
	text, err := json.Marshal(values)
	if err != nil {
		panic(err) // numbers and strings
	}
	return string(text)
}

// Where collects the conditions of a list. Its zero value has none.
type Where struct {
	conditions []string
	// Args are the parameters so far.
	Args []any
}

// Add a condition with a %d where the number of its parameter goes.
func (w *Where) Add(condition string, value any) {
	w.Args = append(w.Args, value)
	w.conditions = append(w.conditions, fmt.Sprintf(condition, len(w.Args)))
}

// That is a condition without a parameter.
func (w *Where) That(condition string) { w.conditions = append(w.conditions, condition) }

// Equal unless the value is empty.
func (w *Where) Equal(column, value string) {
	if value != "" {
		w.Add(column+" = $%d", value)
	}
}

// After is for the next page: what comes after a value that was seen.
func (w *Where) After(column, value string) {
	if value != "" {
		w.Add(column+" > $%d", value)
	}
}

// Before is for pages that begin with the newest: what comes before a row, given
// by two columns.
func (w *Where) Before(columns string, first, second any) {
	w.Args = append(w.Args, first, second)
	w.conditions = append(w.conditions, fmt.Sprintf("(%s) < ($%d, $%d)", columns, len(w.Args)-1, len(w.Args)))
}

// Text is the end of the statement, with an order and a limit that Page bounds.
func (w *Where) Text(order string, limit int) string {
	var b strings.Builder
	if len(w.conditions) > 0 {
		b.WriteString(" WHERE " + strings.Join(w.conditions, " AND "))
	}
	fmt.Fprintf(&b, " ORDER BY %s LIMIT %d", order, Page(limit))
	return b.String()
}

// MaxPage is the most rows that a list has at once.
const MaxPage = 1000

// Page is a limit of 1 to MaxPage; any other number means MaxPage.
func Page(limit int) int {
	if limit <= 0 || limit > MaxPage {
		return MaxPage
	}
	return limit
}

// Instant is a time as it is read: microseconds since 1970, UTC. NULL is the
// zero time.
type Instant struct{ time.Time }

// Scan implements sql.Scanner.
func (i *Instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		i.Time = time.Time{}
	case int64:
		i.Time = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("time of type %T", v)
	}
	return nil
}

// Micros is how a time is written; the zero time is NULL.
func Micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// Text is text that is NULL when it is empty, as it is read.
type Text string

// Scan implements sql.Scanner.
func (o *Text) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*o = ""
	case string:
		*o = Text(v)
	case []byte:
		*o = Text(v)
	default:
		return fmt.Errorf("text of type %T", v)
	}
	return nil
}

// OrNull is how such a text is written.
func OrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
