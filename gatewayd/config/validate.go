package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// validator collects what is wrong with values that could be decoded.
type validator struct {
	*Config
	problems Problems
}

func (v *validator) say(key, format string, args ...any) {
	v.problems = append(v.problems, v.Problem(key, fmt.Sprintf(format, args...)))
}

func (v *validator) between(key string, got, low, high int) {
	if got < low || got > high {
		v.say(key, "got %d, expected %d to %d", got, low, high)
	}
}

func (v *validator) duration(key string, got Duration, low, high time.Duration) {
	if d := time.Duration(got); d < low || d > high {
		v.say(key, "got %v, expected %v to %v", got, Duration(low), Duration(high))
	}
}

func (v *validator) required(key, got, what string) {
	if got == "" {
		v.say(key, "not set, expected %s", what)
	}
}

// validate checks what can be checked without touching files or the machine.
func (c *Config) validate() Problems {
	v := &validator{Config: c}
	v.required("state_dir", c.StateDir, "a folder such as "+SystemStateDir)
	v.required("runtime_dir", c.RuntimeDir, "a folder such as "+SystemRuntimeDir)
	if c.ForGateway() {
		v.gateway(&c.Gateway)
	}
	if c.Has("enrollment") {
		v.enrollment(&c.Enrollment)
	}
	if c.Has("manager") {
		v.manager(&c.Manager)
	}
	if c.Has("client") {
		v.client(&c.Client)
	}
	v.profile(&c.Profile)
	return v.problems
}

func (v *validator) gateway(g *Gateway) {
	v.interfaces(g)
	v.identity(&g.Identity)
	v.trust(&g.Trust)
	v.ike(&g.IKE)
	v.esp(&g.ESP)
	v.algorithms(g)
	v.redirect(g)
	v.records(&g.Records)
	v.resumption(&g.Resumption)
	v.limits(&g.Limits)
	v.guard(&g.Guard)
	v.management(&g.Management)
	if !v.Managed() || v.pushed {
		v.static(&g.Static)
	}
}

func (v *validator) interfaces(g *Gateway) {
	v.ifname("gateway.external.interface", g.External.Interface, "the name of the interface toward the devices")
	v.ifname("gateway.internal.interface", g.Internal.Interface, "the name of the interface toward the networks behind the gateway")
	v.ifname("gateway.tunnel.name", g.Tunnel.Name, "the name of the TUN interface to make")
	if g.External.Interface != "" && g.External.Interface == g.Internal.Interface {
		v.say("gateway.internal.interface", "got %q, which is the external one, expected another interface on another subnet", g.Internal.Interface)
	}
	if g.Tunnel.Name != "" && (g.Tunnel.Name == g.External.Interface || g.Tunnel.Name == g.Internal.Interface) {
		v.say("gateway.tunnel.name", "got %q, which is the external or internal interface, expected a name of its own", g.Tunnel.Name)
	}
	if !g.External.Address.IsValid() {
		v.say("gateway.external.address", "not set, expected an address of the external interface")
	}
	v.unicast("gateway.external.address", g.External.Address)
	v.between("gateway.external.more_addresses", len(g.External.MoreAddresses), 0, maxAddresses)
	for i, a := range g.External.MoreAddresses {
		key := fmt.Sprintf("gateway.external.more_addresses[%d]", i)
		v.unicast(key, a)
		if a.IsValid() && slices.Contains(g.External.Addresses()[:i+1], a) {
			v.say(key, "got %v, which is given already, expected another address", a)
		}
	}
	v.between("gateway.external.port", int(g.External.Port), 1, 65535)
	v.between("gateway.external.natt_port", int(g.External.NATTPort), 1, 65535)
	if g.External.Port != 0 && g.External.Port == g.External.NATTPort {
		v.say("gateway.external.natt_port", "got %d, which is gateway.external.port, expected another port", g.External.NATTPort)
	}
	v.unicast("gateway.tunnel.address", g.Tunnel.Address)
	switch a := g.Tunnel.Address; {
	case a.IsValid() && !a.Is4():
		v.say("gateway.tunnel.address", "got %v, expected an IPv4 address, as DHCPINFORM has no other", a)
	case a.IsValid() && slices.Contains(g.External.Addresses(), a):
		v.say("gateway.tunnel.address", "got %v, which is an external address, expected one inside", a)
	}
	v.unicast("gateway.tunnel.ipv6", g.Tunnel.IPv6)
	switch a := g.Tunnel.IPv6; {
	case a.IsValid() && !a.Is6():
		v.say("gateway.tunnel.ipv6", "got %v, expected an IPv6 address", a)
	case a.IsValid() && a.IsLinkLocalUnicast():
		v.say("gateway.tunnel.ipv6", "got %v, which is link-local, expected one that devices reach", a)
	case a.IsValid() && slices.Contains(g.External.Addresses(), a):
		v.say("gateway.tunnel.ipv6", "got %v, which is an external address, expected one inside", a)
	}
	if g.Tunnel.MTU != 0 {
		v.between("gateway.tunnel.mtu", g.Tunnel.MTU, 1280, 65535)
	}
	v.between("gateway.tunnel.loops", g.Tunnel.Loops, 0, 32)
	v.between("gateway.tunnel.host_routes.table", g.Tunnel.HostRoutes.Table, 0, 1<<31-1)
	if g.Tunnel.HostRoutes.Table == unix.RT_TABLE_LOCAL {
		v.say("gateway.tunnel.host_routes.table", "got %d, which is the kernel's own table of local addresses, expected another one", unix.RT_TABLE_LOCAL)
	}
	// Those up to 4 are the kernel's and the administrator's (rtnetlink(7)).
	v.between("gateway.tunnel.host_routes.protocol", g.Tunnel.HostRoutes.Protocol, unix.RTPROT_STATIC+1, 255)
	v.between("gateway.tunnel.path_mtu", g.Tunnel.PathMTU, 1380, 65535)
	if g.Tunnel.MTU > g.Tunnel.PathMTU {
		v.say("gateway.tunnel.mtu", "got %d, expected less than gateway.tunnel.path_mtu (%d)", g.Tunnel.MTU, g.Tunnel.PathMTU)
	}
}

