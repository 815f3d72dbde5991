package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// ErrInvalid: what an administrator asked for can't be; the text says why.
var ErrInvalid = errors.New("invalid enrollment request")

// NewRequest is what an administrator asks for.
type NewRequest struct {
	// User name, and e-mail address by which the device finds its server.
	User  string
	Email string
	// Device name as in ca.DeviceName. A device that enrolled before enrolls
	// anew: its older certificates end with that.
	Device string
	Groups []string
	// Valid is how long, 0 for the policy's default.
	Valid time.Duration
}

// maxGroups of a device, and the longest name of a user, group or address.
const (
	maxGroups = 32
	maxText   = 254
)

// CreateRequest makes a request and its one-time password, which nobody can
// read again. The caller erases it.
func (s *Service) CreateRequest(ctx context.Context, by directory.By, n NewRequest) (directory.Request, otp.Code, error) {
	now := s.now()
	q, err := s.checkRequest(ctx, n)
	if err != nil {
		return directory.Request{}, otp.Code{}, err
	}
	q.State, q.Created, q.CreatedBy, q.Expires = directory.Open, now, by.Name, now.Add(n.Valid)
	if n.Valid == 0 {
		q.Expires = now.Add(s.policy.Valid)
	}
	// IDs are short, and one that is taken is drawn again.
	for range 8 {
		code := otp.New()
		q.ID = code.ID
		key := code.Password.Key(code.ID)
		q.Secret = s.seal.seal(q.ID, whileOpen, key)
		clear(key)
		err = s.directory.CreateRequest(ctx, by, q, s.policy.OpenPerUser)
		if err == nil {
			s.counters.add(func(m *Metrics) { m.Requests++ })
			s.log.InfoContext(ctx, "enrollment request made", slog.String("request", q.ID.String()), slog.String("device", q.Device), slog.String("user", q.User),
				slog.String("by", by.Name), slog.Time("expires", q.Expires))
			q.Secret = nil
			return q, code, nil
		}
		code.Password.Erase()
		if !errors.Is(err, directory.ErrExists) {
			break
		}
	}
	return directory.Request{}, otp.Code{}, err
}

func (s *Service) checkRequest(ctx context.Context, n NewRequest) (directory.Request, error) {
	var q directory.Request
	var err error
	if q.Device, err = ca.DeviceName(n.Device); err != nil {
		return q, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := s.checkName(q.Device); err != nil {
		return q, err
	}
	q.User, q.Email = canonical(n.User), canonical(n.Email)
	if s.people != nil {
		who := q.User
		if who == "" {
			who = q.Email
		}
		person, err := s.people.Person(ctx, who)
		if err != nil {
			return q, fmt.Errorf("user %q: %w", who, err)
		}
		q.User, q.Email = canonical(person.Name), canonical(person.Email)
	}
	if q.User == "" {
		q.User = q.Email
	}
	if err := checkText("user", q.User); err != nil {
		return q, err
	}
	if q.Email != "" {
		local, domain, ok := strings.Cut(q.Email, "@")
		if !ok || local == "" || domain == "" || strings.Contains(domain, "@") {
			return q, fmt.Errorf("%w: e-mail address %q", ErrInvalid, n.Email)
		}
		if err := checkText("e-mail address", q.Email); err != nil {
			return q, err
		}
	}
	if len(n.Groups) > maxGroups {
		return q, fmt.Errorf("%w: %d groups, at most %d", ErrInvalid, len(n.Groups), maxGroups)
	}
	for _, group := range n.Groups {
		if err := checkText("group", group); err != nil {
			return q, err
		}
	}
	q.Groups = slices.Compact(slices.Sorted(slices.Values(n.Groups)))
	if n.Valid != 0 && (n.Valid < time.Minute || n.Valid > s.policy.MaxValid) {
		return q, fmt.Errorf("%w: valid for %s, want 1m..%s", ErrInvalid, n.Valid, s.policy.MaxValid)
	}
	return q, nil
}

// checkName keeps devices from being called as a gateway is: a device's name is
// the alternative name of its certificate, and some clients of IKE look at
// nothing else of a gateway's.
func (s *Service) checkName(device string) error {
	for _, g := range s.configuration.Gateways {
		if strings.EqualFold(device, g.Address) || strings.EqualFold(device, g.Identity) {
			return fmt.Errorf("%w: device name %q is a gateway's", ErrInvalid, device)
		}
	}
	return nil
}

// canonical form of user names and e-mail addresses: without regard to case.
func canonical(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func checkText(what, s string) error {
	// Neither what commands a terminal nor what turns the writing round.
	if s == "" || len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
	}) {
		return fmt.Errorf("%w: %s %q: want 1 to %d octets without spaces and control characters", ErrInvalid, what, s, maxText)
	}
	return nil
}

