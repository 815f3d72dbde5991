package config

import (
	"crypto"
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// Management is how a manager reaches this gateway and what it is believed. With
// a listener there is no Static: what stands there is pushed.
type Management struct {
	// Listen for managers, mutual TLS; the zero AddrPort means that this gateway
	// has none.
	Listen Listen `yaml:"listen" restart:"yes"`
	// Name of the gateway among those of its manager.
	Name string `yaml:"name" restart:"yes"`
	// Host is the DNS name in its certificate on the management port; empty: Name.
	Host string `yaml:"host" restart:"yes"`
	// Key of that certificate. The certificate itself comes from the manager.
	Key string `yaml:"key" restart:"yes"`
	// Roots to which managers' certificates chain; empty: those of Trust.
	Roots []string `yaml:"roots" restart:"yes"`
	// InstanceOID below which the policies of managers and agents are; empty: the
	// only one of Trust.
	InstanceOID OptionalOID `yaml:"instance_oid" restart:"yes"`
	// File of what was pushed last; empty: management.db in the state folder.
	File string `yaml:"file" restart:"yes"`
	// DeviceRoots says where the roots of devices come from.
	DeviceRoots DeviceRoots `yaml:"device_roots"`
	// Unreachable says what happens when no manager is heard from.
	Unreachable Unreachable `yaml:"unreachable"`
}

// DeviceRoots of a managed gateway.
type DeviceRoots string

// DeviceRoots come from the manager, in place of those of Trust from when it has
// pushed some, or always from Trust.
const (
	DeviceRootsManager DeviceRoots = "manager"
	DeviceRootsFile    DeviceRoots = "file"
)

func (DeviceRoots) names() []string { return []string{"manager", "file"} }

// OptionalOID is an OID, or empty.
type OptionalOID struct{ OID }

// UnmarshalText reads dotted decimal, or nothing.
func (o *OptionalOID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*o = OptionalOID{}
		return nil
	}
	return o.OID.UnmarshalText(b)
}

// Unreachable manager.
type Unreachable struct {
	// After so long without a manager; 0 is never.
	After Duration `yaml:"after"`
	// Then newcomers are admitted by what was pushed last, or refused. Sessions
	// go on.
	Then UnreachableThen `yaml:"then"`
}

// UnreachableThen is a policy for newcomers.
type UnreachableThen string

// Policies.
const (
	UnreachableAdmit  UnreachableThen = "admit"
	UnreachableRefuse UnreachableThen = "refuse"
)

func (UnreachableThen) names() []string { return []string{"admit", "refuse"} }

// Managed says whether the gateway has a manager.
func (c *Config) Managed() bool { return c.Gateway.Management.Listen.IsValid() }

// ManagementHost is the name in the certificate on the management port.
func (c *Config) ManagementHost() string {
	if m := &c.Gateway.Management; m.Host != "" {
		return m.Host
	}
	return c.Gateway.Management.Name
}

// ManagementFile is where that is kept which was pushed.
func (c *Config) ManagementFile() string {
	if f := c.Gateway.Management.File; f != "" {
		return c.Path(f)
	}
	return filepath.Join(c.Path(c.StateDir), "management.db")
}

// managementOID is the instance OID of managers.
func (c *Config) managementOID() OID {
	if o := c.Gateway.Management.InstanceOID; !o.Equal(x509.OID{}) {
		return o.OID
	}
	if oids := c.Gateway.Trust.InstanceOIDs; len(oids) == 1 {
		return oids[0]
	}
	return OID{}
}

// maxUnreachable is the longest time that makes a difference.
const maxUnreachable = 366 * 24 * time.Hour

func (v *validator) management(m *Management) {
	const key = "gateway.management."
	v.duration(key+"unreachable.after", m.Unreachable.After, 0, maxUnreachable)
	if m.Unreachable.After != 0 && m.Unreachable.After < Duration(time.Minute) {
		v.say(key+"unreachable.after", "got %v, expected 0 or at least 1m: a manager is heard from twice a minute", m.Unreachable.After)
	}
	if !v.Managed() {
		return
	}
	switch name, err := admit.DeviceName(m.Name); {
	case m.Name == "":
		v.say(key+"name", "not set, expected this gateway's name, such as gw1")
	case err != nil || name != m.Name || len(name) > 64:
		v.say(key+"name", "got %q, expected at most 64 lower-case letters, digits, '.', '_' and '-'", clip(m.Name))
	}
	if host := v.ManagementHost(); host != "" && !isDomain(host) {
		v.say(key+"host", "got %q, expected a domain name, such as gw1.example.com", clip(host))
	}
	v.required(key+"key", m.Key, "a PEM file with the private key for the management port, as `gatewayd init gateway --managed` makes it")
	for _, c := range v.Gateway.Identity.Credentials {
		if m.Key != "" && v.Path(c.Key) == v.Path(m.Key) {
			v.say(key+"key", "got %s, which is a key of gateway.identity.credentials, expected one for the management port alone", m.Key)
		}
	}
	if v.managementOID().Equal(x509.OID{}) {
		v.say(key+"instance_oid", "not set, expected the OID of this installation, because gateway.trust.instance_oids doesn't have just one")
	}
	if v.Has("gateway.static") && !v.pushed {
		v.say("gateway.static", "got a section, expected none: with gateway.management pools, groups and what devices are told come from the manager")
	}
}

// Agent is what the management port needs of files.
type Agent struct {
	Key   crypto.Signer
	Roots *x509.CertPool
	// Manager and Agent are the policies of the two ends.
	Manager, Agent x509.OID
}

// BuildAgent reads the files of the section management. The error is of type
// Problems.
func (c *Config) BuildAgent() (*Agent, error) {
	b := &builder{Config: c}
	m := &c.Gateway.Management
	a := &Agent{Key: b.privateKey("gateway.management.key", m.Key), Roots: x509.NewCertPool()}
	key, roots := "gateway.management.roots", m.Roots
	if len(roots) == 0 {
		key, roots = "gateway.trust.roots", c.Gateway.Trust.Roots
	}
	for _, name := range roots {
		for _, root := range read(b, key, name, admit.ParseCertificates) {
			a.Roots.AddCert(root)
		}
	}
	a.Manager, _ = ca.PolicyOID(c.managementOID().OID, ca.Manager)
	a.Agent, _ = ca.PolicyOID(c.managementOID().OID, ca.Agent)
	return a, b.problems.err()
}
