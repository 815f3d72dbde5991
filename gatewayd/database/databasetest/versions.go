package databasetest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Versions of a package's tables: a database of each earlier version, with what
// a server of that version left in it, is brought up to date by check, which
// opens the package's store as a server does and looks whether everything is
// there and works. Check is called twice: who starts again migrates nothing.
//
// What was left is in testdata/version1.sql and so on, a file for each version,
// which is put there before the next one migrates it.
// Octets are written there as SQLite has them: x'00ff'.
func Versions(t *testing.T, tables database.Tables, check func(t *testing.T, db *database.DB)) {
	Each(t, func(t *testing.T, open func(testing.TB) *database.DB) {
		files, err := fs.Glob(tables.Files, "migrations/"+string(open(t).Engine)+"/*.sql")
		if err != nil || len(files) == 0 {
			t.Fatalf("migrations %v, %v", files, err)
		}
		last := int64(len(files))
		for version := int64(1); version <= last; version++ {
			t.Run(fmt.Sprint("from version ", version), func(t *testing.T) {
				db := open(t)
				p, err := tables.Provider(db)
				if err != nil {
					t.Fatal(err)
				}
				for v := int64(1); v <= version; v++ {
					if _, err := p.UpTo(t.Context(), v); err != nil {
						t.Fatal(err)
					}
					seed(t, db, v)
				}
				for range 2 {
					check(t, db)
				}
				if got, err := p.GetDBVersion(t.Context()); err != nil || got != last {
					t.Errorf("version %d, %v, want %d", got, err, last)
				}
			})
		}
	})
}

// seed what a server of that version adds.
func seed(t *testing.T, db *database.DB, version int64) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("version%d.sql", version)))
	if err != nil {
		t.Fatalf("each version has a file of what it left behind: %v", err)
	}
	statements := string(text)
	if db.Engine == database.Postgres {
		statements = octets.ReplaceAllString(statements, `$1'\x`)
	}
	for statement := range strings.SplitSeq(statements, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("version %d: %v\n%s", version, err, statement)
		}
	}
}

// octets as SQLite writes them begin so.
var octets = regexp.MustCompile(`([ (])x'`)

// StartAtOnce lets servers that share a new PostgreSQL open their stores at the
// same moment.
func StartAtOnce(t *testing.T, db *database.DB, open func() error) {
	t.Helper()
	const servers = 4
	errs := make(chan error)
	for range servers {
		go func() { errs <- open() }()
	}
	for range servers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
