package admit

import (
	"fmt"
)

// Group of devices.
type Group struct {
	Name string
	// Devices by name; the case does not matter.
	Devices []string
	// Units are organizational units (OU, RFC 4519 section 2.20) as they stand in
	// the subject of a device's certificate.
	Units []string
}

// addGroups takes a device or a unit for one group only.
func (p *Policy) addGroups(groups []Group) error {
	p.byName, p.byUnit = make(map[string]string), make(map[string]int)
	for i, g := range groups {
		p.groups = append(p.groups, g.Name)
		for _, name := range g.Devices {
			device, err := DeviceName(name)
			if err != nil {
				return fmt.Errorf("group %q: %w", g.Name, err)
			}
			if other, twice := p.byName[device]; twice {
				return fmt.Errorf("device %s is in the groups %q and %q", device, other, g.Name)
			}
			p.byName[device] = g.Name
		}
		for _, unit := range g.Units {
			if other, twice := p.byUnit[unit]; twice {
				return fmt.Errorf("organizational unit %q is in the groups %q and %q", unit, p.groups[other], g.Name)
			}
			p.byUnit[unit] = i
		}
	}
	return nil
}

// groupOf a device: that which names it, or else that of the roll, or else the
// first in Config.Groups that has one of its units (those of a certificate have no
// order). With none of them it is unknown, unless it is on the roll: then it is in
// the group without a name.
func (p *Policy) groupOf(device string, units []string, onRoll string, known bool) (string, *Refusal) {
	if group, ok := p.byName[device]; ok {
		return group, nil
	}
	if onRoll != "" {
		return onRoll, nil
	}
	first := len(p.groups)
	for _, unit := range units {
		if i, ok := p.byUnit[unit]; ok {
			first = min(first, i)
		}
	}
	if first < len(p.groups) {
		return p.groups[first], nil
	}
	if known {
		return "", nil
	}
	if p.refuseUnknown {
		return "", refuseDevice(ReasonUnknownDevice, device, "device %s is in no group", device)
	}
	return p.group, nil
}
