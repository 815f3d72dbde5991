package profile

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"slices"
)

// sswan is the profile file of the strongSwan app for Android, as its
// documentation ("VPN Profile Import") defines it.
type sswan struct {
	UUID   string      `json:"uuid"`
	Name   string      `json:"name"`
	Type   string      `json:"type"`
	Remote sswanRemote `json:"remote"`
	Local  *sswanLocal `json:"local,omitempty"`
	IKE    string      `json:"ike-proposal"`
	ESP    string      `json:"esp-proposal"`
	MTU    int         `json:"mtu,omitempty"`
	DNS    []string    `json:"dns-servers,omitempty"`
	Split  sswanSplit  `json:"split-tunneling"`
}

type sswanRemote struct {
	Addr string `json:"addr"`
	ID   string `json:"id"`
	// Cert is the root in base64.
	Cert string `json:"cert"`
}

type sswanLocal struct {
	P12 string `json:"p12"`
}

type sswanSplit struct {
	Subnets   []string `json:"subnets,omitempty"`
	BlockIPv4 bool     `json:"block-ipv4,omitempty"`
	BlockIPv6 bool     `json:"block-ipv6,omitempty"`
}

// certificateAuth is the app's name for certificates on both sides.
const certificateAuth = "ikev2-cert"

func checkSSwan(p *Profile) error {
	_, _, err := p.appProposals()
	return err
}

// appProposals are the one IKE and the one ESP proposal that the app takes.
func (p *Profile) appProposals() (ike, esp string, err error) {
	asIs := func(s suite) (string, bool) { return s.text, true }
	if ike, _, err = first(p.IKE, parseIKE, asIs, "AES-CBC and AES-GCM, ChaCha20-Poly1305, SHA-2, all current groups"); err != nil {
		return "", "", err
	}
	esp, _, err = first(p.ESP, parseESP, asIs, "AES-CBC with SHA-2, AES-GCM, ChaCha20-Poly1305")
	return ike, esp, err
}

func namesSSwan(p *Profile) []string {
	var names []string
	for i := range p.Gateways {
		names = append(names, numbered(p.Device, i)+".sswan")
	}
	return names
}

func buildSSwan(p *Profile, o Options) (Bundle, error) {
	var b Bundle
	ike, esp, err := p.appProposals()
	if err != nil {
		return b, err
	}
	var local *sswanLocal
	if p.Key != nil {
		p12, err := p.container(o, true)
		if err != nil {
			return b, err
		}
		local = &sswanLocal{base64.StdEncoding.EncodeToString(p12)}
	}
	for i, name := range namesSSwan(p) {
		data, err := indented(sswan{
			UUID: p.uuid(p.appPart(i)), Name: p.titleOf(i), Type: certificateAuth,
			Remote: sswanRemote{p.Gateways[i].Address, p.Gateways[i].id(), base64.StdEncoding.EncodeToString(p.Roots[0].Raw)},
			Local:  local, IKE: ike, ESP: esp, MTU: p.MTU, DNS: texts(p.DNS),
			Split: sswanSplit{Subnets: texts(p.Networks), BlockIPv4: p.full(), BlockIPv6: p.full()},
		})
		if err != nil {
			return b, err
		}
		b.Files = append(b.Files, File{name, 0o600, data})
	}
	if len(p.Gateways) > 1 {
		b.note("the strongSwan app knows one gateway a profile: a file each")
	}
	p.noteProxy(&b, "a profile file of the strongSwan app")
	p.noteApp(&b)
	return b, nil
}

// appPart tells the profiles of several gateways apart, not of several kinds:
// the managed profile is the same as the imported one.
func (p *Profile) appPart(i int) string {
	if i == 0 {
		return "app"
	}
	return "app " + p.Gateways[i].Address
}

// noteApp is about the strongSwan app, however it is configured.
func (p *Profile) noteApp(b *Bundle) {
	switch p.Key.(type) {
	case *rsa.PrivateKey:
	case nil:
		b.note("choose the certificate that is on the device already when importing the profile")
	default:
		b.note("the strongSwan app asks Android for RSA keys when a certificate is chosen: some systems hide this one")
	}
	if p.Connect == Always {
		b.note("always-on is a setting of Android, in the VPN settings of the strongSwan app")
	}
	if p.Connect == OnDemand {
		b.note("the strongSwan app doesn't connect on demand")
	}
	p.noteDomains(b, "the strongSwan app")
	p.noteTrusted(b, "the strongSwan app")
}

// indented JSON without the escapes that browsers need.
func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return slices.Clip(b.Bytes()), nil
}
