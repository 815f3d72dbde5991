package access

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Role of an administrator, in one instance.
type Role string

// Roles. What each may do is the table of package api.
const (
	// Server administrators look after the servers and gateways, and say who has
	// which role.
	Server Role = "server"
	// Device administrators manage devices: tasks, policies, groups.
	Device Role = "device"
	// Security administrators take away: they wipe and deactivate devices, revoke
	// roles and tokens, and read the record.
	Security Role = "security"
	// HelpDesk helps users: it looks, queries and locks.
	HelpDesk Role = "helpdesk"
	// Auditors read what was done, and change nothing.
	Auditor Role = "auditor"
)

// Roles that there are.
var Roles = []Role{Server, Device, Security, HelpDesk, Auditor}

// ParseRole by its name.
func ParseRole(name string) (Role, error) {
	if r := Role(name); slices.Contains(Roles, r) {
		return r, nil
	}
	return "", fmt.Errorf("%w: no role %.40q; there are %s", ErrInvalid, name, Everybody)
}

// Set of roles.
type Set uint8

// Sets. Nobody is the zero value.
const Nobody Set = 0

// Everybody who has a role at all.
var Everybody = SetOf(Roles...)

// SetOf roles.
func SetOf(roles ...Role) (s Set) {
	for _, r := range roles {
		if i := slices.Index(Roles, r); i >= 0 {
			s |= 1 << i
		}
	}
	return s
}

// ParseSet of names.
func ParseSet(names []string) (s Set, err error) {
	for _, n := range names {
		r, err := ParseRole(n)
		if err != nil {
			return Nobody, err
		}
		s |= SetOf(r)
	}
	return s, nil
}

// Has a role.
func (s Set) Has(r Role) bool { return s&SetOf(r) != 0 }

// Meets another set: they have a role in common.
func (s Set) Meets(o Set) bool { return s&o != 0 }

// Roles in the order of Roles.
func (s Set) Roles() []Role {
	list := make([]Role, 0, bits.OnesCount8(uint8(s)))
	for i, r := range Roles {
		if s&(1<<i) != 0 {
			list = append(list, r)
		}
	}
	return list
}

// Names in the order of Roles.
func (s Set) Names() []string {
	list := []string{}
	for _, r := range s.Roles() {
		list = append(list, string(r))
	}
	return list
}

func (s Set) String() string { return strings.Join(s.Names(), ", ") }
