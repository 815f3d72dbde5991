package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/admit"
)

// Access says how access lists are enforced.
type Access struct {
	Enforce Enforce `yaml:"enforce"`
}

// Group of devices of a gateway without a manager.
type Group struct {
	Name string `yaml:"name"`
	// Devices by name, and Units by the OU of their certificates.
	Devices []string `yaml:"devices"`
	Units   []string `yaml:"organizational_units"`
	// Rules are the access list; empty means everything.
	Rules []AccessRule `yaml:"rules"`
	// DeviceRate bounds each device, GroupRate all of them together.
	DeviceRate BitRate `yaml:"device_rate"`
	GroupRate  BitRate `yaml:"group_rate"`
}

// Names of groups that mean something.
const (
	// DefaultGroup is that of admitted devices that are in no other; its name
	// inside is the empty one.
	DefaultGroup = "default"
	// QuarantineGroup is that of unknown devices, if they are quarantined.
	QuarantineGroup = "quarantine"
)

// Enforce says by what.
type Enforce string

// Ways of enforcing.
const (
	EnforceAuto     Enforce = "auto"
	EnforceBPF      Enforce = "bpf"
	EnforceNFTables Enforce = "nftables"
)

func (Enforce) names() []string { return []string{"auto", "bpf", "nftables"} }

// UnknownDevices says what becomes of devices that no group names.
type UnknownDevices string

// What becomes of them.
const (
	UnknownAdmit      UnknownDevices = "admit"
	UnknownQuarantine UnknownDevices = "quarantine"
	UnknownRefuse     UnknownDevices = "refuse"
)

func (UnknownDevices) names() []string { return []string{"admit", "quarantine", "refuse"} }

// AccessRule is a rule as it is written: "any" is one for each address family.
type AccessRule struct {
	text  string
	rules []acl.Rule
}

// UnmarshalText reads a rule.
func (r *AccessRule) UnmarshalText(b []byte) (err error) {
	r.text = string(b)
	r.rules, err = acl.Parse(r.text)
	return err
}

// MarshalText writes what was read.
func (r AccessRule) MarshalText() ([]byte, error) { return []byte(r.text), nil }

func (AccessRule) expected() string { return acl.Form }

// BitRate in bits a second; 0 is no bound.
type BitRate uint64

var bitUnits = []struct {
	suffix string
	factor uint64
}{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}}

