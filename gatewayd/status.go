package main

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/local"
)

func (g *global) statusCommand() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the gateway is",
		Example: `  gatewayd status
  gatewayd status -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := g.client().Status(c.Context())
			if err != nil {
				return explain(err)
			}
			return o.print(c.OutOrStdout(), s, func(t *tabwriter.Writer) {
				now := time.Now()
				fmt.Fprintf(t, "state\t%s\n", s.State)
				fmt.Fprintf(t, "version\t%s, pid %d, started %s\n", s.Version, s.PID, ago(now, s.Started))
				fmt.Fprintf(t, "configuration\t%s, read %s\n", s.Config, ago(now, s.Loaded))
				if len(s.NeedRestart) > 0 {
					fmt.Fprintf(t, "\tchanged, but only a restart applies it: %s\n", strings.Join(s.NeedRestart, ", "))
				}
				fmt.Fprintf(t, "listens on\t%s\n", joined(s.Listen))
				fmt.Fprintf(t, "data plane\t%s, interface %s, MTU %d\n", s.Backend, s.Interface, s.MTU)
				fmt.Fprintf(t, "\tbecause %s\n", s.BackendReason)
				fmt.Fprintf(t, "access lists\t%s\n", s.Access)
				fmt.Fprintf(t, "guard\t%s\n", guarded(s.Guard))
				showManagement(t, now, s.Management)
				fmt.Fprintf(t, "sessions\t%d of %d, %d half-open\n", s.Sessions, s.MaxSessions, s.HalfOpen)
				if s.RedirectTo != "" {
					fmt.Fprintf(t, "\tnew devices are redirected to %s\n", s.RedirectTo)
				}
				fmt.Fprintf(t, "leases\t%d live, %d idle, %s\n", s.Leases.Live, s.Leases.Idle, capacity(s.Leases))
				fmt.Fprintf(t, "from devices\t%s in %d packets\n", size(s.Traffic.BytesIn), s.Traffic.PacketsIn)
				fmt.Fprintf(t, "to devices\t%s in %d packets\n", size(s.Traffic.BytesOut), s.Traffic.PacketsOut)
				fmt.Fprintf(t, "dropped\t%d packets (gatewayd drops)\n", s.Dropped)
				for _, w := range s.Warnings {
					fmt.Fprintf(t, "warning\t%s\n", w)
				}
			})
		},
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

// guarded says what the guard does.
func guarded(g local.Guard) string {
	said := g.Mode
	if g.Mode != "off" {
		said += " XDP"
	}
	if g.Shield {
		said += ", shield"
	}
	if g.Pinned {
		said += ", stays in force over a restart"
	}
	if g.Reason != "" {
		said += " (" + g.Reason + ")"
	}
	return said
}

// joined lists values that can print themselves.
func joined[T fmt.Stringer](list []T) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = v.String()
	}
	return strings.Join(s, ", ")
}

// capacity of the pools of each family that there are.
func capacity(l local.LeaseCounts) string {
	var parts []string
	for _, family := range []struct {
		name  string
		count uint64
	}{{"IPv4", l.Capacity}, {"IPv6", l.CapacityIPv6}} {
		switch family.count {
		case 0:
		case math.MaxUint64:
			parts = append(parts, "more "+family.name+" addresses than can be counted")
		default:
			parts = append(parts, fmt.Sprintf("%d %s addresses", family.count, family.name))
		}
	}
	return strings.Join(parts, ", ")
}
