package access_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// The log is found by who, what, which, when and how it ended.
func testLog(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	for n := range 12 {
		o.now = noon.Add(time.Duration(n) * time.Minute)
		phase := access.Asked
		if n%3 == 2 {
			phase = access.Refused
		}
		e, err := o.Append(ctx, access.Entry{Subject: fmt.Sprint("token:", n%2), Source: "192.0.2.1", Operation: fmt.Sprint("op.", n%4), Phase: phase, Object: fmt.Sprint("device ", n)})
		if err != nil || e.Number != int64(n+1) || len(e.Hash) != 32 || !e.At.Equal(o.now) {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	for _, c := range []struct {
		f    access.AuditFilter
		want []int64
	}{
		{access.AuditFilter{Limit: 3}, []int64{12, 11, 10}},
		{access.AuditFilter{Limit: 3, After: 10}, []int64{9, 8, 7}},
		{access.AuditFilter{Oldest: true, After: 10}, []int64{11, 12}},
		{access.AuditFilter{Subject: "token:1", Operation: "op.1"}, []int64{10, 6, 2}},
		{access.AuditFilter{Object: "device 3"}, []int64{4}},
		{access.AuditFilter{Phase: access.Refused, Oldest: true}, []int64{3, 6, 9, 12}},
		{access.AuditFilter{Since: noon.Add(2 * time.Minute), Until: noon.Add(4 * time.Minute)}, []int64{4, 3}},
		{access.AuditFilter{Subject: "nobody"}, nil},
	} {
		list, err := o.Audit(ctx, c.f)
		o.must(err)
		var got []int64
		for _, e := range list {
			got = append(got, e.Number)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
}

// unlocked takes away what keeps the log append-only, as somebody would who has
// the database.
func (o *office) unlocked(statements ...string) {
	o.t.Helper()
	drop := []string{`DROP TRIGGER IF EXISTS dm_access_audit_keep`, `DROP TRIGGER IF EXISTS dm_access_audit_stay`}
	if o.db.Engine == database.Postgres {
		drop = []string{`DROP TRIGGER IF EXISTS dm_access_audit_keep ON dm_access_audit`}
	}
	for _, s := range append(drop, statements...) {
		_, err := o.db.ExecContext(o.t.Context(), s)
		o.must(err)
	}
}

// Whoever changes the log by hand is found out.
func testTampering(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	o.must(func() error { _, err := o.Verify(ctx, 0, nil); return err }()) // empty
	var noted access.Entry
	for n := range 5 {
		e, err := o.Append(ctx, access.Entry{Subject: "token:a", Operation: "task.place.wipe", Phase: access.Asked, Object: fmt.Sprint("device ", n)})
		o.must(err)
		noted = e
	}
	if n, err := o.Verify(ctx, noted.Number, noted.Hash); err != nil || n != 5 {
		t.Fatalf("%d, %v", n, err)
	}
	for _, c := range []struct {
		what, do, undo string
		at             int64
	}{
		{"changed", `UPDATE dm_access_audit SET object = 'device x' WHERE number = 3`, `UPDATE dm_access_audit SET object = 'device 2' WHERE number = 3`, 2},
		{"moved between fields", `UPDATE dm_access_audit SET subject = 'token:', operation = 'atask.place.wipe' WHERE number = 3`, `UPDATE dm_access_audit SET subject = 'token:a', operation = 'task.place.wipe' WHERE number = 3`, 2},
		{"later", `UPDATE dm_access_audit SET at_us = at_us + 1 WHERE number = 1`, `UPDATE dm_access_audit SET at_us = at_us - 1 WHERE number = 1`, 0},
		{"renumbered", `UPDATE dm_access_audit SET number = 9 WHERE number = 4`, `UPDATE dm_access_audit SET number = 4 WHERE number = 9`, 3},
		{"of another instance", `UPDATE dm_access_audit SET instance = 'away' WHERE number = 2`, `UPDATE dm_access_audit SET instance = 'home' WHERE number = 2`, 1},
		{"the end cut off", `UPDATE dm_access_audit SET instance = 'away' WHERE number = 5`, `UPDATE dm_access_audit SET instance = 'home' WHERE number = 5`, 4},
		{"head moved back", `UPDATE dm_access_head SET number = 4`, `UPDATE dm_access_head SET number = 5`, 4},
	} {
		o.unlocked(c.do)
		n, err := o.Verify(ctx, 0, nil)
		if !errors.Is(err, access.ErrBroken) || n != c.at {
			t.Errorf("%s: %d entries are right, %v", c.what, n, err)
		}
		o.unlocked(c.undo)
		if _, err := o.Verify(ctx, 0, nil); err != nil {
			t.Fatalf("%s, and back: %v", c.what, err)
		}
	}
	// Cut off with the head, or written anew by who has the key: the note shows it.
	o.unlocked(`DELETE FROM dm_access_audit WHERE number = 5`, `UPDATE dm_access_head SET number = 4, hash = (SELECT hash FROM dm_access_audit WHERE number = 4)`)
	if n, err := o.Verify(ctx, 0, nil); err != nil || n != 4 {
		t.Fatalf("%d, %v", n, err)
	}
	_, err := o.Verify(ctx, noted.Number, noted.Hash)
	o.want(err, access.ErrBroken)
	_, err = o.Append(ctx, access.Entry{Operation: "device.show"})
	o.must(err)
	_, err = o.Verify(ctx, 0, nil)
	o.must(err)
	_, err = o.Verify(ctx, noted.Number, noted.Hash)
	o.want(err, access.ErrBroken)
	// Another key is another log.
	other, err := access.New(ctx, db, access.Options{Instance: "home", Key: bytes.Repeat([]byte{4}, access.KeySize)})
	o.must(err)
	_, err = other.Verify(ctx, 0, nil)
	o.want(err, access.ErrBroken)
}

// The tables themselves refuse what nobody may do.
func testAppendOnly(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	_, err := o.Append(ctx, access.Entry{Operation: "device.show"})
	o.must(err)
	for _, s := range []string{`UPDATE dm_access_audit SET detail = 'x'`, `DELETE FROM dm_access_audit`} {
		if _, err := db.ExecContext(ctx, s); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", s, err)
		}
	}
	_, err = o.Verify(ctx, 0, nil)
	o.must(err)
}
