package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/local"
)

func (g *global) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "End the gateway in order",
		Long: `End the gateway in order: no new sessions, every session is deleted and its
device told, and what was put in place on the host is taken back. Returns when
all of that is done.`,
		Example: `  gatewayd stop`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			err := g.client().Stop(c.Context(), func(p local.Progress) {
				if p.Sessions > 0 {
					fmt.Fprintf(c.OutOrStdout(), "%s: %d sessions left\n", p.Step, p.Sessions)
					return
				}
				fmt.Fprintln(c.OutOrStdout(), p.Step)
			})
			return explain(err)
		},
	}
}
