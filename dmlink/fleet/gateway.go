package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Drain of a gateway, see gcm.Drain.
type Drain = gcm.Drain

// Gateway that is registered.
type Gateway struct {
	push.Gateway
	// Fingerprint of its key, by which it is known before it has a certificate,
	// and if that has expired.
	Fingerprint push.Fingerprint
	Added       time.Time
	// Certified is when its certificate was signed, Expires the end of it.
	Certified, Expires time.Time
	// Revoked: its certificate is, so it isn't connected, nor given another one.
	Revoked bool
	// Drain that it shall be in.
	Drain Drain
}

const gatewayColumns = `SELECT name, host, address, fingerprint, added_us, certified_us, expires_us, revoked, drain_to, drain_within, draining FROM gcm_gateway`

func scanGateway(r database.Row) (g Gateway, err error) {
	var address string
	var fingerprint []byte
	var added, certified, expires database.Instant
	if err = r.Scan(&g.Name, &g.Host, &address, &fingerprint, &added, &certified, &expires, &g.Revoked, &g.Drain.To, &g.Drain.Within, &g.Drain.On); err != nil {
		return g, err
	}
	if copy(g.Fingerprint[:], fingerprint) != len(g.Fingerprint) {
		return g, fmt.Errorf("%w: a fingerprint of %d octets", ErrInvalid, len(fingerprint))
	}
	g.Added, g.Certified, g.Expires = added.Time, certified.Time, expires.Time
	g.Address, err = netip.ParseAddrPort(address)
	return g, err
}

// Gateways that are registered, by name.
func (f *Fleet) Gateways(ctx context.Context) ([]Gateway, error) {
	return database.Query(ctx, f.db, scanGateway, gatewayColumns+` ORDER BY name`)
}

// Gateway by its name. Error: ErrNotFound.
func (f *Fleet) Gateway(ctx context.Context, name string) (Gateway, error) {
	g, err := scanGateway(f.db.QueryRowContext(ctx, gatewayColumns+` WHERE name = $1`, name))
	return g, found(err, "gateway", name)
}

// AddGateway to those that are managed: the one whose key has the fingerprint is
// given a certificate, and then everything else. Errors: ErrExists, ErrInvalid,
// and those of push.Manager.Certify.
func (f *Fleet) AddGateway(ctx context.Context, g push.Gateway, known push.Fingerprint) error {
	// It is in names of settings, too, behind an '@'.
	if _, err := gcm.Decode(gcm.Settings, gcm.Setting{Name: g.Name, Value: "0"}.Record()); err != nil || len(g.Name) > 32 || strings.Contains(g.Name, "@") {
		return fmt.Errorf("%w: %q names no gateway: want 1 to 32 of lower case letters, digits, '.', '_' and '-'", ErrInvalid, g.Name)
	}
	if !g.Address.IsValid() || g.Address.Port() == 0 || g.Host == "" {
		return fmt.Errorf("%w: a gateway has an address with a port, and a host name", ErrInvalid)
	}
	if _, err := f.Gateway(ctx, g.Name); !errors.Is(err, ErrNotFound) {
		return errors.Join(err, fmt.Errorf("gateway %q: %w", g.Name, ErrExists))
	}
	// Without one of its own it needn't try.
	if _, err := f.Identity.Certificate(); err != nil {
		return err
	}
	var leaf *x509.Certificate
	err := f.certify(ctx, g, known, func(_ context.Context, signed *x509.Certificate) error { leaf = signed; return nil })
	if err != nil {
		return err
	}
	exists := false
	err = f.change(ctx, func(c *change) error {
		n, err := c.Exec(`INSERT INTO gcm_gateway (name, host, address, fingerprint, added_us, certified_us, expires_us,
				attempt_us, revoked, drain_to, drain_within, draining, cursor) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, '', 0, 0, 0)
				ON CONFLICT (name) DO NOTHING`,
			g.Name, g.Host, g.Address.String(), known[:], c.now.UnixMicro(), c.now.UnixMicro(), leaf.NotAfter.UnixMicro())
		if err != nil {
			return err
		}
		if exists = n == 0; exists {
			// It was added by somebody else meanwhile. If it is this one, it may have the
			// certificate from here.
			var itself bool
			err := c.Row(`SELECT EXISTS (SELECT 1 FROM gcm_gateway WHERE name = $1 AND fingerprint = $2)`, g.Name, known[:]).Scan(&itself)
			if err != nil || !itself {
				return err
			}
		} else {
			c.touch(registry)
		}
		_, err = c.signed(g.Name, leaf)
		return err
	}, registry)
	if err == nil && exists {
		err = fmt.Errorf("gateway %q: %w", g.Name, ErrExists)
	}
	return err
}

// RemoveGateway from those that are managed. It keeps what it was told; its
// certificate is for who issued it to revoke. Error: ErrNotFound.
func (f *Fleet) RemoveGateway(ctx context.Context, name string) error {
	return f.change(ctx, func(c *change) error {
		n, err := c.Exec(`DELETE FROM gcm_gateway WHERE name = $1`, name)
		if err == nil && n == 0 {
			err = fmt.Errorf("gateway %q: %w", name, ErrNotFound)
		}
		if err != nil {
			return err
		}
		c.touch(registry)
		for _, table := range []string{"gcm_session", "gcm_certificate"} {
			if _, err := c.Exec(`DELETE FROM `+table+` WHERE gateway = $1`, name); err != nil {
				return err
			}
		}
		return nil
	}, registry)
}

