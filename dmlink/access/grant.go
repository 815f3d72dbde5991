package access

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Grant of a role.
type Grant struct {
	Subject Subject
	Role    Role
	Granted time.Time
	By      string
}

// Grant a role to a certificate's name or a user of the host. It reports false if
// it was granted before.
func (a *SQL) Grant(ctx context.Context, s Subject, r Role, by Subject) (Grant, bool, error) {
	if err := check(s, r); err != nil {
		return Grant{}, false, err
	}
	g := Grant{Subject: s, Role: r}
	granted := false
	err := a.write(ctx, func(t *database.Tx) error {
		n, err := t.Exec(`INSERT INTO dm_access_role (instance, subject, role, granted_us, granted_by) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			a.instance, s.String(), string(r), a.moment().UnixMicro(), by.String())
		if err != nil {
			return err
		}
		granted = n == 1
		var at database.Instant
		err = t.Row(`SELECT granted_us, granted_by FROM dm_access_role WHERE instance = $1 AND subject = $2 AND role = $3`, a.instance, s.String(), string(r)).Scan(&at, &g.By)
		g.Granted = at.Time
		return err
	})
	return g, granted, err
}

// First gives roles to the first administrator of an instance, if nobody has or
// had one there, and says whether it did: who lost them all doesn't get them back
// by a restart. The audit log has it.
func (a *SQL) First(ctx context.Context, s Subject, roles Set) (bool, error) {
	for _, r := range roles.Roles() {
		if err := check(s, r); err != nil {
			return false, err
		}
	}
	first := false
	err := a.write(ctx, func(t *database.Tx) error {
		// Servers that start together take turns.
		hash, number, err := a.lockHead(t)
		if err != nil {
			return err
		}
		var given bool
		if err := t.Row(`SELECT EXISTS (SELECT 1 FROM dm_access_role WHERE instance = $1)
			OR EXISTS (SELECT 1 FROM dm_access_audit WHERE instance = $1 AND operation = $2 AND phase = $3)`,
			a.instance, grantOperation, string(Done)).Scan(&given); err != nil {
			return err
		}
		if first = !given; !first {
			return nil
		}
		for _, r := range roles.Roles() {
			if _, err := t.Exec(`INSERT INTO dm_access_role (instance, subject, role, granted_us, granted_by) VALUES ($1, $2, $3, $4, $5)`,
				a.instance, s.String(), string(r), a.moment().UnixMicro(), ""); err != nil {
				return err
			}
		}
		_, err = a.append(t, number, hash, Entry{Operation: grantOperation, Phase: Done, Object: s.String(), Detail: "the first administrator: roles " + roles.String()})
		return err
	})
	return first, err
}

// grantOperation is what the audit log calls it.
const grantOperation = "role.grant"

func check(s Subject, r Role) error {
	if _, err := ParseRole(string(r)); err != nil {
		return err
	}
	if parsed, err := ParseSubject(s.String()); err != nil || parsed.Kind == ByToken {
		return fmt.Errorf("%w: %s: roles are granted to certificate:NAME and local:USER; a token has its own", ErrInvalid, s)
	}
	return nil
}

// Revoke a role. It reports false if there was none.
func (a *SQL) Revoke(ctx context.Context, s Subject, r Role) (bool, error) {
	if err := check(s, r); err != nil {
		return false, err
	}
	n := int64(0)
	err := a.write(ctx, func(t *database.Tx) (err error) {
		n, err = t.Exec(`DELETE FROM dm_access_role WHERE instance = $1 AND subject = $2 AND role = $3`, a.instance, s.String(), string(r))
		return err
	})
	return n == 1, err
}

// RolesOf a subject that isn't a token; root of the host is a server administrator
// without a grant.
func (a *SQL) RolesOf(ctx context.Context, s Subject) (Set, error) {
	names, err := database.Query(ctx, a.db, database.Scan[string], `SELECT role FROM dm_access_role WHERE instance = $1 AND subject = $2`, a.instance, s.String())
	if err != nil {
		return Nobody, unavailable(err)
	}
	set := Nobody
	if s == (Subject{ByHost, "root"}) {
		set = rootRoles
	}
	for _, n := range names {
		// A role that a newer version knows is none here.
		if r, err := ParseRole(n); err == nil {
			set |= SetOf(r)
		}
	}
	return set, nil
}

// Grants in the order of subjects and roles, after one that was seen; of one
// subject if it isn't empty.
func (a *SQL) Grants(ctx context.Context, of string, after Grant, limit int) ([]Grant, error) {
	var w database.Where
	w.Add("instance = $%d", a.instance)
	w.Equal("subject", of)
	most := database.Page(limit)
	if after.Role != "" {
		// A subject has few roles: those that were seen are left out below.
		w.Add("subject >= $%d", after.Subject.String())
		limit += len(Roles)
	}
	list, err := database.Query(ctx, a.db, func(r database.Row) (g Grant, err error) {
		var subject, role string
		var at database.Instant
		if err := r.Scan(&subject, &role, &at, &g.By); err != nil {
			return g, err
		}
		g.Role, g.Granted = Role(role), at.Time
		g.Subject, err = ParseSubject(subject)
		return g, err
	}, `SELECT subject, role, granted_us, granted_by FROM dm_access_role`+w.Text("subject, role", limit), w.Args...)
	seen := func(g Grant) bool { return g.Subject == after.Subject && g.Role <= after.Role }
	list = slices.DeleteFunc(list, seen)
	return list[:min(len(list), most)], unavailable(err)
}
