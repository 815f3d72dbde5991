// Package doctor looks at the host and says what it can do, what gatewayd will
// therefore use, and what is missing. It looks and changes nothing: no module
// is loaded, no interface made, no setting written.
//
// What lives here: one function a question, a file a subject. What doesn't: the
// configuration's own errors (package config).
package doctor

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/dataplane/xfrm"
)

// State of a check.
type State string

// States. Only Fail keeps the gateway from running.
const (
	OK   State = "ok"
	Info State = "info" // not there, and not needed
	Warn State = "warn"
	Fail State = "fail"
)

// Check is one question and its answer.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Found is what is there, Means what gatewayd does about it, Do what the
	// administrator can do; the latter two may be empty.
	Found string `json:"found"`
	Means string `json:"means,omitempty"`
	Do    string `json:"do,omitempty"`
}

// Config is what the gateway is going to use; zero values are not checked.
type Config struct {
	External, Internal string
	// Addresses that devices dial, each with all Ports.
	Addresses []netip.Addr
	Ports     []uint16
	Metrics   netip.AddrPort
	// IPv6 addresses are given to devices.
	IPv6 bool
	// Bundles: the external interface puts datagrams together.
	Bundles bool
	// DHCP: DHCPINFORM is answered inside the tunnel.
	DHCP bool
	// Lists: groups of devices have access lists.
	Lists bool
	// Guard is gateway.guard.mode; empty isn't checked. GuardPins is the folder of
	// its pins, GuardState what the running gateway says of it.
	Guard, GuardPins, GuardState string
	// Backend that the configuration names, and what keeps the kernel from
	// being it, nil where nothing does.
	Backend     string
	KernelLacks func(xfrm.Abilities) error
	// Running: a gateway runs with this configuration and holds the ports.
	Running bool
}

// Examine asks all questions.
func Examine(c Config) []Check {
	checks := []Check{kernel(), privileges(), tunDevice(), kernelESP(c), bpf()}
	checks = append(checks, accessLists(c.Lists))
	checks = append(checks, offloads()...)
	checks = append(checks, bundles(c)...)
	checks = append(checks, memory(), forwarding("ipv4"), clock(time.Now()))
	if c.IPv6 {
		checks = append(checks, forwarding("ipv6"))
	}
	checks = append(checks, interfaces(c)...)
	checks = append(checks, guard(c)...)
	checks = append(checks, ports(c)...)
	return append(checks, services(c)...)
}

// Failed: one of the checks keeps the gateway from running.
func Failed(checks []Check) bool {
	for _, c := range checks {
		if c.State == Fail {
			return true
		}
	}
	return false
}
