package userspace

import (
	"fmt"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

const (
	// minIPv4MTU is what every IPv4 link carries (RFC 791 section 3.2),
	// minIPv6MTU what every IPv6 link carries (RFC 8200 section 5).
	minIPv4MTU = 68
	minIPv6MTU = 1280
)

// InnerMTU is the length in octets of the longest inner packet whose ESP in UDP
// packet fits through a path: what the MTU of the inside device has to be for
// children of alg; with paths of both families, that of IPv6 is the one that
// fits through all. Errors: dataplane.ErrAlgorithm; dataplane.ErrInvalid where
// pathMTU leaves no room for an IPv4 packet.
func InnerMTU(pathMTU int, alg dataplane.Algorithm, outerIPv6 bool) (int, error) {
	layout, err := esp.LayoutOf(alg)
	if err != nil {
		return 0, err
	}
	return innerMTU(pathMTU, layout, outerIPv6)
}

// innerMTU takes the layout of a transform or the transform itself.
func innerMTU(pathMTU int, layout interface{ SealedLen(n int) int }, outerIPv6 bool) (int, error) {
	room := pathMTU - udpHeaderLen - ipv4HeaderLen
	if outerIPv6 {
		room = pathMTU - udpHeaderLen - ipv6HeaderLen
	}
	n := room
	for n >= minIPv4MTU && layout.SealedLen(n) > room {
		n--
	}
	if n < minIPv4MTU {
		return 0, fmt.Errorf("%w: path MTU %d leaves %d for inner packets", dataplane.ErrInvalid, pathMTU, n)
	}
	return n, nil
}

// mtuFor is the length in octets of the longest packet that may enter a tunnel
// of that inner MTU. Below 1,280 an IPv6 sender can't go; the outer packet is
// fragmented then (RFC 2473 section 7.1).
func mtuFor(p *packet, inner int) int {
	if p.v6 {
		return max(inner, minIPv6MTU)
	}
	return inner
}
