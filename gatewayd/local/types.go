package local

import (
	"net/netip"
	"time"
)

// Status of the gateway.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// State is "starting", "ready" or "stopping".
	State  string `json:"state"`
	Config string `json:"config"`
	// Loaded is when the configuration was read last.
	Loaded time.Time `json:"loaded"`
	// NeedRestart lists keys of the file that a reload couldn't change.
	NeedRestart []string `json:"need_restart"`
	// Warnings about certificates, lists and debugging.
	Warnings []string `json:"warnings"`
	// Backend forwards, on Listen; Access says what enforces access lists:
	// "BPF (tcx)", "nftables", "none"; Interface carries inner packets.
	Backend string `json:"backend"`
	// BackendReason is why it is this backend.
	BackendReason string           `json:"backend_reason"`
	Access        string           `json:"access"`
	Listen        []netip.AddrPort `json:"listen"`
	Interface     string           `json:"interface"`
	MTU           int              `json:"mtu"`
	// Sessions that are established, and those on their way.
	Sessions    int         `json:"sessions"`
	MaxSessions int         `json:"max_sessions"`
	HalfOpen    int         `json:"half_open"`
	Leases      LeaseCounts `json:"leases"`
	Traffic     Traffic     `json:"traffic"`
	Guard       Guard       `json:"guard"`
	Dropped     uint64      `json:"dropped"`
	// RedirectTo is where new devices are sent, absent if they aren't.
	RedirectTo string `json:"redirect_to,omitempty"`
	// Management is absent where the gateway has no manager.
	Management *Management `json:"management,omitempty"`
}

// Management of the gateway by a manager.
type Management struct {
	// Name of the gateway, and where it listens for managers.
	Name   string         `json:"name"`
	Listen netip.AddrPort `json:"listen"`
	Host   string         `json:"host"`
	// Fingerprint of the key, by which a manager knows the gateway before it has
	// certified it: SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal.
	Fingerprint string `json:"fingerprint"`
	// CertificateEnds is absent before it is certified.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
	// Heard is when a manager was; absent for never.
	Heard time.Time `json:"heard,omitzero"`
	// Alone: that is longer ago than gateway.management.unreachable allows;
	// Refusing: so newcomers are refused.
	Alone    bool `json:"alone"`
	Refusing bool `json:"refusing"`
	// Draining: a manager sends devices elsewhere, to DrainTo.
	Draining bool      `json:"draining"`
	DrainTo  string    `json:"drain_to,omitempty"`
	Sections []Section `json:"sections"`
}

// Section of what was pushed.
type Section struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash"`
	Records int    `json:"records"`
	// Applied is false while it is stored and not in force, for Reasons.
	Applied bool     `json:"applied"`
	Reasons []string `json:"reasons,omitempty"`
}

// Guard before the gateway.
type Guard struct {
	// Mode of XDP, "native" or "generic", or "off". Reason says why it is off, or
	// not native.
	Mode   string `json:"mode"`
	Reason string `json:"reason,omitempty"`
	// Pinned: it stays in force when the gateway ends.
	Pinned bool `json:"pinned"`
	Shield bool `json:"shield"`
}

// LeaseCounts by state.
type LeaseCounts struct {
	Live int `json:"live"`
	Idle int `json:"idle"`
	// Capacity of the IPv4 pools, CapacityIPv6 of the IPv6 pools, in addresses.
	Capacity     uint64 `json:"capacity"`
	CapacityIPv6 uint64 `json:"capacity_ipv6"`
}

