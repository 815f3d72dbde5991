package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/https"
)

// enrollmentServer is the role `enrollment` while it runs.
type enrollmentServer struct {
	*servers
	service   *enroll.Service
	authority *ca.CA
	faces     faces
	key       []byte
	// registrar is nil without SCEP.
	registrar *registrar

	devices, admins         *https.Server
	deviceCerts, adminCerts *https.Certificates
}

// enrollmentFiles are what the section names, read before anything is touched.
type enrollmentFiles struct {
	built     *config.BuiltEnrollment
	authority *ca.CA
}

func readEnrollmentFiles(cfg *config.Config, now time.Time) (f enrollmentFiles, err error) {
	built, err := cfg.BuildEnrollment(now)
	if err != nil {
		return f, err
	}
	authority, err := openAuthority(cfg)
	return enrollmentFiles{built, authority}, err
}

// newEnrollmentServer doesn't listen yet. The authority stays the caller's.
func newEnrollmentServer(ctx context.Context, base *servers, f enrollmentFiles) (*enrollmentServer, error) {
	cfg, e := base.config, &base.config.Enrollment
	logWarnings(base.logger, f.built.Warnings)
	key, err := sealKey(cfg.Path(e.KeyFile), enroll.SealKeySize)
	if err != nil {
		return nil, cfg.Problem("enrollment.key_file", err.Error())
	}
	authority := f.authority
	service, err := enroll.New(ctx, enroll.Options{
		Directory: base.directory, Issuer: authority.Issuer(), SealKey: key, Policy: policyOf(cfg), Configuration: configurationOf(cfg), Log: base.logger,
	})
	if err != nil {
		return nil, err
	}
	if err := service.TakeOver(ctx, authority); err != nil {
		return nil, fmt.Errorf("take over the record of the CA in %s: %w", authority.Dir(), err)
	}
	s := &enrollmentServer{
		servers: base, service: service, authority: authority, key: key, deviceCerts: new(https.Certificates), adminCerts: new(https.Certificates),
	}
	s.use(f.built)
	if s.faces, err = s.makeFaces(ctx, cfg, f.built, authority.Issuer(), key); err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	clients.AddCert(authority.Issuing())
	s.devices = https.New(https.Config{
		Handler: s.faces.devices, Certificates: s.deviceCerts, ClientCAs: clients, ClientAuth: tls.RequestClientCert,
		Limits: limitsOf(&e.Limits), Logger: s.logger,
	})
	s.admins = https.New(https.Config{
		Handler: s.faces.admins, Certificates: s.adminCerts, ClientCAs: clients, ClientAuth: tls.RequestClientCert,
		Limits: adminLimits, Logger: s.logger,
	})
	return s, nil
}

func (s *enrollmentServer) listen(l *listeners) error {
	e := &s.config.Enrollment
	if err := l.serve("enrollment.listen", e.Listen, s.devices); err != nil {
		return err
	}
	if err := l.serve("enrollment.admin.listen", e.Admin.Listen, s.admins); err != nil {
		return err
	}
	if e.Instance.Listen.IsValid() {
		if err := l.serve("enrollment.instance.listen", e.Instance.Listen, https.New(https.Config{
			Handler: s.faces.instances, TLS: s.faces.instancesTLS, Limits: adminLimits, Logger: s.logger,
		})); err != nil {
			return err
		}
	}
	if e.Metrics.IsValid() {
		return l.serve("enrollment.metrics", e.Metrics, plain(s.monitoring(), s.logger))
	}
	return nil
}

func (s *enrollmentServer) run(ctx context.Context) {
	var followers sync.WaitGroup
	followers.Go(func() { s.service.Run(ctx) })
	followers.Go(func() { s.publishLists(ctx, s.authority.Dir()) })
	if s.registrar != nil {
		followers.Go(func() { s.registrar.run(ctx) })
	}
	followers.Wait()
}

func (s *enrollmentServer) close() { clear(s.key) }

func (s *enrollmentServer) ready() []slog.Attr {
	e := &s.config.Enrollment
	return []slog.Attr{
		slog.String("version", version), slog.String("url", e.URL), slog.Any("listen", e.Listen.AddrPort), slog.Any("admin", e.Admin.Listen.AddrPort),
		slog.String("database", string(s.db.Engine)), slog.String("issuer", s.authority.Issuing().Subject.CommonName),
	}
}

// adminLimits: administrators, and other instances, are few and known.
var adminLimits = https.Limits{
	Connections: 512, PerSource: 256, Rate: 1000, Burst: 2000, Body: 256 << 10, Timeout: 30 * time.Second,
}

func limitsOf(l *config.ListenerLimits) https.Limits {
	return https.Limits{
		Connections: l.Connections, PerSource: l.ConnectionsPerPrefix, Rate: l.RequestsPerSecond, Burst: l.Burst,
		Body: int64(l.Body), Timeout: time.Duration(l.Timeout),
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
		IKE: proposals(d.IKE), ESP: proposals(d.ESP), Enrollment: c.Enrollment.URL,
	}
	if address, id, first := c.Management(); address != "" {
		out.Management, out.ManagementID, out.ManagementFirst = address, id, int(first/time.Second)
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

// sealKey reads a key of size octets for the secrets in a database, or makes it
// where there is none.
func sealKey(file string, size int) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, size)
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
	if len(key) != size {
		return nil, fmt.Errorf("%s: got %d octets, expected %d", file, len(key), size)
	}
	info, err := os.Stat(file)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("got %s with mode %04o, expected 0600: others could read it", file, info.Mode().Perm())
	}
	return key, err
}
