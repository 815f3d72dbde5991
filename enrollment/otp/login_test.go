package otp

import (
	"errors"
	"strings"
	"testing"
)

func TestParseLogin(t *testing.T) {
	c, other := New(), New()
	mary, err := ParseID("MARYJANE")
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]struct {
		user, password string
		id             ID
		login          string
		bad            bool
	}{
		"ID":                         {user: c.ID.String(), password: c.Password.Reveal(), id: c.ID, login: c.ID.String()},
		"ID in lower case":           {user: strings.ToLower(c.ID.String()), password: strings.ToLower(c.Password.Reveal()), id: c.ID, login: strings.ToLower(c.ID.String())},
		"ID without hyphens":         {user: strings.ReplaceAll(c.ID.String(), "-", ""), password: c.Password.Reveal(), id: c.ID, login: strings.ReplaceAll(c.ID.String(), "-", "")},
		"address":                    {user: "ann@example.com", password: c.Password.Reveal(), login: "ann@example.com"},
		"name":                       {user: " ann ", password: c.Password.Reveal(), login: "ann"},
		"windows domain":             {user: `example\ann`, password: c.Password.Reveal(), login: `example\ann`},
		"code alone":                 {password: c.Reveal(), id: c.ID},
		"code, with its ID":          {user: c.ID.String(), password: c.Reveal(), id: c.ID},
		"code, with an address":      {user: "ann@example.com", password: c.Reveal(), id: c.ID},
		"code, with another ID":      {user: other.ID.String(), password: c.Reveal(), id: c.ID},
		"code, with a name like IDs": {user: "margaret", password: c.Reveal(), id: c.ID},
		"name like IDs":              {user: "mary-jane", password: c.Password.Reveal(), id: mary, login: "mary-jane"},
		"password alone":             {password: c.Password.Reveal(), bad: true},
		"no password":                {user: c.ID.String(), bad: true},
		"a password of one's own":    {user: "ann", password: "hunter2", bad: true},
		"an address without bounds":  {user: strings.Repeat("a", 400) + "@example.com", password: c.Password.Reveal(), bad: true},
	} {
		l, err := ParseLogin(a.user, a.password)
		if a.bad {
			if !errors.Is(err, ErrFormat) || l != (Login{}) {
				t.Errorf("%s: %+v, %v; want ErrFormat and nothing else", name, l, err)
			}
			continue
		}
		if err != nil || l.ID != a.id || l.User != a.login || l.Password != c.Password {
			t.Errorf("%s: ID %v, user %q, right password %t, %v", name, l.ID, l.User, l.Password == c.Password, err)
		}
	}
}
