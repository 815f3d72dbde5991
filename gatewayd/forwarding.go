package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/nft"
	"github.com/roamgate/roamgate/dataplane/userspace"
	"github.com/roamgate/roamgate/dataplane/xfrm"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// interfaceID of our xfrm interface, and of all that belongs to it in the kernel:
// "roam". One gateway has it in a network namespace.
const interfaceID = 0x726F616D

// forwarding is who forwards packets, and the interface they pass inside.
type forwarding struct {
	name string // of the interface
	why  string // this one
	// inKernel: packets come onto the interface out of the kernel's IPsec.
	inKernel bool
	// build makes the backend, once routes and forwarding are in place. bound:
	// a layer behind the interface checks where packets come from.
	build func(events chan<- dataplane.Event, bound bool) (dataplane.Backend, error)
	// kernel is who was built, where the kernel forwards.
	kernel *xfrm.Backend
}

// abilities of the kernel by their names in metrics, and what became of offloads;
// nothing where it doesn't forward.
func (f *forwarding) abilities() (able map[string]bool, offloads map[string]uint64) {
	if f.kernel == nil {
		return nil, nil
	}
	a, o := f.kernel.Abilities(), f.kernel.Offloads()
	return map[string]bool{"ipv6": a.IPv6, "direction": a.Direction, "udp_gro": a.GRO, "crypto_offload": a.Offload},
		map[string]uint64{"taken": o.Taken, "refused": o.Refused, "others": o.Others}
}

// forwardWith decides who forwards and makes the interface. probe is asked what
// the kernel can do, unless the configuration says userspace.
func forwardWith(c *config.Config, mtu int, logger *slog.Logger, undo *undoStack, probe func() xfrm.Abilities) (*forwarding, error) {
	why := "gateway.backend says so"
	kind := c.Gateway.Backend
	if kind != config.BackendUserspace {
		missing := kernelLacks(probe(), c)
		switch {
		case missing == nil && kind == config.BackendAuto:
			kind, why = config.BackendXFRM, "the kernel has ESP and xfrm interfaces"
		case missing != nil && kind == config.BackendAuto:
			kind, why = config.BackendUserspace, missing.Error()
		case missing != nil:
			return nil, c.Problem("gateway.backend", fmt.Sprintf("got xfrm, but %v", missing))
		}
	}
	if kind == config.BackendXFRM {
		return forwardInKernel(c, mtu, why, logger, undo)
	}
	return forwardHere(c, mtu, why, logger, undo)
}

// kernelLacks says what keeps the kernel from forwarding, nil if nothing does.
func kernelLacks(a xfrm.Abilities, c *config.Config) error {
	if err := a.Err(); err != nil {
		return err
	}
	if !a.IPv6 && slices.ContainsFunc(c.Gateway.External.Addresses(), netip.Addr.Is6) {
		return errors.New("the kernel has no ESP over IPv6")
	}
	return lacksAlgorithm(a.Algorithms, c)
}

func lacksAlgorithm(able []dataplane.Algorithm, c *config.Config) error {
	for _, alg := range c.Gateway.Algorithms() {
		if !slices.Contains(able, alg) {
			return fmt.Errorf("no ESP with %v, which gateway.esp.proposals has", alg)
		}
	}
	return nil
}

func forwardHere(c *config.Config, mtu int, why string, logger *slog.Logger, undo *undoStack) (*forwarding, error) {
	device, err := createInside(c, mtu)
	if err != nil {
		return nil, err
	}
	undo.push("interface "+device.name(), device.Close)
	// An earlier run may have forwarded in the kernel and been killed.
	if err := nft.UnclampMSS(device.name()); err != nil {
		return nil, fmt.Errorf("MSS rules of an earlier run: %w", err)
	}
	return &forwarding{name: device.name(), why: why, build: func(events chan<- dataplane.Event, _ bool) (dataplane.Backend, error) {
		children := maxChildren(c.Gateway.Limits.Sessions)
		return userspace.New(userspace.Config{
			Locals: locals(c.Gateway.External), Inside: device.queues(), Steering: device.steering(children, logger, undo),
			Interface: c.Gateway.External.Interface, Pools: c.Gateway.Static.Inside(),
			PathMTU: c.Gateway.Tunnel.PathMTU, CopyDSCP: c.Gateway.Tunnel.CopyDSCP,
			MaxChildren: children, Logger: logger,
		}, events)
	}}, nil
}

func forwardInKernel(c *config.Config, mtu int, why string, logger *slog.Logger, undo *undoStack) (*forwarding, error) {
	inside, err := xfrm.CreateInterface(c.Gateway.Tunnel.Name, interfaceID, mtu)
	if err != nil {
		return nil, err
	}
	undo.push("interface "+inside.Name(), inside.Close)
	if err := nft.ClampMSS(inside.Name(), mtu); err != nil {
		logger.Warn("the MSS of TCP is not clamped: hosts inside have to be told of the MTU by ICMP", slog.Int("mtu", mtu), slog.Any("error", err))
	} else {
		undo.push("MSS rules", func() error { return nft.UnclampMSS(inside.Name()) })
	}
	f := &forwarding{name: inside.Name(), why: why, inKernel: true}
	f.build = func(events chan<- dataplane.Event, bound bool) (dataplane.Backend, error) {
		var outside []xfrm.Local
		for _, at := range locals(c.Gateway.External) {
			outside = append(outside, xfrm.Local(at))
		}
		var err error
		f.kernel, err = xfrm.New(xfrm.Config{
			Locals: outside, Outside: c.Gateway.External.Interface,
			Inside: inside.Name(), IfID: interfaceID, Pools: c.Gateway.Static.Inside(), Common: commonSelectors(c),
			CopyDSCP: c.Gateway.Tunnel.CopyDSCP, Offload: c.Gateway.Offload, SourceBinding: bound,
			MaxChildren: maxChildren(c.Gateway.Limits.Sessions), Logger: logger,
		}, events)
		if err != nil {
			return nil, err
		}
		return f.kernel, nil
	}
	return f, nil
}

// commonSelectors are what devices are given, unless they ask for less: with them
// a device costs one policy.
func commonSelectors(c *config.Config) []dataplane.Selector {
	networks := c.Gateway.Static.Networks
	if len(networks) == 0 {
		return nil
	}
	prefixes := slices.Clone(networks)
	if a := c.Gateway.Tunnel.Address; a.IsValid() {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()), netip.PrefixFrom(broadcast, 32))
	}
	if a := c.Gateway.Tunnel.IPv6; a.IsValid() {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	selectors := make([]dataplane.Selector, len(prefixes))
	for i, p := range prefixes {
		selectors[i] = dataplane.Selector{First: p.Masked().Addr(), Last: xfrm.LastAddr(p), LastPort: 0xFFFF}
	}
	return selectors
}

// broadcast is where DHCPINFORM goes to.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
