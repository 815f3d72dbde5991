package xfrm

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// Local is one local address with its two ports. Port 0 draws one.
type Local struct {
	// IKE is for IKE alone (port 500), Encap for ESP in UDP and for IKE behind a
	// non-ESP marker (port 4500); both have the same address. Raw ESP goes to
	// that address, too.
	IKE, Encap netip.AddrPort
}

// Config of a Backend. It belongs to the network namespace of the thread that
// calls New.
type Config struct {
	// Locals are the addresses that peers reach us at, IPv4 and IPv6, at least
	// one.
	Locals []Local
	// Outside is the interface that the sockets are bound to; empty: none.
	Outside string
	// Inside is the xfrm interface, which exists and stays the caller's, see
	// [CreateInterface]. IfID is its ID; everything with that ID in this network
	// namespace is the backend's.
	Inside string
	IfID   uint32
	// Pools that virtual addresses come from, as far as they are known. Nobody is outside at
	// an address in them.
	Pools []netip.Prefix
	// Common are the local traffic selectors that most Child SAs have; those
	// that have others cost policies of their own. Empty: everything.
	Common []dataplane.Selector
	// SourceBinding says that a layer behind the interface checks by the SPI
	// that a packet comes from the device whose address it bears. Otherwise the
	// backend does, which for pools of both families costs policies for each
	// device: an SA of the kernel has a selector of one family only.
	SourceBinding bool
	// MaxChildren is how many SPIs may be reserved and installed at once; 0 is
	// 4,096.
	MaxChildren int
	// CopyDSCP shows the DSCP of inner packets on the outer ones. Otherwise
	// theirs is 0.
	CopyDSCP bool
	// Offload is the interface whose hardware seals and opens (crypto offload),
	// where it can; empty: none.
	Offload string
	// Logger is never used for a packet; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now. It has to be monotonic.
	Now func() time.Time
}

const (
	defaultMaxChildren = 4096
	limitChildren      = 1 << 20
)

func (c *Config) setDefaults() {
	if c.MaxChildren == 0 {
		c.MaxChildren = defaultMaxChildren
	}
	if len(c.Common) == 0 {
		c.Common = []dataplane.Selector{
			{First: netip.IPv4Unspecified(), Last: netip.AddrFrom4([4]byte{255, 255, 255, 255}), LastPort: 0xFFFF},
			{First: netip.IPv6Unspecified(), Last: LastAddr(netip.PrefixFrom(netip.IPv6Unspecified(), 0)), LastPort: 0xFFFF},
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func (c *Config) validate() error {
	switch {
	case len(c.Locals) == 0:
		return fmt.Errorf("%w: no local address", ErrConfig)
	case c.Inside == "" || c.IfID == 0:
		return fmt.Errorf("%w: no xfrm interface, or no ID of it", ErrConfig)
	case c.MaxChildren < 1 || c.MaxChildren > limitChildren:
		return fmt.Errorf("%w: %d children", ErrConfig, c.MaxChildren)
	}
	for _, at := range c.Locals {
		if at.IKE.Addr() != at.Encap.Addr() {
			return fmt.Errorf("%w: %v and %v are two addresses", ErrConfig, at.IKE, at.Encap)
		}
	}
	for i := range c.Common {
		if err := c.Common[i].Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return nil
}

// binding is how a device is kept from using another's virtual address.
type binding uint8

const (
	// bindElsewhere: a layer does it. Shared policies let the pools in.
	bindElsewhere binding = iota
	// bindSA: the selector of the inbound SA does it, for pools of one family.
	// Shared policies let the pools in.
	bindSA
	// bindPolicies: policies for each device name the SAs that may carry its
	// addresses, and there are no shared ones.
	bindPolicies
)

func (c *Config) binding() binding {
	if c.SourceBinding {
		return bindElsewhere
	}
	if len(c.Pools) == 0 {
		return bindPolicies
	}
	for _, p := range c.Pools[1:] {
		if p.Addr().Is4() != c.Pools[0].Addr().Is4() {
			return bindPolicies
		}
	}
	return bindSA
}