// UnmarshalText reads "50Mbit", or 0.
func (r *BitRate) UnmarshalText(b []byte) error {
	if string(b) == "0" {
		*r = 0
		return nil
	}
	for _, u := range bitUnits {
		digits, ok := strings.CutSuffix(string(b), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err == nil && (n > acl.MaxRate*8/u.factor || n*u.factor < acl.MinRate*8) {
			err = strconv.ErrRange
		}
		*r = BitRate(n * u.factor)
		return err
	}
	return strconv.ErrSyntax
}

// MarshalText uses the largest unit that is exact.
func (r BitRate) MarshalText() ([]byte, error) {
	for _, u := range bitUnits {
		if n := uint64(r) / u.factor; n > 0 && n*u.factor == uint64(r) {
			return fmt.Appendf(nil, "%d%s", n, u.suffix), nil
		}
	}
	return []byte("0"), nil
}

func (BitRate) expected() string { return "a rate from 8kbit to 1000Gbit such as 50Mbit, or 0" }

// rate with a burst of a tenth of a second, or what super-packets need.
func (r BitRate) rate() acl.Rate {
	if r == 0 {
		return acl.Rate{}
	}
	octets := uint64(r) / 8
	return acl.Rate{BytesPerSecond: octets, Burst: max(octets/10, acl.MinBurst)}
}

// AlertPort is where alerts of a managed gateway come from, and go to: wap-push.
const AlertPort = 2948

// maxGroupName bounds what stands in records, logs and the pushed document.
const maxGroupName = 32

func (v *validator) groups(s *Static) {
	const key = "gateway.static.groups"
	if n := len(s.Groups); n >= acl.MaxGroups { // with the default one
		v.say(key, "got %d, expected less than %d", n, acl.MaxGroups)
	}
	names, devices, units := map[string]string{}, map[string]string{}, map[string]string{}
	once := func(seen map[string]string, key, what, group string) {
		if first, twice := seen[what]; twice {
			v.say(key, "got %q, which is in the group %q already, expected it in one", clip(what), first)
		}
		seen[what] = group
	}
	for i, g := range s.Groups {
		at := fmt.Sprintf("%s[%d]", key, i)
		if name, err := admit.DeviceName(g.Name); err != nil || name != g.Name || len(name) > maxGroupName {
			v.say(at+".name", "got %q, expected a name of at most %d lower-case letters, digits, '.', '_' and '-'", clip(g.Name), maxGroupName)
		}
		once(names, at+".name", g.Name, g.Name)
		for j, d := range g.Devices {
			at := fmt.Sprintf("%s.devices[%d]", at, j)
			name, err := admit.DeviceName(d)
			if err != nil {
				v.say(at, "got %q, expected the name of a device: %v", clip(d), err)
				continue
			}
			once(devices, at, name, g.Name)
		}
		for j, u := range g.Units {
			at := fmt.Sprintf("%s.organizational_units[%d]", at, j)
			if u == "" {
				v.say(at, "got nothing, expected an organizational unit as it stands in certificates")
			}
			once(units, at, u, g.Name)
		}
		if _, err := acl.New(g.rules()); err != nil {
			v.say(at+".rules", "%v", err)
		}
	}
	if _, ok := names[QuarantineGroup]; s.UnknownDevices == UnknownQuarantine && !ok {
		v.say("gateway.static.unknown_devices", "got quarantine, expected a group with that name in %s", key)
	}
}

func (g Group) rules() []acl.Rule {
	var all []acl.Rule
	for _, r := range g.Rules {
		all = append(all, r.rules...)
	}
	return all
}

// inside is the name of a group everywhere but in the file.
func (g Group) inside() string {
	if g.Name == DefaultGroup {
		return ""
	}
	return g.Name
}

// accessGroups are what is to be in force: those of the file, and the default
// one. What the gateway itself answers inside the tunnel no list keeps away.
func (b *builder) accessGroups() []acl.Group {
	var services []acl.Rule
	if a := b.Gateway.Tunnel.Address; a.IsValid() {
		for _, to := range []netip.Addr{a, broadcast} {
			services = append(services, acl.Rule{Allow: true, Remote: netip.PrefixFrom(to, to.BitLen()), Protocol: acl.UDP, First: 67, Last: 67})
		}
	}
	// And alerts, from the gateway's port for them.
	for _, a := range b.Gateway.Tunnel.Addresses() {
		if !b.Managed() {
			break
		}
		services = append(services, acl.Rule{Allow: true, Remote: netip.PrefixFrom(a, a.BitLen()), Protocol: acl.UDP, First: AlertPort, Last: AlertPort})
	}
	groups := []acl.Group{}
	for i, g := range b.Gateway.Static.Groups {
		out := acl.Group{Name: g.inside(), Device: g.DeviceRate.rate(), Total: g.GroupRate.rate()}
		if len(g.Rules) > 0 {
			list, err := acl.New(append(slices.Clone(services), g.rules()...))
			if err != nil {
				b.say(fmt.Sprintf("gateway.static.groups[%d].rules", i), "%v", err)
			}
			out.List = list
		}
		groups = append(groups, out)
	}
	if !slices.ContainsFunc(groups, func(g acl.Group) bool { return g.Name == "" }) {
		groups = append(groups, acl.Group{})
	}
	return groups
}

// admitGroups says who is in which.
func (s Static) admitGroups(c *admit.Config) {
	for _, g := range s.Groups {
		c.Groups = append(c.Groups, admit.Group{Name: g.inside(), Devices: g.Devices, Units: g.Units})
	}
	if s.UnknownDevices == UnknownQuarantine {
		c.Group = QuarantineGroup
	}
	c.RefuseUnknown = s.UnknownDevices == UnknownRefuse
}
