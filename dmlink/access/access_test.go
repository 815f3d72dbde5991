package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

var (
	key  = bytes.Repeat([]byte{3}, access.KeySize)
	root = access.Subject{Kind: access.ByHost, Name: "root"}
	noon = time.Date(2030, 5, 1, 12, 0, 0, 123456000, time.UTC)
)

// office is the record of an instance with a clock that stands still.
type office struct {
	*access.SQL
	t   *testing.T
	db  *database.DB
	now time.Time
}

func open(t *testing.T, db *database.DB, instance string) *office {
	t.Helper()
	o := &office{t: t, db: db, now: noon}
	var err error
	o.SQL, err = access.New(t.Context(), db, access.Options{Instance: instance, Key: key, Now: func() time.Time { return o.now }})
	o.must(err)
	return o
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) want(err, want error) {
	o.t.Helper()
	if !errors.Is(err, want) {
		o.t.Errorf("got %v, want %v", err, want)
	}
}

// suite runs on both engines.
var suite = map[string]func(*testing.T, *database.DB){
	"grants": testGrants, "first": testFirst, "tokens": testTokens, "instances": testInstances, "log": testLog, "pages": testPages,
	"makers of tokens": testMakers, "tokens that lost their roles": testPowerless, "chain of makers": testChain, "tampering": testTampering, "append only": testAppendOnly, "several servers": testServers, "long text": testLongText,
}

func TestSuite(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, open func(testing.TB) *database.DB) {
		for name, test := range suite {
			t.Run(name, func(t *testing.T) { test(t, open(t)) })
		}
	})
}

func TestPlansSQLite(t *testing.T) {
	r := &databasetest.Recorder{Prefix: "dm_access_"}
	plans(t, r, func(t *testing.T) *database.DB { return r.SQLite(t) })
	db := databasetest.SQLite(t)
	open(t, db, "home")
	r.Check(t, db, 15)
}

func TestPlansPostgres(t *testing.T) {
	p := postgres.Start(t)
	r := &databasetest.Recorder{Prefix: "dm_access_"}
	plans(t, r, func(t *testing.T) *database.DB { return r.Postgres(t, p) })
	db := databasetest.Postgres(t, p)
	open(t, db, "home")
	r.Check(t, db, 15)
}

// plans hears what the suite asks, but for those tests that do by hand what
// nobody may.
func plans(t *testing.T, _ *databasetest.Recorder, open func(*testing.T) *database.DB) {
	for _, name := range []string{"grants", "first", "tokens", "log", "pages"} {
		t.Run(name, func(t *testing.T) { suite[name](t, open(t)) })
	}
}

func TestMigrations(t *testing.T) {
	databasetest.Versions(t, access.Tables, func(t *testing.T, db *database.DB) {
		o := open(t, db, "home")
		roles, err := o.RolesOf(t.Context(), access.Subject{Kind: access.ByCertificate, Name: "alice"})
		o.must(err)
		if roles != access.SetOf(access.Server, access.Auditor) {
			t.Errorf("roles %v", roles)
		}
		if all, err := o.Tokens(t.Context(), "", 0); err != nil || len(all) != 1 || all[0].Name != "ci" || all[0].Roles != access.SetOf(access.Device) {
			t.Errorf("tokens %+v, %v", all, err)
		}
		// As README says: an older token goes with its maker's leave to give roles.
		alice := access.Subject{Kind: access.ByCertificate, Name: "alice"}
		_, err = o.Revoke(t.Context(), alice, access.Server)
		o.must(err)
		if all, err := o.Tokens(t.Context(), "", 0); err != nil || all[0].May != access.Nobody {
			t.Errorf("tokens of who was server administrator %+v, %v", all, err)
		}
		_, _, err = o.Grant(t.Context(), alice, access.Server, root)
		o.must(err)
		if n, err := o.Verify(t.Context(), 0, nil); err != nil || n != 1 {
			t.Errorf("%d entries, %v", n, err)
		}
	})
}