// reconcile the gateways that are connected with those that are registered. f.mu
// is held.
func (f *Fleet) reconcile(ctx context.Context) error {
	all, err := f.Gateways(ctx)
	if err != nil {
		return err
	}
	now := map[string]push.Gateway{}
	for _, g := range all {
		if !g.Revoked {
			now[g.Name] = g.Gateway
		}
	}
	for name, g := range f.gateways {
		if now[name] != g {
			if err := f.push.Remove(name); err != nil {
				return err
			}
			delete(f.gateways, name)
		}
	}
	for name, g := range now {
		if _, there := f.gateways[name]; !there {
			if err := f.push.Add(g); err != nil {
				return err
			}
			f.gateways[name] = g
		}
	}
	return nil
}

// Push looks at a gateway now: dials it, or brings it to what was committed even
// if it refused that a moment ago. Error: ErrNotFound.
func (f *Fleet) Push(ctx context.Context, name string) error {
	if _, err := f.Gateway(ctx, name); err != nil {
		return err
	}
	if err := f.push.Poke(name); !errors.Is(err, push.ErrUnknown) {
		return err
	}
	return nil // it was added a moment ago, by another manager
}

// Drain a gateway, or take that back; later if it isn't connected now, and again
// after it was started anew. Errors: ErrNotFound, ErrInvalid, and those of
// push.Manager.Drain.
func (f *Fleet) Drain(ctx context.Context, name string, d Drain) (now bool, err error) {
	if d.Within < 0 || d.Within > gcm.MaxDrain {
		return false, fmt.Errorf("%w: a drain takes 0 to %d seconds", ErrInvalid, gcm.MaxDrain)
	}
	err = f.db.Write(ctx, func(t *database.Tx) error {
		n, err := t.Exec(`UPDATE gcm_gateway SET drain_to = $1, drain_within = $2, draining = $3 WHERE name = $4`, d.To, int64(d.Within), flag(d.On), name)
		if err == nil && n == 0 {
			err = fmt.Errorf("gateway %q: %w", name, ErrNotFound)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	err = f.push.Drain(ctx, name, d)
	if errors.Is(err, push.ErrAway) || errors.Is(err, push.ErrUnknown) {
		return false, nil
	}
	return err == nil, err
}

// connected is told by push, and doesn't wait.
func (f *Fleet) connected(name string, state gcm.State) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		g, err := f.Gateway(ctx, name)
		if err == nil && g.Drain != state.Drain {
			err = f.push.Drain(ctx, name, g.Drain)
		}
		if err = errors.Join(err, f.displacedAt(ctx, name)); err != nil {
			f.Log.Warn("a gateway that is connected again isn't all that it shall be", slog.String("gateway", name), slog.Any("error", err))
		}
	}()
}

// Status of a gateway: what this manager knows of it.
type Status struct {
	Gateway
	push.Status
	// Versions of the sections, in their order.
	Versions []Versions
	// Drift says in which sections the gateway isn't what was committed, and why.
	Drift []Drift
}

// Versions of one section: that of the gateway, and that which was committed.
type Versions struct {
	Section     gcm.Section
	Has, Wanted gcm.Version
}

// Drift of one section.
type Drift struct {
	Section gcm.Section `json:"section"`
	// Has and Wanted are the versions there and here.
	Has    gcm.Version `json:"has"`
	Wanted gcm.Version `json:"wanted"`
	// Reasons why it isn't there, or isn't in force.
	Reasons []string `json:"reasons,omitempty"`
}

// Links to the gateways that this manager dials, by name. It asks nobody.
func (f *Fleet) Links() []push.Status { return f.push.Status() }

// Status of all gateways, by name.
func (f *Fleet) Status(ctx context.Context) ([]Status, error) {
	registered, err := f.Gateways(ctx)
	if err != nil {
		return nil, err
	}
	links := map[string]push.Status{}
	for _, s := range f.push.Status() {
		links[s.Gateway.Name] = s
	}
	all := make([]Status, 0, len(registered))
	for _, g := range registered {
		s := Status{Gateway: g, Status: links[g.Name]}
		if g.Revoked {
			s.Err = "its certificate is revoked; remove it, and add it again if it shall come back"
		}
		for _, section := range gcm.Sections {
			wanted, _, _ := f.documents.Version(section)
			has := s.Status.Sections[section]
			s.Versions = append(s.Versions, Versions{section, has.Version, wanted})
			if wanted == has.Version && has.Err == nil && (has.Applied || wanted == (gcm.Version{})) {
				continue
			}
			d := Drift{Section: section, Has: has.Version, Wanted: wanted, Reasons: slices.Clone(has.Reasons)}
			if has.Err != nil {
				d.Reasons = append(d.Reasons, has.Err.Error())
			}
			s.Drift = append(s.Drift, d)
		}
		all = append(all, s)
	}
	return all, nil
}
