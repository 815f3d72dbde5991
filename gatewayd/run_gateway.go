package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/keylog"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/hostroute"
	"github.com/roamgate/roamgate/dataplane/layered"
	"github.com/roamgate/roamgate/dataplane/link"
	"github.com/roamgate/roamgate/dataplane/xfrm"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/metrics"
	"github.com/roamgate/roamgate/gatewayd/records"
	"github.com/roamgate/roamgate/gatewayd/ticketkeys"
)

const (
	// eventQueue between data plane and sessions. A full one loses events,
	// which are hints.
	eventQueue = 4096
	// endBound is how long an orderly end may take. What is not taken back by
	// then is taken back by the next start.
	endBound = 20 * time.Second
	// farewell is how long the last answers on the local socket may take.
	farewell = 2 * time.Second
)

// runGateway is the role `gateway`: it returns when ctx ends, somebody asks to
// stop, or the data plane fails.
func runGateway(ctx context.Context, file string, stderr io.Writer) (err error) {
	started := time.Now()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	// The working folder may change its name while the gateway runs.
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	if err := cfg.Require("gateway"); err != nil {
		return err
	}
	built, err := cfg.Build(started)
	if err != nil {
		return err
	}
	mtu, err := innerMTU(cfg)
	if err != nil {
		return err
	}
	access, err := localAccess(cfg)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(slog.Level(cfg.Log.Level))
	logger := newLogger(stderr, cfg.Log.Format, level)
	logWarnings(logger, built.Warnings)
	manager := notify{logger}
	g := &gateway{
		file: cfg, config: cfg, built: built, loaded: started, started: started, level: level, logger: logger,
		mtu: mtu, stop: stop, stopping: ctx.Done(), steps: &steps{}, records: records.New(logger),
	}
	for _, at := range locals(cfg.Gateway.External) {
		g.listen = append(g.listen, at.IKE, at.Encap)
	}

	defer letGarbageGather()()

	// All configuration is read. Below this line the machine is touched; each
	// touch puts on the stack how to take it back.

	var undo undoStack
	var server *local.Server
	defer func() {
		err = errors.Join(err, undo.run(logger, g.steps))
		g.steps.tell(local.Progress{Step: "stopped", Done: true})
		if server != nil {
			bye, cancel := context.WithTimeout(context.Background(), farewell)
			defer cancel()
			server.Close(bye)
		}
		if g.bound != nil {
			g.bound.Stop() // the process may go on: that of a test does
		}
	}()

	stateDir, runtimeDir := cfg.Path(cfg.StateDir), cfg.Path(cfg.RuntimeDir)
	if err := errors.Join(os.MkdirAll(runtimeDir, 0o755), os.MkdirAll(stateDir, 0o700)); err != nil {
		return fmt.Errorf("folders of the gateway: %w", err)
	}
	lock, err := lockInstance(runtimeDir, "gateway")
	if err != nil {
		return err
	}
	undo.push("", func() error { lock.release(); return nil })
	if g.management, err = openManagement(g, cfg, logger); err != nil {
		return err
	}
	if g.management != nil {
		undo.push("", g.management.close)
		if cfg, built, err = g.management.start(started); err != nil {
			return err
		}
		g.config, g.built = cfg, built
	}

	var crash gate.Secret
	if cfg.Gateway.IKE.CrashDetection {
		if crash, err = keptSecret(filepath.Join(stateDir, "crash.secret")); err != nil {
			return err
		}
	}

	registry, err := lease.Open(filepath.Join(stateDir, "leases.db"), built.Leases)
	if err != nil {
		return fmt.Errorf("leases in %s: %w", stateDir, err)
	}
	undo.push("leases", registry.Close)

	if err := g.openTickets(cfg, &undo); err != nil {
		return err
	}

	undo.push("", func() error { g.records.Close(); return nil })
	recordFile, err := records.Open(built.Records)
	if err != nil {
		return cfg.Problem("gateway.records.file", err.Error())
	}
	g.records.Use(recordFile)

	keys, err := openKeyLog(cfg, logger, &undo)
	if err != nil {
		return err
	}

	journal := filepath.Join(stateDir, "host.journal")
	if err := link.Recover(journal); err != nil {
		return fmt.Errorf("take back what an earlier run left: %w", explainHost(err))
	}
	forward, err := forwardWith(cfg, mtu, logger, &undo, xfrm.Probe)
	if err != nil {
		return explainHost(err)
	}
	var inside []netip.Prefix
	for _, a := range cfg.Gateway.Tunnel.Addresses() {
		inside = append(inside, netip.PrefixFrom(a, a.BitLen()))
	}
	lists, err := openAccess(cfg, forward.name, built.Groups, forward.inKernel, logger)
	if err != nil {
		return explainHost(err)
	}
	undo.push("access lists", lists.Close)
	host, err := link.Setup(link.Config{
		TUN: forward.name, Addresses: inside, Pools: cfg.Gateway.Static.Inside(),
		External: cfg.Gateway.External.Interface, Internal: cfg.Gateway.Internal.Interface,
		Bundles: cfg.Gateway.External.Bundles, IPv6: g.management != nil && link.HasIPv6(), Journal: journal,
	})
	if err != nil {
		return fmt.Errorf("routes and forwarding: %w", explainHost(err))
	}
	undo.push("routes and forwarding", host.Close)
	pools, err := newPoolRoutes(forward.name, cfg.Gateway.Static.Inside())
	if err != nil {
		return err
	}
	g.routes = pools
	inform := &informer{tun: forward.name, logger: logger}
	undo.push("", func() error { inform.close(); return nil })
	if err := inform.use(built.Inform, cfg.Gateway.Static.Inside()); err != nil {
		return cfg.Problem("gateway.tunnel.address", err.Error())
	}
	g.inform = inform

	events := make(chan dataplane.Event, eventQueue)
	var secret gate.Secret
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("secret of cookies: %w", err)
	}
	filter, err := openGuard(cfg, secret, events, logger)
	if err != nil {
		return err
	}
	// Layers are closed after the data plane.
	undo.push("", filter.close)
	layers := append(filter.layers(), lists.layer())
	if offered := cfg.Gateway.Tunnel.HostRoutes; offered.Table != 0 {
		g.hostRoutes, err = hostroute.New(hostroute.Config{
			Interface: forward.name, Table: offered.Table, Protocol: uint8(offered.Protocol), Logger: logger,
		})
		if err != nil {
			return fmt.Errorf("host routes: %w", explainHost(err))
		}
		undo.push("host routes", g.hostRoutes.Close)
		layers = append(layers, g.hostRoutes)
	}
	below, err := forward.build(events, lists.bindsSources)
	if err != nil {
		return explainHost(err)
	}
	backend := layered.New(below, layers...)
	undo.push("data plane", backend.Close)

	sessions, err := session.New(session.Config{
		Settings: settings(built, backend.Features(), g.ring), MaxSessions: cfg.Gateway.Limits.Sessions,
		Backend: backend, Events: events, Leases: registry, Keys: keys,
		Records: g.recorded, Notices: g.management.notices(), CookieSecret: secret, CrashSecret: crash, Logger: logger,
	})
	if err != nil {
		return err
	}
	filter.keep()
	g.backend, g.sessions, g.leases, g.guard, g.lists, g.forward = backend, sessions, registry, filter, lists, forward

	if err := g.listenMonitoring(cfg, &undo); err != nil {
		return err
	}
	server, err = local.Listen(local.Config{
		Path: cfg.Socket(), Access: access, PProf: cfg.Debug.PProf, Source: g, Logger: logger,
	})
	if err != nil {
		return err
	}
	undo.push("", func() error { server.Remove(); return nil })

	over := make(chan struct{})
	var followers sync.WaitGroup
	if g.management != nil {
		if err := g.management.run(cfg, over, &followers, &undo); err != nil {
			return err
		}
	}
	followers.Go(func() { pools.run(over, sessions.Sessions, logger) })
	if g.tickets != nil {
		followers.Go(func() { g.tickets.Run(over) })
	}
	followers.Go(func() { g.followSignals(hangup, over, manager) })
	followers.Go(func() { g.followEnd(ctx, over, manager) })
	g.up.Store(true)
	logger.Info("gateway is ready",
		slog.String("version", version), slog.Any("listen", g.listen), slog.String("interface", forward.name),
		slog.Int("mtu", mtu), slog.String("backend", backend.Features().Name), slog.String("because", forward.why),
		slog.String("access", lists.how()), slog.String("socket", cfg.Socket()))
	manager.ready()
	err = sessions.Run(ctx)
	close(over)
	followers.Wait()
	return err
}

