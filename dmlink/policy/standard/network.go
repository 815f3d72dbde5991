package standard

import (
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/roamgate/roamgate/dmlink/policy"
)

// Proxy for web traffic, and what goes past it.
type Proxy struct {
	// Address is host:port.
	Address string
	// Exceptions are beginnings of addresses that don't go through the proxy.
	Exceptions []string
	// Local addresses go through it, too.
	Local bool
	// Script is the URL of a proxy auto-config file, in place of Address.
	Script string
	// Network is the ConRef of the connection that the proxy belongs to. Windows
	// Mobile only, where it is needed.
	Network string
}

// Settings implements Builder. On Windows the NetworkProxy CSP, for Ethernet and
// Wi-Fi and not for VPN connections, whose nodes take Get and Replace
// (windows/client-management/mdm/networkproxy-csp). On Windows Mobile the PROXY
// CSP, in one Atomic; its CM_ProxyEntries is for client provisioning only, as the
// page of each says (previous-versions/aa455946, bb737328, example bb737224). The
// ACCESS CSP has to name the network's metanetwork before.
func (w Proxy) Settings(p Platform) ([]policy.Setting, bool, error) {
	if (w.Address == "") == (w.Script == "") {
		return nil, false, wish("a proxy has either an address or a script")
	}
	var host, port string
	if w.Address != "" {
		var err error
		if host, port, err = net.SplitHostPort(w.Address); err != nil || host == "" || !isPort(port) {
			return nil, false, wish("proxy %.64q, expected host:port", w.Address)
		}
	} else if u, err := url.Parse(w.Script); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, false, wish("script %.64q, expected an http or https URL", w.Script)
	}
	for _, e := range w.Exceptions {
		if e == "" || strings.ContainsAny(e, "; \t\r\n") {
			return nil, false, wish("exception %.64q, expected the beginning of an address", e)
		}
	}
	switch p {
	case Windows:
		return there(w.windows()), false, nil
	case WindowsMobile:
		if w.Script != "" || len(w.Exceptions) > 0 || w.Local {
			return nil, false, noNode("scripts, exceptions and local addresses of a proxy", p)
		}
		if w.Network == "" {
			return nil, false, wish("a proxy on %s needs the network that it belongs to", p)
		}
		return w.mobile(host, port), true, nil
	}
	return nil, false, noNode("a proxy", p)
}

func (w Proxy) windows() []policy.Setting {
	const root = "./Vendor/MSFT/NetworkProxy"
	if w.Script != "" {
		return []policy.Setting{leaving(number(root+"/AutoDetect", 0), "1"), leaving(text(root+"/SetupScriptUrl", w.Script), "")}
	}
	local := 0
	if w.Local {
		local = 1
	}
	return []policy.Setting{
		leaving(number(root+"/AutoDetect", 0), "1"),
		leaving(text(root+"/ProxyServer/ProxyAddress", w.Address), ""),
		leaving(text(root+"/ProxyServer/Exceptions", strings.Join(w.Exceptions, ";")), ""),
		leaving(number(root+"/ProxyServer/UseProxyForLocalAddresses", local), "0"),
	}
}

func (w Proxy) mobile(host, port string) []policy.Setting {
	const root = "./Vendor/MSFT/Proxy/PROXY0"
	kind := "ALPHA"
	if a, err := netip.ParseAddr(host); err == nil {
		kind = "IPV4"
		if a.Is6() {
			kind = "IPV6"
		}
	}
	return []policy.Setting{
		node(root),
		text(root+"/ProxyId", "PROXY0"), text(root+"/Name", "Company proxy"),
		text(root+"/AddrType", kind), text(root+"/Addr", host), text(root+"/ProxyType", "ISA"),
		node(root + "/Ports/PORT0"), text(root+"/Ports/PORT0/PortNbr", port),
		node(root + "/Ports/PORT0/Services/SERVICE0"), text(root+"/Ports/PORT0/Services/SERVICE0/ServiceName", "HTTP"),
		node(root + "/ConRefs/CONREF0"), text(root+"/ConRefs/CONREF0/ConRef", w.Network),
	}
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 65536
}

// CompanyNetworks are destinations that belong to the company.
type CompanyNetworks struct {
	Prefixes []netip.Prefix
	// Domains such as example.com; a dot in front means names below it.
	Domains []string
	// Authoritative: only the prefixes count, not what a device finds by itself.
	Authoritative bool
}

