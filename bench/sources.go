package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/roamgate/roamgate/bench/target"
)

// sources are own addresses from which devices come, in turn. The zero value
// leaves it to the system.
type sources struct {
	from    string
	network netip.Prefix
}

func (s *sources) flag(l *pflag.FlagSet) {
	l.StringVar(&s.from, "from", "", "`network` of own addresses from which devices come in turn, because servers limit by address; default 127.16.0.0/12 towards 127.0.0.0/8")
}

// check the flag against where devices go to.
func (s *sources) check(to netip.Addr) error {
	if s.from == "" && to.Is4() && to.IsLoopback() {
		s.from = "127.16.0.0/12"
	}
	if s.from == "" {
		return nil
	}
	network, err := netip.ParsePrefix(s.from)
	if err != nil || network.Addr().Is4() != to.Is4() {
		return fmt.Errorf("%w: --from %q, want a network of the same family as the server's address", errUsage, s.from)
	}
	s.network = network.Masked()
	return nil
}

// source of a device; nil leaves it to the system. Those that come after each
// other are far apart, because servers limit by network, too. Networks have no
// broadcast address here: on loopback all are hosts.
func (s *sources) source(number uint64) net.Addr {
	if !s.network.IsValid() {
		return nil
	}
	host := min(s.network.Addr().BitLen()-s.network.Bits(), 31)
	octets := s.network.Addr().AsSlice()
	last := octets[len(octets)-4:]
	offset := bits.Reverse32(uint32(number%(1<<host))) >> (32 - host)
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)|offset)
	return &net.TCPAddr{IP: octets}
}

// allowed is the first address of a host, if that may be loaded.
func allowed(ctx context.Context, host string, port uint16, vouched bool) (netip.AddrPort, error) {
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(addresses) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s has no address", host)
	}
	to := addresses[0].Unmap()
	if err := target.Check(to, vouched); err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(to, port), nil
}