// Roles are given and taken, once each.
func testGrants(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	alice := access.Subject{Kind: access.ByCertificate, Name: "alice"}
	for n := range 2 {
		g, granted, err := o.Grant(ctx, alice, access.Server, root)
		if err != nil || granted != (n == 0) || !g.Granted.Equal(noon) || g.By != "local:root" {
			t.Errorf("grant %d: %+v %v, %v", n, g, granted, err)
		}
		o.now = o.now.Add(time.Hour)
	}
	_, _, err := o.Grant(ctx, alice, access.Auditor, alice)
	o.must(err)
	if roles, err := o.RolesOf(ctx, alice); err != nil || roles.String() != "server, auditor" {
		t.Errorf("roles %v, %v", roles, err)
	}
	if roles, err := o.RolesOf(ctx, access.Subject{Kind: access.ByHost, Name: "alice"}); err != nil || roles != access.Nobody {
		t.Errorf("roles of another alice: %v, %v", roles, err)
	}
	for n := range 2 {
		if taken, err := o.Revoke(ctx, alice, access.Server); err != nil || taken != (n == 0) {
			t.Errorf("revoked %v, %v", taken, err)
		}
	}
	if roles, err := o.RolesOf(ctx, alice); err != nil || roles != access.SetOf(access.Auditor) {
		t.Errorf("roles %v, %v", roles, err)
	}
	for _, s := range []access.Subject{{}, {Kind: access.ByToken, Name: "ci"}, {Kind: "ghost", Name: "x"}, {Kind: access.ByCertificate, Name: " "}, {Kind: access.ByHost, Name: "a\nb"}} {
		_, _, err := o.Grant(ctx, s, access.Server, root)
		o.want(err, access.ErrInvalid)
	}
	_, _, err = o.Grant(ctx, alice, "king", root)
	o.want(err, access.ErrInvalid)
}

// The first administrator gets in where there is none, once, whichever server
// starts first.
func testFirst(t *testing.T, db *database.DB) {
	alice, bob := access.Subject{Kind: access.ByCertificate, Name: "alice"}, access.Subject{Kind: access.ByCertificate, Name: "bob"}
	o, ctx := open(t, db, "home"), t.Context()
	firsts := make(chan bool)
	for range 4 {
		go func() {
			first, err := o.First(ctx, alice, access.SetOf(access.Server, access.Auditor))
			if err != nil {
				t.Error(err)
			}
			firsts <- first
		}()
	}
	n := 0
	for range 4 {
		if <-firsts {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d were the first", n)
	}
	if first, err := o.First(ctx, bob, access.Everybody); first || err != nil {
		t.Errorf("bob is first: %v, %v", first, err)
	}
	if list, err := o.Grants(ctx, "", access.Grant{}, 0); err != nil || len(list) != 2 || list[0].Subject != alice {
		t.Errorf("%+v, %v", list, err)
	}
	if log, err := o.Audit(ctx, access.AuditFilter{}); err != nil || len(log) != 1 || log[0].Object != "certificate:alice" {
		t.Errorf("%+v, %v", log, err)
	}
	// Who lost all roles, since somebody else had the key, stays out at a restart.
	for _, r := range []access.Role{access.Server, access.Auditor} {
		_, err := o.Revoke(ctx, alice, r)
		o.must(err)
	}
	if first, err := o.First(ctx, alice, access.Everybody); first || err != nil {
		t.Errorf("alice is first again: %v, %v", first, err)
	}
	if first, err := open(t, db, "away").First(ctx, bob, access.Everybody); !first || err != nil {
		t.Errorf("bob away: %v, %v", first, err)
	}
	if _, err := open(t, db, "third").First(ctx, access.Subject{Kind: access.ByToken, Name: "x"}, access.Everybody); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("a token: %v", err)
	}
}

