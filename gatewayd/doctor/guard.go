package doctor

import (
	"fmt"
	"strings"

	xdp "github.com/roamgate/roamgate/bpf/guard"
)

// guard says how floods are kept from the gateway. What a running gateway says
// counts: whether a driver has native XDP is known by trying.
func guard(c Config) []Check {
	if c.Guard == "" {
		return nil
	}
	check := Check{Name: "guard", State: OK, Found: c.GuardState}
	switch {
	case c.Guard == "off":
		check.State, check.Found, check.Means = Info, "gateway.guard.mode is off", "floods reach the gateway"
		return []Check{check}
	case c.GuardState == "":
		check.State, check.Found = Info, fmt.Sprintf("gateway.guard.mode is %s; whether the driver of %s has native XDP shows when the gateway runs", c.Guard, c.External)
	case strings.HasPrefix(c.GuardState, "off"):
		check.State, check.Means, check.Do = Warn, "floods reach the gateway", "see the log of the gateway's start; run it as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
		return []Check{check}
	}
	if c.GuardPins == "" {
		check.Means = "the filter ends with the gateway"
	} else if !xdp.Pinnable(c.GuardPins) {
		check.Means = "the filter ends with the gateway: " + c.GuardPins + " is in no BPF file system, or not readable"
		check.Do = "mount -t bpf bpf /sys/fs/bpf"
	}
	return []Check{check}
}
