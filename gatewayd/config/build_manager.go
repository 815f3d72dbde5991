package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// BuiltManager is what the files say that the section manager names.
type BuiltManager struct {
	// Devices and Admins are the certificates of the two listeners. A reload
	// replaces them.
	Devices, Admins []tls.Certificate
	// Roots of devices' certificates, and Intermediates that devices don't show.
	Roots, Intermediates []*x509.Certificate
	InstanceOIDs         []x509.OID
	// Manager is its certificate towards gateways, nil if it manages none; and
	// GatewayRoots are those of gateways' certificates.
	Manager      *tls.Certificate
	GatewayRoots []*x509.Certificate
	Warnings     []string
}

// BuildManager reads the certificates and keys that the section manager names.
// The error is of type Problems; now serves for warnings about validity.
func (c *Config) BuildManager(now time.Time) (*BuiltManager, error) {
	b := &builder{Config: c, now: now}
	m := &c.Manager
	built := &BuiltManager{
		Devices: b.tlsCredentials("manager.credentials", m.Credentials),
		Admins:  b.tlsCredentials("manager.admin.credentials", m.Admin.Credentials),
	}
	for _, list := range []struct {
		key   string
		files []string
		to    *[]*x509.Certificate
	}{{"roots", m.Devices.Roots, &built.Roots}, {"intermediates", m.Devices.Intermediates, &built.Intermediates}} {
		for i, name := range list.files {
			*list.to = append(*list.to, read(b, fmt.Sprintf("manager.devices.%s[%d]", list.key, i), name, admit.ParseCertificates)...)
		}
	}
	for _, oid := range m.Devices.InstanceOIDs {
		built.InstanceOIDs = append(built.InstanceOIDs, oid.OID)
	}
	if g := m.Gateways; g.Certificate != "" {
		if own, ok := b.tlsPair("manager.gateways.", Credential{g.Certificate, g.Key}); ok {
			built.Manager = &own
		}
	}
	for i, name := range m.Gateways.Roots {
		built.GatewayRoots = append(built.GatewayRoots, read(b, fmt.Sprintf("manager.gateways.roots[%d]", i), name, admit.ParseCertificates)...)
	}
	if len(m.Gateways.Roots) == 0 {
		built.GatewayRoots = built.Roots
	}
	b.managementNamed(built.Devices)
	if d := c.ManagerDatabase(); d.Postgres != "" && d.TLS == TLSNone {
		b.warn("manager.database.tls", "off: whoever is on the way to the database reads and changes everything")
	}
	if c.Has("enrollment") && len(c.Enrollment.Admin.Names) == 0 {
		b.warn("enrollment.admin.names", "empty: who has an administrator's certificate for device management may do everything at enrollment, too, and have certificates with any name; say who, such as names: [admin], by the common name of the certificate in client.enrollment")
	}
	if m.Devices.Certificates == CertificatesOptional {
		b.warn("manager.devices.certificates", "optional: devices may show a password in place of their certificate")
	}
	built.Warnings = b.warnings
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	return built, nil
}

// managementNamed wants the name that devices dial in one of the certificates.
func (b *builder) managementNamed(list []tls.Certificate) {
	name := b.Manager.Host()
	for _, c := range list {
		if c.Leaf.VerifyHostname(name) == nil {
			return
		}
	}
	if len(list) > 0 {
		b.warn("manager.url", "%s is in none of manager.credentials (%s); devices refuse it", name, strings.TrimSpace(alternativeNames(list[0].Leaf)))
	}
}
