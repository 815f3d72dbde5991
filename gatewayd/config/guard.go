package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/roamgate/roamgate/bpf/guard"
)

// Guard is the XDP program before the gateway.
type Guard struct {
	Mode GuardMode `yaml:"mode" restart:"yes"`
	// Pins is a folder in a BPF file system; empty: the filter ends with the
	// gateway.
	Pins string `yaml:"pins" restart:"yes"`
	// Shield drops what isn't the gateway's but what an interface needs, and what
	// Allow names.
	Shield bool         `yaml:"shield"`
	Allow  []GuardAllow `yaml:"allow"`
	Rates  GuardRates   `yaml:"rates"`
}

// GuardAllow lets packets pass the shield; ports 0 and no network mean any.
type GuardAllow struct {
	From       netip.Prefix  `yaml:"from"`
	Protocol   GuardProtocol `yaml:"protocol"`
	Port       uint16        `yaml:"port"`
	RemotePort uint16        `yaml:"remote_port"`
}

// GuardRates of what strangers send, see [guard.Rates].
type GuardRates struct {
	Init         Rate `yaml:"init"`
	InitWide     Rate `yaml:"init_wide"`
	InitNarrow   Rate `yaml:"init_narrow"`
	Cookie       Rate `yaml:"cookie"`
	CookieNarrow Rate `yaml:"cookie_narrow"`
	Fragments    Rate `yaml:"fragments"`
	UnknownSPI   Rate `yaml:"unknown_spi"`
}

// Rate is how much passes on average, and at once after a pause.
type Rate struct {
	PerSecond int `yaml:"per_second"`
	Burst     int `yaml:"burst"`
}

// GuardMode says which XDP is used.
type GuardMode string

// Modes.
const (
	GuardAuto    GuardMode = "auto"
	GuardNative  GuardMode = "native"
	GuardGeneric GuardMode = "generic"
	GuardOff     GuardMode = "off"
)

func (GuardMode) names() []string { return []string{"auto", "native", "generic", "off"} }

// GuardProtocol is one that has ports, or any.
type GuardProtocol string

var guardProtocols = map[GuardProtocol]uint8{"": 0, "any": 0, "tcp": 6, "udp": 17}

// UnmarshalText reads a protocol's name.
func (p *GuardProtocol) UnmarshalText(b []byte) error {
	*p = GuardProtocol(b)
	if _, ok := guardProtocols[*p]; !ok {
		return errors.New("unknown protocol")
	}
	return nil
}

func (GuardProtocol) expected() string { return "one of any, tcp, udp" }

func rate(r guard.Rate) Rate { return Rate{r.PerSecond, r.Burst} }

func defaultGuard() Guard {
	r := guard.DefaultRates()
	return Guard{
		Mode: GuardAuto, Pins: "/sys/fs/bpf/gatewayd",
		Rates: GuardRates{
			Init: rate(r.Init), InitWide: rate(r.InitWide), InitNarrow: rate(r.InitNarrow),
			Cookie: rate(r.Cookie), CookieNarrow: rate(r.CookieNarrow), Fragments: rate(r.Fragment), UnknownSPI: rate(r.Report),
		},
	}
}

// Settings of the program.
func (g *Guard) Settings() guard.Settings {
	r := &g.Rates
	s := guard.Settings{
		Shield: g.Shield,
		Rates: guard.Rates{
			Init: guard.Rate(r.Init), InitWide: guard.Rate(r.InitWide), InitNarrow: guard.Rate(r.InitNarrow),
			Cookie: guard.Rate(r.Cookie), CookieNarrow: guard.Rate(r.CookieNarrow),
			Fragment: guard.Rate(r.Fragments), Report: guard.Rate(r.UnknownSPI),
		},
	}
	for _, a := range g.Allow {
		s.Allow = append(s.Allow, guard.Allow{
			Remote: a.From, Protocol: guardProtocols[a.Protocol], Port: a.Port, RemotePort: a.RemotePort,
		})
	}
	return s
}

func (v *validator) guard(g *Guard) {
	r := &g.Rates
	for _, named := range []struct {
		key  string
		rate Rate
	}{
		{"init", r.Init}, {"init_wide", r.InitWide}, {"init_narrow", r.InitNarrow}, {"cookie", r.Cookie},
		{"cookie_narrow", r.CookieNarrow}, {"fragments", r.Fragments}, {"unknown_spi", r.UnknownSPI},
	} {
		key := "gateway.guard.rates." + named.key
		v.between(key+".per_second", named.rate.PerSecond, 1, guard.MaxRate)
		v.between(key+".burst", named.rate.Burst, 1, guard.MaxRate)
	}
	v.between("gateway.guard.allow", len(g.Allow), 0, guard.MaxAllow)
	for i, a := range g.Allow {
		key := fmt.Sprintf("gateway.guard.allow[%d]", i)
		switch ports := a.Port != 0 || a.RemotePort != 0; {
		case a == (GuardAllow{}):
			v.say(key, "got an entry that says nothing, expected at least one of from, protocol, port, remote_port")
		case ports && guardProtocols[a.Protocol] == 0:
			v.say(key+".protocol", "got %q, expected tcp or udp, because a port is set", a.Protocol)
		}
	}
	// The kernel reserves names with dots in a BPF file system.
	if strings.HasPrefix(g.Pins, "/sys/fs/bpf/") && strings.Contains(g.Pins, ".") {
		v.say("gateway.guard.pins", "got %q, expected a folder without dots in its name", clip(g.Pins))
	}
}