// A token lets its owner in until it expires or is revoked.
func testTokens(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	k, secret, err := o.CreateToken(ctx, "ci", access.SetOf(access.Device, access.Auditor), time.Hour, root)
	o.must(err)
	text := secret.Reveal()
	for _, leak := range []string{fmt.Sprint(secret), fmt.Sprintf("%+v %#v %s", secret, secret, secret)} {
		if strings.Contains(leak, text[16:]) {
			t.Errorf("a log would have %q", leak)
		}
	}
	again, err := access.ParseSecret(text)
	o.must(err)
	secret.Erase()
	got, err := o.Authenticate(ctx, again)
	if err != nil || got.Name != "ci" || got.Roles != k.Roles || !got.Expires.Equal(noon.Add(time.Hour)) || got.By != root {
		t.Errorf("%+v, %v", got, err)
	}
	all, err := o.Tokens(ctx, "", 0)
	if err != nil || len(all) != 1 || !all[0].Used.Equal(noon) {
		t.Errorf("tokens %+v, %v", all, err)
	}
	// Its use is written once a minute.
	o.now = noon.Add(30 * time.Second)
	_, err = o.Authenticate(ctx, again)
	o.must(err)
	if all, err = o.Tokens(ctx, "", 0); err != nil || !all[0].Used.Equal(noon) {
		t.Errorf("tokens %+v, %v", all, err)
	}
	o.now = noon.Add(time.Hour)
	got, err = o.Authenticate(ctx, again)
	o.want(err, access.ErrToken)
	if got.Name != "ci" || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %+v, %v", got, err)
	}
	// With the ID and another secret there is nothing to learn.
	wrong, err := access.ParseSecret(text[:len(text)-4] + "AAAA")
	o.must(err)
	got, err = o.Authenticate(ctx, wrong)
	if !errors.Is(err, access.ErrToken) || got.Name != "" || err.Error() != access.ErrToken.Error() {
		t.Errorf("wrong secret: %+v, %v", got, err)
	}
	_, _, err = o.CreateToken(ctx, "ci", access.SetOf(access.Device), time.Hour, root)
	o.want(err, access.ErrExists)
	_, second, err := o.CreateToken(ctx, "ci2", access.SetOf(access.Device), 0, root)
	o.must(err)
	for range 2 {
		if k, err := o.RevokeToken(ctx, "ci2"); err != nil || !k.Revoked.Equal(o.now) {
			t.Errorf("revoked: %+v, %v", k, err)
		}
	}
	_, err = o.Authenticate(ctx, second)
	o.want(err, access.ErrToken)
	_, err = o.RevokeToken(ctx, "nobody's")
	o.want(err, access.ErrNotFound)
	for _, bad := range []struct {
		name     string
		roles    access.Set
		lifetime time.Duration
	}{{"", access.Everybody, 0}, {"a\x00", access.Everybody, 0}, {"a", access.Nobody, 0}, {"a", 0x80, 0}, {"a", access.Everybody, time.Second}, {"a", access.Everybody, access.MaxLifetime + 1}} {
		_, _, err := o.CreateToken(ctx, bad.name, bad.roles, bad.lifetime, root)
		o.want(err, access.ErrInvalid)
	}
}

// Two instances in one database see nothing of each other, and a row that is
// copied from one to the other lets nobody in.
func testInstances(t *testing.T, db *database.DB) {
	home, away, ctx := open(t, db, "home"), open(t, db, "away"), t.Context()
	alice := access.Subject{Kind: access.ByCertificate, Name: "alice"}
	_, _, err := home.Grant(ctx, alice, access.Server, root)
	home.must(err)
	_, secret, err := home.CreateToken(ctx, "ci", access.Everybody, 0, root)
	home.must(err)
	for _, who := range []string{"home", "away", "home"} {
		_, err := map[string]*office{"home": home, "away": away}[who].Append(ctx, access.Entry{Operation: who})
		home.must(err)
	}
	if roles, err := away.RolesOf(ctx, alice); err != nil || roles != access.Nobody {
		t.Errorf("roles away: %v, %v", roles, err)
	}
	_, err = away.Authenticate(ctx, secret)
	away.want(err, access.ErrToken)
	if list, err := away.Grants(ctx, "", access.Grant{}, 0); err != nil || len(list) != 0 {
		t.Errorf("grants away: %+v, %v", list, err)
	}
	if log, err := away.Audit(ctx, access.AuditFilter{}); err != nil || len(log) != 1 || log[0].Number != 1 {
		t.Errorf("log away: %+v, %v", log, err)
	}
	for _, o := range []*office{home, away} {
		if _, err := o.Verify(ctx, 0, nil); err != nil {
			t.Error(err)
		}
	}
	_, err = db.ExecContext(ctx, `INSERT INTO dm_access_token (instance, id, name, digest, roles, created_us, created_by, expires_us)
		SELECT 'away', id, name, digest, roles, created_us, created_by, expires_us FROM dm_access_token WHERE instance = 'home'`)
	home.must(err)
	_, err = away.Authenticate(ctx, secret)
	away.want(err, access.ErrToken)
	if _, err := home.Authenticate(ctx, secret); err != nil {
		t.Error(err)
	}
}

