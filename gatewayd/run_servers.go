package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// serverRole is enrollment or manager while it runs. Both may share a process.
type serverRole interface {
	// listen begins to serve.
	listen(*listeners) error
	// run what goes on beside requests until ctx ends.
	run(ctx context.Context)
	// reload prepares what a changed file means; apply puts it into force.
	reload(cfg *config.Config, now time.Time) (apply func(), warnings []string, err error)
	// ready says what to log once all is there.
	ready() []slog.Attr
	// close forgets secrets, after all else has ended.
	close()
}

// servers is a process with roles that share a database.
type servers struct {
	names   []string
	started time.Time
	logger  *slog.Logger
	level   *slog.LevelVar
	// db is the one that all packages share, with what enrollment keeps in it.
	db        *database.DB
	directory *directory.SQL
	// certify makes certificates that aren't devices', and their chains; nil
	// without enrollment.
	certify func(context.Context, directory.By, ca.Request) ([]*x509.Certificate, error)

	// up is whether all roles listen.
	up atomic.Bool

	mu            sync.Mutex // reloads
	config        *config.Config
	loaded        time.Time
	reloadsFailed uint64
	needRestart   []string
}

// runServers runs roles in one process on one database: it returns when ctx ends
// or a listener fails.
func runServers(ctx context.Context, file string, names []string, stderr io.Writer) (err error) {
	s := &servers{names: names, started: time.Now(), level: new(slog.LevelVar)}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	cfg, err := s.read(file)
	if err != nil {
		return err
	}
	source := databaseOf(cfg, names)
	if err := database.Check(source); err != nil {
		return cfg.Problem(names[0]+".database.postgres", err.Error())
	}
	var enrollment enrollmentFiles
	if slices.Contains(names, "enrollment") {
		if enrollment, err = readEnrollmentFiles(cfg, s.started); err != nil {
			return err
		}
		defer enrollment.authority.Close()
	}
	var manager *config.BuiltManager
	if slices.Contains(names, "manager") {
		if manager, err = cfg.BuildManager(s.started); err != nil {
			return err
		}
	}
	s.config, s.loaded = cfg, s.started
	s.level.Set(slog.Level(cfg.Log.Level))
	s.logger = newLogger(stderr, cfg.Log.Format, s.level)
	notify := notify{s.logger}

	// All configuration is read. Below this line databases and files are touched.

	defer letGarbageGather()()
	if s.db, err = database.Open(ctx, source); err != nil {
		return err
	}
	defer s.db.Close()
	s.db.Migrated = func(tables string, from, to int64) {
		s.logger.Info("tables are migrated: an older gatewayd can't use them any more", slog.String("tables", tables), slog.Int64("from", from), slog.Int64("to", to))
	}
	if s.directory, err = directory.New(ctx, s.db); err != nil {
		return err
	}
	var roles []serverRole
	if enrollment.built != nil {
		e, err := newEnrollmentServer(ctx, s, enrollment)
		if err != nil {
			return err
		}
		defer e.close()
		s.certify = func(ctx context.Context, by directory.By, r ca.Request) ([]*x509.Certificate, error) {
			issued, err := e.service.Certify(ctx, by, r)
			if err != nil {
				return nil, err
			}
			return append([]*x509.Certificate{issued.Certificate}, issued.Chain...), nil
		}
		roles = append(roles, e)
	}
	if manager != nil {
		m, err := newManagerServer(ctx, s, manager)
		if err != nil {
			return err
		}
		defer m.close()
		roles = append(roles, m)
	}

	l := &listeners{failed: make(chan error, 16)}
	defer l.close()
	for _, r := range roles {
		if err := r.listen(l); err != nil {
			return err
		}
	}
	s.up.Store(true)
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var followers sync.WaitGroup
	for _, r := range roles {
		followers.Go(func() { r.run(working) })
	}
	followers.Go(func() { s.followReloads(working, roles, hangup, notify) })
	for i, r := range roles {
		s.logger.LogAttrs(ctx, slog.LevelInfo, "server is ready", append([]slog.Attr{slog.String("role", names[i])}, r.ready()...)...)
	}
	notify.serving()

	select {
	case <-ctx.Done():
	case err = <-l.failed:
		s.logger.Error("a listener failed", slog.Any("error", err))
	}
	notify.stopping()
	s.logger.Info("stopping", slog.String("roles", strings.Join(names, ",")))
	l.shutdown(s.logger)
	stop()
	followers.Wait()
	return err
}

// read the file, which has the sections of all roles.
func (s *servers) read(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	for _, name := range s.names {
		if err := cfg.Require(name); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

// reload reads the configuration again, for all roles or for none.
func (s *servers) reload(roles []serverRole, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg, err := s.read(s.config.Name())
	var apply []func()
	for _, r := range roles {
		if err != nil {
			break
		}
		var one func()
		var warnings []string
		if one, warnings, err = r.reload(cfg, now); err == nil {
			apply = append(apply, one)
			logWarnings(s.logger, warnings)
		}
	}
	if err != nil {
		s.reloadsFailed++
		return err
	}
	if s.needRestart = s.restart(cfg); len(s.needRestart) > 0 {
		s.logger.Warn("only a restart applies a part of the configuration", slog.String("keys", strings.Join(s.needRestart, ", ")))
	}
	for _, f := range apply {
		f()
	}
	s.level.Set(slog.Level(cfg.Log.Level))
	s.loaded = now
	s.logger.Info("the configuration was read again")
	return nil
}

// restart are the keys of these roles, and those of all, that a reload doesn't
// apply.
func (s *servers) restart(file *config.Config) (keys []string) {
	for _, key := range config.NeedRestart(s.config, file) {
		section, _, _ := strings.Cut(key, ".")
		if section == "log" || slices.Contains(s.names, section) {
			keys = append(keys, key)
		}
	}
	return keys
}

// followReloads reloads at SIGHUP.
func (s *servers) followReloads(ctx context.Context, roles []serverRole, hangup <-chan os.Signal, notify notify) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			notify.reloading()
			if err := s.reload(roles, time.Now()); err != nil {
				s.logger.Error("nothing was changed", slog.Any("error", err))
			}
			notify.serving()
		}
	}
}

// configuration that is in force, for metrics.
func (s *servers) configuration() (loaded time.Time, failed uint64, needRestart []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded, s.reloadsFailed, slices.Clone(s.needRestart)
}

// databaseOf the roles: enrollment and manager have one.
func databaseOf(c *config.Config, roles []string) database.Config {
	d := c.Enrollment.Database
	file := c.DatabaseFile()
	if slices.Contains(roles, "manager") {
		d = c.ManagerDatabase()
		if d.SQLite != "" {
			file = c.Path(d.SQLite)
		}
	}
	return database.Config{File: file, Postgres: d.Postgres, Insecure: d.TLS == config.TLSNone, Connections: d.Connections}
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