// openTickets: the keys of resumption, where no manager has them. The file is
// looked after even while resumption is off: a reload turns it on.
func (g *gateway) openTickets(cfg *config.Config, undo *undoStack) (err error) {
	if g.management != nil {
		g.ring = g.management.ring
		return nil
	}
	g.tickets, err = ticketkeys.Open(cfg.TicketKeys(), time.Duration(cfg.Gateway.Resumption.Lifetime), g.logger)
	if err != nil {
		return cfg.Problem("gateway.resumption.key_file", err.Error())
	}
	undo.push("", g.tickets.Close)
	g.ring = g.tickets.Ring()
	return nil
}

// recorded: a session came up, goes on or ended.
func (g *gateway) recorded(r session.Record) {
	g.records.Write(r)
	if g.management != nil {
		g.management.recorded(r)
	}
}

// openKeyLog opens the log of session keys if it is configured.
func openKeyLog(cfg *config.Config, logger *slog.Logger, undo *undoStack) (func(ike.KeysDerived), error) {
	if cfg.Debug.KeyLog == "" {
		return nil, nil
	}
	dir := cfg.Path(cfg.Debug.KeyLog)
	log, err := keylog.Open(keylog.Config{Dir: dir, ESN: cfg.Gateway.ESP.ESN})
	if err != nil {
		return nil, err
	}
	undo.push("", log.Close)
	logger.Warn("SESSION KEYS ARE WRITTEN TO DISK: whoever reads them reads all traffic; unset debug.key_log", slog.String("folder", dir))
	return func(k ike.KeysDerived) {
		if err := log.Add(k); err != nil {
			logger.Error("key log", slog.Any("error", err))
		}
	}, nil
}

// listenMonitoring starts the HTTP listener of metrics, if there is to be one.
func (g *gateway) listenMonitoring(cfg *config.Config, undo *undoStack) error {
	if !cfg.Metrics.Listen.IsValid() {
		return nil
	}
	l, err := net.Listen("tcp", cfg.Metrics.Listen.String())
	if err != nil {
		return fmt.Errorf("metrics.listen: %w", err)
	}
	server := g.serveMonitoring(l, metrics.Registry(metrics.Collector(g.snapshot), version, revision()))
	undo.push("", server.Close)
	return nil
}
