package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/dmlink/schedule"
)

// Manager is the section of `gatewayd run manager`.
type Manager struct {
	// Listen for devices, OMA DM over HTTPS with client certificates.
	Listen Listen `yaml:"listen" restart:"yes"`
	// URL by which devices reach it, https, with the path of device management.
	URL string `yaml:"url" restart:"yes"`
	// Credentials of the listener for devices, one for each name.
	Credentials []Credential `yaml:"credentials"`
	Admin       ManagerAdmin `yaml:"admin"`
	// Metrics is the HTTP listener of /metrics, /healthz and /readyz.
	Metrics Listen `yaml:"metrics" restart:"yes"`
	// Database is enrollment's, because accounts are made by what is in it; not
	// set, it is that of the section enrollment, or its default.
	Database Database `yaml:"database" restart:"yes"`
	// KeyFile seals secrets of devices' accounts in the database. Managers of one
	// database share it.
	KeyFile string `yaml:"key_file" restart:"yes"`
	// RuntimeDir is where the local socket lies.
	RuntimeDir string `yaml:"runtime_dir" restart:"yes"`
	// Name of this manager among those of one database, in logs and records.
	Name string `yaml:"name" restart:"yes"`
	// ServerID by which devices know it, in their management tree.
	ServerID  string           `yaml:"server_id" restart:"yes"`
	Devices   ManagerDevices   `yaml:"devices" restart:"yes"`
	Sessions  ManagerSessions  `yaml:"sessions" restart:"yes"`
	Limits    ListenerLimits   `yaml:"limits"`
	Schedule  ManagerSchedule  `yaml:"schedule" restart:"yes"`
	Retention ManagerRetention `yaml:"retention" restart:"yes"`
	Gateways  ManagerGateways  `yaml:"gateways" restart:"yes"`
}

// ManagerGateways is how gateways are managed. Which there are, pools, access
// lists and settings are in the database: `gatewayd gateway`.
type ManagerGateways struct {
	// Certificate and Key of this manager towards gateways, `gatewayd pki manager`.
	// Empty: it manages none.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// Roots of gateways' certificates on their management port; empty: those of
	// devices.
	Roots []string `yaml:"roots"`
	// Enrollment signs gateways' certificates, where it runs in another process.
	Enrollment ClientServer `yaml:"enrollment"`
	// QuarantineNew: devices that enroll are in quarantine until they comply.
	QuarantineNew bool `yaml:"quarantine_new"`
	// AdmitUnknown: gateways admit devices that enrollment doesn't know.
	AdmitUnknown bool `yaml:"admit_unknown"`
	// DefaultGroup of devices that enrollment has put into none.
	DefaultGroup string `yaml:"default_group"`
	// AddressRest before another device gets an address.
	AddressRest Duration `yaml:"address_rest"`
	// TicketPeriod in which a key of resumption tickets seals, and TicketLifetime
	// that it opens after that: at least the gateways' resumption.lifetime.
	TicketPeriod   Duration `yaml:"ticket_period"`
	TicketLifetime Duration `yaml:"ticket_lifetime"`
	// Events of gateways are kept for so long.
	Events Duration `yaml:"events"`
}

// ManagerAdmin is the listener of the administrators' API.
type ManagerAdmin struct {
	Listen      Listen       `yaml:"listen" restart:"yes"`
	Credentials []Credential `yaml:"credentials"`
	// First administrator, by the name in a certificate: may do everything until
	// somebody gives roles. Empty: only root on this host may.
	First string `yaml:"first" restart:"yes"`
}

// ManagerDevices says whose certificates are devices'.
type ManagerDevices struct {
	// Roots of their CA, and intermediates that they don't show, PEM files.
	Roots         []string `yaml:"roots"`
	Intermediates []string `yaml:"intermediates"`
	// InstanceOIDs: a device's certificate carries one of them.
	InstanceOIDs []OID `yaml:"instance_oids"`
	// Certificates that devices have to show.
	Certificates ClientCertificates `yaml:"certificates"`
}

// ManagerSessions bounds DM sessions.
type ManagerSessions struct {
	// Max at once, and of them those that have proven nothing yet.
	Max         int `yaml:"max"`
	MaxUnproven int `yaml:"max_unproven"`
	// Idle is how long the next message is waited for; Lifetime bounds a session.
	Idle     Duration `yaml:"idle"`
	Lifetime Duration `yaml:"lifetime"`
	// Message and Object that a device may send.
	Message Bytes `yaml:"message"`
	Object  Bytes `yaml:"object"`
}

