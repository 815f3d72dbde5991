package main

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// newAPI is what administrators may do, over HTTPS and over the local socket.
func (m *managerServer) newAPI(ctx context.Context, built *config.BuiltManager) (http.Handler, error) {
	c := &m.config.Manager
	key, err := hkdf.Key(sha256.New, m.key, nil, "roamgate audit of device management", access.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	roles, err := access.New(ctx, m.db, access.Options{Instance: built.InstanceOIDs[0].String(), Key: key})
	if err != nil {
		return nil, err
	}
	if c.Admin.First != "" {
		first := access.Subject{Kind: access.ByCertificate, Name: c.Admin.First}
		given, err := roles.First(ctx, first, access.Everybody)
		if err != nil {
			return nil, m.config.Problem("manager.admin.first", err.Error())
		}
		if given {
			m.logger.Info("first administrator", slog.String("subject", first.String()))
		}
	}
	return api.New(api.Options{
		Access: roles, Devices: m.store, Tasks: m.store, Desk: m.desk, Policies: m.policies, Versions: m.store.Policies(), Inventories: inventory.NewKeeper(m.store.Inventories()), Fleet: m.fleet,
		Certificate: administratorOf(built, m.directory, time.Now), Local: local.User,
		Placed: func(task string) {
			go func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
				defer cancel()
				if err := m.wake(ctx, task); err != nil {
					m.logger.Warn("devices aren't alerted", slog.String("task", task), slog.Any("error", err))
				}
			}()
		},
		PolicyChanged: m.refresher.Poke,
		Ready: func(ctx context.Context) []error {
			if err := m.db.PingContext(ctx); err != nil {
				return []error{fmt.Errorf("the database can't be reached: %w", err)}
			}
			return nil
		},
		Version: version, Title: m.config.Profile.Title, Database: string(m.db.Engine), Now: time.Now, Log: m.logger,
	})
}

// administratorOf names whose certificate it is, of profile ca.Admin below the
// roots of devices: enrollment issued it, and has it in its record as valid, octet
// by octet.
func administratorOf(built *config.BuiltManager, record *directory.SQL, now func() time.Time) func(context.Context, []*x509.Certificate) (string, error) {
	roots, own := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range built.Roots {
		roots.AddCert(c)
	}
	for _, c := range built.Intermediates {
		own.AddCert(c)
	}
	stranger := func(text string) error { return fmt.Errorf("%w: %s", api.ErrStranger, text) }
	return func(ctx context.Context, chain []*x509.Certificate) (string, error) {
		if len(chain) == 0 || len(chain) > maxChain {
			return "", stranger(fmt.Sprintf("%d certificates", len(chain)))
		}
		c, intermediates := chain[0], own.Clone()
		for _, other := range chain[1:] {
			intermediates.AddCert(other)
		}
		if !slices.ContainsFunc(built.InstanceOIDs, func(oid x509.OID) bool { return ca.Has(c, oid, ca.Admin) }) {
			return "", stranger("the certificate is not an administrator's")
		}
		if _, err := c.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			return "", stranger(err.Error())
		}
		sum := sha256.Sum256(c.Raw)
		known, err := record.Certificate(ctx, ca.SerialString(c.SerialNumber))
		switch {
		case errors.Is(err, directory.ErrNotFound):
			return "", stranger("the certificate is not recorded here")
		case err != nil:
			return "", err
		case known.Profile != ca.Admin || !bytes.Equal(known.SHA256, sum[:]):
			return "", stranger("the certificate is not recorded here")
		case !known.Revoked.IsZero():
			return "", stranger("the certificate was revoked")
		}
		return c.Subject.CommonName, nil
	}
}

// maxChain of a client, its own certificate included.
const maxChain = 5
