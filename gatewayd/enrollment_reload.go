package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// use what a reload can change: certificates; limits follow in reload, when there
// are listeners.
func (s *enrollmentServer) use(built *config.BuiltEnrollment) {
	s.deviceCerts.Use(built.Devices)
	s.adminCerts.Use(built.Admins)
}

func (s *enrollmentServer) reload(cfg *config.Config, now time.Time) (func(), []string, error) {
	built, err := cfg.BuildEnrollment(now)
	if err != nil {
		return nil, nil, err
	}
	return func() {
		s.use(built)
		s.devices.SetLimits(limitsOf(&cfg.Enrollment.Limits))
	}, built.Warnings, nil
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
