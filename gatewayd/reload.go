package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (g *global) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the gateway read its configuration again",
		Long: `Have the gateway read its configuration, certificates and revocation lists
again. Sessions go on; those of devices that are no longer admitted end. If
anything is wrong, nothing changes and every error is listed.`,
		Example: `  gatewayd config check && gatewayd reload`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := g.client().Reload(c.Context())
			if err != nil {
				return fmt.Errorf("nothing has changed:\n%w", explain(err))
			}
			for _, w := range r.Warnings {
				fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
			}
			if len(r.NeedRestart) > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "warning: only a restart applies %s\n", strings.Join(r.NeedRestart, ", "))
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "the configuration was read again")
			return err
		},
	}
}