// Pages have everything once, in order.
func testPages(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	for n := range 7 {
		for _, r := range access.Roles[:1+n%len(access.Roles)] {
			_, _, err := o.Grant(ctx, access.Subject{Kind: access.ByCertificate, Name: fmt.Sprint("a", n)}, r, root)
			o.must(err)
		}
		_, _, err := o.CreateToken(ctx, fmt.Sprint("t", n), access.Everybody, 0, root)
		o.must(err)
	}
	all, err := o.Grants(ctx, "", access.Grant{}, 0)
	o.must(err)
	if len(all) != 1+2+3+4+5+1+2 {
		t.Errorf("%d grants", len(all))
	}
	for size := 1; size < 9; size++ {
		var got []access.Grant
		var after access.Grant
		for {
			page, err := o.Grants(ctx, "", after, size)
			o.must(err)
			if len(page) == 0 {
				break
			}
			if len(page) > size {
				t.Fatalf("a page of %d has %d", size, len(page))
			}
			got = append(got, page...)
			after = page[len(page)-1]
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	if of, err := o.Grants(ctx, "certificate:a4", access.Grant{}, 0); err != nil || len(of) != 5 {
		t.Errorf("grants of one: %+v, %v", of, err)
	}
	if rest, err := o.Tokens(ctx, "t4", 10); err != nil || len(rest) != 2 || rest[0].Name != "t5" {
		t.Errorf("tokens %+v, %v", rest, err)
	}
}

// Servers that append at the same time make one chain.
func testServers(t *testing.T, db *database.DB) {
	const servers, each = 4, 20
	first := open(t, db, "home")
	var all sync.WaitGroup
	for n := range servers {
		o := first
		if n > 0 {
			o = open(t, db, "home")
		}
		all.Go(func() {
			for range each {
				if _, err := o.Append(context.WithoutCancel(t.Context()), access.Entry{Operation: "device.show"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n, err := first.Verify(t.Context(), 0, nil); err != nil || n != servers*each {
		t.Errorf("%d entries, %v", n, err)
	}
}

// What is too long, or no text, is cut and kept.
func testLongText(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	e, err := o.Append(ctx, access.Entry{Operation: "a\x00b\xff", Object: strings.Repeat("ü", 1000), Detail: strings.Repeat("x", 1<<20)})
	o.must(err)
	if len(e.Object) > 300 || !strings.HasSuffix(e.Object, "ü…") || len(e.Detail) > 2000 || e.Operation != "a\uFFFDb\uFFFD" {
		t.Errorf("%+v", e)
	}
	_, err = o.Verify(ctx, 0, nil)
	o.must(err)
}

// What is no option.
func TestOptions(t *testing.T) {
	db := databasetest.SQLite(t)
	for _, o := range []access.Options{{Key: key}, {Instance: "home"}, {Instance: "home", Key: key[1:]}, {Instance: "a\nb", Key: key}} {
		if _, err := access.New(t.Context(), db, o); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func FuzzSecret(f *testing.F) {
	for _, seed := range []string{"", "rgm_", "rgm_" + strings.Repeat("A", 54), "rgm_" + strings.Repeat("A", 53) + "B", strings.Repeat("\xff", 58)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := access.ParseSecret(text)
		if err != nil {
			if !errors.Is(err, access.ErrToken) || strings.Contains(err.Error(), text) && len(text) > 20 {
				t.Errorf("%v", err)
			}
			return
		}
		if s.Reveal() != text {
			t.Errorf("%q became %q", text, s.Reveal())
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, seed := range []string{"certificate:alice", "token:ci", "local:root", "", ":", "local:", "ghost:x", "local: x", "certificate:a:b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := access.ParseSubject(text); err == nil && s.String() != text {
			t.Errorf("%q became %q", text, s)
		}
	})
}
