package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// Enrollment is the section of `gatewayd run enrollment`.
type Enrollment struct {
	// Listen for devices and their users, HTTPS.
	Listen Listen `yaml:"listen" restart:"yes"`
	// URL by which they reach it, https; in what is delivered to them.
	URL string `yaml:"url" restart:"yes"`
	// Credentials of the listener for devices, one for each name.
	Credentials []Credential    `yaml:"credentials"`
	Admin       EnrollmentAdmin `yaml:"admin"`
	// Metrics is the HTTP listener of /metrics, /healthz and /readyz.
	Metrics  Listen       `yaml:"metrics" restart:"yes"`
	Database Database     `yaml:"database" restart:"yes"`
	CA       EnrollmentCA `yaml:"ca" restart:"yes"`
	// Protocols by which devices may enroll.
	Protocols EnrollmentProtocols `yaml:"protocols" restart:"yes"`
	// KeyFile seals what is secret in the database. Nodes of one database share
	// it.
	KeyFile      string                 `yaml:"key_file" restart:"yes"`
	Requests     EnrollmentRequests     `yaml:"requests" restart:"yes"`
	Certificates EnrollmentCertificates `yaml:"certificates" restart:"yes"`
	Limits       ListenerLimits         `yaml:"limits"`
	Device       EnrollmentDevice       `yaml:"device" restart:"yes"`
	// Instance is this one, Instances are the others.
	Instance  EnrollmentOwn        `yaml:"instance" restart:"yes"`
	Instances []EnrollmentInstance `yaml:"instances" restart:"yes"`
}

// EnrollmentAdmin is the listener, and who is let in.
type EnrollmentAdmin struct {
	Listen      Listen       `yaml:"listen" restart:"yes"`
	Credentials []Credential `yaml:"credentials"`
	// Names in the certificates of those who may; empty: each administrator's
	// certificate.
	Names []string `yaml:"names" restart:"yes"`
}

// Database of a role: one of SQLite and Postgres.
type Database struct {
	// SQLite file; empty, and Postgres too: the role's own below /var/lib/gatewayd.
	SQLite string `yaml:"sqlite"`
	// Postgres is a connection string (libpq's words or a URL) without a password.
	Postgres string      `yaml:"postgres"`
	TLS      DatabaseTLS `yaml:"tls"`
	// Connections at once; SQLite writes with one.
	Connections int `yaml:"connections"`
}

// EnrollmentCA is where the issuing key lies.
type EnrollmentCA struct {
	// Dir as `gatewayd pki init` makes it.
	Dir string `yaml:"dir"`
	// PassphraseFile holds the passphrase of the issuing key in its first line.
	PassphraseFile string `yaml:"passphrase_file"`
	PKCS11         PKCS11 `yaml:"pkcs11"`
}

// PKCS11 is a token that has the issuing key; without Module there is none.
type PKCS11 struct {
	// Module is the library of the token.
	Module string `yaml:"module"`
	// Token by its label, and Key by its own.
	Token string `yaml:"token"`
	Key   string `yaml:"key"`
	// PINFile holds the PIN in its first line.
	PINFile string `yaml:"pin_file"`
}

// EnrollmentProtocols that devices may use beside our own and the user's page.
type EnrollmentProtocols struct {
	EST     bool `yaml:"est"`
	SCEP    bool `yaml:"scep"`
	Windows bool `yaml:"windows"`
	// Legacy allows what old SCEP and Windows clients have: triple DES, SHA-1.
	Legacy bool `yaml:"legacy"`
}

// EnrollmentRequests bounds the life of one-time passwords.
type EnrollmentRequests struct {
	Valid    Duration `yaml:"valid"`
	MaxValid Duration `yaml:"max_valid"`
	// Guesses that are wrong until a request is closed.
	Guesses int `yaml:"guesses"`
}

// EnrollmentCertificates of devices.
type EnrollmentCertificates struct {
	Lifetime Duration `yaml:"lifetime"`
	// RenewBefore the end a device asks for its next one.
	RenewBefore Duration `yaml:"renew_before"`
}

// ListenerLimits keep strangers and floods at a listener small.
type ListenerLimits struct {
	// Connections at once, all of them and those of one source prefix (an IPv4
	// /24, an IPv6 /48).
	Connections          int `yaml:"connections"`
	ConnectionsPerPrefix int `yaml:"connections_per_prefix"`
	// Requests that one source prefix may send in a second, and at once.
	RequestsPerSecond int `yaml:"requests_per_second"`
	Burst             int `yaml:"burst"`
	// Body of a request.
	Body Bytes `yaml:"body"`
	// Timeout of a request, from its first octet to the last of its body.
	Timeout Duration `yaml:"timeout" restart:"yes"`
}

// EnrollmentDevice is what a device is told about its gateway, beside what the
// section profile says.
type EnrollmentDevice struct {
	// Gateways that devices dial, the preferred one first.
	Gateways []EnrollmentGateway `yaml:"gateways"`
	// Networks behind them; empty: everything.
	Networks []netip.Prefix `yaml:"networks"`
	DNS      []netip.Addr   `yaml:"dns"`
	// Management is the URL of the device management server, empty for none or
	// that of the section manager; ManagementID the name by which devices know it.
	Management   string        `yaml:"management"`
	ManagementID string        `yaml:"management_id"`
	IKE          []IKEProposal `yaml:"ike"`
	ESP          []ESPProposal `yaml:"esp"`
}

