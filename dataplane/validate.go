package dataplane

import (
	"fmt"
	"net/netip"
)

// minSPI: lower values are reserved (RFC 4303 section 2.1).
const minSPI SPI = 256

// Validate checks what makes a Child SA one, whatever the backend: that a
// backend knows its SPIs and addresses and can do its encapsulation is for the
// backend to say. Errors: ErrAlgorithm, ErrKeyLength, ErrInvalid, wrapped.
func (c *Child) Validate() error {
	encryption, integrity, ok := c.Algorithm.KeyLengths()
	if !ok {
		return fmt.Errorf("%w: ESP %v", ErrAlgorithm, c.Algorithm)
	}
	for _, sa := range []*SA{&c.Inbound, &c.Outbound} {
		if sa.SPI < minSPI {
			return fmt.Errorf("%w: SPI %d is reserved", ErrInvalid, sa.SPI)
		}
		if len(sa.Keys.Encryption) != encryption || len(sa.Keys.Integrity) != integrity {
			return fmt.Errorf("%w: ESP %v takes %d and %d octets, got %d and %d", ErrKeyLength,
				c.Algorithm, encryption, integrity, len(sa.Keys.Encryption), len(sa.Keys.Integrity))
		}
	}
	if err := validateVirtualIPs(c.VirtualIPs); err != nil {
		return err
	}
	for _, side := range [][]Selector{c.Local, c.Remote} {
		if len(side) == 0 {
			return fmt.Errorf("%w: no traffic selector", ErrInvalid)
		}
		for i := range side {
			if err := side[i].Validate(); err != nil {
				return err
			}
		}
	}
	return c.Path.Validate()
}

func validateVirtualIPs(addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return fmt.Errorf("%w: no virtual address", ErrInvalid)
	}
	if len(addrs) > 2 || len(addrs) == 2 && addrs[0].Is4() == addrs[1].Is4() {
		return fmt.Errorf("%w: more than one virtual address of a family: %v", ErrInvalid, addrs)
	}
	for _, a := range addrs {
		if !plain(a) {
			return fmt.Errorf("%w: virtual address %v", ErrInvalid, a)
		}
	}
	return nil
}

// Validate checks that both ranges are ranges. Errors: ErrInvalid, wrapped.
func (s *Selector) Validate() error {
	if !plain(s.First) || s.First.BitLen() != s.Last.BitLen() || s.Last.Zone() != "" || s.Last.Less(s.First) || s.LastPort < s.FirstPort {
		return fmt.Errorf("%w: traffic selector %v-%v, ports %d-%d", ErrInvalid, s.First, s.Last, s.FirstPort, s.LastPort)
	}
	return nil
}

// Validate checks that the ends are of one family and, where they are used,
// have ports. Errors: ErrInvalid, wrapped.
func (p Path) Validate() error {
	local, remote := p.Local.Addr(), p.Remote.Addr()
	ok := plain(local) && plain(remote) && local.Is4() == remote.Is4()
	switch p.Encapsulation {
	case EncapsulationUDP:
		ok = ok && p.Local.Port() != 0 && p.Remote.Port() != 0
	case EncapsulationNone:
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%w: path %v to %v", ErrInvalid, p.Local, p.Remote)
	}
	return nil
}

// plain: an IPv4 or IPv6 address and nothing of both, without a zone.
func plain(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }
