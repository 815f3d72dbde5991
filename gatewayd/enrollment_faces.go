package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/discovery"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/est"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/page"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/enrollment/scep"
	"github.com/roamgate/roamgate/enrollment/windows"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/https"
)

// faces that the service shows, each behind a listener.
type faces struct {
	devices, admins http.Handler
	// instances is nil without other instances; instancesTLS lets in only those.
	instances    http.Handler
	instancesTLS *tls.Config
}

func (s *enrollmentServer) makeFaces(ctx context.Context, cfg *config.Config, built *config.BuiltEnrollment, issuer *ca.Issuer, key []byte) (faces, error) {
	var f faces
	e := &cfg.Enrollment
	chain := issuer.Chain
	users, err := page.New(page.Options{
		Service: s.service, Key: key, Title: cfg.Profile.Title, Instance: issuer.InstanceOID().String(),
		Profile: profileOf(cfg), Signer: signerOf(built), Now: time.Now, Log: s.logger,
	})
	if err != nil {
		return f, err
	}
	local := discovery.Local{Name: e.Published(), Prover: s.service}
	var finder join.Finder = local
	if built.Instance != nil {
		own := discovery.Identity{Certificate: *built.Instance}
		others := make([]discovery.Instance, len(e.Instances))
		for i, other := range e.Instances {
			others[i] = discovery.Instance{Name: other.Name, URL: other.URL, Roots: built.Roots[i], OID: other.InstanceOID.OID}
		}
		if finder, err = discovery.New(discovery.Options{Local: local, Identity: own, Others: others, Log: s.logger}); err != nil {
			return f, err
		}
		f.instances, f.instancesTLS = discovery.Handler(local, others, s.logger), discovery.ServerConfig(own, others)
	}
	configuration, err := json.Marshal(s.service.Configuration())
	if err != nil {
		return f, err
	}
	trust := join.Trust{
		Instance: cfg.Profile.Title, InstanceOID: issuer.InstanceOID().String(), Server: e.Published(), Root: issuer.Root().Raw,
	}
	for _, c := range chain() {
		trust.Chain = append(trust.Chain, c.Raw)
	}
	mux := http.NewServeMux()
	mux.Handle("/", users)
	mux.Handle("/join/", join.New(join.Options{
		Enroller: s.service, Finder: finder, Trust: func() join.Trust { return trust },
		Configuration: func(enroll.Issued) ([]byte, error) { return configuration, nil }, Log: s.logger,
	}))
	if e.Protocols.EST {
		mux.Handle(est.Root, est.New(est.Options{Enroller: s.service, Chain: chain, Log: s.logger}))
	}
	if e.Protocols.SCEP {
		if s.registrar, err = newRegistrar(ctx, registrarOptions{
			base:  filepath.Join(filepath.Dir(cfg.Path(e.KeyFile)), "scep"),
			chain: chain(),
			certify: func(ctx context.Context, r ca.Request) (*x509.Certificate, error) {
				issued, err := s.service.Certify(ctx, directory.By{Name: "server"}, r)
				return issued.Certificate, err
			},
			log: s.logger,
		}); err != nil {
			return f, fmt.Errorf("registration authority of SCEP: %w", err)
		}
		handler := scep.New(scep.Options{
			Enroller: s.service, Authority: s.registrar.authority, Chain: chain, Legacy: e.Protocols.Legacy, Log: s.logger,
		})
		mux.Handle("/scep", handler)
		mux.Handle("/cgi-bin/pkiclient.exe", handler)
	}
	// An enrollment of Windows is one into device management.
	if management, _, _ := cfg.Management(); e.Protocols.Windows && management != "" {
		where, err := url.Parse(e.URL)
		if err != nil {
			return f, err
		}
		mux.Handle(windows.Root, windows.New(windows.Options{
			Enroller: s.service, URL: where, Account: accountOf(cfg), Lifetime: time.Duration(e.Certificates.Lifetime),
			RenewBefore: time.Duration(e.Certificates.RenewBefore), Legacy: e.Protocols.Legacy, Now: time.Now, Log: s.logger,
		}))
	}
	mux.HandleFunc("GET /crl", s.list(func(t enroll.Trust) []byte { return t.CRL }))
	mux.HandleFunc("GET /crl/delta", s.list(func(t enroll.Trust) []byte { return t.Delta }))
	f.devices = mux
	store := s.service.Directory()
	f.admins = admin.New(admin.Options{
		Service: s.service, Directory: store, Authorize: admin.Only(e.Admin.Names, admin.ByCertificate(issuer, store, time.Now)), Audit: s.auditCall,
		Describe: admin.Server{Version: version, URL: e.URL, InstanceOID: issuer.InstanceOID().String(), Title: cfg.Profile.Title},
		PageURL:  func(id otp.ID) string { return strings.TrimSuffix(e.URL, "/") + "/?request=" + id.String() },
		Now:      time.Now, Log: s.logger,
	})
	return f, nil
}

// auditCall tells who called what. Changes are in the directory's record, too.
func (s *enrollmentServer) auditCall(c admin.Call) {
	level := slog.LevelInfo
	if c.Status >= 400 {
		level = slog.LevelWarn
	}
	s.logger.Log(context.Background(), level, "administration", slog.String("by", c.Name), slog.Any("source", c.Source),
		slog.String("operation", c.Operation), slog.String("path", c.Path), slog.Int("status", c.Status), slog.Duration("took", c.Took))
}

// list answers with a revocation list (RFC 5280 section 4.2.1.13: DER).
func (s *enrollmentServer) list(which func(enroll.Trust) []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, err := s.service.Trust(r.Context())
		if err != nil {
			s.logger.Error("revocation list", slog.Any("error", err))
			http.Error(w, "not available at the moment", http.StatusServiceUnavailable)
			return
		}
		der := which(t)
		if len(der) == 0 {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/pkix-crl")
		https.WriteShared(w, der)
	}
}

// profileOf is what all devices import, without what is each one's own.
func profileOf(c *config.Config) profile.Profile {
	d := &c.Enrollment.Device
	p := profile.Profile{
		Title: c.Profile.Title, IKE: proposals(d.IKE), ESP: proposals(d.ESP), Networks: d.Networks, DNS: d.DNS, Domains: c.Profile.Domains,
		TrustedNetworks: c.Profile.TrustedNetworks, Connect: profile.Connect(c.Profile.Connect), Proxy: profile.Proxy(c.Profile.Proxy), MTU: c.Profile.MTU,
	}
	for _, g := range d.Gateways {
		p.Gateways = append(p.Gateways, profile.Gateway{Address: g.Address, ID: g.ID})
	}
	return p
}

// signerOf profiles is the server's own certificate, which devices see anyway.
func signerOf(b *config.BuiltEnrollment) *profile.Signer {
	own := b.Devices[0]
	key, ok := own.PrivateKey.(crypto.Signer)
	if !ok {
		return nil
	}
	s := &profile.Signer{Key: key}
	for _, der := range own.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			s.Chain = append(s.Chain, c)
		}
	}
	return s
}

// accountOf a Windows device at the device management server, which knows it by
// its certificate: the passwords, which Windows wants to have, are nobody's.
func accountOf(c *config.Config) func(context.Context, enroll.Issued) (windows.Account, error) {
	address, id, _ := c.Management()
	return func(_ context.Context, issued enroll.Issued) (windows.Account, error) {
		return windows.Account{
			Provider: id, Name: c.Profile.Title, URL: address,
			Device: windows.Credential{Name: issued.Device, Secret: rand.Text()}, Server: windows.Credential{Secret: rand.Text()},
		}, nil
	}
}
