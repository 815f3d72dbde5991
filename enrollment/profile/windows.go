package profile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "embed"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/netip"
	"strings"
	"text/template"
)

// vpnProfile is the ProfileXML of the VPNv2 configuration service provider;
// its elements stand in the order of the published schema.
type vpnProfile struct {
	XMLName         xml.Name    `xml:"VPNProfile"`
	AlwaysOn        bool        `xml:"AlwaysOn"`
	DNSSuffix       string      `xml:"DnsSuffix,omitempty"`
	TrustedNetworks string      `xml:"TrustedNetworkDetection,omitempty"`
	DeviceTunnel    bool        `xml:"DeviceTunnel,omitempty"`
	Proxy           *vpnProxy   `xml:"Proxy"`
	DomainNames     []vpnDomain `xml:"DomainNameInformation"`
	Native          vpnNative   `xml:"NativeProfile"`
	Routes          []vpnRoute  `xml:"Route"`
}

type vpnProxy struct {
	PAC    string     `xml:"AutoConfigUrl,omitempty"`
	Manual *vpnServer `xml:"Manual"`
}

type vpnServer struct {
	// Server is HOST:PORT.
	Server string `xml:"Server"`
}

type vpnDomain struct {
	DomainName string `xml:"DomainName"`
	DNSServers string `xml:"DnsServers"`
	Trigger    bool   `xml:"AutoTrigger"`
}

type vpnNative struct {
	// Servers are tried in turn.
	Servers  string `xml:"Servers"`
	Routing  string `xml:"RoutingPolicyType"`
	Protocol string `xml:"NativeProtocolType"`
	// NoClassRoute: without it the class of the virtual address is routed too.
	NoClassRoute  bool     `xml:"DisableClassBasedDefaultRoute,omitempty"`
	Suite         vpnSuite `xml:"CryptographySuite"`
	MachineMethod string   `xml:"Authentication>MachineMethod"`
}

// vpnSuite is the one proposal that Windows sends. Without it that is of
// MODP-1024, which gateways refuse.
type vpnSuite struct {
	ESPIntegrity string `xml:"AuthenticationTransformConstants"`
	ESPCipher    string `xml:"CipherTransformConstants"`
	PFSGroup     string `xml:"PfsGroup"`
	Group        string `xml:"DHGroup"`
	Integrity    string `xml:"IntegrityCheckMethod"`
	Cipher       string `xml:"EncryptionMethod"`
}

type vpnRoute struct {
	Address    netip.Addr `xml:"Address"`
	PrefixSize int        `xml:"PrefixSize"`
}

const (
	windowsCanIKE = "AES-128, 192 and 256, AES-GCM-128 and 256, SHA-256 and 384, modp2048, ecp256 and ecp384; " +
		"the PRF is of the same hash as the integrity algorithm"
	windowsCanESP = "AES with SHA-256, AES-GCM; with PFS: modp2048, ecp256 and ecp384"
)

