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

// kinds of measurements by the name of their flag value.
var kinds = []struct {
	name string
	of   func(trial time.Duration, devices int) []compare.Measurement
}{
	{"tcp", func(d time.Duration, _ int) []compare.Measurement {
		return []compare.Measurement{compare.TCP(false, 1, d), compare.TCP(true, 1, d), compare.TCP(false, 4, d), compare.TCP(true, 4, d)}
	}},
	{"udp", func(d time.Duration, _ int) []compare.Measurement {
		return []compare.Measurement{
			compare.UDP("64 octets", flow.Mix{64}, false, d), compare.UDP("1,300 octets", flow.Mix{1300}, false, d), compare.UDP("IMIX", flow.IMIX, false, d),
		}
	}},
	{"cost", func(d time.Duration, _ int) []compare.Measurement {
		return []compare.Measurement{compare.Cost(64, d), compare.Cost(1400, d)}
	}},
	{"esp", func(d time.Duration, _ int) []compare.Measurement {
		return []compare.Measurement{compare.Tunnels(1000, false, d), compare.Tunnels(1000, true, d)}
	}},
	{"ike", func(d time.Duration, _ int) []compare.Measurement {
		return []compare.Measurement{compare.Handshakes(d)}
	}},
	{"resume", func(d time.Duration, _ int) []compare.Measurement {
		return []compare.Measurement{compare.Resumptions(d)}
	}},
	{"roam", func(d time.Duration, _ int) []compare.Measurement { return []compare.Measurement{compare.Moves(d)} }},
	{"memory", func(_ time.Duration, n int) []compare.Measurement { return []compare.Measurement{compare.Memory(n)} }},
	{"storm", func(_ time.Duration, n int) []compare.Measurement { return []compare.Measurement{compare.Storm(n)} }},
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
		o       output
		plan    compare.Plan
		what    []string
		trial   time.Duration
		devices int
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
			if devices < 1 {
				return fmt.Errorf("%w: --devices: at least 1", errUsage)
			}
			if plan.Rounds < 1 {
				return fmt.Errorf("%w: --rounds: at least 1", errUsage)
			}
			for _, name := range what {
				found := false
				for _, k := range kinds {
					if k.name == name {
						plan.Measurements, found = append(plan.Measurements, k.of(trial, devices)...), true
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
	f.IntVar(&devices, "devices", 10000, "of memory and storm")
	f.DurationVar(&trial, "trial", 5*time.Second, "how long each measurement takes")
	f.StringVar(&plan.Gatewayd, "gatewayd", "gatewayd", "its `program`")
	f.StringVar(&plan.GatewaydTogether, "gatewayd-ipsecmb", "gatewayd-ipsecmb", "its `program`")
	f.StringVar(&plan.BenchTogether, "bench-ipsecmb", "bench-ipsecmb", "the `program` for its client")
	f.StringVar(&plan.WireGuard, "wireguard-go", "wireguard-go", "its `program`")
	f.StringVar(&plan.IPerf, "iperf3", "iperf3", "its `program`")
	return c
}
