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
	return group("session", "List, show, redirect and end sessions of devices", g.sessionList(), g.sessionShow(), g.sessionRedirect(), g.sessionKill())
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
		how := ""
		if s.Resumed {
			how = ", resumed by a ticket"
		}
		fmt.Fprintf(t, "authenticated by\t%s%s\n", s.Auth, how)
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

// which sessions a command is for: one of DEVICE, --id and --all.
type which struct {
	id, device string
	all        bool
}

func (w *which) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.id, "id", "", "ID of one session")
	c.Flags().BoolVar(&w.all, "all", false, "all sessions")
}

func (w *which) take(c *cobra.Command, names []string) error {
	if len(names) > 0 {
		w.device = strings.ToLower(names[0])
	}
	w.id = strings.ToLower(w.id)
	given := 0
	for _, is := range []bool{w.device != "", w.id != "", w.all} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usage("expected one of DEVICE, --id ID, --all; see `%s --help`", c.CommandPath())
	}
	return nil
}

// explainSession is explain for sessions that aren't there.
func explainSession(err error) error {
	if errors.Is(err, local.ErrNotFound) {
		return errors.New("no such session; `gatewayd session list` names them")
	}
	return explain(err)
}

func (g *global) sessionRedirect() *cobra.Command {
	var w which
	var to string
	c := &cobra.Command{
		Use:   "redirect DEVICE | --id ID | --all --to GATEWAY",
		Short: "Send devices to another gateway",
		Long: `Send devices to another gateway (RFC 5685). Those that know redirection connect
there and end their session here; Windows and Apple don't know it and stay.
gateway.redirect.to in the configuration does the same for devices that come.`,
		Example: `  gatewayd session redirect phone-1 --to vpn2.example.com
  gatewayd session redirect --all --to 203.0.113.2`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			if err := w.take(c, names); err != nil {
				return err
			}
			if to == "" {
				return usage("expected --to GATEWAY; see `%s --help`", c.CommandPath())
			}
			r, err := g.client().Redirect(c.Context(), local.Redirect{ID: w.id, Device: w.device, All: w.all, To: to})
			if err != nil {
				return explainSession(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "sessions asked to go to %s: %d\n", to, r.Sessions)
			return err
		},
	}
	w.flags(c)
	c.Flags().StringVar(&to, "to", "", "domain name or IP address of the other gateway")
	return c
}

func (g *global) sessionKill() *cobra.Command {
	var w which
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
			if err := w.take(c, names); err != nil {
				return err
			}
			killed, err := g.client().Kill(c.Context(), local.Kill{ID: w.id, Device: w.device, All: w.all})
			if err != nil {
				return explainSession(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d sessions are being deleted\n", killed.Sessions)
			return err
		},
	}
	w.flags(c)
	return c
}
