package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/compare"
	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/bench/report"
)

// wanted of measurements.
type wanted struct {
	trial      time.Duration
	devices    int
	congestion string
}

// kinds of measurements by the name of their flag value.
var kinds = []struct {
	name string
	of   func(wanted) []compare.Measurement
}{
	{"tcp", func(w wanted) (all []compare.Measurement) {
		for _, flows := range []int{1, 4} {
			for _, down := range []bool{false, true} {
				all = append(all, compare.TCP(down, flows, w.congestion, w.trial))
			}
		}
		return all
	}},
	{"udp", func(w wanted) []compare.Measurement {
		return []compare.Measurement{
			compare.UDP("64 octets", flow.Mix{64}, false, w.trial), compare.UDP("1,300 octets", flow.Mix{1300}, false, w.trial), compare.UDP("IMIX", flow.IMIX, false, w.trial),
		}
	}},
	{"cost", func(w wanted) []compare.Measurement {
		return []compare.Measurement{compare.Cost(64, w.trial), compare.Cost(1400, w.trial)}
	}},
	{"esp", func(w wanted) []compare.Measurement {
		return []compare.Measurement{compare.Tunnels(1000, false, w.trial), compare.Tunnels(1000, true, w.trial)}
	}},
	{"ike", func(w wanted) []compare.Measurement {
		return []compare.Measurement{compare.Handshakes(w.trial)}
	}},
	{"resume", func(w wanted) []compare.Measurement {
		return []compare.Measurement{compare.Resumptions(w.trial)}
	}},
	{"roam", func(w wanted) []compare.Measurement { return []compare.Measurement{compare.Moves(w.trial)} }},
	{"memory", func(w wanted) []compare.Measurement { return []compare.Measurement{compare.Memory(w.devices)} }},
	{"storm", func(w wanted) []compare.Measurement { return []compare.Measurement{compare.Storm(w.devices)} }},
}

// ownCongestion is the congestion control that namespaces of this machine begin
// with.
func ownCongestion() string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return "cubic" // what the kernel's own default is
	}
	return strings.TrimSpace(string(b))
}

func kindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

func compareCommand() *cobra.Command {
	var (
		o    output
		plan compare.Plan
		what []string
		w    wanted
	)
	c := &cobra.Command{
		Use:   "compare",
		Short: "Gateways beside each other: gatewayd, wireguard-go, strongSwan, no tunnel at all",
		Long: `Builds namespaces (dev - gw - lan), sets each contestant up in turn, measures,
and takes everything away again; as many rounds as asked for, so that a machine
whose speed drifts treats all alike. Prints medians, spread and ratios. Needs
root, iperf3 and the contestants' programs; who is missing is named.

  tcp, udp   through one tunnel, with gatewayd's own client at the other end
  cost       what a packet takes of all processors; where nothing else runs
  esp        a thousand tunnels: IMIX without GSO, and 64 octets in bursts with it
  ike        full handshakes, and their latency at half of that rate
  resume     by ticket; roam: MOBIKE
  memory     what --devices established sessions take
  storm      --devices devices that all come back at once by their tickets

The kernel's IPsec (gatewayd-xfrm, strongswan-kernel) takes part where it has one.
Where gateways are measured without a client each of them has one processor, and
the generator another with its share of the kernel's work, if there are two.`,
		Example: `  bench compare --gatewayd bin/gatewayd --rounds 5 --json compare.json --html compare.html
  bench compare --measure ike --contestants gatewayd,strongswan`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return fmt.Errorf("namespaces need root: sudo %s", c.CommandPath())
			}
			if w.devices < 1 {
				return fmt.Errorf("%w: --devices: at least 1", errUsage)
			}
			if plan.Rounds < 1 {
				return fmt.Errorf("%w: --rounds: at least 1", errUsage)
			}
			for _, name := range what {
				found := false
				for _, k := range kinds {
					if k.name == name {
						plan.Measurements, found = append(plan.Measurements, k.of(w)...), true
					}
				}
				if !found {
					return fmt.Errorf("%w: --measure: %q is none of %s", errUsage, name, kindNames())
				}
			}
			return o.measure(c, commandLine(c), func(ctx context.Context, r *report.Report, say func(string)) error {
				began := time.Now()
				defer func() { r.Seconds = time.Since(began).Seconds() }()
				return plan.Run(ctx, r, say)
			})
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringSliceVar(&plan.Contestants, "contestants", compare.Names(), "who takes part")
	f.StringSliceVar(&what, "measure", []string{"tcp", "udp", "esp", "ike"}, "what is measured: "+kindNames())
	f.IntVar(&plan.Rounds, "rounds", 5, "how often each has its turn")
	f.IntVar(&plan.Repeats, "repeats", 5, "how many rounds in all may be repeated because the host stole time")
	f.IntVar(&w.devices, "devices", 10000, "of memory and storm")
	f.DurationVar(&w.trial, "trial", 5*time.Second, "how long each measurement takes")
	f.StringVar(&w.congestion, "congestion", ownCongestion(), "congestion control of tcp, which ends its flows as well as a gateway does")
	f.StringVar(&plan.Gatewayd, "gatewayd", "gatewayd", "its `program`")
	f.StringVar(&plan.GatewaydTogether, "gatewayd-ipsecmb", "gatewayd-ipsecmb", "its `program`")
	f.StringVar(&plan.BenchTogether, "bench-ipsecmb", "bench-ipsecmb", "the `program` for its client")
	f.StringVar(&plan.WireGuard, "wireguard-go", "wireguard-go", "its `program`")
	f.StringVar(&plan.IPerf, "iperf3", "iperf3", "its `program`")
	return c
}