// maxAddresses beside the first one: each takes two sockets.
const maxAddresses = 15

// ifname: what the kernel accepts (IFNAMSIZ, no slash, no space, no colon).
func (v *validator) ifname(key, name, what string) {
	if name == "" {
		v.say(key, "not set, expected %s", what)
		return
	}
	ok := len(name) <= 15 && name != "." && name != ".."
	for _, r := range name {
		ok = ok && r > ' ' && r <= '~' && r != '/' && r != ':' && r != '%'
	}
	if !ok {
		v.say(key, "got %q, expected an interface name of at most 15 characters", clip(name))
	}
}

func (v *validator) unicast(key string, a netip.Addr) {
	if !a.IsValid() {
		return // told by the decoder
	}
	if a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		v.say(key, "got %v, expected the address of one host", a)
	}
}

func (v *validator) identity(id *Identity) {
	v.required("gateway.identity.id", id.ID, "the name in the gateway's certificate, such as vpn.example.com")
	if len(id.ID) > 255 {
		v.say("gateway.identity.id", "got %d characters, expected at most 255", len(id.ID))
	}
	if len(id.Credentials) == 0 {
		v.say("gateway.identity.credentials", "not set, expected at least one certificate and key")
	}
	for i, c := range id.Credentials {
		key := fmt.Sprintf("gateway.identity.credentials[%d].", i)
		v.required(key+"certificate", c.Certificate, "a PEM file: the certificate, then its intermediates")
		v.required(key+"key", c.Key, "a PEM file with the private key")
	}
}

func (v *validator) trust(t *Trust) {
	if len(t.Roots) == 0 {
		v.say("gateway.trust.roots", "not set, expected at least one PEM file with root certificates")
	}
	v.between("gateway.trust.max_certificates", t.MaxCertificates, 1, admit.LimitMaxCertificates)
	for i, name := range t.Barred {
		if _, err := admit.DeviceName(name); err != nil {
			v.say(fmt.Sprintf("gateway.trust.barred[%d]", i), "got %q, expected the name of a device: %v", clip(name), err)
		}
	}
	for _, list := range []struct {
		key   string
		files []string
	}{{"roots", t.Roots}, {"intermediates", t.Intermediates}, {"crls", t.CRLs}, {"ocsp_responses", t.OCSPResponses}} {
		for i, f := range list.files {
			v.required(fmt.Sprintf("gateway.trust.%s[%d]", list.key, i), f, "the name of a file")
		}
	}
}

