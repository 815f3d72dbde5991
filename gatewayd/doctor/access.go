package doctor

import (
	"github.com/roamgate/roamgate/bpf/access"
	"github.com/roamgate/roamgate/dataplane/nft"
)

// accessLists loads the programs for one device, on no interface, and lets them
// go; without them it asks nftables for its tables.
func accessLists(needed bool) Check {
	c := Check{Name: "access lists", State: OK, Found: "BPF programs load", Means: "lists, rates and counters by BPF"}
	a, err := access.Open(access.Config{MaxDevices: 1})
	if err == nil {
		err = a.Close()
	}
	if err == nil {
		return c
	}
	c.State, c.Found = Info, err.Error()
	if err := nft.Available(); err != nil {
		c.Found += "; " + err.Error()
		c.Means, c.Do = "devices of groups with a list are refused", "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; Linux 5.12 or later"
		if needed {
			c.State = Warn
		}
		return c
	}
	c.Means = "lists by nftables; no rates and no counters by device"
	return c
}
