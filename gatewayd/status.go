package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

func (g *global) statusCommand() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "status [gateway|manager]",
		Short: "Show how the gateway or the device management server is",
		Long: `Show how the gateway of this host is, or the device management server, where the
configuration is for that, or where it is named.`,
		Example: `  gatewayd status
  gatewayd status manager
  gatewayd status -o json`,
		Args:      args(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"gateway", "manager"},
		RunE: func(c *cobra.Command, names []string) error {
			if len(names) == 1 && names[0] == "manager" || len(names) == 0 && g.socket == "" && config.ForManager(g.config) {
				return g.managerStatus(c, o)
			}
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
				fmt.Fprintf(t, "\tbecause %s\n", strings.ReplaceAll(s.BackendReason, "\n", "; "))
				fmt.Fprintf(t, "access lists\t%s\n", s.Access)
				fmt.Fprintf(t, "guard\t%s\n", guarded(s.Guard))
				showManagement(t, now, s.Management)
				fmt.Fprintf(t, "sessions\t%d of %d, %d half-open\n", s.Sessions, s.MaxSessions, s.HalfOpen)
				if s.RedirectTo != "" {
					fmt.Fprintf(t, "\tnew devices are redirected to %s\n", s.RedirectTo)
				}
				fmt.Fprintf(t, "leases\t%s\n", leaseCounts(s.Leases))
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

// managerStatus of the device management server here.
func (g *global) managerStatus(c *cobra.Command, o *output) error {
	socket := g.socket
	if socket == "" {
		socket = config.ManagerSocketOf(g.config)
	}
	s, err := local.Dial(socket).ServerStatus(c.Context())
	if errors.Is(err, local.ErrNotRunning) {
		return hinted{fmt.Errorf("the manager is not running: %w", err), "Start it with `gatewayd run manager`, or name its socket with --socket."}
	}
	if err != nil {
		return explain(err)
	}
	return o.print(c.OutOrStdout(), s, func(t *tabwriter.Writer) {
		now := time.Now()
		fmt.Fprintf(t, "state\t%s\n", s.State)
		fmt.Fprintf(t, "version\t%s, pid %d, started %s\n", s.Version, s.PID, ago(now, s.Started))
		fmt.Fprintf(t, "roles\t%s; this manager is %s\n", strings.Join(s.Roles, ", "), s.Name)
		fmt.Fprintf(t, "configuration\t%s, read %s\n", s.Config, ago(now, s.Loaded))
		if len(s.NeedRestart) > 0 {
			fmt.Fprintf(t, "\tchanged, but only a restart applies it: %s\n", strings.Join(s.NeedRestart, ", "))
		}
		fmt.Fprintf(t, "devices\t%s, on %s\n", s.URL, s.Listen)
		fmt.Fprintf(t, "administrators\ton %s\n", s.Admin)
		fmt.Fprintf(t, "database\t%s, events of enrollment followed up to %d\n", s.Database, s.Followed)
		fmt.Fprintf(t, "sessions\t%d of %d, %d not proven yet\n", s.Sessions, s.MaxSessions, s.Unproven)
		fmt.Fprintf(t, "messages\t%d answered\n", s.Answered)
		for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
			if n := s.Refused[reason]; n > 0 {
				fmt.Fprintf(t, "\t%d refused: %s\n", n, reason)
			}
		}
	})
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
func leaseCounts(l local.LeaseCounts) string {
	parts := []string{fmt.Sprintf("%d live", l.Live), fmt.Sprintf("%d idle", l.Idle)}
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
