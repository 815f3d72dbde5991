package lease

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"
)

const (
	defaultQueue        = 4096
	defaultSaveInterval = 10 * time.Minute
)

// Config of a Registry.
type Config struct {
	// Pools that addresses come from, IPv4 or IPv6, in the order in which they
	// are used up. They don't overlap and have no host bits set. Without any,
	// only what is assigned elsewhere is granted.
	Pools []netip.Prefix
	// Neighbours are the pools of other gateways that devices come from with
	// their address, see Request.Entitled. Nothing else is given out of them.
	// They don't overlap with each other or with Pools.
	Neighbours []netip.Prefix
	// Exclude lists addresses that are not handed out, such as the gateway's
	// own. They may lie outside the pools.
	Exclude []netip.Addr
	// Queue is how many requests may wait; 0 means 4,096. Not changed by
	// Reconfigure.
	Queue int
	// SaveInterval is how long the time of last use may be only in memory; 0
	// means ten minutes. Not changed by Reconfigure.
	SaveInterval time.Duration
}

// Validate returns an error that wraps ErrConfig and names the value that is
// wrong and what was expected, or nil.
func (c Config) Validate() error {
	_, err := c.build()
	return err
}

// nonUnicast are ranges that no host may have as its address: RFC 1122 section
// 3.2.1.3, RFC 5771, RFC 1112 section 4, RFC 4291 section 2.4.
var nonUnicast = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/127"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// build turns the configuration into empty address spaces.
func (c Config) build() ([numFamilies]space, error) {
	var spaces [numFamilies]space
	if c.Queue < 0 {
		return spaces, fmt.Errorf("%w: queue %d is negative", ErrConfig, c.Queue)
	}
	if c.SaveInterval < 0 {
		return spaces, fmt.Errorf("%w: save interval %v is negative", ErrConfig, c.SaveInterval)
	}
	excluded := make(map[netip.Addr]struct{}, len(c.Exclude))
	for _, a := range c.Exclude {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return spaces, fmt.Errorf("%w: excluded address %v: want a plain IPv4 or IPv6 address", ErrConfig, a)
		}
		excluded[a] = struct{}{}
	}
	for i := range spaces {
		spaces[i].excluded = excluded
	}
	for i, p := range c.Pools {
		if err := checkPool(p, c.Pools[:i]); err != nil {
			return spaces, err
		}
		spaces[familyOf(p.Addr())].add(p)
	}
	for i, p := range c.Neighbours {
		if err := checkPool(p, slices.Concat(c.Pools, c.Neighbours[:i])); err != nil {
			return spaces, err
		}
		sp := &spaces[familyOf(p.Addr())]
		sp.neighbours = append(sp.neighbours, p)
	}
	for f := range spaces {
		sp := &spaces[f]
		for a := range maps.Keys(excluded) {
			if sp.inPools(a) && sp.capacity != math.MaxUint64 {
				sp.capacity--
			}
		}
		if len(sp.pools) > 0 && sp.capacity == 0 {
			return spaces, fmt.Errorf("%w: every %v address is excluded", ErrConfig, Family(f))
		}
	}
	return spaces, nil
}

func checkPool(p netip.Prefix, before []netip.Prefix) error {
	if !p.IsValid() {
		return fmt.Errorf("%w: %v is not a prefix", ErrConfig, p)
	}
	if p.Addr().Is4In6() {
		return fmt.Errorf("%w: pool %v: write an IPv4 pool as such", ErrConfig, p)
	}
	if p != p.Masked() {
		return fmt.Errorf("%w: pool %v has host bits set, want %v", ErrConfig, p, p.Masked())
	}
	for _, n := range nonUnicast {
		if p.Overlaps(n) {
			return fmt.Errorf("%w: pool %v overlaps %v, which holds no host addresses", ErrConfig, p, n)
		}
	}
	for _, b := range before {
		if p.Overlaps(b) {
			return fmt.Errorf("%w: pool %v overlaps pool %v", ErrConfig, p, b)
		}
	}
	return nil
}

// samePools: both configurations hand out the same addresses in the same order.
func (c Config) samePools(d Config) bool {
	return slices.Equal(c.Pools, d.Pools) && slices.Equal(c.Neighbours, d.Neighbours) && slices.Equal(c.Exclude, d.Exclude)
}

// clone doesn't share memory with what the caller may change.
func (c Config) clone() Config {
	c.Pools, c.Neighbours, c.Exclude = slices.Clone(c.Pools), slices.Clone(c.Neighbours), slices.Clone(c.Exclude)
	return c
}
