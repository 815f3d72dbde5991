package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/dhcp"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/control/ticket"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/hostroute"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/metrics"
	"github.com/roamgate/roamgate/gatewayd/records"
	"github.com/roamgate/roamgate/gatewayd/ticketkeys"
)

// sessions is what a gateway needs of a *session.Server.
type sessions interface {
	Sessions() []session.Info
	Kill(match func(session.Info) bool) int
	Redirect(match func(session.Info) bool, to string) int
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

// accessLists is what it needs of an *accessLayer.
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
	tickets    *ticketkeys.Keeper
	routes     routes
	inform     informs
	guard      *guardLayer
	logger     *slog.Logger
	level      *slog.LevelVar
	started    time.Time
	listen     []netip.AddrPort
	mtu        int

	// stop asks for an orderly end; stopping is closed when it has begun, and
	// steps tells how it goes.
	stop     func()
	stopping <-chan struct{}
	steps    *steps

	reload sync.Mutex // one reload at a time

	mu            sync.Mutex // guards what follows
	config        *config.Config
	built         *config.Built
	needRestart   []string
	loaded        time.Time
	reloadsFailed uint64
	draining      bool
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
		return "ready"
	}
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
	return s
}

// hex64 is an SPI of an IKE SA as dissectors show it.
func hex64(v uint64) string { return fmt.Sprintf("%016x", v) }

func (g *gateway) Sessions() []local.Session {
	list := []local.Session{}
	for _, i := range g.sessions.Sessions() {
		list = append(list, local.Session{
			ID: hex64(uint64(i.ID)), Device: i.Device, Group: i.Group,
			InitiatorSPI: hex64(i.InitiatorSPI), ResponderSPI: hex64(i.ResponderSPI),
			Local: i.Local, Remote: i.Remote, VirtualIPs: i.VirtualIPs, Children: children(i.Children),
			IKE: i.IKE, Auth: i.Auth, Resumed: i.Resumed, Client: i.Client, Legacy: i.Legacy,
			Established: i.Established, Until: i.Until, LastIn: i.LastIn, LastOut: i.LastOut,
			Traffic: local.Traffic(i.Traffic),
		})
	}
	return list
}

func children(list []session.Child) []local.Child {
	out := []local.Child{}
	for _, c := range list {
		out = append(out, local.Child{
			InboundSPI: fmt.Sprintf("%08x", uint32(c.Inbound)), OutboundSPI: fmt.Sprintf("%08x", uint32(c.Outbound)),
			ESP: c.ESP, LocalTS: selectors(c.LocalTS), RemoteTS: selectors(c.RemoteTS),
		})
	}
	return out
}

// selectors for people.
func selectors(list []dataplane.Selector) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.First.String()
		if s.First != s.Last {
			out[i] += "-" + s.Last.String()
		}
		if p, ok := prefixOf(s.First, s.Last); ok {
			out[i] = p.String()
		}
		if s.Protocol != 0 {
			out[i] += fmt.Sprintf(" protocol %d", s.Protocol)
		}
		if s.FirstPort != 0 || s.LastPort != 65535 {
			out[i] += fmt.Sprintf(" ports %d-%d", s.FirstPort, s.LastPort)
		}
	}
	return out
}

