package dhcp

import "net/netip"

// maxRouteLen is the length of the longest route: width, address, router.
const maxRouteLen = 1 + 4 + 4

// appendRoute writes an IPv4 route in the format of RFC 3442: the width of the
// mask, those octets of the network that the mask touches, the router.
func appendRoute(b []byte, network netip.Prefix, router netip.Addr) []byte {
	network = network.Masked()
	address := network.Addr().As4()
	b = append(b, byte(network.Bits()))
	b = append(b, address[:(network.Bits()+7)/8]...)
	return append(b, router.AsSlice()...)
}

// onLink as a router says that there is none (RFC 3442, "Local Subnet Routes").
var onLink = netip.IPv4Unspecified()

var halves = [2]netip.Prefix{
	netip.PrefixFrom(netip.IPv4Unspecified(), 1),
	netip.PrefixFrom(netip.AddrFrom4([4]byte{128}), 1),
}

// routes of a configuration, encoded one by one.
func routes(networks []netip.Prefix) [][]byte {
	list := make([][]byte, 0, len(networks)+1)
	add := func(p netip.Prefix) {
		list = append(list, appendRoute(make([]byte, 0, maxRouteLen), p, onLink))
	}
	for _, p := range networks {
		switch {
		case !p.Addr().Is4():
		case p.Bits() == 0:
			add(halves[0])
			add(halves[1])
		default:
			add(p)
		}
	}
	return list
}

// fitting joins as many routes, from the first on, as an option of at most room
// octets holds.
func fitting(list [][]byte, room int) (value []byte, count int) {
	for _, r := range list {
		if optionLen(len(value)+len(r)) > room {
			break
		}
		value = append(value, r...)
		count++
	}
	return value, count
}
