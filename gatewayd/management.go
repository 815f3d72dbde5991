package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/alerter"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/pushed"
)

// management is the manager's side of a gateway: the agent, and what it was told
// so far. Sections come one at a time each, several at once; those that change
// settings take turns by gateway.reload. A change of devices waits for nobody.
type management struct {
	agent   *agent.Agent
	roll    *pushed.Roll
	ring    *ticket.Ring
	alerts  *alerter.Alerter // nil: there is no address to send from
	sockets alertSockets     // of alerts
	name    string
	logger  *slog.Logger
	gateway *gateway

	// running: the gateway has what was stored, and takes changes.
	running atomic.Bool
	// file is what was read last, without what was pushed.
	file atomic.Pointer[config.Config]

	mu     sync.Mutex
	pushed config.Pushed
	// rootless is why none of the roots that were stored is one any more; nil while
	// some are, or none were stored.
	rootless error
}

// keepTickets is how long a key opens after the next one has begun: the longest
// life of a ticket. The manager takes keys away earlier.
const keepTickets = 24 * time.Hour

// openManagement reads what was pushed last; nil for a gateway without a
// manager. What can't be put into force any more is left out and told in the
// state of its section.
func openManagement(g *gateway, cfg *config.Config, logger *slog.Logger) (*management, error) {
	if !cfg.Managed() {
		return nil, nil
	}
	identity, err := cfg.BuildAgent()
	if err != nil {
		return nil, err
	}
	m := &management{roll: new(pushed.Roll), ring: ticket.NewRing(nil), name: cfg.Gateway.Management.Name, logger: logger, gateway: g}
	m.file.Store(cfg)
	m.agent, err = agent.New(agent.Config{
		Gateway: m.name, Software: version, Build: revision(), File: cfg.ManagementFile(),
		Check: m.check, Apply: m.apply, Host: managementHost{g, m}, Log: logger,
		Identity: agent.Identity{Key: identity.Key, Host: cfg.ManagementHost(), Roots: identity.Roots, Manager: identity.Manager, Agent: identity.Agent},
	})
	if err != nil {
		return nil, fmt.Errorf("what was pushed last: %w", err)
	}
	m.roll.Of(m.agent)
	return m, nil
}

// start with what was pushed last.
func (m *management) start(now time.Time) (*config.Config, *config.Built, error) {
	cfg, err := m.effective(m.file.Load())
	if err != nil {
		return nil, nil, err
	}
	built, err := cfg.BuildWith(now, m.roll)
	if err != nil {
		return nil, nil, err
	}
	m.inForce(built.Groups)
	return cfg, built, nil
}

// notices are for the manager, if there is one.
func (m *management) notices() func(session.Notice) {
	if m == nil {
		return nil
	}
	return m.noticed
}

// effective is a configuration with what was pushed. Where none of the roots that
// were pushed is good for anything it is an error: one that the manager took away
// isn't to come back from the file unless somebody says so.
func (m *management) effective(file *config.Config) (*config.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rootless != nil && file.Gateway.Management.DeviceRoots != config.DeviceRootsFile {
		return nil, file.Problem("gateway.management.device_roots", fmt.Sprintf(
			"none of the roots of devices that were pushed can be used: %v. Set it to %q to go by gateway.trust.roots, import other roots at the manager, and set it to %q again",
			m.rootless, config.DeviceRootsFile, config.DeviceRootsManager))
	}
	return file.With(m.pushed)
}

// next is what will have been pushed with another content of a section, and what
// that makes of the gateway. Nothing that can't be built is stored: a gateway
// wouldn't start with it.
func (m *management) next(set *gcm.Set) (p config.Pushed, cfg *config.Config, built *config.Built, errs []error) {
	m.mu.Lock()
	p = m.pushed
	m.mu.Unlock()
	if errs = pushed.Take(&p, m.name, set); len(errs) > 0 {
		return p, nil, nil, errs
	}
	cfg, err := m.file.Load().With(p)
	if err != nil {
		return p, nil, nil, reasons(err)
	}
	m.gateway.mu.Lock()
	before := m.gateway.built
	m.gateway.mu.Unlock()
	built, err = cfg.Assemble(time.Now(), before.Material, before)
	return p, cfg, built, reasons(err)
}

// reasons of the problems in an error.
func reasons(err error) []error {
	if err == nil {
		return nil
	}
	var many config.Problems
	if !errors.As(err, &many) {
		return []error{err}
	}
	errs := make([]error, len(many))
	for i := range many {
		errs[i] = many[i]
	}
	return errs
}

// check content before it is stored.
func (m *management) check(set *gcm.Set) []error {
	if set.Section() == gcm.Tickets {
		keys, err := pushed.Keys(set, time.Now(), keepTickets)
		keys.Erase()
		return reasons(err)
	}
	_, _, _, errs := m.next(set)
	return errs
}