// prefixOf a range, if it is one.
func prefixOf(first, last netip.Addr) (netip.Prefix, bool) {
	for bits := range first.BitLen() + 1 {
		p, err := first.Prefix(bits)
		if err == nil && p.Addr() == first && lastOf(p) == last {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (g *gateway) Kill(k local.Kill) (local.Killed, error) {
	n := g.sessions.Kill(matching(k.ID, k.Device, k.All))
	if n == 0 && !k.All {
		return local.Killed{}, fmt.Errorf("session: %w", local.ErrNotFound)
	}
	return local.Killed{Sessions: n}, nil
}

func (g *gateway) Redirect(r local.Redirect) (local.Redirected, error) {
	if !config.IsGateway(r.To) {
		return local.Redirected{}, fmt.Errorf("got %q, expected a domain name or an IP address of another gateway", r.To)
	}
	n := g.sessions.Redirect(matching(r.ID, r.Device, r.All), r.To)
	if n == 0 && !r.All {
		return local.Redirected{}, fmt.Errorf("session: %w", local.ErrNotFound)
	}
	return local.Redirected{Sessions: n}, nil
}

// matching by one of the three.
func matching(id, device string, all bool) func(session.Info) bool {
	return func(i session.Info) bool {
		return all || id != "" && hex64(uint64(i.ID)) == id || device != "" && i.Device == device
	}
}

func (g *gateway) Leases() []local.Lease {
	list := []local.Lease{}
	for _, l := range g.leases.List() {
		entry := local.Lease{Device: l.Device, Address: l.Address, State: "idle", Since: l.Since, LastUsed: l.LastUsed}
		if l.Live {
			entry.State, entry.Session = "live", hex64(uint64(l.Session))
		}
		list = append(list, entry)
	}
	return list
}

func (g *gateway) Release(device string) error {
	err := g.leases.Release(device)
	switch {
	case errors.Is(err, lease.ErrUnknownDevice):
		return fmt.Errorf("%w: %w", local.ErrNotFound, err)
	case errors.Is(err, lease.ErrInUse):
		return fmt.Errorf("%w: %w", local.ErrConflict, err)
	}
	return err
}

// Drops lists every reason of every layer, also those that never happened.
func (g *gateway) Drops() []local.Drop {
	stats := g.sessions.Stats()
	list := []local.Drop{}
	for r, n := range g.backend.Drops() {
		list = append(list, local.Drop{Layer: "dataplane", Reason: dataplane.Reason(r).String(), Count: n})
	}
	for d, verdicts := range g.lists.counters() {
		for v, n := range verdicts {
			if v != int(acl.VerdictPass) {
				list = append(list, local.Drop{Layer: "access", Reason: acl.Verdict(v).String() + "_" + acl.Direction(d).String(), Count: n.Packets})
			}
		}
	}
	for _, layer := range []struct {
		name   string
		counts map[string]uint64
	}{{"guard", g.guard.drops()}, {"ike", stats.Drops}, {"dhcp", unanswered(g.inform.stats())}, {"admit", stats.Refused}, {"ticket", refusedTickets(stats.Tickets)}, {"close", named(stats.Closed)}} {
		for _, reason := range slices.Sorted(maps.Keys(layer.counts)) {
			list = append(list, local.Drop{Layer: layer.name, Reason: reason, Count: layer.counts[reason]})
		}
	}
	return list
}

// refusedTickets leaves out what is no refusal.
func refusedTickets(counts map[string]uint64) map[string]uint64 {
	out := maps.Clone(counts)
	for r := range session.TicketMalformed {
		delete(out, r.String())
	}
	return out
}

func named[K ~string](counts map[K]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for k, n := range counts {
		out[string(k)] = n
	}
	return out
}

// snapshot for a scrape.
func (g *gateway) snapshot() metrics.Snapshot {
	stats, l, r, dhcp := g.sessions.Stats(), g.leases.Stats(), g.records.Stats(), g.inform.stats()
	packets := make(map[string]uint64, dataplane.NumReasons)
	for r, n := range g.backend.Drops() {
		packets[dataplane.Reason(r).String()] = n
	}
	s := metrics.Snapshot{
		Sessions: stats.Established, HalfOpen: stats.HalfOpen,
		HandshakesStarted: stats.Initiated, HandshakesDone: stats.EstablishedTotal,
		Closed: named(stats.Closed), Refused: stats.Refused, Notes: named(stats.Notes), Events: stats.Events,
		Access: accessCounts(g.lists.counters()), Guard: g.guard.verdicts(),
		Drops: map[string]map[string]uint64{"dataplane": packets, "ike": stats.Drops, "dhcp": unanswered(dhcp)}, DHCPAnswers: dhcp.Answered,
		Tickets: stats.Tickets, Work: stats.Work,
		RekeyedIKE: stats.RekeyedIKE, Moved: stats.Moved, Legacy: legacyCounts(stats.Legacy),
		BytesIn: stats.BytesIn, PacketsIn: stats.PacketsIn, BytesOut: stats.BytesOut, PacketsOut: stats.PacketsOut,
		LeasesLive: l.Live, LeasesIdle: l.Assigned - l.Live,
		LeaseCapacityIPv4: l.Capacity[lease.IPv4], LeaseCapacityIPv6: l.Capacity[lease.IPv6],
		LeaseExhausted: l.Exhausted, LeaseReassigned: l.Reassigned, LeaseWriteErrors: l.WriteErrors,
		RecordsWritten: r.Written, RecordErrors: r.Errors,
		Handshake: cumulative(stats.Handshake),
	}
	s.Kernel, s.Offloads = g.forward.abilities()
	if g.hostRoutes != nil {
		r := g.hostRoutes.Stats()
		s.HostRoutes, s.HostRoutesWaiting, s.HostRouteErrors = r.Routes, r.Waiting, r.Refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.MaxSessions = g.config.Gateway.Limits.Sessions
	s.ConfigLoaded, s.ReloadsFailed = float64(g.loaded.Unix()), g.reloadsFailed
	if end, ok := g.built.Admit.RevocationExpires(); ok {
		s.RevocationExpires = float64(end.Unix())
	}
	return s
}

// accessCounts by direction and verdict.
func accessCounts(c acl.Counters) map[string]map[string]uint64 {
	out := make(map[string]map[string]uint64, acl.NumDirections)
	for d, verdicts := range c {
		counts := make(map[string]uint64, acl.NumVerdicts)
		for v, n := range verdicts {
			counts[acl.Verdict(v).String()] = n.Packets
		}
		out[acl.Direction(d).String()] = counts
	}
	return out
}

// legacyCounts has all names, so that an alert on one doesn't wait for the first.
func legacyCounts(counts map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for _, name := range (ikecrypto.Legacy{SHA1Signatures: true, HMACSHA1: true, MODP1024: true, TripleDES: true}).Names() {
		out[name] = counts[name]
	}
	return out
}

// cumulative is Prometheus's form of a histogram.
func cumulative(h session.Histogram) metrics.Histogram {
	out := metrics.Histogram{Sum: h.Sum, Buckets: make(map[float64]uint64, len(h.Bounds))}
	for i, n := range h.Counts {
		out.Count += n
		if i < len(h.Bounds) {
			out.Buckets[h.Bounds[i]] = out.Count
		}
	}
	return out
}

// Reload reads the configuration file again. With an error nothing has
// changed.
func (g *gateway) Reload() (local.Reloaded, error) {
	g.reload.Lock()
	defer g.reload.Unlock()
	r, err := g.tryReload()
	if err == nil {
		g.logger.Info("configuration reloaded", slog.Any("need_restart", r.NeedRestart))
		logWarnings(g.logger, r.Warnings)
		return r, nil
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		g.logger.Error("reload refused, nothing has changed", slog.String("error", line))
	}
	g.mu.Lock()
	g.reloadsFailed++
	g.mu.Unlock()
	return r, err
}

func (g *gateway) tryReload() (local.Reloaded, error) {
	g.mu.Lock()
	running, draining := g.config, g.draining
	g.mu.Unlock()
	if draining {
		return local.Reloaded{}, errDraining
	}
	file, err := config.Load(running.Name())
	if err != nil {
		return local.Reloaded{}, problems(err)
	}
	needRestart := config.NeedRestart(running, file)
	file.Adopt(running)
	built, err := file.Build(time.Now())
	if err != nil {
		return local.Reloaded{}, problems(err)
	}
	recordFile, err := records.Open(built.Records)
	if err != nil {
		return local.Reloaded{}, file.Problem("gateway.records.file", err.Error())
	}
	if err := g.change(file, built); err != nil {
		if recordFile != nil {
			recordFile.Close()
		}
		return local.Reloaded{}, err
	}
	g.records.Use(recordFile)
	if err := g.tickets.Refresh(time.Now(), time.Duration(file.Gateway.Resumption.Lifetime)); err != nil {
		g.logger.Warn("ticket keys stay as they were", slog.Any("error", err))
	}
	g.level.Set(slog.Level(file.Log.Level))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config, g.built, g.needRestart, g.loaded = file, built, needRestart, time.Now()
	return local.Reloaded{NeedRestart: append([]string{}, needRestart...), Warnings: append([]string{}, built.Warnings...)}, nil
}

// change hands the configuration to those who run. Each of them checks before it
// changes anything; if one refuses, those before it go back to what they had. A
// route too many does no harm, and is taken back by the sweep.
func (g *gateway) change(file *config.Config, built *config.Built) error {
	g.mu.Lock()
	before, pools := g.built, g.config.Gateway.Static.Inside()
	g.mu.Unlock()
	if err := lacksAlgorithm(g.backend.Features().Algorithms, file); err != nil {
		return file.Problem("gateway.esp.proposals", err.Error())
	}
	if err := g.routes.add(file.Gateway.Static.Inside()); err != nil {
		return err
	}
	if err := g.inform.use(built.Inform, file.Gateway.Static.Inside()); err != nil {
		return errors.Join(err, g.routes.add(pools))
	}
	if err := g.leases.Reconfigure(built.Leases); err != nil {
		return errors.Join(err, g.inform.use(before.Inform, pools), g.routes.add(pools))
	}
	// What the policy at work leads to is there until it is replaced.
	groups := alongside(built.Groups, before.Groups)
	if err := g.lists.SetGroups(groups); err != nil {
		return errors.Join(err, g.leases.Reconfigure(before.Leases), g.inform.use(before.Inform, pools), g.routes.add(pools))
	}
	if err := g.sessions.Update(settings(built, g.backend.Features(), g.tickets.Ring())); err != nil {
		return errors.Join(err, g.lists.SetGroups(before.Groups), g.leases.Reconfigure(before.Leases), g.inform.use(before.Inform, pools), g.routes.add(pools))
	}
	if len(groups) > len(built.Groups) {
		if err := g.lists.SetGroups(built.Groups); err != nil {
			g.logger.Error("groups that are no longer configured stay", slog.Any("error", err))
		}
	}
	// The configuration was checked as the program would: this can't be refused.
	if err := g.guard.use(file.Gateway.Guard.Settings()); err != nil {
		g.logger.Error("guard", slog.Any("error", err))
	}
	return nil
}

// unanswered are the DHCP messages without an answer, by reason.
func unanswered(s dhcp.Stats) map[string]uint64 {
	out := make(map[string]uint64, dhcp.NumReasons)
	for r := dhcp.ReasonNone + 1; int(r) < dhcp.NumReasons; r++ {
		out[r.String()] = s.Drops[r]
	}
	return out
}

// problems makes many errors of one, so that the local API tells them one by
// one.
func problems(err error) error {
	var list config.Problems
	if !errors.As(err, &list) {
		return err
	}
	errs := make([]error, len(list))
	for i := range list {
		errs[i] = list[i]
	}
	return errors.Join(errs...)
}

func logWarnings(logger *slog.Logger, warnings []string) {
	for _, w := range warnings {
		logger.Warn("configuration", slog.String("warning", w))
	}
}
