package guard

import (
	"fmt"
	"net/netip"
)

// Mode of XDP.
type Mode uint8

const (
	// Auto takes native XDP where the driver has it, generic XDP otherwise.
	Auto Mode = iota
	// Native runs in the driver, before the kernel has made anything of a frame.
	Native
	// Generic runs after that, on every interface.
	Generic
)

// String for people.
func (m Mode) String() string { return [...]string{"auto", "native", "generic"}[m%3] }

// Limits of the program.
const (
	MaxSPIs   = 1 << 20
	MaxLocals = 64
	MaxAllow  = 64
)

// Config of a guard; all but Settings holds until it is closed.
type Config struct {
	// Interface is the index of the side of the devices.
	Interface int
	Mode      Mode
	// Locals are the gateway's outer addresses; IKEPort takes IKE, EncapPort IKE
	// and ESP in UDP.
	Locals             []netip.Addr
	IKEPort, EncapPort uint16
	// SPIs is how many there may be, Sources how many source prefixes are
	// remembered. An SPI takes about 70 octets when it is there, a source 90
	// always.
	SPIs, Sources int
	// Dir is a folder in a BPF file system, of this guard alone. What [Guard.Pin]
	// pins there keeps filtering in force when the daemon ends, and is taken over
	// by the next one. Empty: the filter ends with the daemon.
	Dir string
	Settings
}

// Settings can change while the guard works.
type Settings struct {
	Rates Rates
	// Shield drops what isn't the gateway's, except for what an interface needs
	// (ARP, neighbour discovery, ICMP, DHCP) and what Allow lets pass.
	Shield bool
	Allow  []Allow
}

// Rate is how much passes on average, and at once after a pause.
type Rate struct{ PerSecond, Burst int }

// Rates for strangers.
type Rates struct {
	// Init: first messages of IKE SAs, without a cookie; all, those of an IPv4 /24
	// or IPv6 /56, those of an IPv4 address or IPv6 /64. Beyond, a cookie is asked
	// for.
	Init, InitWide, InitNarrow Rate
	// Cookie: the same with a valid cookie; all, and those of an IPv4 address or
	// IPv6 /64. Beyond, they are dropped.
	Cookie, CookieNarrow Rate
	// Fragment that isn't the first of its packet.
	Fragment Rate
	// Report of an unknown SPI.
	Report Rate
}

// DefaultRates suit a gateway of some ten thousand devices.
func DefaultRates() Rates {
	return Rates{
		Init: Rate{1000, 1000}, InitWide: Rate{200, 200}, InitNarrow: Rate{50, 100},
		Cookie: Rate{2000, 4000}, CookieNarrow: Rate{200, 500},
		Fragment: Rate{10000, 10000}, Report: Rate{100, 100},
	}
}

// Allow lets packets pass in shield mode: from Remote, of Protocol, to Port of
// this host and from RemotePort. Zero values mean any; ports are those of TCP
// and UDP.
type Allow struct {
	Remote           netip.Prefix
	Protocol         uint8
	Port, RemotePort uint16
}

// MaxRate in packets a second, and at once.
const MaxRate = 100_000_000

func (r Rate) validate(name string) error {
	if r.PerSecond < 1 || r.PerSecond > MaxRate || r.Burst < 1 || r.Burst > MaxRate {
		return fmt.Errorf("%w: rate %s is %d a second, %d at once: must be 1 to %d", ErrConfig, name, r.PerSecond, r.Burst, MaxRate)
	}
	return nil
}

// Validate names the first value that can't be.
func (s *Settings) Validate() error {
	r := &s.Rates
	for _, named := range []struct {
		name string
		rate Rate
	}{
		{"Init", r.Init}, {"InitWide", r.InitWide}, {"InitNarrow", r.InitNarrow},
		{"Cookie", r.Cookie}, {"CookieNarrow", r.CookieNarrow}, {"Fragment", r.Fragment}, {"Report", r.Report},
	} {
		if err := named.rate.validate(named.name); err != nil {
			return err
		}
	}
	if len(s.Allow) > MaxAllow {
		return fmt.Errorf("%w: %d entries to allow, at most %d", ErrConfig, len(s.Allow), MaxAllow)
	}
	return nil
}

func (c *Config) validate() error {
	switch {
	case c.Interface < 1:
		return fmt.Errorf("%w: interface index %d", ErrConfig, c.Interface)
	case len(c.Locals) == 0 || len(c.Locals) > MaxLocals:
		return fmt.Errorf("%w: %d local addresses, must be 1 to %d", ErrConfig, len(c.Locals), MaxLocals)
	case c.IKEPort == 0 || c.EncapPort == 0 || c.IKEPort == c.EncapPort:
		return fmt.Errorf("%w: ports %d and %d", ErrConfig, c.IKEPort, c.EncapPort)
	case c.SPIs < 1 || c.SPIs > MaxSPIs:
		return fmt.Errorf("%w: %d SPIs, must be 1 to %d", ErrConfig, c.SPIs, MaxSPIs)
	case c.Sources < 1 || c.Sources > 1<<22:
		return fmt.Errorf("%w: %d sources", ErrConfig, c.Sources)
	}
	return c.Settings.Validate()
}
