package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/https"
)

// enrollmentServer is the role `enrollment` while it runs.
type enrollmentServer struct {
	logger  *slog.Logger
	level   *slog.LevelVar
	service *enroll.Service
	ping    func(context.Context) error

	devices, admins         *https.Server
	deviceCerts, adminCerts *https.Certificates

	mu            sync.Mutex // reloads
	config        *config.Config
	loaded        time.Time
	reloadsFailed uint64
}

// runEnrollment is the role `enrollment`: it returns when ctx ends or a listener
// fails.
func runEnrollment(ctx context.Context, file string, stderr io.Writer) (err error) {
	started := time.Now()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	if err := cfg.Require("enrollment"); err != nil {
		return err
	}
	built, err := cfg.BuildEnrollment(started)
	if err != nil {
		return err
	}
	e := &cfg.Enrollment
	source := databaseOf(cfg)
	if err := database.Check(source); err != nil {
		return cfg.Problem("enrollment.database.postgres", err.Error())
	}
	authority, err := openAuthority(cfg)
	if err != nil {
		return err
	}
	defer authority.Close()
	level := new(slog.LevelVar)
	level.Set(slog.Level(cfg.Log.Level))
	logger := newLogger(stderr, cfg.Log.Format, level)
	logWarnings(logger, built.Warnings)
	manager := notify{logger}

	// All configuration is read. Below this line databases and files are touched.

	sealKey, err := sealKey(cfg.Path(e.KeyFile))
	if err != nil {
		return cfg.Problem("enrollment.key_file", err.Error())
	}
	defer clear(sealKey)
	db, err := database.Open(ctx, source)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := directory.New(ctx, db)
	if err != nil {
		return err
	}
	service, err := enroll.New(ctx, enroll.Options{
		Directory: store, Issuer: authority.Issuer(), SealKey: sealKey, Policy: policyOf(cfg), Configuration: configurationOf(cfg), Log: logger,
	})
	if err != nil {
		return err
	}
	if err := service.TakeOver(ctx, authority); err != nil {
		return fmt.Errorf("take over the record of the CA in %s: %w", authority.Dir(), err)
	}
	s := &enrollmentServer{
		logger: logger, level: level, service: service, ping: db.PingContext, config: cfg, loaded: started,
		deviceCerts: new(https.Certificates), adminCerts: new(https.Certificates),
	}
	s.use(cfg, built)
	faces, err := s.faces(ctx, cfg, built, authority.Issuer(), sealKey)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	clients.AddCert(authority.Issuing())
	s.devices = https.New(https.Config{
		Handler: faces.devices, Certificates: s.deviceCerts, ClientCAs: clients, ClientAuth: tls.RequestClientCert,
		Limits: limitsOf(&e.Limits), Logger: logger,
	})
	s.admins = https.New(https.Config{
		Handler: faces.admins, Certificates: s.adminCerts, ClientCAs: clients, ClientAuth: tls.RequestClientCert,
		Limits: adminLimits, Logger: logger,
	})

	l := &listeners{failed: make(chan error, 4)}
	defer l.close()
	if err := l.serve("enrollment.listen", e.Listen, s.devices); err != nil {
		return err
	}
	if err := l.serve("enrollment.admin.listen", e.Admin.Listen, s.admins); err != nil {
		return err
	}
	if e.Instance.Listen.IsValid() {
		if err := l.serve("enrollment.instance.listen", e.Instance.Listen, https.New(https.Config{
			Handler: faces.instances, TLS: faces.instancesTLS, Limits: adminLimits, Logger: logger,
		})); err != nil {
			return err
		}
	}
	if e.Metrics.IsValid() {
		if err := l.serve("enrollment.metrics", e.Metrics, plain(s.monitoring(db.DB), logger)); err != nil {
			return err
		}
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	var followers sync.WaitGroup
	followers.Go(func() { service.Run(working) })
	followers.Go(func() { s.publishLists(working, authority.Dir()) })
	followers.Go(func() { s.followReloads(working, hangup, manager) })
	logger.Info("enrollment server is ready",
		slog.String("version", version), slog.String("url", e.URL), slog.Any("listen", e.Listen.AddrPort), slog.Any("admin", e.Admin.Listen.AddrPort),
		slog.String("database", string(db.Engine)), slog.String("issuer", authority.Issuing().Subject.CommonName))
	manager.ready()

	select {
	case <-ctx.Done():
	case err = <-l.failed:
		logger.Error("a listener failed", slog.Any("error", err))
	}
	manager.stopping()
	logger.Info("enrollment server is stopping")
	l.shutdown(logger)
	stop()
	followers.Wait()
	return err
}

// endOfRequests is how long requests that are being answered have at the end.
const endOfRequests = 10 * time.Second

// httpServer is one of net/http's or of package https.
type httpServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// listeners that run.
type listeners struct {
	servers []httpServer
	failed  chan error
}

func (l *listeners) serve(key string, at config.Listen, server httpServer) error {
	listener, err := net.Listen("tcp", at.String())
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	l.servers = append(l.servers, server)
	go func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			l.failed <- fmt.Errorf("%s: %w", key, err)
		}
	}()
	return nil
}

