package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/roamgate/roamgate/dmlink/access"
)

// caller is who sent a request.
type caller struct {
	subject access.Subject
	roles   access.Set
	// source is invalid for the server's own host.
	source netip.Addr
	local  bool
}

// identify says who sent a request. A token that is shown counts alone: one that
// is no good doesn't fall back to a certificate. A *Problem is for the caller;
// any other error is one of the server. What is known of the caller is returned
// with it.
func (s *api) identify(r *http.Request) (caller, error) {
	c := caller{}
	if s.Local != nil {
		var user string
		if user, c.local = s.Local(r); c.local {
			c.subject = access.Subject{Kind: access.ByHost, Name: user}
		}
	}
	if !c.local {
		c.source = source(r)
	}
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		return s.byToken(r.Context(), c, values)
	}
	if c.local {
		var err error
		c.roles, err = s.Access.RolesOf(r.Context(), c.subject)
		return c, err
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && s.Certificate != nil {
		return s.byCertificate(r, c)
	}
	return c, unauthorized("no token and no client certificate", "Show an administrator's certificate, or a token in the header Authorization: Bearer.")
}

func unauthorized(detail, hint string) *Problem {
	return newProblem(http.StatusUnauthorized, detail, hint)
}

func (s *api) byToken(ctx context.Context, c caller, values []string) (caller, error) {
	c.subject = access.Subject{}
	const hint = "Tokens are for one instance and end: see `gatewayd role token list`, make one with `gatewayd role token create`."
	scheme, text, _ := strings.Cut(values[0], " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") {
		return c, unauthorized("want one header Authorization: Bearer", hint)
	}
	secret, err := access.ParseSecret(text)
	if err == nil {
		defer secret.Erase()
		var k access.Token
		k, err = s.Access.Authenticate(ctx, secret)
		if k.Name != "" {
			c.subject, c.roles = access.Subject{Kind: access.ByToken, Name: k.Name}, k.Roles
		}
	}
	if errors.Is(err, access.ErrToken) {
		c.roles = access.Nobody
		return c, unauthorized(err.Error(), hint)
	}
	return c, err
}

func (s *api) byCertificate(r *http.Request, c caller) (caller, error) {
	name, err := s.Certificate(r.Context(), r.TLS.PeerCertificates)
	switch {
	case errors.Is(err, ErrStranger):
		return c, unauthorized(err.Error(), "Show a certificate from `gatewayd certificate issue admin NAME` of this installation.")
	case err != nil:
		return c, err
	case !access.IsName(name):
		return c, unauthorized("the certificate's name can't be one of an administrator", "")
	}
	c.subject = access.Subject{Kind: access.ByCertificate, Name: name}
	c.roles, err = s.Access.RolesOf(r.Context(), c.subject)
	return c, err
}

func source(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// sourceText for the audit log.
func (c caller) sourceText() string {
	if c.local || !c.source.IsValid() {
		return ""
	}
	return c.source.String()
}

// key by which refusals are counted: whoever it is, or where strangers come from,
// by an IPv4 /24 or an IPv6 /48.
func (c caller) key() string {
	if c.subject != (access.Subject{}) {
		return c.subject.String()
	}
	bits := 24
	if c.source.Is6() {
		bits = 48
	}
	if p, err := c.source.Prefix(bits); err == nil {
		return p.String()
	}
	return "nowhere"
}
