package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
)

func (s *api) roles() {
	bind(s, RoleWhoami, func(_ context.Context, c *Call, _ *None) (Self, error) {
		self := Self{Subject: c.By.String(), Instance: s.Access.Instance(), Roles: c.Roles.Names(), May: []string{}}
		for _, o := range table {
			if c.May(o) {
				self.May = append(self.May, o.ID)
			}
		}
		return self, nil
	})
	bind(s, RoleOperations, func(context.Context, *Call, *None) (Page[Permission], error) {
		return pageOf(table, len(table), func(o *Operation) Permission {
			return Permission{o.ID, o.Method, o.Path, o.May.Names(), o.Recorded.String(), o.Summary}
		}, nil), nil
	})
	bind(s, RoleList, func(ctx context.Context, _ *Call, in *ListGrants) (Page[Grant], error) {
		var after access.Grant
		if in.After != "" {
			subject, role, _ := strings.Cut(in.After, " role:")
			var err error
			if after.Subject, err = access.ParseSubject(subject); err == nil {
				after.Role, err = access.ParseRole(role)
			}
			if err != nil {
				return Page[Grant]{}, fmt.Errorf("%w: %.100q", errNoNumber, in.After)
			}
		}
		list, err := s.Access.Grants(ctx, in.Subject, after, in.Limit+1)
		if err != nil {
			return Page[Grant]{}, err
		}
		return pageOf(list, in.Limit, grantOf, func(g access.Grant) string { return g.Subject.String() + " role:" + string(g.Role) }), nil
	})
	bind(s, RoleGrant, func(ctx context.Context, c *Call, in *PutGrant) (Grant, error) {
		subject, err := access.ParseSubject(in.Subject)
		if err != nil {
			return Grant{}, err
		}
		g, _, err := s.Access.Grant(ctx, subject, access.Role(in.Role), c.By)
		return grantOf(g), err
	})
	bind(s, RoleRevoke, func(ctx context.Context, _ *Call, in *TakeGrant) (Done, error) {
		subject, err := access.ParseSubject(in.Subject)
		if err != nil {
			return Done{}, err
		}
		changed, err := s.Access.Revoke(ctx, subject, access.Role(in.Role))
		return Done{changed}, err
	})
	bind(s, RoleTokenList, func(ctx context.Context, _ *Call, in *Paging) (Page[Token], error) {
		list, err := s.Access.Tokens(ctx, in.After, in.Limit+1)
		if err != nil {
			return Page[Token]{}, err
		}
		return pageOf(list, in.Limit, s.tokenOf, func(k access.Token) string { return k.Name }), nil
	})
	bind(s, RoleTokenCreate, func(ctx context.Context, c *Call, in *CreateToken) (CreatedToken, error) {
		roles, err := access.ParseSet(in.Body.Roles)
		if err != nil {
			return CreatedToken{}, err
		}
		k, secret, err := s.Access.CreateToken(ctx, in.Body.Name, roles, time.Duration(in.Body.ValidSeconds)*time.Second, c.By)
		if err != nil {
			return CreatedToken{}, err
		}
		defer secret.Erase()
		return CreatedToken{s.tokenOf(k), secret.Reveal()}, nil
	})
	bind(s, RoleTokenRevoke, func(ctx context.Context, _ *Call, in *RevokeToken) (Token, error) {
		k, err := s.Access.RevokeToken(ctx, in.Name)
		return s.tokenOf(k), err
	})
}

func grantOf(g access.Grant) Grant {
	return Grant{g.Subject.String(), string(g.Role), g.Granted, g.By}
}

func (s *api) tokenOf(k access.Token) Token {
	t := Token{
		Name: k.Name, ID: k.ID, Roles: k.May.Names(), Given: k.Roles.Names(), State: "valid", Created: k.Created, By: k.By.String(),
		Expires: k.Expires, Used: k.Used, Revoked: k.Revoked,
	}
	switch {
	case !k.Revoked.IsZero():
		t.State = "revoked"
	case !s.Now().Before(k.Expires):
		t.State = "expired"
	case k.May == access.Nobody:
		t.State = "powerless"
	}
	return t
}
