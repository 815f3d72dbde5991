package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/config"
)

func (g *global) guardCommand() *cobra.Command {
	return group("guard", "Take away what the XDP guard left in force", &cobra.Command{
		Use:   "remove",
		Short: "Take the guard off the external interface after gatewayd has ended",
		Long: `Take the guard off the external interface. It stays in force when gatewayd
ends, so that nothing passes unfiltered while it is restarted; after this,
packets pass as if it had never been. Refused while the gateway runs:
gateway.guard.mode says what it uses.`,
		Example: `  gatewayd stop && gatewayd guard remove`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(g.config)
			if err != nil {
				return err
			}
			if _, err := g.client().Status(c.Context()); err == nil {
				return errors.New("the gateway is running; gatewayd stop first")
			}
			link, err := net.InterfaceByName(cfg.Gateway.External.Interface)
			if err != nil {
				return fmt.Errorf("gateway.external.interface %s: %w", cfg.Gateway.External.Interface, err)
			}
			found, err := clearGuard(cfg, link.Index)
			if err != nil {
				return err
			}
			said := "there is no guard"
			if found {
				said = "the guard is gone"
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), said)
			return err
		},
	})
}
