package directorytest

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/roamgate/roamgate/enrollment/directory"
)

// SQLite opens a new directory in a file of the test's folder.
func SQLite(t testing.TB) *directory.SQL {
	t.Helper()
	d, err := directory.New(t.Context(), SQLiteFile(t, filepath.Join(t.TempDir(), "directory.db")), directory.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// SQLiteFile opens a file as a server does.
func SQLiteFile(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", SQLiteName(path))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	t.Cleanup(func() { db.Close() })
	return db
}

// SQLiteName is the data source name of a file.
func SQLiteName(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{
		"_pragma": {"journal_mode(WAL)", "busy_timeout(10000)", "synchronous(FULL)", "foreign_keys(1)", "secure_delete(1)"},
		"_txlock": {"immediate"},
	}.Encode()
}
