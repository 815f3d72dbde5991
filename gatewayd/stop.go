package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/local"
)

func (g *global) stopCommand() *cobra.Command {
	var how local.Stop
	c := &cobra.Command{
		Use:   "stop",
		Short: "End the gateway in order",
		Long: `End the gateway in order: no new sessions, every session is deleted and its
device told, and what was put in place on the host is taken back. Returns when
all of that is done.

With --drain the sessions end one after the other over that time, so that their
devices don't all arrive elsewhere at once. With --to they are sent to that
gateway first (RFC 5685); those that don't know redirection find another one by
themselves, as their list of gateways says.`,
		Example: `  gatewayd stop
  gatewayd stop --drain 5m --to vpn2.example.com`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if how.To != "" && how.Drain == 0 {
				return usage("expected --drain DURATION with --to; see `%s --help`", c.CommandPath())
			}
			err := g.client().Stop(c.Context(), how, func(p local.Progress) {
				if p.Sessions > 0 {
					fmt.Fprintf(c.OutOrStdout(), "%s: %d sessions left\n", p.Step, p.Sessions)
					return
				}
				fmt.Fprintln(c.OutOrStdout(), p.Step)
			})
			return explain(err)
		},
	}
	c.Flags().DurationVar(&how.Drain, "drain", 0, "over how long the sessions end")
	c.Flags().StringVar(&how.To, "to", "", "domain name or IP address of the gateway that devices are sent to")
	return c
}
