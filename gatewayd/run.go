package main

import (
	"github.com/spf13/cobra"
)

func (g *global) runCommand() *cobra.Command {
	gateway := &cobra.Command{
		Use:   "gateway",
		Short: "Run the VPN gateway",
		Long: `Run the VPN gateway until SIGTERM, SIGINT or ` + "`gatewayd stop`" + `; then sessions are
deleted and what was put in place on the host is taken back. SIGHUP reloads the
configuration. Needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE.`,
		Example: `  gatewayd run gateway
  gatewayd run gateway --config ./gatewayd.yaml`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return runGateway(c.Context(), g.config, c.ErrOrStderr())
		},
	}
	enrollment := &cobra.Command{
		Use:   "enrollment",
		Short: "Run the enrollment server",
		Long: `Run the enrollment server until SIGTERM or SIGINT: devices turn a one-time
password into a certificate, administrators make requests and revoke. SIGHUP
reads certificates and limits again. Needs CAP_NET_BIND_SERVICE for port 443.`,
		Example: `  gatewayd run enrollment
  gatewayd run enrollment --config ./enrollment.yaml`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return runEnrollment(c.Context(), g.config, c.ErrOrStderr())
		},
	}
	return group("run", "Run a role", gateway, enrollment)
}
