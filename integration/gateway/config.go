package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// Config is what scenarios vary in a gatewayd.yaml for the topology of
// integration/netns. What is zero is left to gatewayd's default. File names are
// relative to the folder of the file.
type Config struct {
	ID string
	// Backend that forwards; gatewayd's own choice where empty.
	Backend string
	// Certificate and Key are the first credential.
	Certificate, Key string
	MoreCredentials  []Credential
	// IPv6: devices may dial the IPv6 address too.
	IPv6 bool

	// Roots, Intermediates and CRLs of the devices.
	Roots, Intermediates, CRLs []string
	InstanceOIDs               []string
	Barred                     []string
	MaxCertificates            int

	Pools    []netip.Prefix
	DNS      []netip.Addr
	Domains  []string
	Networks []netip.Prefix

	IKE, ESP                 []string
	IKELifetime, ESPLifetime Lifetime
	// ESPSoft is how many octets a Child SA carries before it is rekeyed.
	ESPSoft int64
	// Legacy algorithms by the names of their switches.
	Legacy []string
	// Idle before liveness is asked, with few and quick questions.
	Idle time.Duration
	// Parking ends a session from which nothing came for so long.
	Parking time.Duration
	// HalfOpen ends IKE SAs that are not established by then.
	HalfOpen time.Duration
	// NoMOBIKE switches RFC 4555 off.
	NoMOBIKE bool
	// RedirectTo another gateway, those of RedirectDevices or, where there are
	// none, all.
	RedirectTo      string
	RedirectDevices []string

	// Records file; empty for none.
	Records string
	// KeyLog folder; empty for none.
	KeyLog string
	// Guard is the section of that name, in one line; one that ends with the
	// gateway where empty.
	Guard string
	// PProf tells profiles on the local socket.
	PProf bool
	// LogLevel; debug where empty.
	LogLevel string
	// Management is the section of that name, in one line; then nothing is
	// static.
	Management string
	// Extra lines at the end, as they are.
	Extra string
}

// Credential of the gateway.
type Credential struct{ Certificate, Key string }

// Lifetime of SAs by time, without jitter.
type Lifetime struct{ Rekey, Hard time.Duration }

// MetricsAt is where a gateway of this package tells its metrics, inside its
// namespace.
var MetricsAt = netip.MustParseAddrPort("127.0.0.1:9500")

// YAML is the text of the file.
func (c Config) YAML() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	list := func(indent, key string, values []string) {
		if len(values) > 0 {
			line("%s%s: [%s]", indent, key, strings.Join(values, ", "))
		}
	}
	line("state_dir: state")
	line("runtime_dir: run")
	line("log: {level: %s, format: text}", cmp.Or(c.LogLevel, "debug"))
	line("metrics: {listen: %q}", MetricsAt)
	if c.KeyLog != "" || c.PProf {
		line("debug:")
		line("  pprof: %v", c.PProf)
	}
	if c.KeyLog != "" {
		line("  key_log: %s", c.KeyLog)
	}
	line("gateway:")
	if c.Backend != "" {
		line("  backend: %s", c.Backend)
	}
	line("  external:")
	line("    interface: %s", netns.OutsideLink)
	line("    address: %s", netns.GatewayOutside)
	if c.IPv6 {
		list("    ", "more_addresses", quoted([]netip.Addr{netns.GatewayOutside6}))
	}
	line("  internal: {interface: %s}", netns.InsideLink)
	line("  identity:")
	line("    id: %s", c.ID)
	line("    credentials:")
	for _, credential := range append([]Credential{{c.Certificate, c.Key}}, c.MoreCredentials...) {
		line("      - {certificate: %s, key: %s}", credential.Certificate, credential.Key)
	}
	line("  trust:")
	list("    ", "roots", c.Roots)
	list("    ", "intermediates", c.Intermediates)
	list("    ", "crls", c.CRLs)
	list("    ", "instance_oids", c.InstanceOIDs)
	list("    ", "barred", c.Barred)
	if c.MaxCertificates > 0 {
		line("    max_certificates: %d", c.MaxCertificates)
	}
	section(&b, "  ike:", func() {
		list("    ", "proposals", c.IKE)
		c.IKELifetime.yaml(line)
		if c.Idle > 0 {
			line("    liveness: {idle: %s}", c.Idle)
			line("    retransmit: {timeout: 500ms, tries: 3}")
		}
		if c.Parking > 0 {
			line("    parking: {idle: %s}", c.Parking)
		}
		if c.HalfOpen > 0 {
			line("    half_open_timeout: %s", c.HalfOpen)
		}
		if c.NoMOBIKE {
			line("    mobike: false")
		}
	})
	section(&b, "  esp:", func() {
		list("    ", "proposals", c.ESP)
		c.ESPLifetime.yaml(line)
		if c.ESPSoft > 0 {
			line("    limits: {soft: {bytes: %d}, hard: {bytes: %d}}", c.ESPSoft, 1000*c.ESPSoft)
		}
	})
	section(&b, "  legacy:", func() {
		for _, name := range c.Legacy {
			line("    %s: true", name)
		}
	})
	if c.RedirectTo != "" {
		line("  redirect: {to: %q, devices: [%s]}", c.RedirectTo, strings.Join(c.RedirectDevices, ", "))
	}
	if c.Records != "" {
		line("  records: {file: %s}", c.Records)
	}
	line("  guard: %s", cmp.Or(c.Guard, `{pins: ""}`))
	if c.Management != "" {
		line("  management: %s", c.Management)
		return b.String() + c.Extra
	}
	line("  static:")
	list("    ", "pools", quoted(c.Pools))
	list("    ", "dns", quoted(c.DNS))
	list("    ", "domains", c.Domains)
	list("    ", "networks", quoted(c.Networks))
	return b.String() + c.Extra
}

// section writes a heading, unless nothing follows it.
func section(b *strings.Builder, heading string, content func()) {
	before := b.String()
	b.WriteString(heading + "\n")
	full := b.Len()
	if content(); b.Len() == full {
		b.Reset()
		b.WriteString(before)
	}
}

func (l Lifetime) yaml(line func(string, ...any)) {
	if l != (Lifetime{}) {
		line("    lifetime: {rekey: %s, jitter: 0s, hard: %s}", l.Rekey, l.Hard)
	}
}

// quoted, because of the colons of IPv6.
func quoted[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprintf("%q", v.String())
	}
	return out
}
