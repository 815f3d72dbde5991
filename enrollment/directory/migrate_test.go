package directory_test

import (
	"context"
	"testing"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestMigrations: databases of all former versions are brought up to date.
func TestMigrations(t *testing.T) {
	databasetest.Versions(t, directory.Tables, func(t *testing.T, db *database.DB) { checkSeed(t, directorytest.Directory(t, db)) })
}

// checkSeed reads by today's code what testdata/version1.sql wrote.
func checkSeed(t *testing.T, d *directory.SQL) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	id, err := otp.ParseID("XK7M-29QA")
	if err != nil {
		t.Fatal(err)
	}
	q, err := d.Request(ctx, id)
	if err != nil || q.State != directory.Used || q.Email != "bob@example.org" || len(q.Groups) != 1 || q.Serial != "4a" || q.Created.Year() != 2030 {
		t.Errorf("request %+v, %v", q, err)
	}
	v, err := d.Device(ctx, "phone-1")
	if err != nil || !v.Open || v.User != "bob" || len(v.Groups) != 1 {
		t.Errorf("device %+v, %v", v, err)
	}
	c, err := d.Certificate(ctx, "4a")
	if err != nil || c.Device != "phone-1" || c.Request != "XK7M-29QA" || string(c.DER) != "\x00\xff" || c.Revoked.IsZero() {
		t.Errorf("certificate %+v, %v", c, err)
	}
	events, err := d.Outbox(ctx, 0, 0)
	if err != nil || len(events) < 2 || events[0].Number != 1 || events[0].Kind != directory.Enrolled || events[1].Kind != directory.Revoked {
		t.Errorf("outbox %+v, %v", events, err)
	}
	entries, err := d.Audit(ctx, 0, 0)
	if err != nil || len(entries) == 0 || entries[0].Action != directory.ActEnroll || entries[0].By.Name != "device by est" {
		t.Errorf("audit %+v, %v", entries, err)
	}
	if l, err := d.Lists(ctx, "issuer"); err != nil || !l.Behind {
		t.Errorf("lists %+v, %v", l, err)
	}
}

// TestManyStartAtOnce: servers that share a new database.
func TestManyStartAtOnce(t *testing.T) {
	db := databasetest.Postgres(t, postgres.Start(t))
	const n = 4
	ids, errs := make(chan string, n), make(chan error, n)
	for range n {
		go func() {
			d, err := directory.New(t.Context(), db)
			if err == nil {
				ids <- d.ID()
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	first := <-ids
	for range n - 1 {
		if id := <-ids; id != first || id == "" {
			t.Errorf("one database is %q and %q", first, id)
		}
	}
}