// Settings implements Builder: the NetworkIsolation policies of Windows
// (windows/client-management/mdm/policy-csp-networkisolation).
func (w CompanyNetworks) Settings(p Platform) ([]policy.Setting, bool, error) {
	if p != Windows {
		return nil, false, noNode("company networks", p)
	}
	if len(w.Prefixes) == 0 && len(w.Domains) == 0 {
		return nil, false, wish("company networks without prefixes and domains")
	}
	const root = "./Device/Vendor/MSFT/Policy/Config/NetworkIsolation"
	var out []policy.Setting
	var ranges []string
	for _, prefix := range w.Prefixes {
		if !prefix.IsValid() {
			return nil, false, wish("company network %s", prefix)
		}
		ranges = append(ranges, prefix.Masked().Addr().String()+"-"+last(prefix).String())
	}
	if len(ranges) > 0 {
		out = append(out, text(root+"/EnterpriseIPRange", strings.Join(ranges, ",")))
		if w.Authoritative {
			out = append(out, number(root+"/EnterpriseIPRangesAreAuthoritative", 1))
		}
	}
	for _, d := range w.Domains {
		if d == "" || strings.ContainsAny(d, ",| \t\r\n") {
			return nil, false, wish("domain %.64q", d)
		}
	}
	if len(w.Domains) > 0 {
		out = append(out, text(root+"/EnterpriseNetworkDomainNames", strings.Join(w.Domains, ",")))
	}
	return out, false, nil
}

// last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	octets := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(octets)*8; i++ {
		octets[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(octets)
	return a
}

// WiFi is a network that a device may use.
type WiFi struct {
	SSID string
	// Profile is the WLAN profile as Windows exports it, in XML.
	Profile string
}

// Settings implements Builder: the WiFi CSP of Windows, where a network comes
// with WlanXml and goes with its SSID (windows/client-management/mdm/wifi-csp).
func (w WiFi) Settings(p Platform) ([]policy.Setting, bool, error) {
	if p != Windows {
		return nil, false, noNode("a Wi-Fi network", p)
	}
	if w.SSID == "" || len(w.SSID) > 32 {
		return nil, false, wish("SSID of %d octets, expected 1 to 32", len(w.SSID))
	}
	if err := wellFormed(w.Profile, "WLANProfile"); err != nil {
		return nil, false, wish("profile of network %q: %w", w.SSID, err)
	}
	root := "./Device/Vendor/MSFT/WiFi/Profile/" + segment(w.SSID)
	s := text(root+"/WlanXml", w.Profile)
	s.RemoveAt = root
	return []policy.Setting{s}, false, nil
}

func wellFormed(text, root string) error {
	d := xml.NewDecoder(strings.NewReader(text))
	first := ""
	for {
		t, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && first == "":
			return errors.New("empty")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if e, ok := t.(xml.StartElement); ok && first == "" {
			if first = e.Name.Local; first != root {
				return errors.New("the root element is " + strconv.Quote(first) + ", expected " + root)
			}
		}
	}
}

// Cellular is a connection over GPRS or its successors.
type Cellular struct {
	// Name is that of its node, such as NAP0.
	Name string
	// Label is shown to the user.
	Label string
	APN   string
	// User and Password for PAP, where the network asks for them.
	User, Password string
}

// Settings implements Builder: the NAP CSP of Windows Mobile, which Windows has,
// too, on devices with a modem; a node that isn't there can't be replaced
// (previous-versions/aa455931, windows/client-management/mdm/nap-csp). Its
// subtree is changed in one Atomic.
func (w Cellular) Settings(p Platform) ([]policy.Setting, bool, error) {
	switch {
	case p != Windows && p != WindowsMobile:
		return nil, false, noNode("a cellular connection", p)
	case w.Name == "" || strings.ContainsAny(w.Name, "@"):
		return nil, false, wish("connection %.64q, expected a name without @", w.Name)
	case w.APN == "" || len(w.APN) > 100:
		return nil, false, wish("connection %q: APN of %d octets, expected 1 to 100", w.Name, len(w.APN))
	case w.User == "" && w.Password != "":
		return nil, false, wish("connection %q: a password without a user", w.Name)
	}
	root := "./Vendor/MSFT/NAP/" + segment(w.Name)
	out := []policy.Setting{
		node(root),
		text(root+"/NapId", w.Name), text(root+"/AddrType", "APN"), text(root+"/Addr", w.APN),
		text(root+"/Bearer/BearerType", "GPRS"),
	}
	if w.Label != "" {
		out = append(out, text(root+"/Name", w.Label))
	}
	if w.User != "" {
		out = append(out, text(root+"/AuthInfo/AuthType", "PAP"), text(root+"/AuthInfo/AuthName", w.User), text(root+"/AuthInfo/AuthSecret", w.Password))
	}
	return out, true, nil
}
