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
	of   func(trial time.Duration) []compare.Measurement
}{
	{"tcp", func(d time.Duration) []compare.Measurement {
		return []compare.Measurement{compare.TCP(false, 1, d), compare.TCP(true, 1, d), compare.TCP(false, 4, d), compare.TCP(true, 4, d)}
	}},
	{"udp", func(d time.Duration) []compare.Measurement {
		return []compare.Measurement{
			compare.UDP("64 octets", flow.Mix{64}, false, d), compare.UDP("1,300 octets", flow.Mix{1300}, false, d), compare.UDP("IMIX", flow.IMIX, false, d),
		}
	}},
	{"esp", func(d time.Duration) []compare.Measurement { return []compare.Measurement{compare.Tunnels(1000, d)} }},
	{"ike", func(d time.Duration) []compare.Measurement {
		return []compare.Measurement{compare.Handshakes(d), compare.GatewayCPU(2000), compare.Cryptography(2000)}
	}},
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
		o     output
		plan  compare.Plan
		what  []string
		trial time.Duration
	)
	c := &cobra.Command{
		Use:   "compare",
		Short: "Gateways beside each other: gatewayd, wireguard-go, strongSwan, no tunnel at all",
		Long: `Builds namespaces (dev - gw - lan), sets each contestant up in turn, measures,
and takes everything away again; as many rounds as asked for, so that a machine
whose speed drifts treats all alike. Prints medians, spread and ratios. Needs
root, iperf3 and the contestants' programs; who is missing is named.`,
		Example: `  bench compare --gatewayd bin/gatewayd --rounds 5 --json compare.json --html compare.html
  bench compare --measure ike --contestants gatewayd,strongswan`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return fmt.Errorf("namespaces need root: sudo %s", c.CommandPath())
			}
			if plan.Rounds < 1 {
				return fmt.Errorf("%w: --rounds: at least 1", errUsage)
			}
			for _, name := range what {
				found := false
				for _, k := range kinds {
					if k.name == name {
						plan.Measurements, found = append(plan.Measurements, k.of(trial)...), true
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
	f.DurationVar(&trial, "trial", 5*time.Second, "how long each measurement takes")
	f.StringVar(&plan.Gatewayd, "gatewayd", "gatewayd", "its `program`")
	f.StringVar(&plan.WireGuard, "wireguard-go", "wireguard-go", "its `program`")
	f.StringVar(&plan.IPerf, "iperf3", "iperf3", "its `program`")
	return c
}