// apply content that is stored.
func (m *management) apply(c agent.Change) []error {
	switch section := c.Set.Section(); section {
	case gcm.Devices:
		switch {
		case !m.running.Load():
		case c.Delta != nil:
			m.gateway.sessions.Recheck(pushed.Concerned(c.Delta))
		default:
			m.gateway.sessions.RecheckAll()
		}
		return nil
	case gcm.Tickets:
		keys, err := pushed.Keys(c.Set, time.Now(), keepTickets)
		if err != nil {
			return []error{err}
		}
		m.ring.Replace(keys)
		return nil
	case gcm.Access, gcm.Addresses, gcm.Settings, gcm.Trust:
		return m.applySettings(c.Set)
	default:
		return []error{fmt.Errorf("section %q is not known", section)}
	}
}

func (m *management) applySettings(set *gcm.Set) []error {
	if !m.running.Load() {
		next, _, _, errs := m.next(set)
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case len(errs) == 0:
			m.pushed = next
		case set.Section() == gcm.Access:
			// What restricts devices isn't known: those of the other groups are in
			// quarantine, and nothing is open to these.
			m.pushed.Groups = []config.Group{{Name: config.DefaultGroup, Rules: config.Closed()}}
		case set.Section() == gcm.Trust && len(next.Roots) > 0:
			// A root that the manager took away isn't to come back from the file: if
			// these don't fit to what is there else, the gateway says so and ends.
			m.pushed = next
		case set.Section() == gcm.Trust && set.Len() > 0:
			m.rootless = errs[0]
		}
		return errs
	}
	g := m.gateway
	g.reload.Lock()
	defer g.reload.Unlock()
	next, effective, built, errs := m.next(set)
	if len(errs) > 0 {
		return errs
	}
	if err := g.change(effective, built); err != nil {
		return reasons(err)
	}
	m.mu.Lock()
	m.pushed = next
	if set.Section() == gcm.Trust {
		m.rootless = nil
	}
	m.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config, g.built = effective, built
	return nil
}

// inForce tells the roll which groups there are now, and says whether devices
// are in others by that.
func (m *management) inForce(groups []acl.Group) (changed bool) {
	if m == nil {
		return false
	}
	names := make(map[string]bool, len(groups))
	for _, g := range groups {
		names[g.Name] = true
	}
	return m.roll.InForce(names)
}

// run takes changes from managers until over is closed. The gateway is there.
func (m *management) run(cfg *config.Config, over <-chan struct{}, followers *sync.WaitGroup, undo *undoStack) error {
	if err := m.openAlerts(cfg, undo); err != nil {
		return err
	}
	l, err := net.Listen("tcp", cfg.Gateway.Management.Listen.String())
	if err != nil {
		return cfg.Problem("gateway.management.listen", err.Error())
	}
	m.running.Store(true)
	m.logger.Info("managers may configure this gateway", slog.String("listen", l.Addr().String()), slog.String("fingerprint", m.fingerprint()))
	ctx, cancel := context.WithCancel(context.Background())
	followers.Go(func() { <-over; cancel() })
	followers.Go(func() {
		if err := m.agent.Serve(ctx, l); err != nil {
			m.logger.Error("management port", slog.Any("error", err))
		}
	})
	followers.Go(func() { m.watch(over) })
	if m.alerts != nil {
		followers.Go(func() { m.alerts.Run(ctx) })
	}
	return nil
}

// openAlerts sends them from the gateway's addresses inside the tunnel, if there
// are some.
func (m *management) openAlerts(cfg *config.Config, undo *undoStack) error {
	from := cfg.Gateway.Tunnel.Addresses()
	if len(from) == 0 {
		m.logger.Info("alerts can't be sent to devices: neither gateway.tunnel.address nor gateway.tunnel.ipv6 is set")
		return nil
	}
	for _, at := range from {
		key, conn := "gateway.tunnel.address", &m.sockets.v4
		if at.Is6() {
			key, conn = "gateway.tunnel.ipv6", &m.sockets.v6
		}
		socket, err := alerter.Listen(netip.AddrPortFrom(at, alerter.Port))
		if err != nil {
			return cfg.Problem(key, err.Error())
		}
		undo.push("", socket.Close)
		*conn = socket
	}
	m.alerts = alerter.New(alerter.Config{Conn: &m.sockets, Lookup: m.where, Report: m.alerted})
	return nil
}

// alertSockets are one for each family that the gateway has an address of.
type alertSockets struct{ v4, v6 alerter.Conn }

// of a family; nil where the gateway has no address of it.
func (s *alertSockets) of(a netip.Addr) alerter.Conn {
	if a.Is4() {
		return s.v4
	}
	return s.v6
}

// WriteToUDPAddrPort from the address of the same family.
func (s *alertSockets) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if conn := s.of(to.Addr()); conn != nil {
		return conn.WriteToUDPAddrPort(b, to)
	}
	return 0, fmt.Errorf("%v: the gateway has no address of this family inside", to.Addr())
}

// ForgetVersions of what was pushed.
func (g *gateway) ForgetVersions() error {
	if g.management == nil {
		return fmt.Errorf("%w: this gateway has no manager", local.ErrConflict)
	}
	return g.management.agent.ForgetVersions()
}

// close the file; ticket keys are erased.
func (m *management) close() error {
	m.ring.Replace(nil)
	return m.agent.Close()
}

// fingerprint by which a manager knows the gateway before it has a certificate.
func (m *management) fingerprint() string {
	f, err := m.agent.Fingerprint()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", f)
}
