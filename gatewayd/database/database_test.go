package database

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A commit of SQLite is durable, writers take turns instead of failing, and
// nobody else on the host can read the file.
func TestSQLite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "a b?c.db")
	db, err := Open(t.Context(), Config{File: file, Connections: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if db.Engine != SQLite {
		t.Errorf("engine %s", db.Engine)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1", "busy_timeout": "10000"} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
	if _, err := db.Exec("CREATE TABLE counter (n BIGINT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO counter VALUES (0)"); err != nil {
		t.Fatal(err)
	}
	const turns, waiters = 5, 4
	for range turns {
		ours, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		n := count(t, ours)
		read := make(chan struct{}, waiters)
		var others sync.WaitGroup
		for range waiters {
			others.Go(func() {
				theirs, err := db.Begin() // waits for its turn
				if err != nil {
					t.Error(err)
					return
				}
				n := count(t, theirs)
				read <- struct{}{}
				set(t, theirs, n+1)
			})
		}
		select {
		case <-read:
			t.Error("two have their turn at once")
		case <-time.After(10 * time.Millisecond): // a second turn would mostly come by then
		}
		set(t, ours, n+1)
		others.Wait()
	}
	var n int
	if err := db.QueryRow("SELECT n FROM counter").Scan(&n); err != nil || n != turns*(1+waiters) {
		t.Errorf("%d increments of %d (%v)", n, turns*(1+waiters), err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v (%v)", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", f, info.Mode(), err)
		}
	}
}

func count(t *testing.T, tx *sql.Tx) (n int) {
	t.Helper()
	if err := tx.QueryRow("SELECT n FROM counter").Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}

// set the counter and commit.
func set(t *testing.T, tx *sql.Tx, n int) {
	t.Helper()
	if _, err := tx.Exec("UPDATE counter SET n = $1", n); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}

// PostgreSQL is asked for its certificate and name, whatever the connection
// string or the environment says, unless the operator allows less.
func TestPostgresTLS(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable")
	for _, tt := range []struct {
		dsn      string
		insecure bool
		want     string // error
		tls      bool
	}{
		{"host=db.example.com dbname=e", false, "", true},
		{"postgres://u@db.example.com/e", false, "", true},
		{"postgres://u@db.example.com/e?sslmode=verify-full", false, "", true},
		{"host=db.example.com sslmode=require", false, "sslmode=require", false},
		{"postgres://u@db.example.com/e?sslmode=prefer", false, "sslmode=prefer", false},
		{"host=db.example.com sslmode='allow'", false, "sslmode=allow", false},
		{"host=db.example.com", true, "", false},
		{"host=db.example.com sslmode=verify-full", true, "", true},
		{"host=/run/postgresql", false, "", false},
	} {
		config, err := postgresConfig(Config{Postgres: tt.dsn, Insecure: tt.insecure})
		if tt.want != "" {
			if !errors.Is(err, ErrTLS) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", tt.dsn, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.dsn, err)
			continue
		}
		if got := config.TLSConfig != nil; got != tt.tls {
			t.Errorf("%s: TLS %v", tt.dsn, got)
		}
		if tt.tls && (config.TLSConfig.InsecureSkipVerify || config.TLSConfig.ServerName != "db.example.com") {
			t.Errorf("%s: doesn't check the name", tt.dsn)
		}
		for _, f := range config.Fallbacks {
			if tt.tls && f.TLSConfig == nil {
				t.Errorf("%s: falls back to no TLS", tt.dsn)
			}
		}
	}
}