// Traffic of inner packets: in from devices, out to them.
type Traffic struct {
	BytesIn    uint64 `json:"bytes_in"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesOut   uint64 `json:"bytes_out"`
	PacketsOut uint64 `json:"packets_out"`
}

// Session is an established IKE SA and its Child SAs.
type Session struct {
	// ID stays the same while the IKE SA is rekeyed; of the first one it is the
	// responder's SPI. SPIs are in hexadecimal, as dissectors show them.
	ID           string         `json:"id"`
	Device       string         `json:"device"`
	Group        string         `json:"group,omitempty"`
	InitiatorSPI string         `json:"initiator_spi"`
	ResponderSPI string         `json:"responder_spi"`
	Local        netip.AddrPort `json:"local"`
	Remote       netip.AddrPort `json:"remote"`
	VirtualIPs   []netip.Addr   `json:"virtual_ips"`
	// Children are the Child SAs, the oldest first.
	Children []Child `json:"children"`
	IKE      string  `json:"ike"`
	Auth     string  `json:"auth"`
	// Resumed: the session began by a ticket; Auth is how the one before did.
	Resumed bool `json:"resumed,omitempty"`
	// Client is its maker as far as it shows, Legacy what it uses of algorithms
	// that have been given up.
	Client      string    `json:"client,omitempty"`
	Legacy      []string  `json:"legacy,omitempty"`
	Established time.Time `json:"established"`
	// Until is when the admission ends; absent if it doesn't.
	Until   time.Time `json:"until,omitzero"`
	LastIn  time.Time `json:"last_in,omitzero"`
	LastOut time.Time `json:"last_out,omitzero"`
	// Traffic of all Child SAs, those that are gone included.
	Traffic
}

// Child SA of a session.
type Child struct {
	InboundSPI  string `json:"inbound_spi"`
	OutboundSPI string `json:"outbound_spi"`
	ESP         string `json:"esp"`
	// Selectors as "10.2.0.0/24" or "10.2.0.5-10.2.0.9 protocol 6 ports 443-443".
	LocalTS  []string `json:"local_ts"`
	RemoteTS []string `json:"remote_ts"`
}

// Lease is an address that belongs to a device.
type Lease struct {
	Device  string     `json:"device"`
	Address netip.Addr `json:"address"`
	// State is "live" or "idle".
	State    string    `json:"state"`
	Session  string    `json:"session,omitempty"`
	Since    time.Time `json:"since"`
	LastUsed time.Time `json:"last_used"`
}

// Drop counts what a layer dropped, refused or closed for a reason.
type Drop struct {
	// Layer is "dataplane", "guard", "access", "ike", "dhcp", "admit", "ticket" or
	// "close".
	Layer  string `json:"layer"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// DroppedPacket is one of those that the guard dropped.
type DroppedPacket struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	// Remote and Local are absent where the packet couldn't be read; a protocol
	// without ports has port 0.
	Remote netip.AddrPort `json:"remote,omitzero"`
	Local  netip.AddrPort `json:"local,omitzero"`
	// Length of the frame in octets; Data are the first of them, hexadecimal.
	Length int    `json:"length"`
	Data   string `json:"data"`
}

// Kill selects sessions: one of the three.
type Kill struct {
	ID     string `json:"id,omitempty"`
	Device string `json:"device,omitempty"`
	All    bool   `json:"all,omitempty"`
}

// Killed is how many sessions are being deleted.
type Killed struct {
	Sessions int `json:"sessions"`
}

// Redirect selects sessions as Kill does, and says To which gateway, by name or
// address.
type Redirect struct {
	ID     string `json:"id,omitempty"`
	Device string `json:"device,omitempty"`
	All    bool   `json:"all,omitempty"`
	To     string `json:"to"`
}

// Redirected is how many devices were asked to go. Those that don't know
// redirection stay.
type Redirected struct {
	Sessions int `json:"sessions"`
}

// Reloaded is the outcome of a reload that was accepted.
type Reloaded struct {
	NeedRestart []string `json:"need_restart"`
	Warnings    []string `json:"warnings"`
}

// Stop says how the gateway ends.
type Stop struct {
	// Drain is over how long sessions end, one after the other; 0 ends all at
	// once.
	Drain time.Duration `json:"drain,omitempty"`
	// To is another gateway, by name or address, that devices are sent to while
	// this one is drained; empty just ends their sessions.
	To string `json:"to,omitempty"`
}

// Progress of a stop, one JSON value a line. The last one has Done set: all
// that the gateway put in place is taken back.
type Progress struct {
	Step     string `json:"step"`
	Sessions int    `json:"sessions"`
	Done     bool   `json:"done"`
}

// failure is the body of every answer that isn't 200.
type failure struct {
	Errors []string `json:"errors"`
}

// PathServerStatus beside the administrators' API on a manager's socket.
const PathServerStatus = "/local/status"

// ServerStatus is how roles with a database are.
type ServerStatus struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Roles of the process, and the manager's name.
	Roles []string `json:"roles"`
	Name  string   `json:"name"`
	// State is "ready", or says what is wrong.
	State  string `json:"state"`
	Config string `json:"config"`
	// Loaded is when the configuration was read last.
	Loaded time.Time `json:"loaded"`
	// NeedRestart lists keys of the file that a reload couldn't change.
	NeedRestart []string `json:"need_restart"`
	// URL for devices, Listen for them, Admin for administrators.
	URL    string         `json:"url"`
	Listen netip.AddrPort `json:"listen"`
	Admin  netip.AddrPort `json:"admin"`
	// Database engine.
	Database string `json:"database"`
	// Sessions with devices now, and those that have proven nothing yet.
	Sessions    int `json:"sessions"`
	Unproven    int `json:"unproven"`
	MaxSessions int `json:"max_sessions"`
	// Answered messages of devices, and Refused requests by reason, since the
	// start.
	Answered uint64            `json:"answered"`
	Refused  map[string]uint64 `json:"refused"`
	// Followed is the number of enrollment's last event that was taken.
	Followed int64 `json:"followed"`
}