func checkWindows(p *Profile) error {
	if err := p.needKey("Windows"); err != nil {
		return err
	}
	switch key := p.Key.Public().(type) {
	case *rsa.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("%w: Windows has P-256 and P-384, not %s", ErrKey, key.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("%w: Windows has RSA and ECDSA, got %T", ErrKey, key)
	}
	_, err := p.windowsSuite()
	return err
}

// windowsGroup is in the words of DHGroup and of PfsGroup.
func windowsGroup(group int) (dh, pfs string, ok bool) {
	switch group {
	case 0:
		return "", "None", true
	case 14:
		return "Group14", "PFS2048", true
	case 19:
		return "ECP256", "ECP256", true
	case 20:
		return "ECP384", "ECP384", true
	}
	return "", "", false
}

func (p *Profile) windowsSuite() (vpnSuite, error) {
	ike, _, err := first(p.IKE, parseIKE, func(s suite) (v vpnSuite, ok bool) {
		v.Group, _, ok = windowsGroup(s.group)
		v.Integrity = fmt.Sprintf("SHA%d", s.prf)
		v.Cipher = fmt.Sprintf("AES%d", s.bits)
		if s.mode == gcm {
			v.Cipher = fmt.Sprintf("AES_GCM_%d", s.bits)
		}
		return v, ok && s.mode != chacha && (s.mode != gcm || s.bits != 192) && s.prf <= 384 &&
			(s.aead() || s.integ == s.prf)
	}, windowsCanIKE)
	if err != nil {
		return vpnSuite{}, err
	}
	esp, _, err := first(p.ESP, parseESP, func(s suite) (v vpnSuite, ok bool) {
		_, v.PFSGroup, ok = windowsGroup(s.group)
		v.ESPIntegrity, v.ESPCipher = "SHA256128", fmt.Sprintf("AES%d", s.bits)
		if s.mode == gcm {
			v.ESPCipher = fmt.Sprintf("GCMAES%d", s.bits)
			v.ESPIntegrity = v.ESPCipher
		}
		return v, ok && s.mode != chacha && (s.aead() || s.integ == 256)
	}, windowsCanESP)
	if err != nil {
		return vpnSuite{}, err
	}
	esp.Group, esp.Integrity, esp.Cipher = ike.Group, ike.Integrity, ike.Cipher
	return esp, nil
}

func namesWindows(p *Profile) []string {
	return []string{p.Device + ".vpnv2.xml", p.Device + ".p12", p.Device + ".install.ps1"}
}

func buildWindows(p *Profile, o Options) (Bundle, error) {
	var b Bundle
	s, err := p.windowsSuite()
	if err != nil {
		return b, err
	}
	document, err := p.profileXML(s)
	if err != nil {
		return b, err
	}
	p12, err := p.container(o, false)
	if err != nil {
		return b, err
	}
	script, err := p.installer(s)
	if err != nil {
		return b, err
	}
	names := namesWindows(p)
	b.Files = []File{{names[0], 0o644, document}, {names[1], 0o600, p12}, {names[2], 0o644, script}}
	p.windowsNotes(&b)
	return b, nil
}

func (p *Profile) windowsNotes(b *Bundle) {
	b.note("run the installer in an elevated PowerShell; it asks for the password of the .p12")
	if p.DeviceTunnel {
		b.note("a device tunnel needs Windows Enterprise or Education in a domain, and the installer to run as SYSTEM")
	}
	for _, g := range p.Gateways {
		if !strings.EqualFold(g.id(), g.Address) {
			b.note("Windows compares the gateway's certificate with the name it dials: %s has to stand in it", g.Address)
		}
	}
	if !p.full() && (p.Proxy.Server != "" || p.Proxy.PAC != "") {
		b.note("Windows uses the proxy of a connection only if all goes through the tunnel: with networks it stays unused")
	}
	if len(p.Domains) > 0 && len(p.DNS) == 0 {
		b.note("without DNS servers Windows takes the domains for search suffixes only")
	}
	if p.Connect == OnDemand && (len(p.Domains) == 0 || len(p.DNS) == 0) {
		b.note("Windows connects on demand for domains only: without them and their DNS servers the user has to connect")
	}
	if p.MTU != 0 {
		b.note("a Windows profile has no MTU")
	}
}

// profileXML is what a device management system, or the installer, gives to
// the configuration service provider.
func (p *Profile) profileXML(s vpnSuite) ([]byte, error) {
	v := vpnProfile{
		AlwaysOn: p.Connect == Always || p.DeviceTunnel, DNSSuffix: strings.Join(p.Domains, ","),
		TrustedNetworks: strings.Join(p.TrustedNetworks, ","), DeviceTunnel: p.DeviceTunnel,
		Native: vpnNative{
			Routing: "SplitTunnel", Protocol: "IKEv2", NoClassRoute: true, Suite: s, MachineMethod: "Certificate",
		},
	}
	if p.full() {
		v.Native.Routing, v.Native.NoClassRoute = "ForceTunnel", false
	}
	switch {
	case p.Proxy.PAC != "":
		v.Proxy = &vpnProxy{PAC: p.Proxy.PAC}
	case p.Proxy.Server != "":
		v.Proxy = &vpnProxy{Manual: &vpnServer{p.Proxy.Server}}
	}
	var servers []string
	for _, g := range p.Gateways {
		servers = append(servers, g.Address)
	}
	v.Native.Servers = strings.Join(servers, ",")
	// A rule without servers would exempt its domain from all others.
	if len(p.DNS) > 0 {
		for _, d := range p.Domains {
			v.DomainNames = append(v.DomainNames, vpnDomain{"." + d, joined(p.DNS, ","), p.Connect == OnDemand})
		}
	}
	for _, n := range p.Networks {
		v.Routes = append(v.Routes, vpnRoute{n.Addr(), n.Bits()})
	}
	data, err := xml.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

//go:embed windows.ps1.tmpl
var installerText string

var installerTemplate = template.Must(template.New("windows.ps1").Funcs(template.FuncMap{
	"quote": quote,
	"list": func(values []string) string {
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = quote(v)
		}
		return strings.Join(quoted, ", ")
	},
}).Parse(installerText))

// quote is a PowerShell string in which nothing is special.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// installer is a PowerShell script in ASCII: older versions take anything else
// for the system's code page.
func (p *Profile) installer(s vpnSuite) ([]byte, error) {
	values := struct {
		Name, Device, P12, XML string
		Roots, Intermediates   []string
		DeviceTunnel           bool
		Suite                  vpnSuite
		Proxy                  string
		Exceptions             []string
	}{
		Name: p.profileName(), Device: p.Device, XML: namesWindows(p)[0], P12: namesWindows(p)[1],
		DeviceTunnel: p.DeviceTunnel, Suite: s,
	}
	for _, c := range p.Roots {
		values.Roots = append(values.Roots, base64.StdEncoding.EncodeToString(c.Raw))
	}
	for _, c := range p.Intermediates {
		values.Intermediates = append(values.Intermediates, base64.StdEncoding.EncodeToString(c.Raw))
	}
	// The other cmdlet calls it GCMAES256.
	values.Suite.Cipher = strings.ReplaceAll(s.Cipher, "AES_GCM_", "GCMAES")
	if p.full() {
		values.Proxy, values.Exceptions = p.Proxy.Server, p.Proxy.Exceptions
	}
	var b bytes.Buffer
	err := installerTemplate.Execute(&b, values)
	return b.Bytes(), err
}

// profileName is the title in ASCII; a node of the management tree.
func (p *Profile) profileName() string {
	return strings.Map(func(r rune) rune {
		if r > '~' {
			return '_'
		}
		return r
	}, p.Title)
}
