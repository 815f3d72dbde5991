package access_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// A token does no more than its maker can at that moment.
func testMakers(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	alice := access.Subject{Kind: access.ByCertificate, Name: "alice"}
	grant := func(roles ...access.Role) {
		t.Helper()
		for _, r := range roles {
			_, _, err := o.Grant(ctx, alice, r, root)
			o.must(err)
		}
	}
	revoke := func(roles ...access.Role) {
		t.Helper()
		for _, r := range roles {
			_, err := o.Revoke(ctx, alice, r)
			o.must(err)
		}
	}
	create := func(name string, by access.Subject, roles ...access.Role) *access.Secret {
		t.Helper()
		_, secret, err := o.CreateToken(ctx, name, access.SetOf(roles...), 2*time.Hour, by)
		o.must(err)
		return secret
	}
	has := func(when string, s *access.Secret, roles ...access.Role) {
		t.Helper()
		k, err := o.Authenticate(ctx, s)
		if len(roles) == 0 {
			o.want(err, access.ErrToken)
			return
		}
		if err != nil || k.Roles != access.SetOf(roles...) {
			t.Errorf("%s: it has %q, %v; want %q", when, k.Roles, err, access.SetOf(roles...))
		}
	}
	grant(access.Server, access.Device)
	made := create("made", alice, access.Device, access.Auditor)
	token := access.Subject{Kind: access.ByToken, Name: "deputy"}
	deputy := create("deputy", alice, access.Server)
	second := create("second", token, access.Server, access.Auditor)
	has("at first", made, access.Device, access.Auditor)
	has("made by a token", second, access.Server, access.Auditor)

	revoke(access.Device)
	has("without what she had herself", made, access.Auditor)
	grant(access.Device)
	has("with it again", made, access.Device, access.Auditor)
	revoke(access.Server)
	has("without leave to give", made, access.Device)
	has("without what she had herself", deputy)
	has("made by a token that has nothing", second)
	revoke(access.Device)
	has("without any role", made)

	grant(access.Server, access.Device)
	has("back", made, access.Device, access.Auditor)
	has("back", second, access.Server, access.Auditor)
	_, err := o.RevokeToken(ctx, "deputy")
	o.must(err)
	has("made by a token that was revoked", second)

	// What a token makes doesn't outlive it.
	create("brief", alice, access.Server)
	o.now = noon.Add(time.Hour)
	k, last, err := o.CreateToken(ctx, "last", access.SetOf(access.Auditor), 5*time.Hour, access.Subject{Kind: access.ByToken, Name: "brief"})
	o.must(err)
	if !k.Expires.Equal(noon.Add(2 * time.Hour)) {
		t.Errorf("ends at %v, its maker at %v", k.Expires, noon.Add(2*time.Hour))
	}
	has("while its maker lasts", last, access.Auditor)
	o.now = noon.Add(2 * time.Hour)
	has("when its maker has ended", last)

	// root of the host gives what it doesn't have itself.
	has("root's", create("root's", root, access.Security), access.Security)
	has("nobody's", create("nobody's", access.Subject{}, access.Security))
}

// What is listed are the roles that a token has now, beside those it was given.
func testPowerless(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	alice := access.Subject{Kind: access.ByCertificate, Name: "alice"}
	_, _, err := o.Grant(ctx, alice, access.Server, root)
	o.must(err)
	both := access.SetOf(access.Server, access.Auditor)
	for i, by := range []access.Subject{alice, {Kind: access.ByToken, Name: "a"}, root, root} {
		k, _, err := o.CreateToken(ctx, "abcd"[i:i+1], both, time.Hour, by)
		o.must(err)
		if k.May != both {
			t.Errorf("%s is made with %q", k.Name, k.May)
		}
	}
	if k, err := o.RevokeToken(ctx, "d"); err != nil || k.May != access.Nobody {
		t.Errorf("revoked it has %q, %v", k.May, err)
	}
	lists := func(when string, want ...access.Set) {
		t.Helper()
		all, err := o.Tokens(ctx, "", 10)
		o.must(err)
		for i, k := range all {
			if k.May != want[i] || k.Roles != both {
				t.Errorf("%s: %s has %q of %q, want %q", when, k.Name, k.May, k.Roles, want[i])
			}
		}
	}
	lists("at first", both, both, both, access.Nobody)
	_, err = o.Revoke(ctx, alice, access.Server)
	o.must(err)
	lists("without alice", access.Nobody, access.Nobody, both, access.Nobody)
	o.now = noon.Add(time.Hour)
	lists("at the end", access.Nobody, access.Nobody, access.Nobody, access.Nobody)
}

// Each token of a chain works; the one that would not is refused.
func testChain(t *testing.T, db *database.DB) {
	o, ctx := open(t, db, "home"), t.Context()
	by, made := root, 0
	for ; made < 100; made++ {
		name := fmt.Sprint("t", made)
		_, secret, err := o.CreateToken(ctx, name, access.SetOf(access.Server), time.Hour, by)
		if err != nil {
			o.want(err, access.ErrInvalid)
			break
		}
		if k, err := o.Authenticate(ctx, secret); err != nil || k.Roles != access.SetOf(access.Server) {
			t.Fatalf("%s has %q, %v", name, k.Roles, err)
		}
		by = access.Subject{Kind: access.ByToken, Name: name}
	}
	if made != 17 {
		t.Errorf("%d tokens in a chain, want one and 16 more", made)
	}
}
