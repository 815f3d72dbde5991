package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/gatewayd/accounts"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pushed"
)

var (
	errNoManagerCertificate = errors.New("this manager has no certificate towards gateways: make one with `gatewayd pki manager NAME` and name it in manager.gateways")
	errNoSigner             = errors.New("nobody signs certificates for gateways: run enrollment in this process, or name its server in manager.gateways.enrollment")
)

// newFleet is what the manager knows of gateways and tells them, and the alerter
// that reaches devices through them.
func (m *managerServer) newFleet(ctx context.Context, built *config.BuiltManager) error {
	g := &m.config.Manager.Gateways
	sign, err := m.signer()
	if err != nil {
		return err
	}
	agent, ok := ca.PolicyOID(built.InstanceOIDs[0], ca.Agent)
	if !ok {
		return fmt.Errorf("no policy of gateways below %v", built.InstanceOIDs[0])
	}
	roots := x509.NewCertPool()
	for _, c := range built.GatewayRoots {
		roots.AddCert(c)
	}
	m.fleet, err = fleet.New(ctx, m.db, fleet.Options{
		Identity: push.Identity{
			Certificate: func() (*tls.Certificate, error) {
				if built.Manager == nil {
					return nil, errNoManagerCertificate
				}
				return built.Manager, nil
			},
			Roots: roots, Agent: agent,
		},
		Sign: sign, SealKey: m.key, Feed: enrolled{m.directory, time.Now},
		Quarantine: config.QuarantineGroup, QuarantineNew: g.QuarantineNew, DefaultGroup: g.DefaultGroup, AdmitUnknown: g.AdmitUnknown,
		Rest: time.Duration(g.AddressRest), TicketPeriod: time.Duration(g.TicketPeriod), TicketLifetime: time.Duration(g.TicketLifetime),
		Retention: time.Duration(g.Events), Trust: deviceTrust(built), Check: checkContent, Log: m.logger,
		Started: func(device string) {
			// What waited since before this process began is told, too.
			if err := m.alerter.Wake(device); err != nil {
				m.logger.Warn("a device isn't alerted", slog.String("device", device), slog.Any("error", err))
			}
			m.alerter.Connected(device)
		},
	})
	if err != nil {
		return fmt.Errorf("gateways: %w", err)
	}
	m.alerter = alert.New(alert.Config{Devices: lookout{m.store}, Channels: []alert.Channel{m.fleet.Tunnel()}, Log: m.logger})
	return nil
}

// wakeDevices for which commands wait.
func (m *managerServer) wakeDevices(devices []string) {
	for _, d := range devices {
		if err := m.alerter.Wake(d); err != nil {
			m.logger.Warn("a device isn't alerted", slog.String("device", d), slog.Any("error", err))
			return
		}
	}
}

// wake the devices for which a task was placed.
func (m *managerServer) wake(ctx context.Context, task string) error {
	for after := ""; ; {
		page, err := m.store.CommandsOfTask(ctx, task, after, 0)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, c := range page {
			if err := m.alerter.Wake(c.Device); err != nil {
				return err
			}
			after = c.Device
		}
	}
}

// settled says which devices have confirmed all that policies want of them, and
// which refuse something: where those that enroll are in quarantine it is lifted by
// that, and comes back.
func (m *managerServer) settled(ctx context.Context, compliant map[string]bool) error {
	if !m.config.Manager.Gateways.QuarantineNew {
		return nil
	}
	// What is said of a device that gateways haven't heard of would be lost, and it
	// would stay in quarantine.
	if err := m.accounts.Await(ctx, fleetReader(m.fleet)); err != nil {
		return err
	}
	var complying, failing []string
	for device, yes := range compliant {
		if yes {
			complying = append(complying, device)
		} else {
			failing = append(failing, device)
		}
	}
	return m.fleet.Judge(ctx, complying, failing)
}

// signer of gateways' certificates: enrollment, here or elsewhere.
func (m *managerServer) signer() (push.Sign, error) {
	if certify := m.certify; certify != nil {
		return func(ctx context.Context, g push.Gateway, request *x509.CertificateRequest) ([]byte, error) {
			chain, err := certify(ctx, directory.By{Name: "manager " + m.config.Manager.Name},
				ca.Request{Profile: ca.Agent, DNSNames: []string{g.Host}, PublicKey: request.PublicKey})
			return ca.EncodeCertificates(chain...), err
		}, nil
	}
	s := m.config.Manager.Gateways.Enrollment
	if s.Server == "" {
		return func(context.Context, push.Gateway, *x509.CertificateRequest) ([]byte, error) { return nil, errNoSigner }, nil
	}
	s.Certificate, s.Key = m.config.Path(s.Certificate), m.config.Path(s.Key)
	files := slices.Clone(s.Roots)
	for i, name := range files {
		files[i] = m.config.Path(name)
	}
	c, err := (&adminFlags{server: s.Server, certificate: s.Certificate, key: s.Key, roots: files}).dial()
	if err != nil {
		return nil, m.config.Problem("manager.gateways.enrollment", err.Error())
	}
	return func(ctx context.Context, g push.Gateway, request *x509.CertificateRequest) ([]byte, error) {
		issued, err := c.Issue(ctx, admin.NewCertificate{
			Profile: string(ca.Agent), DNSNames: []string{g.Host},
			CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request.Raw})),
		})
		return []byte(issued.Certificate.PEM + issued.Chain), err
	}, nil
}

