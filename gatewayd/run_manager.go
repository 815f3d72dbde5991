package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/gatewayd/accounts"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/https"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// managerServer is the role `manager` while it runs.
type managerServer struct {
	*servers
	key      []byte
	store    *store.SQL
	batch    *store.Batch
	desk     *task.Desk
	keeper   *task.Keeper
	identity *accounts.Identity
	accounts *accounts.Devices
	feed     *accounts.Feed
	fleet    *fleet.Fleet
	alerter  *alert.Alerter
	dm       *server.Server
	api      http.Handler

	// policies are computed by refresher, inventories asked for by surveyor.
	policies  *policy.Engine
	refresher *policy.Keeper
	surveyor  *inventory.Surveyor

	devices, admins         *https.Server
	deviceCerts, adminCerts *https.Certificates
	socket                  *local.Server
	lock                    *instanceLock
}

// compliesWithin is how often the store is asked for devices whose state has
// changed: so long a device may wait for its release after the session in which it
// confirmed the last policy. One read of an index each time.
const compliesWithin = 200 * time.Millisecond

// sealKeySize of the store's key, in octets.
const sealKeySize = 32

// newManagerServer doesn't listen yet.
func newManagerServer(ctx context.Context, base *servers, built *config.BuiltManager) (_ *managerServer, err error) {
	cfg, c := base.config, &base.config.Manager
	logWarnings(base.logger, built.Warnings)
	m := &managerServer{servers: base, deviceCerts: new(https.Certificates), adminCerts: new(https.Certificates)}
	if m.key, err = sealKey(cfg.Path(c.KeyFile), sealKeySize); err != nil {
		return nil, cfg.Problem("manager.key_file", err.Error())
	}
	if m.store, err = store.New(ctx, base.db, store.Options{SealKey: m.key}); err != nil {
		return nil, err
	}

	// What administrators want, and what goes on by itself.
	m.batch = store.NewBatch(m.store, store.BatchOptions{Log: base.logger})
	m.desk = task.New(task.Options{Store: m.store, Provider: c.ServerID, Schedule: c.Schedule.Schedule()})
	m.keeper = task.NewKeeper(m.store, accounts.Closer{Directory: base.directory, By: "manager " + c.Name, Now: time.Now}, task.KeeperOptions{
		Every: keeperEvery, Retention: time.Duration(c.Retention.Messages), History: time.Duration(c.Retention.Commands), Log: base.logger,
	})

	// Devices: who they are, and that enrollment made or ended their accounts.
	m.identity = accounts.NewIdentity(accounts.IdentityOptions{
		Roots: built.Roots, Intermediates: built.Intermediates, Instances: built.InstanceOIDs, Record: base.directory,
		Optional: c.Devices.Certificates == config.CertificatesOptional, Now: time.Now,
	})
	m.accounts = accounts.NewDevices(base.directory, m.store, m.desk, m.identity, time.Now, base.logger)
	// Gateways: what they are told of devices, and what they tell.
	if err = m.newFleet(ctx, built); err != nil {
		return nil, err
	}
	m.feed = accounts.NewFeed(base.directory, accounts.FeedOptions{Keep: time.Duration(c.Retention.Events), Log: base.logger},
		m.accounts.Reader(), fleetReader(m.fleet))

	// What devices shall have, and what they have.
	m.policies = policy.NewEngine(m.store.Policies(), policy.Config{Placed: m.wakeDevices, Settled: m.settled})
	m.refresher = policy.NewKeeper(m.policies, policy.KeeperOptions{Every: compliesWithin, Log: base.logger})
	m.surveyor = inventory.NewSurveyor(m.store.Inventories(), inventory.SurveyorOptions{History: time.Duration(c.Retention.Commands), Log: base.logger})
	if m.api, err = m.newAPI(ctx, built); err != nil {
		return nil, err
	}

	// Sessions.
	m.dm = server.New(server.Config{
		Session: session.Config{
			Queue: m.store, Accounts: m.store, Rand: rand.Reader, Server: c.URL,
			MaxMsgSize: int(c.Sessions.Message), MaxObjSize: int(c.Sessions.Object),
		},
		Identify: m.identity.Identify, URL: c.URL, MaxSessions: c.Sessions.Max, MaxUnproven: c.Sessions.MaxUnproven,
		Idle: time.Duration(c.Sessions.Idle), Lifetime: time.Duration(c.Sessions.Lifetime), Transfer: time.Duration(c.Limits.Timeout),
		Log: base.logger, Trace: m.trace, Seen: func(device string, now time.Time) {
			m.batch.Seen(device, now)
			m.alerter.Contacted(device)
		},
	})
	mux := http.NewServeMux()
	mux.Handle(c.Path(), m.dm)
	m.use(built)
	m.devices = https.New(https.Config{
		Handler: mux, Certificates: m.deviceCerts, ClientAuth: tls.RequestClientCert, Limits: limitsOf(&c.Limits), Logger: base.logger,
	})
	m.admins = https.New(https.Config{
		Handler: m.api, Certificates: m.adminCerts, ClientAuth: tls.RequestClientCert, Limits: managementLimits, Logger: base.logger,
	})
	return m, nil
}