// EnrollmentGateway that devices dial.
type EnrollmentGateway struct {
	Address string `yaml:"address"`
	// ID is its IKE identity; empty: Address.
	ID string `yaml:"id"`
}

// EnrollmentOwn is how this installation shows itself to other instances, mutual
// TLS.
type EnrollmentOwn struct {
	// Listen for their questions; off where there are none.
	Listen      Listen `yaml:"listen"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// EnrollmentInstance is another installation, which may have the request of a
// device that asks here.
type EnrollmentInstance struct {
	// Name is a DNS name in its certificate.
	Name string `yaml:"name"`
	// URL of its listener for instances.
	URL string `yaml:"url"`
	// Root of its CA, a PEM file, and its OID.
	Root        string `yaml:"root"`
	InstanceOID OID    `yaml:"instance_oid"`
}

// Client is what commands of administrators talk to: `gatewayd enrollment` and
// `gatewayd certificate` to the one, those about devices to the other.
type Client struct {
	Enrollment ClientServer  `yaml:"enrollment"`
	Manager    ClientManager `yaml:"manager"`
}

// ClientServer is a server and how an administrator shows who they are.
type ClientServer struct {
	Server      string   `yaml:"server"`
	Certificate string   `yaml:"certificate"`
	Key         string   `yaml:"key"`
	Roots       []string `yaml:"roots"`
}

// ClientManager is the same for a manager, which takes a token in place of a
// certificate.
type ClientManager struct {
	Server      string   `yaml:"server"`
	Certificate string   `yaml:"certificate"`
	Key         string   `yaml:"key"`
	TokenFile   string   `yaml:"token_file"`
	Roots       []string `yaml:"roots"`
}

// SystemEnrollmentDir is where an enrollment server keeps its data.
const SystemEnrollmentDir = "/var/lib/gatewayd/enrollment"

// Has says whether the file has a section, such as "enrollment".
func (c *Config) Has(section string) bool {
	_, ok := c.lines[section]
	return ok || c.lines == nil
}

// ForGateway says whether the file is one for a gateway: it has that section, or
// none of another role.
func (c *Config) ForGateway() bool {
	return c.Has("gateway") || !c.Has("enrollment") && !c.Has("manager") && !c.Has("client")
}

// Require is an error if the file lacks the section of a role.
func (c *Config) Require(section string) error {
	if c.Has(section) {
		return nil
	}
	return Problems{c.Problem(section, "not set, expected the section of this role; `gatewayd config sample` shows one")}
}

// DatabaseFile of the enrollment server, empty where it uses PostgreSQL.
func (c *Config) DatabaseFile() string {
	switch d := c.Enrollment.Database; {
	case d.Postgres != "":
		return ""
	case d.SQLite != "":
		return c.Path(d.SQLite)
	}
	return inEnrollment("enrollment.db")
}

// inEnrollment is where files of the section lie by default.
func inEnrollment(name string) string { return filepath.Join(SystemEnrollmentDir, name) }

func defaultEnrollment() Enrollment {
	at := func(a netip.Addr, port uint16) Listen { return Listen{netip.AddrPortFrom(a, port)} }
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return Enrollment{
		Listen:    at(netip.IPv6Unspecified(), 443),
		Admin:     EnrollmentAdmin{Listen: at(loopback, 8445)},
		Metrics:   at(loopback, 9501),
		Database:  Database{TLS: TLSVerify, Connections: 16},
		CA:        EnrollmentCA{Dir: "/var/lib/gatewayd/pki"},
		KeyFile:   inEnrollment("seal.key"),
		Protocols: EnrollmentProtocols{EST: true, SCEP: true, Windows: true},
		Requests: EnrollmentRequests{
			Valid: Duration(8 * time.Hour), MaxValid: Duration(7 * 24 * time.Hour), Guesses: 10_000_000,
		},
		Certificates: EnrollmentCertificates{Lifetime: Duration(ca.DeviceLifetime), RenewBefore: Duration(ca.DeviceLifetime / 3)},
		Limits: ListenerLimits{
			Connections: 4096, ConnectionsPerPrefix: 256, RequestsPerSecond: 50, Burst: 200,
			Body: 64 << 10, Timeout: Duration(20 * time.Second),
		},
		Device: EnrollmentDevice{
			ManagementID: DefaultServerID,
			IKE: mustIKE(
				"aes128gcm16-prfsha256-ecp256",
				"aes256gcm16-prfsha384-ecp384",
				"aes256-sha256-prfsha256-ecp256",
				"aes256-sha256-prfsha256-modp2048",
			),
			ESP: mustESP("aes128gcm16", "aes256gcm16", "aes256-sha256"),
		},
	}
}

// Host of URL, without the port.
func (e *Enrollment) Host() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Published is HOST or HOST:PORT of URL.
func (e *Enrollment) Published() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	return u.Host
}