// enrolled is enrollment's outbox as the fleet reads it.
type enrolled struct {
	directory *directory.SQL
	now       func() time.Time
}

// Entries implements fleet.Feed.
func (e enrolled) Entries(ctx context.Context, after int64, limit int) ([]fleet.Entry, error) {
	events, err := e.directory.Outbox(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	all := make([]fleet.Entry, len(events))
	for i, v := range events {
		all[i] = fleet.Entry{
			Number: v.Number, At: v.At, Kind: fleet.Kind(v.Kind), Device: v.Device, Groups: v.Groups, Reason: uint8(v.Reason), Until: v.Until,
		}
		if v.Kind == directory.Revoked {
			if err := e.revoked(ctx, &all[i], v); err != nil {
				return nil, fmt.Errorf("event %d, certificate %s: %w", v.Number, v.Serial, err)
			}
		}
	}
	return all, nil
}

// revoked fills in whose certificate it is, and whether the device has another.
func (e enrolled) revoked(ctx context.Context, to *fleet.Entry, v directory.Event) error {
	c, err := e.directory.Certificate(ctx, v.Serial)
	if err != nil {
		return err
	}
	// An authority's name is the hash of its public key (ca.Issuer.ID).
	if n, err := hex.Decode(to.Issuer[:], []byte(c.Authority)); err != nil || n != sha256.Size {
		return fmt.Errorf("authority %q is no hash of a public key", c.Authority)
	}
	serial, err := ca.ParseSerial(v.Serial)
	if err != nil {
		return err
	}
	to.Serial, to.Until = string(serial.Bytes()), c.NotAfter
	if v.Device == "" || v.Reason == ca.Superseded {
		return nil
	}
	good, err := e.directory.Certificates(ctx, directory.CertificateFilter{Device: v.Device, ValidAt: e.now(), Limit: 1})
	to.Last = len(good) == 0
	return err
}

// reader of the outbox for the fleet.
func fleetReader(f *fleet.Fleet) accounts.Reader {
	return accounts.Reader{Name: "gateways", Cursor: f.Cursor, Read: f.Follow}
}

// deviceTrust is what gateways are told first: devices that are managed connect,
// too.
func deviceTrust(built *config.BuiltManager) *fleet.Trust {
	t := &fleet.Trust{}
	for _, list := range []struct {
		from []*x509.Certificate
		to   *[]string
	}{{built.Roots, &t.Roots}, {built.Intermediates, &t.Intermediates}} {
		for _, c := range list.from {
			*list.to = append(*list.to, string(ca.EncodeCertificates(c)))
		}
	}
	return t
}

// checkContent as gateways would, as far as that can be told without one.
func checkContent(c fleet.Content) []error {
	var wrong []error
	take := func(section gcm.Section, records []gcm.Record) {
		set, err := gcm.NewSet(section)
		if err == nil {
			_, err = set.Commit(gcm.Version{Epoch: 1, Number: 1}, records, nil)
		}
		if err != nil {
			wrong = append(wrong, err)
			return
		}
		wrong = append(wrong, pushed.Take(new(config.Pushed), "", set)...)
	}
	var groups []gcm.Record
	for name, g := range c.Groups {
		groups = append(groups, gcm.AccessGroup{Name: name, Rules: g.Rules, Closed: g.Closed, DeviceRate: g.DeviceRate, GroupRate: g.GroupRate}.Record())
	}
	take(gcm.Access, groups)
	// What isn't PEM was found before.
	if authorities, err := c.Trust.Records(); err == nil {
		take(gcm.Trust, authorities)
	}
	records, err := c.SettingTexts()
	if err != nil {
		return append(wrong, err)
	}
	var list []config.Setting
	for name, value := range records {
		name, _, _ = strings.Cut(name, "@")
		list = append(list, config.Setting{Name: name, Value: value})
	}
	return append(wrong, config.CheckSettings(list))
}

// lookout says whether an alert is worth it, and what to sign it with.
type lookout struct{ store *store.SQL }

// Look implements alert.Devices.
func (l lookout) Look(ctx context.Context, device string) (alert.Secret, error) {
	a, err := l.store.Account(ctx, device)
	if errors.Is(err, session.ErrNoAccount) || err == nil && a.Idle {
		a.Erase()
		return alert.Secret{}, alert.ErrNothing
	}
	if err != nil {
		return alert.Secret{}, err
	}
	clear(a.Password)
	if a.ServerPassword == nil {
		return alert.Secret{}, alert.ErrNoSecret
	}
	return alert.Secret{Server: a.ServerName, Password: a.ServerPassword, Nonce: a.ServerNonce}, nil
}
