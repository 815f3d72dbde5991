package database_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// An upgrade is told once; the binary from before it refuses what it doesn't know.
func TestMigrated(t *testing.T) {
	db, err := database.Open(t.Context(), database.Config{File: filepath.Join(t.TempDir(), "a.db"), Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var told []string
	db.Migrated = func(tables string, from, to int64) { told = append(told, fmt.Sprint(tables, from, to)) }
	files := fstest.MapFS{"migrations/sqlite/00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (n INTEGER);\n")}}
	older := database.Tables{Version: "v", Files: files}
	newer := database.Tables{Version: "v", Files: fstest.MapFS{
		"migrations/sqlite/00001_a.sql": files["migrations/sqlite/00001_a.sql"],
		"migrations/sqlite/00002_b.sql": {Data: []byte("-- +goose Up\nCREATE TABLE b (n INTEGER);\n")},
	}}
	for _, tables := range []database.Tables{older, older, newer, newer} {
		if err := tables.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0] != "v1 2" {
		t.Errorf("told %q, want one step from 1 to 2", told)
	}
	if err := older.Migrate(t.Context(), db); !errors.Is(err, database.ErrNewer) {
		t.Errorf("the older binary got %v, want %v", err, database.ErrNewer)
	}
}