// managementLimits: administrators are few and known, and policies are long.
var managementLimits = https.Limits{
	Connections: 512, PerSource: 256, Rate: 1000, Burst: 2000, Body: 8 << 20, Timeout: time.Minute,
}

// keeperEvery is how soon what expired, or was wiped, is seen.
const keeperEvery = 2 * time.Second

// trace keeps a message for administrators.
func (m *managerServer) trace(t server.Traced) {
	m.batch.Message(store.Message{
		At: time.Now(), Device: t.Device, Sent: t.Sent, Proven: t.Proven, ContentType: t.ContentType, Octets: t.Octets,
	})
}

func (m *managerServer) listen(l *listeners) error {
	c := &m.config.Manager
	if err := l.serve("manager.listen", c.Listen, m.devices); err != nil {
		return err
	}
	if err := l.serve("manager.admin.listen", c.Admin.Listen, m.admins); err != nil {
		return err
	}
	if c.Metrics.IsValid() {
		if err := l.serve("manager.metrics", c.Metrics, plain(m.monitoring(), m.logger)); err != nil {
			return err
		}
	}
	return m.listenLocal()
}

func (m *managerServer) run(ctx context.Context) {
	var followers sync.WaitGroup
	followers.Go(func() { m.feed.Run(ctx) })
	followers.Go(func() { m.fleet.Run(ctx) })
	followers.Go(func() { m.alerter.Run(ctx) })
	followers.Go(func() { m.keeper.Run(ctx) })
	followers.Go(func() { m.refresher.Run(ctx) })
	followers.Go(func() { m.surveyor.Run(ctx) })
	// Last visits and messages of sessions that end now are written, too.
	followers.Go(func() { m.batch.Run(ctx) })
	followers.Wait()
}

func (m *managerServer) ready() []slog.Attr {
	c := &m.config.Manager
	return []slog.Attr{
		slog.String("version", version), slog.String("name", c.Name), slog.String("url", c.URL), slog.Any("listen", c.Listen.AddrPort),
		slog.Any("admin", c.Admin.Listen.AddrPort), slog.String("database", string(m.db.Engine)),
	}
}

func (m *managerServer) close() {
	if m.socket != nil {
		ctx, cancel := context.WithTimeout(context.Background(), endOfRequests)
		defer cancel()
		m.socket.Remove()
		m.socket.Close(ctx)
	}
	if m.lock != nil {
		m.lock.release()
	}
	m.dm.Close()
	clear(m.key)
}

// use what a reload can change: certificates; limits follow in reload, when there
// are listeners.
func (m *managerServer) use(built *config.BuiltManager) {
	m.deviceCerts.Use(built.Devices)
	m.adminCerts.Use(built.Admins)
}

func (m *managerServer) reload(cfg *config.Config, now time.Time) (func(), []string, error) {
	built, err := cfg.BuildManager(now)
	if err != nil {
		return nil, nil, err
	}
	return func() {
		m.use(built)
		m.devices.SetLimits(limitsOf(&cfg.Manager.Limits))
	}, built.Warnings, nil
}
