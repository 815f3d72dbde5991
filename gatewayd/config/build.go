package config

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/dhcp"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// Built is what a Config means to the packages that do the work. All of it can
// be replaced by a reload.
type Built struct {
	IKE    *ike.Config
	Admit  *admit.Policy
	admit  admit.Config // of Admit
	Assign ike.Settings
	Gate   gate.Config
	// Idle before a liveness check, and Parked before a silent session ends.
	Idle, Parked time.Duration
	Leases       lease.Config
	// Inform is what DHCPINFORM is answered with; without Server it isn't.
	Inform dhcp.Config
	// Groups to be in force, the default one among them.
	Groups []acl.Group
	// RedirectTo is where devices named in Redirected are sent when they have
	// proven who they are.
	RedirectTo string
	Redirected []string
	// Resumption is nil where there is none.
	Resumption *Resumption
	// Records is the path of the file for session records, empty for none, and
	// Interim how often they come.
	Records string
	Interim time.Duration
	// Warnings about what works today and won't forever, or not everywhere.
	Warnings []string
	// Material that it was built of.
	Material *Material
}

// Material is what the files have that a configuration names, besides their
// names.
type Material struct {
	credentials []ike.Credential
	trust       admit.Config
	warnings    []string
	// chains of the credentials.
	chains [][]*x509.Certificate
}

// broadcast is where DHCPINFORM goes to.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Build reads the files that the configuration names. The error is of type
// Problems; now serves for warnings about validity.
func (c *Config) Build(now time.Time) (*Built, error) { return c.BuildWith(now, nil) }

// BuildWith is Build for a gateway whose devices are on a roll.
func (c *Config) BuildWith(now time.Time, roll admit.Roll) (*Built, error) {
	b := &builder{Config: c, now: now}
	m := b.material(roll)
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	m.warnings = b.warnings
	return c.Assemble(now, m, nil)
}

// material reads all files.
func (b *builder) material(roll admit.Roll) *Material {
	m := &Material{credentials: b.credentials(), trust: b.trust()}
	m.trust.Roll, m.chains = roll, b.chains
	if len(b.problems) == 0 {
		for i := range m.credentials {
			m.credentials[i].Authorities = authorities(b.chains[i], b.cas)
		}
	}
	return m
}

// Assemble is Build with what was read of files before. A policy that would
// decide as the one of before does is that one, so that nobody has to be looked
// at again. The error is of type Problems.
func (c *Config) Assemble(now time.Time, m *Material, before *Built) (*Built, error) {
	b := &builder{Config: c, now: now, warnings: slices.Clone(m.warnings)}
	credentials := m.credentials
	if len(b.roots) > 0 {
		// Devices may ask for a certificate below one of these.
		credentials = slices.Clone(credentials)
		cas := slices.Concat(b.intermediates, b.roots, m.trust.Intermediates, m.trust.Roots)
		for i := range credentials {
			credentials[i].Authorities = authorities(m.chains[i], cas)
		}
	}
	policy := b.policy(m, before)
	groups := b.accessGroups()
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	g := &c.Gateway
	built := &Built{
		Material: m,
		Admit:    policy,
		admit:    b.admit,
		Groups:   groups,
		Assign:   ike.Settings{DNS: g.Static.DNS, WINS: g.Static.WINS, Networks: g.Static.Networks, Domains: g.Static.Domains},
		Idle:     time.Duration(g.IKE.Liveness.Idle),
		Parked:   time.Duration(g.IKE.Parking.Idle),
		Records:  c.Path(g.Records.File),
		Interim:  time.Duration(g.Records.Interim),
		Leases:   lease.Config{Pools: g.Static.Pools, Neighbours: g.Static.NeighbourPools, Exclude: slices.Clone(g.Static.Exclude)},
		Gate: gate.Config{
			MaxHalfOpen:       g.Limits.HalfOpen.Max,
			CookieAt:          g.Limits.HalfOpen.CookieAt,
			MaxHalfOpenPrefix: g.Limits.HalfOpenPerPrefix.Max,
			CookieAtPrefix:    g.Limits.HalfOpenPerPrefix.CookieAt,
			AnswersPerSecond:  g.Limits.AnswersPerSecond,
		},
	}
	// Whoever had the address of a server would get what is meant for it.
	for _, a := range slices.Concat(g.Static.DNS, g.Static.WINS) {
		if slices.ContainsFunc(g.Static.Inside(), func(p netip.Prefix) bool { return p.Contains(a) }) {
			built.Leases.Exclude = append(built.Leases.Exclude, a)
		}
	}
	if a := g.Tunnel.Address; a.IsValid() {
		built.Leases.Exclude = append(built.Leases.Exclude, a)
		built.Assign.Services = []netip.Addr{a, broadcast}
		built.Inform = dhcp.Config{Server: a, Networks: g.Static.Networks, DNS: g.Static.DNS, WINS: g.Static.WINS}
		if len(g.Static.Domains) > 0 {
			built.Inform.Domain = g.Static.Domains[0]
		}
	}
	if a := g.Tunnel.IPv6; a.IsValid() {
		built.Leases.Exclude = append(built.Leases.Exclude, a)
		built.Assign.Services = append(built.Assign.Services, a)
	}
	built.IKE = &ike.Config{
		ID:           identification(g.Identity.ID),
		Credentials:  credentials,
		TrustAnchors: policy.Authorities(),
		// Until it is known that the data plane has raw ESP.
		ForceUDP:   true,
		HalfOpen:   time.Duration(g.IKE.HalfOpenTimeout),
		Retransmit: time.Duration(g.IKE.Retransmit.Timeout),
		Tries:      g.IKE.Retransmit.Tries,
		Soft:       g.ESP.Limits.Soft.limits(),
		Hard:       g.ESP.Limits.Hard.limits(),
		Suites:     g.Suites(),
		ESP:        g.Algorithms(),
		ESN:        g.ESP.ESN,
		ChildLife:  g.ESP.Lifetime.lifetime(),
		IKELife:    g.IKE.Lifetime.lifetime(),

		MaxChildren:  g.IKE.MaxChildren,
		Legacy:       g.Legacy.Allowed(),
		FragmentSize: g.IKE.FragmentSize,
		MOBIKE:       g.IKE.MOBIKE,
		Addresses:    g.External.Addresses(),
		Childless:    g.IKE.Childless,
		Tickets:      g.Resumption.Enabled,
		RekeyWithin:  time.Duration(g.Resumption.RekeyWithin),

		ExportKeys: c.Debug.KeyLog != "",
		Rand:       rand.Reader,
	}
	if len(g.Redirect.Devices) == 0 {
		built.IKE.RedirectTo = g.Redirect.To
	} else {
		built.RedirectTo, built.Redirected = g.Redirect.To, g.Redirect.Devices
	}
	if g.Resumption.Enabled {
		built.Resumption = &g.Resumption
	}
	b.warnLegacy()
	built.Warnings = b.warnings
	return built, nil
}

