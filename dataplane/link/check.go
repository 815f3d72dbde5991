package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Check says whether the external and the internal interface exist and are on
// separate subnets: otherwise packets could go round the gateway. Link-local
// subnets don't count, every interface has them. Errors: ErrNoInterface,
// ErrSameSubnet.
func Check(external, internal string) error {
	outside, err := subnets(external)
	if err != nil {
		return fmt.Errorf("external interface %q: %w", external, err)
	}
	inside, err := subnets(internal)
	if err != nil {
		return fmt.Errorf("internal interface %q: %w", internal, err)
	}
	if external == internal {
		return fmt.Errorf("%w: both are %q", ErrSameSubnet, external)
	}
	for _, o := range outside {
		for _, i := range inside {
			if o.Overlaps(i) {
				return fmt.Errorf("%w: %q is on %v, %q on %v", ErrSameSubnet, external, o, internal, i)
			}
		}
	}
	return nil
}

// subnets of an interface but the link-local ones.
func subnets(name string) ([]netip.Prefix, error) {
	l, err := byName(name)
	if err != nil {
		return nil, err
	}
	addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	for try := 0; errors.Is(err, netlink.ErrDumpInterrupted) && try < 10; try++ {
		addresses, err = netlink.AddrList(l, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var list []netip.Prefix
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		if ip.IsLinkLocalUnicast() {
			continue
		}
		ones, _ := a.Mask.Size()
		list = append(list, netip.PrefixFrom(ip, ones).Masked())
	}
	return list, nil
}

func byName(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil, ErrNoInterface
	}
	return l, err
}