// CancelRequest closes an open request.
func (s *Service) CancelRequest(ctx context.Context, by directory.By, id otp.ID) error {
	return s.directory.Cancel(ctx, by, id, s.now())
}

// Requests as a filter has them, without their secrets.
func (s *Service) Requests(ctx context.Context, f directory.RequestFilter) ([]directory.Request, error) {
	all, err := s.directory.Requests(ctx, f)
	for i := range all {
		all[i].Secret = nil
	}
	return all, err
}

// Certify issues a certificate that is not a device's, and records it.
func (s *Service) Certify(ctx context.Context, by directory.By, r ca.Request) (Issued, error) {
	if r.Profile == ca.Device {
		return Issued{}, fmt.Errorf("%w: a device enrolls", ErrInvalid)
	}
	now := s.now()
	c, err := s.issuer.Sign(now, r)
	if err != nil {
		return Issued{}, err
	}
	hash, err := otp.HashPublicKey(r.PublicKey)
	if err != nil {
		return Issued{}, err
	}
	if err := s.directory.Certify(ctx, by, directory.Signed{Authority: s.issuer.ID(), Profile: r.Profile, Certificate: c, KeyHash: hash}, now); err != nil {
		return Issued{}, err
	}
	s.counters.add(func(m *Metrics) { m.Certified++ })
	s.log.InfoContext(ctx, "certificate issued", slog.Any("profile", r.Profile), slog.String("name", c.Subject.CommonName),
		slog.String("serial", ca.SerialString(c.SerialNumber)), slog.String("by", by.Name))
	return Issued{Certificate: c, Chain: s.issuer.Chain()}, nil
}

// Revoke a certificate by its serial number, and what was renewed from it unless
// the reason is ca.Superseded. For another reason afterwards that is revoked still.
func (s *Service) Revoke(ctx context.Context, by directory.By, serial *big.Int, reason ca.Reason) error {
	if !reason.Valid() {
		return fmt.Errorf("%w: revocation reason %d", ErrInvalid, int(reason))
	}
	if err := s.directory.Revoke(ctx, by, serial, reason, s.now()); err != nil {
		return err
	}
	s.counters.add(func(m *Metrics) { m.Revoked++ })
	s.trust.forget()
	s.log.InfoContext(ctx, "certificate revoked", slog.String("serial", ca.SerialString(serial)), slog.String("reason", reason.String()),
		slog.String("by", by.Name))
	return nil
}

// CloseDevice revokes all that a device has. It may come again by a new
// request.
func (s *Service) CloseDevice(ctx context.Context, by directory.By, device string, reason ca.Reason) error {
	if !reason.Valid() {
		return fmt.Errorf("%w: revocation reason %d", ErrInvalid, int(reason))
	}
	if err := s.directory.CloseDevice(ctx, by, device, reason, s.now()); err != nil {
		return err
	}
	s.counters.add(func(m *Metrics) { m.Closed++ })
	s.trust.forget()
	s.log.InfoContext(ctx, "device closed", slog.String("device", device), slog.String("reason", reason.String()), slog.String("by", by.Name))
	return nil
}

// Lookup says whether an open request waits for a user with that e-mail
// address. It is for other instances of an installation, which have proved who
// they are, and never for devices: it would tell which addresses exist.
func (s *Service) Lookup(ctx context.Context, email string, _ netip.Addr) (bool, error) {
	return s.directory.HasOpenRequest(ctx, canonical(email), s.now())
}
