package profile

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what a profile may hold. They keep mistakes small; clients allow
// no more either.
const (
	maxGateways = 8
	maxList     = 256
	maxTitle    = 64
	// MinMTU is that of IPv6 (RFC 8200 section 5).
	MinMTU = 1280
	MaxMTU = 1500
)

// normalize fills in defaults and refuses what is malformed. Whatever passes
// goes into files of five syntaxes, so nothing passes that means anything in
// one of them.
func (p *Profile) normalize() error {
	if p.Title == "" {
		p.Title = DefaultTitle
	}
	if p.Connect == "" {
		p.Connect = Manual
	}
	refuse := func(what string, value any) error {
		return fmt.Errorf("%w: %s %q", ErrProfile, what, fmt.Sprint(value))
	}
	if !isDevice(p.Device) {
		return refuse("device", p.Device)
	}
	if !isTitle(p.Title) {
		return refuse("title", p.Title)
	}
	if !slices.Contains(Connects, p.Connect) {
		return refuse("connect", p.Connect)
	}
	if len(p.Gateways) == 0 || len(p.Gateways) > maxGateways {
		return fmt.Errorf("%w: %d gateways, want 1 to %d", ErrProfile, len(p.Gateways), maxGateways)
	}
	for i, g := range p.Gateways {
		if !isHost(g.Address) {
			return refuse("gateway", g.Address)
		}
		if !isHost(g.id()) && !isDevice(g.id()) {
			return refuse("identity of a gateway", g.ID)
		}
		if slices.ContainsFunc(p.Gateways[:i], func(o Gateway) bool { return strings.EqualFold(o.Address, g.Address) }) {
			return fmt.Errorf("%w: gateway %q stands twice", ErrProfile, g.Address)
		}
	}
	for _, n := range []int{len(p.Networks), len(p.DNS), len(p.Domains), len(p.Proxy.Exceptions), len(p.TrustedNetworks)} {
		if n > maxList {
			return fmt.Errorf("%w: a list of %d, at most %d", ErrProfile, n, maxList)
		}
	}
	for _, n := range p.Networks {
		if !n.IsValid() || n != n.Masked() || n.Bits() == 0 {
			return refuse("network", n)
		}
	}
	for _, a := range p.DNS {
		if !a.IsValid() || a.Zone() != "" {
			return refuse("DNS server", a)
		}
	}
	for what, list := range map[string][]string{"domain": p.Domains, "trusted network": p.TrustedNetworks} {
		for _, d := range list {
			if !isName(d) {
				return refuse(what, d)
			}
		}
	}
	if p.MTU != 0 && (p.MTU < MinMTU || p.MTU > MaxMTU) {
		return fmt.Errorf("%w: MTU %d, want %d to %d", ErrProfile, p.MTU, MinMTU, MaxMTU)
	}
	if p.DeviceTunnel && (p.full() || len(p.Domains) > 0) {
		return fmt.Errorf("%w: a device tunnel needs networks, and takes no domains", ErrProfile)
	}
	return p.Proxy.check()
}

func (x Proxy) check() error {
	if x.Server != "" && x.PAC != "" {
		return fmt.Errorf("%w: a proxy and a script for it", ErrProfile)
	}
	if x.Server != "" {
		if host, port := x.hostPort(); !isHost(host) || port < 1 {
			return fmt.Errorf("%w: proxy %q, want HOST:PORT", ErrProfile, x.Server)
		}
	}
	if x.PAC != "" && !isWebURL(x.PAC, "http", "https") {
		return fmt.Errorf("%w: proxy script %q, want an http or https URL", ErrProfile, x.PAC)
	}
	if len(x.Exceptions) > 0 && x.Server == "" {
		return fmt.Errorf("%w: exceptions without a proxy; a script has its own", ErrProfile)
	}
	for _, e := range x.Exceptions {
		_, prefix := netip.ParsePrefix(e)
		if !isHost(strings.TrimPrefix(e, "*.")) && prefix != nil {
			return fmt.Errorf("%w: exception %q", ErrProfile, e)
		}
	}
	return nil
}

// hostPort of Server; the port is 0 if it is malformed.
func (x Proxy) hostPort() (string, int) {
	host, text, err := net.SplitHostPort(x.Server)
	if err != nil {
		return "", 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0
	}
	return host, int(port)
}

// isWebURL: of one of the schemes, printable ASCII, without a user.
func isWebURL(text string, schemes ...string) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'<>`\\", r) }) {
		return false
	}
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && isHost(u.Hostname()) && u.User == nil
}

// isHost: a name or an address.
func isHost(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Zone() == ""
	}
	return isName(text)
}

// isDevice: a name, or an e-mail address.
func isDevice(text string) bool {
	local, domain, isMail := strings.Cut(text, "@")
	return isName(local) && (!isMail || isName(domain))
}

// isName: labels of letters, digits, '-' and '_', separated by dots.
func isName(text string) bool {
	if len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := range len(label) {
			b := label[i]
			if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_') {
				return false
			}
		}
	}
	return true
}

// isTitle: letters, digits, spaces and harmless punctuation; Windows makes a
// path of it.
func isTitle(text string) bool {
	return len(text) <= maxTitle && text == strings.TrimSpace(text) && text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" .-_()", r)
	})
}
