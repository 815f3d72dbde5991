package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dataplane/xfrm"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/doctor"
)

func (g *global) doctorCommand() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at what this host can do and what is missing",
		Long: `Look at what this host can do, what gatewayd will therefore use, and what is
missing. Nothing is changed. With a configuration its interfaces, addresses and
ports are looked at, too. The exit code is 1 if the gateway could not run.`,
		Example: `  gatewayd doctor
  gatewayd doctor -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			examined, note := g.toExamine(c)
			checks := append([]doctor.Check{note}, doctor.Examine(examined)...)
			err := o.print(c.OutOrStdout(), checks, func(t *tabwriter.Writer) {
				for _, check := range checks {
					fmt.Fprintf(t, "%s\t%s\t%s\n", check.State, check.Name, check.Found)
					if check.Means != "" {
						fmt.Fprintf(t, "\t\t-> %s\n", check.Means)
					}
					if check.Do != "" {
						fmt.Fprintf(t, "\t\tdo: %s\n", check.Do)
					}
				}
			})
			if err == nil && doctor.Failed(checks) {
				err = silentError{}
			}
			return err
		},
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

// toExamine takes from the configuration what concerns the host.
func (g *global) toExamine(c *cobra.Command) (doctor.Config, doctor.Check) {
	note := doctor.Check{Name: "configuration", State: doctor.OK, Found: g.config}
	cfg, err := config.Load(g.config)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		note.State, note.Found, note.Do = doctor.Warn, g.config+" does not exist", "gatewayd init"
		return doctor.Config{}, note
	case err != nil:
		note.State, note.Found, note.Do = doctor.Fail, err.Error(), "correct it; `gatewayd config sample` explains each key"
		return doctor.Config{}, note
	}
	status, err := g.client().Status(c.Context())
	_, ipv6 := cfg.Gateway.Static.Families()
	state := ""
	if err == nil {
		state = guarded(status.Guard)
	}
	return doctor.Config{
		Guard: string(cfg.Gateway.Guard.Mode), GuardPins: cfg.Path(cfg.Gateway.Guard.Pins), GuardState: state,
		External: cfg.Gateway.External.Interface, Internal: cfg.Gateway.Internal.Interface,
		Addresses: cfg.Gateway.External.Addresses(), IPv6: ipv6, Ports: []uint16{cfg.Gateway.External.Port, cfg.Gateway.External.NATTPort},
		Backend: string(cfg.Gateway.Backend), KernelLacks: func(a xfrm.Abilities) error { return kernelLacks(a, cfg) },
		Metrics: cfg.Metrics.Listen.AddrPort, DHCP: cfg.Gateway.Tunnel.Address.IsValid(), Running: err == nil,
		Bundles: cfg.Gateway.External.Bundles,
		Lists:   slices.ContainsFunc(cfg.Gateway.Static.Groups, func(g config.Group) bool { return len(g.Rules) > 0 }),
	}, note
}
