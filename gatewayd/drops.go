package main

import (
	"fmt"
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
and reason: "dataplane" packets, those that "access" lists drop by direction, "ike" and "dhcp" messages, "admit" devices,
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
	return c
}
