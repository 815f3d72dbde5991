package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/local"
)

func (g *global) dropsCommand() *cobra.Command {
	var o *output
	var everything bool
	c := &cobra.Command{
		Use:   "drops",
		Short: "Count what was dropped, refused and closed, by reason",
		Long: `Count what was dropped, refused and closed since the gateway started, by layer
and reason: "dataplane" and "guard" packets, those that "access" lists drop by
direction, "ike" and "dhcp" messages, "admit" devices,
"close" sessions.`,
		Example: `  gatewayd drops
  gatewayd drops --all -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := g.client().Drops(c.Context())
			if err != nil {
				return explain(err)
			}
			drops := []local.Drop{}
			for _, d := range all {
				if everything || d.Count > 0 {
					drops = append(drops, d)
				}
			}
			return o.print(c.OutOrStdout(), drops, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "LAYER\tREASON\tCOUNT")
				for _, d := range drops {
					fmt.Fprintf(t, "%s\t%s\t%d\n", d.Layer, d.Reason, d.Count)
				}
			})
		},
	}
	c.Flags().BoolVar(&everything, "all", false, "reasons that never happened, too")
	o = addOutput(c, "table", "json", "yaml")
	c.AddCommand(g.watchCommand())
	return c
}

func (g *global) watchCommand() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show packets that the guard drops, as it does",
		Long: `Show packets that the guard drops, a line each, until interrupted: at most 100 a
second, so under a flood a sample. The data are the first 96 octets of the
frame; -o json has them all, as one object a line.`,
		Example: `  gatewayd drops watch
  gatewayd drops watch -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			lines := json.NewEncoder(c.OutOrStdout())
			return explain(g.client().WatchDrops(c.Context(), func(p local.DroppedPacket) error {
				if o.format == "json" {
					return lines.Encode(p)
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s  %-16s  %s > %s  %d octets  %.56s\n",
					p.Time.Format("15:04:05.000"), p.Reason, endpoint(p.Remote), endpoint(p.Local), p.Length, p.Data)
				return err
			}))
		},
	}
	o = addOutput(c, "table", "json")
	return c
}

// endpoint without a port that isn't there.
func endpoint(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return "-"
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}