func (v Volume) limits() dataplane.Limits {
	return dataplane.Limits{Bytes: uint64(v.Bytes), Packets: v.Packets}
}

func (l Lifetime) lifetime() ike.Lifetime {
	return ike.Lifetime{Rekey: time.Duration(l.Rekey), Jitter: time.Duration(l.Jitter), Hard: time.Duration(l.Hard)}
}

// warnLegacy reminds of what should be switched off again.
func (b *builder) warnLegacy() {
	for _, s := range []struct {
		key, risk string
		on        bool
	}{
		{"sha1_signatures", "whoever makes a SHA-1 collision can be the device or the gateway", b.Gateway.Legacy.SHA1Signatures},
		{"hmac_sha1", "packets are guarded by 96 bits of HMAC-SHA-1", b.Gateway.Legacy.HMACSHA1},
		{"modp_1024", "recorded traffic can be decrypted by those who can afford it", b.Gateway.Legacy.MODP1024},
		{"triple_des", "long sessions leak their content (Sweet32)", b.Gateway.Legacy.TripleDES},
	} {
		if s.on {
			b.warn("gateway.legacy."+s.key, "on: %s; `gatewayd session list` tells which devices use it", s.risk)
		}
	}
}

// identification makes the payload for an identity: an IP address, an e-mail
// address or else a domain name (RFC 7296 section 3.5).
func identification(id string) *ikewire.ID {
	if a, err := netip.ParseAddr(id); err == nil {
		t := ikewire.IDIPv4Addr
		if a.Is6() {
			t = ikewire.IDIPv6Addr
		}
		return &ikewire.ID{IDType: t, Data: a.AsSlice()}
	}
	if strings.Contains(id, "@") {
		return &ikewire.ID{IDType: ikewire.IDRFC822Addr, Data: []byte(id)}
	}
	return &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(id)}
}

// builder collects what is wrong with the files.
type builder struct {
	*Config
	now      time.Time
	problems Problems
	warnings []string
	// chains of the credentials, and all CAs that are configured.
	chains [][]*x509.Certificate
	cas    []*x509.Certificate
	admit  admit.Config
}

func (b *builder) say(key, format string, args ...any) {
	b.problems = append(b.problems, b.Problem(key, fmt.Sprintf(format, args...)))
}

func (b *builder) warn(key, format string, args ...any) {
	b.warnings = append(b.warnings, b.Problem(key, fmt.Sprintf(format, args...)).Error())
}
