package acl

import (
	"fmt"
	"net/netip"
)

// Group of devices: what they may reach, and how much.
type Group struct {
	// Name; the empty one is the default group.
	Name string
	// List in force; nil means everything.
	List *List
	// Device bounds each device and Total all devices together, each direction
	// by itself.
	Device, Total Rate
}

// Rate of packets; the zero value is no bound.
type Rate struct {
	// BytesPerSecond of IP packets.
	BytesPerSecond uint64
	// Burst in octets may come at once after a pause; at least MinBurst.
	Burst uint64
}

// Limited says whether there is a bound.
func (r Rate) Limited() bool { return r != Rate{} }

// Check says what is wrong with a rate. Errors: ErrList, wrapped.
func (r Rate) Check() error {
	if r.Limited() && (r.BytesPerSecond < MinRate || r.BytesPerSecond > MaxRate || r.Burst < MinBurst || r.Burst/r.BytesPerSecond > 3600) {
		return fmt.Errorf("%w: rate of %d octets a second with bursts of %d", ErrList, r.BytesPerSecond, r.Burst)
	}
	return nil
}

// CheckGroups says what is wrong with groups that are to be in force together.
// Errors: ErrList and ErrFull, wrapped.
func CheckGroups(groups []Group) error {
	if len(groups) > MaxGroups {
		return fmt.Errorf("%w: %d groups, at most %d", ErrFull, len(groups), MaxGroups)
	}
	seen := make(map[string]bool, len(groups))
	for _, g := range groups {
		if seen[g.Name] {
			return fmt.Errorf("%w: group %q twice", ErrList, g.Name)
		}
		seen[g.Name] = true
		for _, r := range []Rate{g.Device, g.Total} {
			if err := r.Check(); err != nil {
				return fmt.Errorf("group %q: %w", g.Name, err)
			}
		}
	}
	return nil
}

// Device is one Child SA's: all Child SAs with the same virtual addresses are of
// one device, in the group that was told last. An address that devices share is
// that of the one which was told last.
type Device struct {
	// SPI of the inbound Child SA, in host order.
	SPI uint32
	// Addresses are its virtual addresses.
	Addresses []netip.Addr
	Group     string
}
