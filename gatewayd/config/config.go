package config

import (
	"crypto/x509"
	"net/netip"
	"path/filepath"
	"slices"
)

// Config is the whole file. A field tagged `restart` keeps its value until the
// gateway is started anew; all others follow a reload.
type Config struct {
	StateDir   string     `yaml:"state_dir" restart:"yes"`
	RuntimeDir string     `yaml:"runtime_dir" restart:"yes"`
	Log        Log        `yaml:"log"`
	Metrics    Metrics    `yaml:"metrics" restart:"yes"`
	Admin      Admin      `yaml:"admin" restart:"yes"`
	Debug      Debug      `yaml:"debug" restart:"yes"`
	Gateway    Gateway    `yaml:"gateway"`
	Enrollment Enrollment `yaml:"enrollment"`
	Manager    Manager    `yaml:"manager"`
	Client     Client     `yaml:"client"`
	Profile    Profile    `yaml:"profile"`

	// pushed: Gateway.Static is what a manager pushed.
	pushed bool
	// roots and intermediates that were pushed and hold; unused is how many roots
	// don't.
	roots, intermediates []*x509.Certificate
	unused               int
	// name of the file, for messages and for paths relative to it.
	name  string
	lines map[string]int
}

// Log says what is logged and how, on standard error.
type Log struct {
	Level  Level     `yaml:"level"`
	Format LogFormat `yaml:"format" restart:"yes"`
}

// Metrics is the HTTP listener of /metrics, /healthz and /readyz.
type Metrics struct {
	// Listen address; the zero AddrPort means no listener.
	Listen Listen `yaml:"listen"`
}

// Admin says who may use the local socket beside root and gatewayd's own user.
type Admin struct {
	// Group of the system; empty means nobody else.
	Group string `yaml:"group"`
}

// Debug holds what is never on in production.
type Debug struct {
	// KeyLog is a folder for session keys in Wireshark's form; empty means off.
	KeyLog string `yaml:"key_log"`
	// PProf serves profiles on the local socket.
	PProf bool `yaml:"pprof"`
}

// Gateway is the section of `gatewayd run gateway`.
type Gateway struct {
	// Backend forwards packets; Offload is the interface whose hardware does
	// ESP for the kernel, empty for none.
	Backend  Backend  `yaml:"backend" restart:"yes"`
	Offload  string   `yaml:"offload" restart:"yes"`
	External External `yaml:"external" restart:"yes"`
	Internal Internal `yaml:"internal" restart:"yes"`
	Tunnel   Tunnel   `yaml:"tunnel" restart:"yes"`
	Identity Identity `yaml:"identity"`
	Trust    Trust    `yaml:"trust"`
	IKE      IKE      `yaml:"ike"`
	ESP      ESP      `yaml:"esp"`
	Legacy   Legacy   `yaml:"legacy"`
	Redirect Redirect `yaml:"redirect"`
	Records  Records  `yaml:"records"`
	Limits   Limits   `yaml:"limits"`
	Access   Access   `yaml:"access" restart:"yes"`
	Guard    Guard    `yaml:"guard"`
	Static   Static   `yaml:"static"`

	Management Management `yaml:"management"`

	Resumption Resumption `yaml:"resumption"`
}

// External is the side of the devices.
type External struct {
	Interface string `yaml:"interface"`
	// Address that devices dial, and others that they may dial, of either family.
	Address       netip.Addr   `yaml:"address"`
	MoreAddresses []netip.Addr `yaml:"more_addresses"`
	// Port of IKE and NATTPort of IKE and ESP in UDP (RFC 7296 section 2.23).
	Port     uint16 `yaml:"port"`
	NATTPort uint16 `yaml:"natt_port"`
	// Bundles has the kernel put datagrams of clients together (package link).
	Bundles bool `yaml:"bundles"`
}

// Addresses that devices may dial, the first of them Address.
func (e External) Addresses() []netip.Addr {
	return append([]netip.Addr{e.Address}, e.MoreAddresses...)
}

// Internal is the side of the networks behind the gateway.
type Internal struct {
	Interface string `yaml:"interface"`
}

// Tunnel is the TUN interface that inner packets pass.
type Tunnel struct {
	Name string `yaml:"name"`
	// Address of the gateway inside the tunnel, IPv4, which answers DHCPINFORM;
	// the zero Addr answers none.
	Address netip.Addr `yaml:"address"`
	// IPv6 address of the gateway inside the tunnel, from which devices without an
	// IPv4 address are alerted; the zero Addr alerts none of these.
	IPv6 netip.Addr `yaml:"ipv6"`
	// MTU of inner packets in octets; 0 derives it from PathMTU.
	MTU int `yaml:"mtu"`
	// PathMTU of the outside in octets.
	PathMTU int `yaml:"path_mtu"`
	// CopyDSCP from inner to outer header (RFC 4301 section 5.1.2).
	CopyDSCP bool `yaml:"copy_dscp"`
	// Loops of the packet path; 0 is one for each core, at most 32.
	Loops int `yaml:"loops"`
	// HostRoutes are offered to a routing daemon.
	HostRoutes HostRoutes `yaml:"host_routes"`
}

// Addresses of the gateway inside the tunnel.
func (t *Tunnel) Addresses() (list []netip.Addr) {
	for _, a := range []netip.Addr{t.Address, t.IPv6} {
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

// HostRoutes of the devices that are connected.
type HostRoutes struct {
	// Table of the kernel; 0 makes no routes.
	Table int `yaml:"table"`
	// Protocol number of the routes, by which the daemon knows them.
	Protocol int `yaml:"protocol"`
}

// Identity is how the gateway shows who it is.
type Identity struct {
	// ID sent as IDr: a domain name, an e-mail address or an IP address.
	ID string `yaml:"id"`
	// Credentials, best first.
	Credentials []Credential `yaml:"credentials"`
}

// Credential is a certificate chain and its key, both PEM files.
type Credential struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Trust says whose certificates are accepted.
type Trust struct {
	Roots         []string `yaml:"roots"`
	Intermediates []string `yaml:"intermediates"`
	CRLs          []string `yaml:"crls"`
	// OCSPResponses are files in DER, each about one certificate.
	OCSPResponses []string `yaml:"ocsp_responses"`
	// StaleCRL is what happens to devices once the nextUpdate of a list or an
	// OCSP response has passed.
	StaleCRL StaleCRL `yaml:"stale_crl"`
	// MaxCertificates in a chain, the device's own counted.
	MaxCertificates int `yaml:"max_certificates"`
	// InstanceOIDs: a device certificate carries one of them.
	InstanceOIDs []OID `yaml:"instance_oids"`
	// Barred devices by name.
	Barred []string `yaml:"barred"`
}

// IKE is the negotiation of IKE SAs.
type IKE struct {
	Proposals       []IKEProposal `yaml:"proposals"`
	HalfOpenTimeout Duration      `yaml:"half_open_timeout"`
	Retransmit      Retransmit    `yaml:"retransmit"`
	Liveness        Liveness      `yaml:"liveness"`
	Parking         Parking       `yaml:"parking"`
	Lifetime        Lifetime      `yaml:"lifetime"`
	// MaxChildren is how many Child SAs an IKE SA may have.
	MaxChildren int `yaml:"max_children"`
	// FragmentSize of IKE messages in octets, IP and UDP headers not counted (RFC
	// 7383); 0 sends and announces none.
	FragmentSize int `yaml:"fragment_size"`
	// MOBIKE is RFC 4555.
	MOBIKE bool `yaml:"mobike"`
	// CrashDetection is RFC 6290; its secret is kept in StateDir.
	CrashDetection bool `yaml:"crash_detection" restart:"yes"`
	// Childless IKE SAs are allowed (RFC 6023).
	Childless bool `yaml:"childless"`
}

// Retransmit of the gateway's own requests (RFC 7296 section 2.1).
type Retransmit struct {
	// Timeout before the first repetition; it doubles with each.
	Timeout Duration `yaml:"timeout"`
	// Tries in all before the peer counts as gone.
	Tries int `yaml:"tries"`
}

// Liveness checks (RFC 7296 section 2.4).
type Liveness struct {
	// Idle: a device that packets go out to is probed when nothing came from it
	// for so long; 0 never.
	Idle Duration `yaml:"idle"`
}

// Parking of devices that sleep: their SAs and addresses are kept.
type Parking struct {
	// Idle is how long nothing may come from a device before its session ends.
	Idle Duration `yaml:"idle"`
}

// Lifetime of an SA by time (RFC 7296 section 2.8).
type Lifetime struct {
	// Rekey is when it is rekeyed at the latest, up to Jitter earlier; 0 never.
	Rekey  Duration `yaml:"rekey"`
	Jitter Duration `yaml:"jitter"`
	// Hard is when it ends if it could not be rekeyed; 0 never.
	Hard Duration `yaml:"hard"`
}

// ESP is the negotiation of Child SAs.
type ESP struct {
	Proposals []ESPProposal `yaml:"proposals"`
	// ESN allows and prefers extended sequence numbers (RFC 4304).
	ESN      bool      `yaml:"esn"`
	Lifetime Lifetime  `yaml:"lifetime"`
	Limits   ESPLimits `yaml:"limits"`
}

// ESPLimits on one Child SA, both directions together (RFC 4301 section
// 4.4.2.1).
type ESPLimits struct {
	// Soft asks for new keys, Hard ends the traffic.
	Soft Volume `yaml:"soft"`
	Hard Volume `yaml:"hard"`
}

// Volume in bytes and packets; 0 means no limit.
type Volume struct {
	Bytes   Bytes  `yaml:"bytes"`
	Packets uint64 `yaml:"packets"`
}

// Legacy allows what RFC 8247 and RFC 8221 have given up, a switch each. What
// is allowed comes after all proposals.
type Legacy struct {
	SHA1Signatures bool `yaml:"sha1_signatures"`
	HMACSHA1       bool `yaml:"hmac_sha1"`
	MODP1024       bool `yaml:"modp_1024"`
	TripleDES      bool `yaml:"triple_des"`
}

// Redirect sends devices to another gateway (RFC 5685).
type Redirect struct {
	// To is a name or an address; empty redirects nobody.
	To string `yaml:"to"`
	// Devices that are redirected, when they have proven who they are; empty
	// redirects all, at their first message.
	Devices []string `yaml:"devices"`
}

// Resumption of sessions by tickets (RFC 5723).
type Resumption struct {
	Enabled bool `yaml:"enabled"`
	// Lifetime of a ticket.
	Lifetime Duration `yaml:"lifetime"`
	// KeyFile of the tickets' keys; empty is ticket.keys in the state folder.
	KeyFile string `yaml:"key_file" restart:"yes"`
	// RekeyWithin is how soon a resumed IKE SA gets a key exchange.
	RekeyWithin Duration `yaml:"rekey_within"`
	// Reauthenticate is how long a device can go without its certificate.
	Reauthenticate Duration `yaml:"reauthenticate"`
	// Epoch of authorisations: tickets of another one are refused.
	Epoch int `yaml:"epoch"`
}

// Records of sessions, for accounting.
type Records struct {
	// File of JSON lines; empty writes none.
	File string `yaml:"file"`
	// Interim records of a session come so often; 0 never.
	Interim Duration `yaml:"interim"`
}

// Limits keep strangers and floods small.
type Limits struct {
	// Sessions at once.
	Sessions int `yaml:"sessions" restart:"yes"`
	// HalfOpen IKE SAs, all of them and those of one source prefix (an IPv4 /24,
	// an IPv6 /48; each /64 of that has a quarter).
	HalfOpen          HalfOpen `yaml:"half_open"`
	HalfOpenPerPrefix HalfOpen `yaml:"half_open_per_prefix"`
	// AnswersPerSecond to strangers, of each kind, cookies not counted.
	AnswersPerSecond int `yaml:"answers_per_second"`
}

// HalfOpen bounds IKE SAs that are not established.
type HalfOpen struct {
	Max int `yaml:"max"`
	// CookieAt: from so many on a new one has to return a cookie first (RFC 7296
	// section 2.6); 0 asks always.
	CookieAt int `yaml:"cookie_at"`
}

// Static is what a gateway without a manager gives to its devices.
type Static struct {
	// Pools of virtual addresses of both families, and addresses in them never
	// given out.
	Pools []netip.Prefix `yaml:"pools"`
	// NeighbourPools are other gateways'. Only devices that come with a ticket for
	// such an address have it here.
	NeighbourPools []netip.Prefix `yaml:"neighbour_pools" restart:"yes"`
	Exclude        []netip.Addr   `yaml:"exclude"`
	DNS            []netip.Addr   `yaml:"dns"`
	WINS           []netip.Addr   `yaml:"wins"`
	// Domains that DNS is for (RFC 8598); empty: all names.
	Domains []string `yaml:"domains"`
	// Networks behind the gateway that devices may reach; empty: everything.
	Networks []netip.Prefix `yaml:"networks"`
	// Groups of devices, and what becomes of devices that none of them names.
	Groups         []Group        `yaml:"groups"`
	UnknownDevices UnknownDevices `yaml:"unknown_devices"`
}

// Inside are all networks that devices here may have addresses of.
func (s Static) Inside() []netip.Prefix { return slices.Concat(s.Pools, s.NeighbourPools) }

// Families says which address families the pools are of.
func (s Static) Families() (ipv4, ipv6 bool) {
	for _, p := range s.Pools {
		ipv4, ipv6 = ipv4 || p.Addr().Is4(), ipv6 || p.Addr().Is6()
	}
	return ipv4, ipv6
}

// Profile is what devices are told beside what the gateway does anyway. Only
// `gatewayd pki` reads it.
type Profile struct {
	Title string `yaml:"title"`
	// Gateways that devices dial, the preferred one first; empty: this one.
	Gateways []string `yaml:"gateways"`
	// Domains that the DNS servers inside know.
	Domains []string `yaml:"domains"`
	// TrustedNetworks by their DNS suffix need no tunnel.
	TrustedNetworks []string     `yaml:"trusted_networks"`
	Connect         string       `yaml:"connect"`
	Proxy           ProfileProxy `yaml:"proxy"`
	// MTU of the tunnel in octets; 0 leaves it to the device.
	MTU int `yaml:"mtu"`
}

// ProfileProxy is for web traffic of a connected device.
type ProfileProxy struct {
	// Server is HOST:PORT, PAC the URL of a script; one of them or none.
	Server string `yaml:"server"`
	PAC    string `yaml:"pac"`
	// Exceptions are names and networks that are reached without Server.
	Exceptions []string `yaml:"exceptions"`
}

// Path makes a file name of the configuration absolute: relative names start at
// the folder of the configuration file.
func (c *Config) Path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.name), name)
}

// Name of the file.
func (c *Config) Name() string { return c.name }

// TicketKeys is where the keys of tickets lie.
func (c *Config) TicketKeys() string {
	if f := c.Gateway.Resumption.KeyFile; f != "" {
		return c.Path(f)
	}
	return filepath.Join(c.Path(c.StateDir), "ticket.keys")
}

// Socket is where the local socket lies.
func (c *Config) Socket() string { return filepath.Join(c.Path(c.RuntimeDir), "gateway.sock") }

// Problem makes an error about a key, at its line or that of the section
// around it.
func (c *Config) Problem(key, message string) Problem {
	return Problem{File: c.name, Line: c.line(key), Key: key, Message: message}
}
