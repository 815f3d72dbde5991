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

func (g *global) sessionCommand() *cobra.Command {
	return group("session", "List, show and end sessions of devices", g.sessionList(), g.sessionShow(), g.sessionKill())
}

func (g *global) sessionList() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "list",
		Short: "List established sessions, the oldest first",
		Example: `  gatewayd session list
  gatewayd session list -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			sessions, err := g.client().Sessions(c.Context())
			if err != nil {
				return explain(err)
			}
			return o.print(c.OutOrStdout(), sessions, func(t *tabwriter.Writer) {
				now := time.Now()
				fmt.Fprintln(t, "DEVICE\tVIRTUAL IP\tREMOTE\tCLIENT\tUP\tCHILD SAS\tIN\tOUT\tLAST IN\tLEGACY\tID")
				for _, s := range sessions {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Device, joined(s.VirtualIPs), s.Remote, orDash(s.Client),
						now.Sub(s.Established).Round(time.Second), len(s.Children), size(s.BytesIn), size(s.BytesOut), ago(now, s.LastIn),
						orDash(strings.Join(s.Legacy, ",")), s.ID)
				}
			})
		},
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (g *global) sessionShow() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "show DEVICE|ID",
		Short: "Show everything about a session",
		Example: `  gatewayd session show phone-1
  gatewayd session show 00a1b2c3d4e5f607 -o yaml`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			sessions, err := g.client().Sessions(c.Context())
			if err != nil {
				return explain(err)
			}
			var found []local.Session
			for _, s := range sessions {
				if s.Device == strings.ToLower(names[0]) || s.ID == strings.ToLower(names[0]) {
					found = append(found, s)
				}
			}
			if len(found) == 0 {
				return fmt.Errorf("no session of %q; `gatewayd session list` names them", names[0])
			}
			return o.print(c.OutOrStdout(), found, func(t *tabwriter.Writer) { showSessions(t, found) })
		},
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func showSessions(t *tabwriter.Writer, sessions []local.Session) {
	now := time.Now()
	for i, s := range sessions {
		if i > 0 {
			fmt.Fprintln(t)
		}
		fmt.Fprintf(t, "device\t%s\n", s.Device)
		if s.Group != "" {
			fmt.Fprintf(t, "group\t%s\n", s.Group)
		}
		fmt.Fprintf(t, "virtual IP\t%s\n", joined(s.VirtualIPs))
		fmt.Fprintf(t, "local, remote\t%s, %s\n", s.Local, s.Remote)
		fmt.Fprintf(t, "IKE SA\t%s\n", s.IKE)
		fmt.Fprintf(t, "IKE SPIs\t%s initiator, %s responder\n", s.InitiatorSPI, s.ResponderSPI)
		for _, c := range s.Children {
			fmt.Fprintf(t, "Child SA\t%s\n", c.ESP)
			fmt.Fprintf(t, "  ESP SPIs\t%s in, %s out\n", c.InboundSPI, c.OutboundSPI)
			fmt.Fprintf(t, "  traffic selectors\t%s === %s\n", strings.Join(c.LocalTS, ", "), strings.Join(c.RemoteTS, ", "))
		}
		fmt.Fprintf(t, "authenticated by\t%s\n", s.Auth)
		fmt.Fprintf(t, "client\t%s\n", orDash(s.Client))
		if len(s.Legacy) > 0 {
			fmt.Fprintf(t, "legacy algorithms\t%s\n", strings.Join(s.Legacy, ", "))
		}
		fmt.Fprintf(t, "session ID\t%s\n", s.ID)
		fmt.Fprintf(t, "established\t%s (%s)\n", s.Established.Format(time.RFC3339), ago(now, s.Established))
		if !s.Until.IsZero() {
			fmt.Fprintf(t, "admitted until\t%s\n", s.Until.Format(time.RFC3339))
		}
		fmt.Fprintf(t, "from the device\t%s in %d packets, last %s\n", size(s.BytesIn), s.PacketsIn, ago(now, s.LastIn))
		fmt.Fprintf(t, "to the device\t%s in %d packets, last %s\n", size(s.BytesOut), s.PacketsOut, ago(now, s.LastOut))
	}
}

func (g *global) sessionKill() *cobra.Command {
	var k local.Kill
	c := &cobra.Command{
		Use:   "kill DEVICE | --id ID | --all",
		Short: "Delete sessions and tell their devices",
		Long: `Delete sessions and tell their devices. A device may connect again at once;
gateway.trust.barred in the configuration keeps it out.`,
		Example: `  gatewayd session kill phone-1
  gatewayd session kill --id 00a1b2c3d4e5f607
  gatewayd session kill --all`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			if len(names) > 0 {
				k.Device = strings.ToLower(names[0])
			}
			given := 0
			for _, is := range []bool{k.Device != "", k.ID != "", k.All} {
				if is {
					given++
				}
			}
			if given != 1 {
				return usage("expected one of DEVICE, --id ID, --all; see `%s --help`", c.CommandPath())
			}
			k.ID = strings.ToLower(k.ID)
			killed, err := g.client().Kill(c.Context(), k)
			if errors.Is(err, local.ErrNotFound) {
				return errors.New("no such session; `gatewayd session list` names them")
			}
			if err != nil {
				return explain(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d sessions are being deleted\n", killed.Sessions)
			return err
		},
	}
	c.Flags().StringVar(&k.ID, "id", "", "ID of one session")
	c.Flags().BoolVar(&k.All, "all", false, "all sessions")
	return c
}
