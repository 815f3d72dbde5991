package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// use what a reload can change: certificates and the level of the log; limits
// follow in reload, when there are listeners.
func (s *enrollmentServer) use(cfg *config.Config, built *config.BuiltEnrollment) {
	s.level.Set(slog.Level(cfg.Log.Level))
	s.deviceCerts.Use(built.Devices)
	s.adminCerts.Use(built.Admins)
}

// reload reads the configuration again. A wrong one changes nothing.
func (s *enrollmentServer) reload(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg, built, err := readEnrollment(s.config.Name(), now)
	if err != nil {
		s.reloadsFailed++
		return err
	}
	logWarnings(s.logger, built.Warnings)
	if keys := restartEnrollment(s.config, cfg); len(keys) > 0 {
		s.logger.Warn("only a restart applies a part of the configuration", slog.String("keys", strings.Join(keys, ", ")))
	}
	s.use(cfg, built)
	s.devices.SetLimits(limitsOf(&cfg.Enrollment.Limits))
	s.loaded = now
	s.logger.Info("the configuration was read again")
	return nil
}

func readEnrollment(file string, now time.Time) (*config.Config, *config.BuiltEnrollment, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, nil, err
	}
	if err := cfg.Require("enrollment"); err != nil {
		return nil, nil, err
	}
	built, err := cfg.BuildEnrollment(now)
	return cfg, built, err
}

// restartEnrollment are the keys of this role, and those of all, that a reload
// doesn't apply.
func restartEnrollment(running, file *config.Config) (keys []string) {
	for _, key := range config.NeedRestart(running, file) {
		if strings.HasPrefix(key, "enrollment.") || strings.HasPrefix(key, "log.") {
			keys = append(keys, key)
		}
	}
	return keys
}

// followReloads reloads at SIGHUP.
func (s *enrollmentServer) followReloads(ctx context.Context, hangup <-chan os.Signal, manager notify) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			manager.reloading()
			if err := s.reload(time.Now()); err != nil {
				s.logger.Error("nothing was changed", slog.Any("error", err))
			}
			manager.ready()
		}
	}
}

// listEvery is how long a gateway of this host may wait for a new revocation
// list in its file.
const listEvery = 5 * time.Second

// publishLists writes the complete revocation list where gateways of this host
// read it, in the folder of the CA.
func (s *enrollmentServer) publishLists(ctx context.Context, dir string) {
	file := filepath.Join(dir, ca.CRLFile)
	var written []byte
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	for {
		t, err := s.service.Trust(ctx)
		if err == nil && !bytes.Equal(t.CRL, written) {
			text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: t.CRL})
			if err = ca.WriteFile(file, text, 0o644, true); err == nil {
				written = t.CRL
			}
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Error("revocation list for gateways of this host", slog.String("file", file), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
