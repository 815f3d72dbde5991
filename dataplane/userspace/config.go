package userspace

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// Inside is the device to the networks behind the gateway: a *tun.Device, or
// something else that carries frames of a virtio header and an IP packet.
type Inside interface {
	// FD is polled for input.
	FD() int
	// Read stores one frame in p and returns its length; without a frame it
	// returns unix.EAGAIN. It doesn't block.
	Read(p []byte) (int, error)
	// Write and WriteVector take one frame, WriteVector in parts; where they can't
	// at once, they fail. They don't keep it.
	tun.Writer
	// USO says that frames may be UDP super-packets.
	USO() bool
	// Overflowed is for how many frames the device, all of its queues, had no room.
	Overflowed() uint64
}

// Steering tells the kernel which loop owns what. It is about speed: whatever
// arrives elsewhere is passed on between the loops.
type Steering interface {
	// Sockets are those for UDP encapsulation of one local address, in the order
	// of the loops, members of one SO_REUSEPORT group: ESP goes to the loop in its
	// SPI, see LoopOf.
	Sockets(fds []int) error
	// Own says that packets to a virtual address belong to a loop, Disown that they
	// belong to none.
	Own(virtual netip.Addr, loop int) error
	Disown(virtual netip.Addr) error
}

// Local is one local address with its two ports. Port 0 draws one.
type Local struct {
	// IKE is for IKE alone (port 500), Encap for ESP in UDP and for IKE behind a
	// non-ESP marker (port 4500); both have the same address.
	IKE, Encap netip.AddrPort
}

// Config of a Backend.
type Config struct {
	// Locals are the addresses that peers reach us at, IPv4 and IPv6, at least
	// one.
	Locals []Local
	// Interface that the sockets are bound to, so that nothing of the outside
	// takes another way, into the inside device least of all; empty: none.
	Interface string
	// Pools that virtual addresses come from. Nobody is outside at an address in
	// them, nor at a virtual address of an installed child: what comes from
	// there is dropped, and no path leads there. They are those of the start;
	// see outside.go why pools that come later need not be told.
	Pools []netip.Prefix
	// Inside are the queues of the inside device, one for each loop, at most 32.
	// They stay the caller's, who closes them after the backend.
	Inside []Inside
	// Steering, where it isn't nil, brings to each loop what it owns. It is used
	// with several loops only.
	Steering Steering
	// PathMTU of every outer path in octets; 0 is 1,500. With an IPv6 address
	// among Locals it is at least 1,280. ICMP doesn't change it. Where IPv6
	// senders inside need more than it leaves them, 1,280 octets, the outer
	// packet is fragmented at the MTU of its interface: keep that one no larger.
	PathMTU int
	// MaxChildren is how many SPIs may be reserved and installed at once; 0 is
	// 4,096, and at most about a million are possible.
	MaxChildren int
	// ActiveChildren is for how many children of a loop ciphers are kept ready, at
	// about 1 KiB for each direction; for others they are made again when a packet
	// comes, in about 1 us. 0 is as many as a sixteenth of the machine's memory
	// holds, 8,192 at least. They take memory only while they move packets, see
	// cipherCache.
	ActiveChildren int
	// Singly opens and seals each packet by itself also where Batches says that a
	// round's are done together.
	Singly bool
	// CopyDSCP shows the DSCP of inner packets on the outer ones. Otherwise
	// theirs is 0.
	CopyDSCP bool
	// Member, 0 or 1, tells the SPIs of the two processes of a hand-over apart.
	Member uint8
	// Logger is never used for a packet; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now. It has to be monotonic.
	Now func() time.Time
}

const (
	defaultPathMTU     = 1500
	defaultMaxChildren = 4096
	maxLoops           = 1 << loopBits
	maxPathMTU         = 65535
)

func (c *Config) setDefaults() {
	if c.PathMTU == 0 {
		c.PathMTU = defaultPathMTU
	}
	if c.MaxChildren == 0 {
		c.MaxChildren = defaultMaxChildren
	}
	if c.ActiveChildren == 0 {
		c.ActiveChildren = activeChildren(max(1, len(c.Inside)))
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
	case len(c.Inside) == 0 || slices.Contains(c.Inside, nil):
		return fmt.Errorf("%w: no inside device", ErrConfig)
	case len(c.Inside) > maxLoops:
		return fmt.Errorf("%w: %d loops", ErrConfig, len(c.Inside))
	case len(c.Locals) > 256:
		return fmt.Errorf("%w: %d local addresses", ErrConfig, len(c.Locals))
	case c.ActiveChildren < 1:
		return fmt.Errorf("%w: %d active children", ErrConfig, c.ActiveChildren)
	case len(c.Locals) == 0:
		return fmt.Errorf("%w: no local address", ErrConfig)
	case c.PathMTU < 0 || c.PathMTU > maxPathMTU:
		return fmt.Errorf("%w: path MTU %d", ErrConfig, c.PathMTU)
	case c.MaxChildren < 1 || c.MaxChildren > maxSlots-firstSlot:
		return fmt.Errorf("%w: %d children", ErrConfig, c.MaxChildren)
	case c.Member > 1:
		return fmt.Errorf("%w: member %d", ErrConfig, c.Member)
	}
	for _, at := range c.Locals {
		if err := c.validateLocal(at); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return nil
}

func (c *Config) validateLocal(at Local) error {
	addr := at.Encap.Addr()
	if at.IKE.Addr() != addr {
		return fmt.Errorf("%v and %v are two addresses", at.IKE, at.Encap)
	}
	if addr.Is6() && c.PathMTU < minIPv6MTU {
		return fmt.Errorf("path MTU %d for IPv6 at %v", c.PathMTU, addr)
	}
	// The weakest child decides whether the path is of any use.
	for _, alg := range features().Algorithms {
		if _, err := InnerMTU(c.PathMTU, alg, addr.Is6()); err != nil {
			return err
		}
	}
	return nil
}

func features() dataplane.Features {
	return dataplane.Features{Name: "userspace", Algorithms: esp.Supported(), ESN: true}
}
