package profile

import (
	"encoding/base64"
	"strings"
)

// managed is the managed configuration of the strongSwan app: the keys of its
// managed_configuration.xml, in the JSON that device management systems take.
type managed struct {
	ProfileCreate     bool             `json:"allow_profile_create"`
	ProfileImport     bool             `json:"allow_profile_import"`
	ExistingProfiles  bool             `json:"allow_existing_profiles"`
	CertificateImport bool             `json:"allow_certificate_import"`
	SettingsAccess    bool             `json:"allow_settings_access"`
	DefaultProfile    string           `json:"pref_default_vpn_profile"`
	Profiles          []managedProfile `json:"managed_profiles"`
}

type managedProfile struct {
	UUID   string        `json:"_uuid"`
	Name   string        `json:"name"`
	Type   string        `json:"vpn_type"`
	Remote managedRemote `json:"remote"`
	Local  *managedLocal `json:"local,omitempty"`
	IKE    string        `json:"ike_proposal"`
	ESP    string        `json:"esp_proposal"`
	MTU    int           `json:"mtu,omitempty"`
	// DNS servers, separated by spaces.
	DNS   string        `json:"dns_servers,omitempty"`
	Split managedSplit  `json:"split_tunneling"`
	Proxy *managedProxy `json:"proxy_server,omitempty"`
}

type managedRemote struct {
	Gateway     string `json:"gateway"`
	ID          string `json:"remote_id"`
	Certificate string `json:"certificate"`
	// The app takes a missing flag for false: no certificate requests, no
	// revocation checks.
	CertReq bool `json:"remote_cert_req"`
	OCSP    bool `json:"remote_revocation_ocsp"`
	CRL     bool `json:"remote_revocation_crl"`
}

// managedLocal leaves user_certificate_password to the administrator: a
// container and its password don't travel in the same file.
type managedLocal struct {
	Certificate string `json:"user_certificate"`
}

type managedSplit struct {
	// Subnets, separated by spaces.
	Subnets   string `json:"included_subnets,omitempty"`
	BlockIPv4 bool   `json:"split_tunneling_block_ipv4,omitempty"`
	BlockIPv6 bool   `json:"split_tunneling_block_ipv6,omitempty"`
}

type managedProxy struct {
	Host string `json:"proxy_host"`
	Port int    `json:"proxy_port"`
	// Exclusions, separated by spaces.
	Exclusions string `json:"proxy_exclusions,omitempty"`
}

func namesAndroid(p *Profile) []string {
	return append(namesSSwan(p), p.Device+".managed.json")
}

func buildAndroid(p *Profile, o Options) (Bundle, error) {
	b, err := buildSSwan(p, o)
	if err != nil {
		return b, err
	}
	b.Notes = nil
	ike, esp, err := p.appProposals()
	if err != nil {
		return b, err
	}
	var local *managedLocal
	if p.Key != nil {
		p12, err := p.container(o, true)
		if err != nil {
			return b, err
		}
		local = &managedLocal{base64.StdEncoding.EncodeToString(p12)}
	}
	m := managed{DefaultProfile: p.uuid(p.appPart(0))}
	for i, g := range p.Gateways {
		m.Profiles = append(m.Profiles, managedProfile{
			UUID: p.uuid(p.appPart(i)), Name: p.titleOf(i), Type: certificateAuth,
			Remote: managedRemote{g.Address, g.id(), base64.StdEncoding.EncodeToString(p.Roots[0].Raw), true, true, true},
			Local:  local, IKE: ike, ESP: esp, MTU: p.MTU, DNS: joined(p.DNS, " "),
			Split: managedSplit{joined(p.Networks, " "), p.full(), p.full()},
			Proxy: p.managedProxy(),
		})
	}
	data, err := indented(m)
	if err != nil {
		return b, err
	}
	b.Files = append(b.Files, File{p.Device + ".managed.json", 0o600, data})
	b.note("Android's own IKEv2 client can't import a file: both files are for the strongSwan app, use one of them")
	if p.Key != nil {
		b.note("add user_certificate_password to the managed configuration in your device management system")
	}
	if p.Proxy.PAC != "" {
		b.note("the strongSwan app takes no proxy script")
	}
	if p.Proxy.Server != "" {
		b.note("the proxy stands in the managed configuration only, and older versions of the strongSwan app ignore it")
	}
	if len(p.Gateways) > 1 {
		b.note("the strongSwan app doesn't change to the next gateway by itself: a profile each")
	}
	p.noteApp(&b)
	return b, nil
}

func (p *Profile) managedProxy() *managedProxy {
	if p.Proxy.Server == "" {
		return nil
	}
	host, port := p.Proxy.hostPort()
	return &managedProxy{host, port, strings.Join(p.Proxy.Exceptions, " ")}
}
