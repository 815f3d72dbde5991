package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/local"
)

func (g *global) leaseCommand() *cobra.Command {
	return group("lease", "List and release virtual addresses of devices", g.leaseList(), g.leaseRelease())
}

func (g *global) leaseList() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "list",
		Short: "List the addresses that belong to devices",
		Example: `  gatewayd lease list
  gatewayd lease list -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			leases, err := g.client().Leases(c.Context())
			if err != nil {
				return explain(err)
			}
			return o.print(c.OutOrStdout(), leases, func(t *tabwriter.Writer) {
				now := time.Now()
				fmt.Fprintln(t, "ADDRESS\tDEVICE\tSTATE\tSINCE\tLAST USED")
				for _, l := range leases {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Address, l.Device, l.State, l.Since.Format(time.RFC3339), ago(now, l.LastUsed))
				}
			})
		},
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (g *global) leaseRelease() *cobra.Command {
	return &cobra.Command{
		Use:   "release DEVICE",
		Short: "Forget the address of a device that isn't connected",
		Long: `Forget the address of a device that isn't connected, so that another may get
it. There is seldom a reason: when addresses run short, those unused for
longest are given away anyhow.`,
		Example: `  gatewayd lease release phone-1`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			device := strings.ToLower(names[0])
			err := g.client().Release(c.Context(), device)
			switch {
			case errors.Is(err, local.ErrNotFound):
				return fmt.Errorf("%q has no lease; `gatewayd lease list` names those who have", device)
			case errors.Is(err, local.ErrConflict):
				return fmt.Errorf("%q is connected; end its session first: gatewayd session kill %s", device, device)
			case err != nil:
				return explain(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the address of %s is free\n", device)
			return err
		},
	}
}
