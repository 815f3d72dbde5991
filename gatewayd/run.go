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
			return runServers(c.Context(), g.config, []string{"enrollment"}, c.ErrOrStderr())
		},
	}
	manager := &cobra.Command{
		Use:   "manager",
		Short: "Run the device management server",
		Long: `Run the device management server until SIGTERM or SIGINT: devices that
enrolled come with their certificates and are told what to do. It follows the
enrollment server, whose database it shares: several managers, and enrollment in
another process, need PostgreSQL. SIGHUP reads certificates and limits again.`,
		Example: `  gatewayd run manager
  gatewayd run manager --config ./manager.yaml`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return runServers(c.Context(), g.config, []string{"manager"}, c.ErrOrStderr())
		},
	}
	both := &cobra.Command{
		Use:     "manager,enrollment",
		Aliases: []string{"enrollment,manager"},
		Short:   "Run the device management and the enrollment server in one process",
		Long: `Run both servers in one process on one database, SQLite will do: what is
enrolled is managed at once.`,
		Example: `  gatewayd run manager,enrollment`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return runServers(c.Context(), g.config, []string{"enrollment", "manager"}, c.ErrOrStderr())
		},
	}
	return group("run", "Run a role", gateway, enrollment, manager, both, g.runAllCommand())
}