// Limits of what is compared with each offer.
const (
	maxProposals  = 32
	maxSuites     = 256
	maxAlgorithms = 64
)

// Fragments of IKE messages: smaller ones would be too many (RFC 7383 section
// 2.5.1), larger ones none.
const (
	minFragment = 512
	maxFragment = 8192
)

func (v *validator) ike(c *IKE) {
	v.between("gateway.ike.proposals", len(c.Proposals), 1, maxProposals)
	v.duration("gateway.ike.half_open_timeout", c.HalfOpenTimeout, time.Second, 10*time.Minute)
	v.duration("gateway.ike.retransmit.timeout", c.Retransmit.Timeout, 100*time.Millisecond, time.Minute)
	v.between("gateway.ike.retransmit.tries", c.Retransmit.Tries, 1, 12)
	if c.Liveness.Idle != 0 {
		v.duration("gateway.ike.liveness.idle", c.Liveness.Idle, time.Second, 24*time.Hour)
	}
	v.duration("gateway.ike.parking.idle", c.Parking.Idle, time.Minute, maxLifetime)
	v.lifetime("gateway.ike.lifetime", c.Lifetime)
	v.between("gateway.ike.max_children", c.MaxChildren, 1, 64)
	if c.FragmentSize != 0 {
		v.between("gateway.ike.fragment_size", c.FragmentSize, minFragment, maxFragment)
	}
}

// maxLifetime of an SA.
const maxLifetime = 90 * 24 * time.Hour

// lifetime: rekeying begins, at the earliest, a minute after the SA did, and
// has a minute before the SA ends.
func (v *validator) lifetime(key string, l Lifetime) {
	rekey, jitter, hard := time.Duration(l.Rekey), time.Duration(l.Jitter), time.Duration(l.Hard)
	if rekey != 0 {
		v.duration(key+".rekey", l.Rekey, time.Minute, maxLifetime)
		v.duration(key+".jitter", l.Jitter, 0, max(rekey-time.Minute, 0))
	} else if jitter != 0 {
		v.say(key+".jitter", "got %v, expected 0, because %s.rekey is 0", l.Jitter, key)
	}
	if hard != 0 {
		v.duration(key+".hard", l.Hard, rekey+time.Minute, 2*maxLifetime)
	}
}

// maxPackets: 32-bit sequence numbers end there (RFC 4303 section 3.3.3), and
// both directions together count. A peer may not have others.
const maxPackets = 1 << 32

func (v *validator) esp(c *ESP) {
	v.between("gateway.esp.proposals", len(c.Proposals), 1, maxProposals)
	v.lifetime("gateway.esp.lifetime", c.Lifetime)
	soft, hard := c.Limits.Soft, c.Limits.Hard
	if hard.Bytes != 0 && (soft.Bytes == 0 || soft.Bytes >= hard.Bytes) {
		v.say("gateway.esp.limits.soft.bytes", "got %d, expected 1 to less than gateway.esp.limits.hard.bytes (%d)", soft.Bytes, hard.Bytes)
	}
	if hard.Packets == 0 || hard.Packets > maxPackets {
		v.say("gateway.esp.limits.hard.packets", "got %d, expected 1 to %d, because sequence numbers without ESN have 32 bits", hard.Packets, uint64(maxPackets))
	} else if soft.Packets == 0 || soft.Packets >= hard.Packets {
		v.say("gateway.esp.limits.soft.packets", "got %d, expected 1 to less than gateway.esp.limits.hard.packets (%d)", soft.Packets, hard.Packets)
	}
}

// algorithms: the combinations are bounded, not only the names.
func (v *validator) algorithms(g *Gateway) {
	if n := len(g.Suites()); n > maxSuites {
		v.say("gateway.ike.proposals", "got %d combinations, legacy ones included, expected at most %d", n, maxSuites)
	}
	if n := len(g.Algorithms()); n > maxAlgorithms {
		v.say("gateway.esp.proposals", "got %d combinations, legacy ones included, expected at most %d", n, maxAlgorithms)
	}
}

