package database

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Column of values, see Rows and Insert.
type Column struct {
	name, kind string
	values     any
	at         func(int) any
	n          int
}

// Texts are a column.
func Texts(name string, values []string) Column {
	return Column{name, "TEXT", values, func(i int) any { return values[i] }, len(values)}
}

// Numbers are a column.
func Numbers(name string, values []int64) Column {
	return Column{name, "BIGINT", values, func(i int) any { return values[i] }, len(values)}
}

// Blobs are a column of octets, for Insert; on PostgreSQL for Rows as well.
func Blobs(name string, values [][]byte) Column {
	return Column{name, "BYTEA", values, func(i int) any { return values[i] }, len(values)}
}

// Rows is a table v in FROM that has columns of values, all equally many, and
// its parameters, which are numbered from first on and so the statement's last.
// Many rows are one statement that way.
func (e Engine) Rows(first int, columns ...Column) (text string, args []any) {
	names := make([]string, len(columns))
	if e == Postgres {
		for i, c := range columns {
			names[i], args = c.name, append(args, c.values)
		}
		return fmt.Sprintf("unnest(%s) AS v (%s)", arrays(first, columns), strings.Join(names, ", ")), args
	}
	rows := make([][]any, columns[0].n)
	for i := range rows {
		for _, c := range columns {
			rows[i] = append(rows[i], c.at(i))
		}
	}
	values, err := json.Marshal(rows)
	if err != nil {
		panic(err) // numbers and strings
	}
	for i, c := range columns {
		names[i] = fmt.Sprintf("json_extract(value, '$[%d]') AS %s", i, c.name)
	}
	return fmt.Sprintf("(SELECT %s FROM json_each($%d)) AS v", strings.Join(names, ", "), first), []any{string(values)}
}

// arrays are parameters of PostgreSQL with their types.
func arrays(first int, columns []Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = fmt.Sprintf("CAST($%d AS %s[])", first+i, c.kind)
	}
	return strings.Join(parts, ", ")
}

// Insert rows into a table, of columns that are equally long. How the statement
// ends, with ON CONFLICT perhaps, is up to the caller; who lets it update has no
// row twice. On PostgreSQL it is one statement; on SQLite, which is in this
// process, one for each row that is parsed once.
func (t *Tx) Insert(table, end string, columns ...Column) error {
	if columns[0].n == 0 {
		return nil
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	args := make([]any, len(columns))
	into := fmt.Sprintf("INSERT INTO %s (%s)", table, strings.Join(names, ", "))
	if t.Engine == Postgres {
		for i, c := range columns {
			args[i] = c.values
		}
		_, err := t.Exec(fmt.Sprintf("%s SELECT * FROM unnest(%s) %s", into, arrays(1, columns), end), args...)
		return err
	}
	for i := range columns {
		names[i] = fmt.Sprintf("$%d", i+1)
	}
	text := fmt.Sprintf("%s VALUES (%s) %s", into, strings.Join(names, ", "), end)
	for row := range columns[0].n {
		for i, c := range columns {
			args[i] = c.at(row)
		}
		if _, err := t.Exec(text, args...); err != nil {
			return err
		}
	}
	return nil
}