// shutdown lets requests finish.
func (l *listeners) shutdown(logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), endOfRequests)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range l.servers {
		all.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				logger.Warn("requests were cut off", slog.Any("error", err))
			}
		})
	}
	all.Wait()
}

func (l *listeners) close() {
	for _, s := range l.servers {
		_ = s.Close()
	}
}

// adminLimits: administrators, and other instances, are few and known.
var adminLimits = https.Limits{
	Connections: 512, PerSource: 256, Rate: 1000, Burst: 2000, Body: 256 << 10, Timeout: 30 * time.Second,
}

func limitsOf(l *config.EnrollmentLimits) https.Limits {
	return https.Limits{
		Connections: l.Connections, PerSource: l.ConnectionsPerPrefix, Rate: l.RequestsPerSecond, Burst: l.Burst,
		Body: int64(l.Body), Timeout: time.Duration(l.Timeout),
	}
}

func databaseOf(c *config.Config) database.Config {
	d := c.Enrollment.Database
	return database.Config{
		File: c.DatabaseFile(), Postgres: d.Postgres, Insecure: d.TLS == config.TLSNone, Connections: d.Connections,
	}
}

func policyOf(c *config.Config) enroll.Policy {
	e := &c.Enrollment
	return enroll.Policy{
		Valid: time.Duration(e.Requests.Valid), MaxValid: time.Duration(e.Requests.MaxValid), Guesses: int64(e.Requests.Guesses),
		Lifetime: time.Duration(e.Certificates.Lifetime), RenewBefore: time.Duration(e.Certificates.RenewBefore),
	}
}

// configurationOf is what devices are told.
func configurationOf(c *config.Config) enroll.Configuration {
	d := &c.Enrollment.Device
	out := enroll.Configuration{
		Title: c.Profile.Title, Networks: d.Networks, DNS: d.DNS, Domains: c.Profile.Domains,
		IKE: proposals(d.IKE), ESP: proposals(d.ESP), Management: d.Management, Enrollment: c.Enrollment.URL,
	}
	for _, g := range d.Gateways {
		out.Gateways = append(out.Gateways, enroll.Gateway{Address: g.Address, Identity: g.ID})
	}
	return out
}

func proposals[T interface{ MarshalText() ([]byte, error) }](list []T) (out []string) {
	for _, p := range list {
		if text, err := p.MarshalText(); err == nil {
			out = append(out, string(text))
		}
	}
	return out
}

// openAuthority reads the CA with its key, in a folder or on a token.
func openAuthority(c *config.Config) (*ca.CA, error) {
	dir := c.Path(c.Enrollment.CA.Dir)
	if t := c.Enrollment.CA.PKCS11; t.Module != "" {
		signer, err := ca.OpenToken(ca.Token{
			Module: t.Module, Label: t.Token, Key: t.Key, PIN: func() ([]byte, error) { return firstLine(c.Path(t.PINFile)) },
		})
		if err != nil {
			return nil, c.Problem("enrollment.ca.pkcs11", err.Error())
		}
		a, err := ca.OpenSigner(dir, signer)
		if err != nil {
			return nil, c.Problem("enrollment.ca.dir", errors.Join(err, signer.Close()).Error())
		}
		return a, nil
	}
	a, err := ca.Open(dir, func() ([]byte, error) {
		if c.Enrollment.CA.PassphraseFile == "" {
			return nil, errors.New("the key has a passphrase, and enrollment.ca.passphrase_file is not set")
		}
		return firstLine(c.Path(c.Enrollment.CA.PassphraseFile))
	})
	if err != nil {
		return nil, c.Problem("enrollment.ca.dir", err.Error())
	}
	return a, nil
}

// firstLine of a file with a secret.
func firstLine(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if len(line) == 0 {
		return nil, fmt.Errorf("%s: got an empty first line, expected a secret", file)
	}
	return line, nil
}

// sealKey reads the key of the database's secrets, or makes it where there is
// none.
func sealKey(file string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, enroll.SealKeySize)
		rand.Read(key)
		if err = ca.WriteFile(file, key, 0o600, false); err == nil {
			return key, nil
		}
		// Another one was faster.
		if key, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if len(key) != enroll.SealKeySize {
		return nil, fmt.Errorf("%s: got %d octets, expected %d", file, len(key), enroll.SealKeySize)
	}
	info, err := os.Stat(file)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("got %s with mode %04o, expected 0600: others could read it", file, info.Mode().Perm())
	}
	return key, err
}