// IsGateway: a domain name or an IP address that devices can be redirected to.
func IsGateway(to string) bool {
	a, err := netip.ParseAddr(to)
	if err != nil {
		return isDomain(to)
	}
	return a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

func (v *validator) redirect(g *Gateway) {
	const key = "gateway.redirect.to"
	to := g.Redirect.To
	a, err := netip.ParseAddr(to)
	switch {
	case to == "":
	case err == nil:
		v.unicast(key, a)
		if slices.Contains(g.External.Addresses(), a) {
			v.say(key, "got %v, which is this gateway, expected another", a)
		}
	case !IsGateway(to):
		v.say(key, "got %q, expected a domain name or an IP address of another gateway", clip(to))
	case strings.EqualFold(to, g.Identity.ID):
		v.say(key, "got %q, which is gateway.identity.id, expected another gateway", to)
	}
	for i, name := range g.Redirect.Devices {
		if _, err := admit.DeviceName(name); err != nil {
			v.say(fmt.Sprintf("gateway.redirect.devices[%d]", i), "got %q, expected the name of a device: %v", clip(name), err)
		}
	}
	if to == "" && len(g.Redirect.Devices) > 0 {
		v.say("gateway.redirect.devices", "got %d, expected none, because gateway.redirect.to is not set", len(g.Redirect.Devices))
	}
}

func (v *validator) records(r *Records) {
	if r.Interim == 0 {
		return
	}
	v.duration("gateway.records.interim", r.Interim, 10*time.Second, 24*time.Hour)
	if r.File == "" {
		v.say("gateway.records.interim", "got %v, expected 0, because gateway.records.file is not set", r.Interim)
	}
}

func (v *validator) resumption(r *Resumption) {
	v.duration("gateway.resumption.lifetime", r.Lifetime, time.Minute, 24*time.Hour)
	v.duration("gateway.resumption.rekey_within", r.RekeyWithin, 0, 24*time.Hour)
	v.between("gateway.resumption.epoch", r.Epoch, 0, 1<<31-1)
	v.duration("gateway.resumption.reauthenticate", r.Reauthenticate, 0, 366*24*time.Hour)
}

func (v *validator) limits(l *Limits) {
	v.between("gateway.limits.sessions", l.Sessions, 1, 1<<20)
	v.halfOpen("gateway.limits.half_open", l.HalfOpen)
	v.halfOpen("gateway.limits.half_open_per_prefix", l.HalfOpenPerPrefix)
	if l.HalfOpenPerPrefix.Max > l.HalfOpen.Max {
		v.say("gateway.limits.half_open_per_prefix.max", "got %d, expected at most gateway.limits.half_open.max (%d)", l.HalfOpenPerPrefix.Max, l.HalfOpen.Max)
	}
	v.between("gateway.limits.answers_per_second", l.AnswersPerSecond, 0, 1<<20)
}

func (v *validator) halfOpen(key string, h HalfOpen) {
	v.between(key+".max", h.Max, 1, 1<<20)
	v.between(key+".cookie_at", h.CookieAt, 0, max(h.Max-1, 0))
}

// profile is checked a key at a time, so that the message finds its line.
func (v *validator) profile(c *Profile) {
	check := func(key string, set func(*profile.Profile)) {
		p := profile.Profile{
			Device: "device", Gateways: []profile.Gateway{{Address: "gateway"}},
			IKE: []string{"aes128-sha256-ecp256"}, ESP: []string{"aes128-sha256"},
		}
		set(&p)
		if err := profile.Check(profile.StrongSwan, p); err != nil {
			v.say("profile."+key, "%v", err)
		}
	}
	check("title", func(p *profile.Profile) { p.Title = c.Title })
	check("gateways", func(p *profile.Profile) {
		for i, g := range c.Gateways {
			p.Gateways = append(p.Gateways[:i], profile.Gateway{Address: g})
		}
	})
	check("domains", func(p *profile.Profile) { p.Domains = c.Domains })
	check("trusted_networks", func(p *profile.Profile) { p.TrustedNetworks = c.TrustedNetworks })
	check("connect", func(p *profile.Profile) { p.Connect = profile.Connect(c.Connect) })
	check("proxy", func(p *profile.Profile) { p.Proxy = profile.Proxy(c.Proxy) })
	check("mtu", func(p *profile.Profile) { p.MTU = c.MTU })
}