// ManagerSchedule is when devices come of which no group says otherwise.
type ManagerSchedule struct {
	First  Duration `yaml:"first"`
	Retry  Duration `yaml:"retry"`
	Tries  int      `yaml:"tries"`
	Every  Duration `yaml:"every"`
	Jitter Duration `yaml:"jitter"`
}

// Schedule is the same in device management's words.
func (s ManagerSchedule) Schedule() schedule.Schedule {
	return schedule.Schedule{
		First: time.Duration(s.First), Retry: time.Duration(s.Retry), Tries: s.Tries, Every: time.Duration(s.Every), Jitter: time.Duration(s.Jitter),
	}
}

// ManagerRetention says how long is kept what nobody needs for work.
type ManagerRetention struct {
	// Messages of sessions, as they travelled.
	Messages Duration `yaml:"messages"`
	// Commands that have ended.
	Commands Duration `yaml:"commands"`
	// Events of enrollment that all have followed.
	Events Duration `yaml:"events"`
}

// ClientCertificates says whether devices have to show one.
type ClientCertificates string

// Ways.
const (
	CertificatesRequired ClientCertificates = "required"
	CertificatesOptional ClientCertificates = "optional"
)

func (ClientCertificates) names() []string { return []string{"required", "optional"} }

// Where a manager keeps its data, and has its local socket: not in a gateway's
// folder, which another user owns.
const (
	SystemManagerDir        = "/var/lib/gatewayd/manager"
	SystemManagerRuntimeDir = "/run/gatewayd-manager"
)

// DefaultServerID by which devices know a device management server.
const DefaultServerID = "Roamgate"

// ManagerDatabase is where the manager and enrollment keep what they know.
func (c *Config) ManagerDatabase() Database {
	if d := c.Manager.Database; d.SQLite != "" || d.Postgres != "" {
		return d
	}
	return c.Enrollment.Database
}

// Management is what devices are told of their device management server: its URL,
// empty for none, the name by which they know it, and how long after enrollment
// they come for the first time.
func (c *Config) Management() (address, id string, first time.Duration) {
	d := &c.Enrollment.Device
	address, id, first = d.Management, d.ManagementID, schedule.Default().First
	if c.Has("manager") {
		if address == "" {
			address = c.Manager.URL
		}
		id, first = c.Manager.ServerID, time.Duration(c.Manager.Schedule.First)
	}
	return address, id, first
}

// Path of device management in the URL, at least "/".
func (m *Manager) Path() string {
	if u, err := url.Parse(m.URL); err == nil && u.Path != "" {
		return u.Path
	}
	return "/"
}

// Host of URL, without the port.
func (m *Manager) Host() string {
	u, err := url.Parse(m.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// ManagerSocket is where the manager's local socket lies.
func (c *Config) ManagerSocket() string {
	return filepath.Join(c.Path(c.Manager.RuntimeDir), "manager.sock")
}

func defaultManager() Manager {
	at := func(a netip.Addr, port uint16) Listen { return Listen{netip.AddrPortFrom(a, port)} }
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	s := schedule.Default()
	day := 24 * time.Hour
	return Manager{
		Listen:     at(netip.IPv6Unspecified(), 8443),
		Admin:      ManagerAdmin{Listen: at(loopback, 8446)},
		Metrics:    at(loopback, 9502),
		Database:   Database{TLS: TLSVerify, Connections: 16},
		KeyFile:    filepath.Join(SystemManagerDir, "seal.key"),
		RuntimeDir: SystemManagerRuntimeDir,
		Name:       "manager",
		ServerID:   DefaultServerID,
		Devices:    ManagerDevices{Certificates: CertificatesRequired},
		Sessions: ManagerSessions{
			Max: 20_000, MaxUnproven: 1000, Idle: Duration(2 * time.Minute), Lifetime: Duration(time.Hour), Message: 512 << 10, Object: 1 << 20,
		},
		// A prefix of virtual addresses is a fleet.
		Limits: ListenerLimits{
			Connections: 16_384, ConnectionsPerPrefix: 4096, RequestsPerSecond: 1000, Burst: 10_000, Body: 512 << 10, Timeout: Duration(20 * time.Second),
		},
		Schedule: ManagerSchedule{
			First: Duration(s.First), Retry: Duration(s.Retry), Tries: s.Tries, Every: Duration(s.Every), Jitter: Duration(s.Jitter),
		},
		Retention: ManagerRetention{Messages: Duration(30 * day), Commands: Duration(365 * day), Events: Duration(30 * day)},
		Gateways: ManagerGateways{
			AddressRest: Duration(day), TicketPeriod: Duration(time.Hour), TicketLifetime: Duration(day), Events: Duration(30 * day),
		},
	}
}
