package enroll

import "net/netip"

// Configuration is what a device is told beside its certificate. All skins tell
// the same, each in its own form; in JSON it is what the own protocol carries.
// Fields are added, never renamed: devices skip what they don't know.
type Configuration struct {
	// Title of the connection that users see.
	Title string `json:"title,omitempty"`
	// Gateways to dial, the preferred one first.
	Gateways []Gateway `json:"gateways"`
	// Networks behind the gateways; empty sends everything through the tunnel.
	Networks []netip.Prefix `json:"networks,omitempty"`
	// DNS servers behind the gateways, and the Domains that they know.
	DNS     []netip.Addr `json:"dns,omitempty"`
	Domains []string     `json:"domains,omitempty"`
	// IKE and ESP proposals in strongSwan's words, best first.
	IKE []string `json:"ike,omitempty"`
	ESP []string `json:"esp,omitempty"`
	// GatewayRoots in DER, where gateways have certificates of another CA.
	GatewayRoots [][]byte `json:"gateway_roots,omitempty"`
	// Management is the URL of the device management server, empty if there is
	// none.
	Management string `json:"management,omitempty"`
	// ManagementID is the name by which the device knows that server;
	// ManagementFirst is how many seconds after enrollment it goes there for the
	// first time, with its certificate. Its own name there is that of the
	// certificate.
	ManagementID    string `json:"management_id,omitempty"`
	ManagementFirst int    `json:"management_first,omitempty"`
	// Enrollment is the URL of the enrollment server, for renewals; empty if
	// there is none.
	Enrollment string `json:"enrollment,omitempty"`
}

// Gateway that a device dials.
type Gateway struct {
	// Address is a host name or an IP address.
	Address string `json:"address"`
	// Identity is what the gateway calls itself in IKE; empty means Address.
	Identity string `json:"identity,omitempty"`
}
