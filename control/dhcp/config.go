package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
)

// Bounds of a Config. Longer lists of servers would be cut by the devices
// anyway; of networks a message of 576 octets has room for less than 60.
const (
	maxServers  = 8
	maxNetworks = 256
	maxDomain   = 253
)

// Config is what the answers say. IPv6 addresses and prefixes are left out:
// these options have no room for them.
type Config struct {
	// Server identifier (option 54), an IPv4 address of the host. Answers come
	// from it.
	Server netip.Addr
	// Networks behind the gateway (options 121 and 249); none: no routes.
	// 0.0.0.0/0 is told as its two halves, see [Answer].
	Networks []netip.Prefix
	// DNS (option 6) and WINS (option 44) servers, best first.
	DNS, WINS []netip.Addr
	// Domain name (option 15); empty: none.
	Domain string
}

// Validate names the first value that can't be. Its error is ErrConfig.
func (c *Config) Validate() error {
	server := c.Server.Unmap()
	switch {
	case !server.Is4() || server.IsUnspecified() || server.IsMulticast() || server == broadcast:
		return fmt.Errorf("%w: server is %v, expected an IPv4 address of the host", ErrConfig, c.Server)
	case len(c.Networks) > maxNetworks:
		return fmt.Errorf("%w: %d networks, expected at most %d", ErrConfig, len(c.Networks), maxNetworks)
	case len(c.DNS) > maxServers || len(c.WINS) > maxServers:
		return fmt.Errorf("%w: %d DNS and %d WINS servers, expected at most %d", ErrConfig, len(c.DNS), len(c.WINS), maxServers)
	case !validDomain(c.Domain):
		return fmt.Errorf("%w: domain is %q, expected a name of at most %d ASCII octets", ErrConfig, c.Domain, maxDomain)
	}
	for _, p := range c.Networks {
		if !p.IsValid() {
			return fmt.Errorf("%w: a network is not valid", ErrConfig)
		}
	}
	return nil
}

func (c Config) clone() *Config {
	c.Networks, c.DNS, c.WINS = slices.Clone(c.Networks), slices.Clone(c.DNS), slices.Clone(c.WINS)
	return &c
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// validDomain: printable ASCII without space. What a name may be made of
// besides is the administrator's matter.
func validDomain(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return len(name) <= maxDomain
}
