package directory_test

import (
	"testing"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
)

func TestSQLite(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) *directory.SQL { return directorytest.SQLite(t) })
}

func TestPostgres(t *testing.T) {
	p := directorytest.StartPostgres(t)
	directorytest.Run(t, func(t *testing.T) *directory.SQL { return p.Directory(t) })
}
