package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/tunnel"
)

func tunnelCommand() *cobra.Command {
	var (
		f       fleetFlags
		hosts   []string
		name    string
		pathMTU int
		within  time.Duration
	)
	c := &cobra.Command{
		Use:   "tunnel",
		Short: "A fast client with a TUN interface, until Ctrl-C",
		Long: `Connects one device and leads packets for the given hosts through its tunnel,
with the packet path of gatewayd. Whatever measures networks, iperf3 for one,
then measures the gateway. Run it in a network namespace of its own.`,
		Example: `  ip netns exec dev bench tunnel --gateway 10.1.0.1 --gateway-id gw.example --root root.crt \
      --certificate dev.crt --key dev.key --host 10.2.0.2`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fleet, err := f.build()
			if err != nil {
				return err
			}
			cfg := tunnel.Config{Interface: name, PathMTU: pathMTU}
			if len(fleet.local) > 0 {
				cfg.Local = fleet.local[0]
			}
			for _, h := range hosts {
				a, err := netip.ParseAddr(h)
				if err != nil {
					return fmt.Errorf("%w: --host: %w", errUsage, err)
				}
				cfg.Hosts = append(cfg.Hosts, a)
			}
			if cfg.Device, err = fleet.config(0); err != nil {
				return err
			}
			return connected(c, cfg, within)
		},
	}
	f.flags(c)
	l := c.Flags()
	l.StringSliceVar(&hosts, "host", nil, "`address` behind the gateway, at most one of each family (required)")
	l.StringVar(&name, "interface", "bench%d", "`name` of the TUN interface")
	l.IntVar(&pathMTU, "path-mtu", 1500, "what the outside carries without fragments, in octets")
	l.DurationVar(&within, "duration", time.Hour, "end after this time")
	if err := c.MarkFlagRequired("host"); err != nil {
		panic(err)
	}
	return c
}

// connected says so in one line, which scripts may wait for.
func connected(c *cobra.Command, cfg tunnel.Config, within time.Duration) error {
	ctx, cancel := context.WithTimeout(c.Context(), within)
	defer cancel()
	connecting, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	t, err := tunnel.Connect(connecting, cfg)
	if err != nil {
		return reasonOf(err)
	}
	s := t.Info().Summary
	fmt.Fprintf(c.OutOrStdout(), "connected: %v, MTU %d, IKE %s, ESP %s\n", t.VirtualIPs(), t.MTU(), s.IKE, s.ESP)
	err = t.Ended(ctx)
	leaving, left := context.WithTimeout(context.Background(), 5*time.Second)
	defer left()
	if errors.Is(err, ctx.Err()) {
		err = nil
	}
	return errors.Join(err, t.Close(leaving))
}
