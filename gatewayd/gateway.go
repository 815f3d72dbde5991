package main

import (
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/dhcp"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/hostroute"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/records"
	"github.com/roamgate/roamgate/gatewayd/ticketkeys"
)

// sessions is what a gateway needs of a *session.Server.
type sessions interface {
	Sessions() []session.Info
	Kill(match func(session.Info) bool) int
	Redirect(match func(session.Info) bool, to string) int
	Session(device string) (session.Info, bool)
	End(device string, id lease.SessionID) bool
	Recheck(session.Concerned)
	RecheckAll()
	Stats() session.Stats
	Update(session.Settings) error
}

// leases is what it needs of a *lease.Registry.
type leases interface {
	List() []lease.Lease
	Release(device string) error
	Stats() lease.Stats
	Reconfigure(lease.Config) error
}

// routes is what it needs of a *poolRoutes.
type routes interface {
	add(pools []netip.Prefix) error
}

// informs is what it needs of an *informer.
type informs interface {
	use(dhcp.Config, []netip.Prefix) error
	stats() dhcp.Stats
}

// accessLists is what it needs of an *enforced.
type accessLists interface {
	SetGroups([]acl.Group) error
	how() string
	counters() acl.Counters
}

// forwarder is what it needs of a dataplane.Backend.
type forwarder interface {
	Features() dataplane.Features
	Counters(yield func(dataplane.ChildCounters) bool)
	Drops() dataplane.Drops
}

var (
	_ sessions     = (*session.Server)(nil)
	_ leases       = (*lease.Registry)(nil)
	_ local.Source = (*gateway)(nil)
)

// gateway answers for a running gateway: to the local socket, to metrics, to
// signals.
type gateway struct {
	sessions sessions
	leases   leases
	backend  forwarder
	lists    accessLists
	// hostRoutes is nil where none are offered.
	hostRoutes *hostroute.Routes
	forward    *forwarding
	records    *records.Writer
	// tickets is nil where the manager has the keys; ring is where they are in use.
	tickets *ticketkeys.Keeper
	ring    *ticket.Ring
	// management is nil for a gateway without a manager.
	management *management
	routes     routes
	inform     informs
	guard      *guardLayer
	logger     *slog.Logger
	level      *slog.LevelVar
	started    time.Time
	listen     []netip.AddrPort
	mtu        int

	// up is whether all that it offers is there: devices, managers and commands
	// find somebody.
	up atomic.Bool
	// stop asks for an orderly end; stopping is closed when it has begun, and
	// steps tells how it goes.
	stop     func()
	stopping <-chan struct{}
	steps    *steps
	// bound of an orderly end, once that has begun.
	bound *time.Timer

	reload sync.Mutex // one reload at a time

	mu sync.Mutex // guards what follows
	// file as it was read, and config with what was pushed.
	file, config  *config.Config
	built         *config.Built
	needRestart   []string
	loaded        time.Time
	reloadsFailed uint64
	door
	// emptied ends the manager's drain that is under way.
	emptied chan struct{}
}

// door to newcomers.
type door struct {
	// drain that is in force; draining: the gateway ends with it.
	drain    gcm.Drain
	draining bool
	// alone: no manager was heard from for long; refusing: nobody new is let in
	// for that.
	alone, refusing bool
}

// settings of sessions, as the door is.
func (g *gateway) settings(b *config.Built) session.Settings {
	g.mu.Lock()
	door := g.door
	g.mu.Unlock()
	s := settings(b, g.backend.Features(), g.ring)
	if door.drain.On || door.refusing {
		closed := *b.IKE
		closed.Drained, closed.Unattended = door.drain.On, door.refusing
		if door.drain.On {
			closed.RedirectTo = door.drain.To
		}
		s.IKE = &closed
	}
	return s
}

func settings(b *config.Built, f dataplane.Features, keys *ticket.Ring) session.Settings {
	b.IKE.ForceUDP = !f.RawESP
	s := session.Settings{
		IKE: b.IKE, Admit: b.Admit, Assign: b.Assign, Gate: b.Gate,
		Liveness: session.LivenessConfig{Idle: b.Idle}, Parking: session.ParkingConfig{Idle: b.Parked},
		Records:  session.RecordsConfig{Interim: b.Interim},
		Redirect: session.RedirectConfig{To: b.RedirectTo, Devices: b.Redirected},
	}
	if r := b.Resumption; r != nil {
		s.Resumption = session.ResumptionConfig{
			Keys: keys, Lifetime: time.Duration(r.Lifetime), Reauthenticate: time.Duration(r.Reauthenticate),
		}
	}
	return s
}

func (g *gateway) state() string {
	select {
	case <-g.stopping:
		return "stopping"
	default:
	}
	if !g.up.Load() {
		return "starting"
	}
	return "ready"
}

func (g *gateway) Status() local.Status {
	stats, l := g.sessions.Stats(), g.leases.Stats()
	var dropped uint64
	for _, n := range g.backend.Drops() {
		dropped += n
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := local.Status{
		Version: version, PID: os.Getpid(), Started: g.started, State: g.state(),
		Config: g.config.Name(), Loaded: g.loaded,
		NeedRestart: append([]string{}, g.needRestart...), Warnings: append([]string{}, g.built.Warnings...),
		Backend: g.backend.Features().Name, BackendReason: g.forward.why, Listen: g.listen,
		Access: g.lists.how(), Interface: g.config.Gateway.Tunnel.Name, MTU: g.mtu,
		Sessions: stats.Established, MaxSessions: g.config.Gateway.Limits.Sessions, HalfOpen: stats.HalfOpen,
		Leases: local.LeaseCounts{
			Live: l.Live, Idle: l.Assigned - l.Live, Capacity: l.Capacity[lease.IPv4], CapacityIPv6: l.Capacity[lease.IPv6],
		},
		Guard:   g.guard.status(g.config.Gateway.Guard.Shield),
		Traffic: local.Traffic(stats.Traffic), Dropped: dropped, RedirectTo: g.built.IKE.RedirectTo,
	}
	if g.management != nil {
		s.Management = g.management.status(g.config, g.door)
	}
	return s
}
