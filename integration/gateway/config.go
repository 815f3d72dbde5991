package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// Config is what scenarios vary in a gatewayd.yaml for the topology of
// integration/netns. File names are relative to the folder of the file.
type Config struct {
	ID string
	// Certificate and Key; Roots and CRLs of the devices.
	Certificate, Key string
	Roots, CRLs      []string
	InstanceOIDs     []string
	Barred           []string
	Pool             netip.Prefix
	Networks         []netip.Prefix
	IKE, ESP         []string
	// Idle before liveness is asked; 0 leaves the default.
	Idle time.Duration
	// KeyLog folder; empty for none.
	KeyLog string
	// Extra lines at the end, as they are.
	Extra string
}

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
	line("log: {level: debug, format: text}")
	line("metrics: {listen: %q}", MetricsAt)
	if c.KeyLog != "" {
		line("debug: {key_log: %s}", c.KeyLog)
	}
	line("gateway:")
	line("  external: {interface: %s, address: %s}", netns.OutsideLink, netns.GatewayOutside)
	line("  internal: {interface: %s}", netns.InsideLink)
	line("  identity:")
	line("    id: %s", c.ID)
	line("    credentials: [{certificate: %s, key: %s}]", c.Certificate, c.Key)
	line("  trust:")
	list("    ", "roots", c.Roots)
	list("    ", "crls", c.CRLs)
	list("    ", "instance_oids", c.InstanceOIDs)
	list("    ", "barred", c.Barred)
	if len(c.IKE) > 0 || c.Idle > 0 {
		line("  ike:")
		list("    ", "proposals", c.IKE)
		if c.Idle > 0 {
			line("    liveness: {idle: %s}", c.Idle)
			line("    retransmit: {timeout: 500ms, tries: 3}")
		}
	}
	if len(c.ESP) > 0 {
		line("  esp:")
		list("    ", "proposals", c.ESP)
	}
	line("  static:")
	line("    pools: [%s]", c.Pool)
	list("    ", "networks", texts(c.Networks))
	return b.String() + c.Extra
}

func texts(prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.String()
	}
	return out
}
