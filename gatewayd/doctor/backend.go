package doctor

import (
	"fmt"

	"github.com/roamgate/roamgate/dataplane/xfrm"
)

// Values of Config.Backend, as in the configuration; empty is like auto.
const (
	userspaceBackend = "userspace"
	xfrmBackend      = "xfrm"
)

// kernelESP says who will forward packets, and why. The kernel is tried only
// where that loads no module, and in a network namespace of its own.
func kernelESP(config Config) Check {
	c := Check{Name: "kernel IPsec", State: Info, Means: "userspace data plane"}
	esp, interfaces := symbol("esp_init_state"), symbol("xfrmi_dev_setup")
	lacking := true
	switch {
	case esp && interfaces:
		abilities := xfrm.Probe()
		lacks := abilities.Err()
		if lacks == nil && config.KernelLacks != nil {
			lacks = config.KernelLacks(abilities)
		}
		if lacking = lacks != nil; lacking {
			c.Found = lacks.Error()
			break
		}
		c.State, c.Means = OK, "kernel data plane (xfrm)"
		c.Found = fmt.Sprintf("ESP with %d algorithms, xfrm interfaces", len(abilities.Algorithms))
	case (esp || moduleKnown("esp4")) && (interfaces || moduleKnown("xfrm_interface")):
		lacking = false
		c.Found = "ESP and xfrm interfaces, of which not all is loaded"
		c.Means = "gatewayd has it loaded when it starts, and the kernel data plane (xfrm) if it works"
	case esp || moduleKnown("esp4"):
		c.Found = "ESP without xfrm interfaces"
	case moduleKnown("xfrm_user") || symbol("xfrm_user_net_init"):
		c.Found = "XFRM without ESP"
	default:
		c.Found = "none"
	}
	switch {
	case config.Backend == userspaceBackend:
		c.State, c.Means = Info, "userspace data plane, because gateway.backend says so"
	case config.Backend == xfrmBackend && lacking:
		c.State, c.Means, c.Do = Fail, "gateway.backend says xfrm, and this kernel can't", "set gateway.backend to auto, or take a kernel with ESP and xfrm interfaces"
	}
	return c
}
