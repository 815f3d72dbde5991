package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
)

// managementPort of gateways where no other is named.
const managementPort = 8447

func (g *global) gatewayCommand() *cobra.Command {
	f := &managerFlags{global: g}
	c := group("gateway", "Show and arrange the gateways that a manager configures",
		list(f, api.GatewayList, listOf[api.None, api.Gateway]{
			long:    "List gateways: whether each is connected, has what was committed last, and what\nkeeps it from that.",
			example: "  gatewayd gateway list\n  gatewayd gateway list -o json | jq -r '.[] | select(.current | not) | .name'",
			head:    "GATEWAY\tADDRESS\tSTATE\tCURRENT\tSESSIONS\tSOFTWARE\tTROUBLE",
			row: func(v api.Gateway) string {
				return cells(v.Name, v.Address, gatewayState(v), v.Current, v.Sessions, v.Software, gatewayTrouble(v))
			},
		}),
		verb(f, api.GatewayShow, verbOf[api.OneGateway, api.Gateway]{example: "  gatewayd gateway show gateway-1", table: gatewayTable}),
		f.gatewayAdd(),
		verb(f, api.GatewayRemove, verbOf[api.ChangeGateway, api.Done]{
			long:    "Manage a gateway no more. It goes on with what it has, for as long as its\nconfiguration says; revoke its certificate with `gatewayd certificate revoke`.",
			example: "  gatewayd gateway remove gateway-1",
			table:   func(t *tabwriter.Writer, _ api.Done) { fmt.Fprintln(t, "removed") },
		}),
		verb(f, api.GatewayPush, verbOf[api.ChangeGateway, api.Done]{
			long:    "Dial a gateway now, or, if it is connected, bring it to what was committed, even\nwhat it refused a moment ago. Otherwise both happen by themselves.",
			example: "  gatewayd gateway push gateway-1",
			table:   func(t *tabwriter.Writer, _ api.Done) { fmt.Fprintln(t, "on its way: see `gatewayd gateway show`") },
		}),
		f.gatewayDrain(),
		verb(f, api.GatewayUndrain, verbOf[api.ChangeGateway, api.Drained]{example: "  gatewayd gateway undrain gateway-1", table: drainedTable}),
		verb(f, api.GatewayEpoch, verbOf[api.NewEpoch, api.Epoch]{
			long: `Begin a new epoch, after the manager's database was restored from a backup:
gateways that have newer versions of the former epoch take what is in the
database. Until then they are left as they are.`,
			example: "  gatewayd gateway epoch",
			table:   func(t *tabwriter.Writer, e api.Epoch) { pairs(t, "epoch", e.Epoch) },
		}),
		g.forgetVersionsCommand(),
		list(f, api.GatewaySessions, listOf[api.ListSessions, api.Session]{
			example: "  gatewayd gateway sessions --gateway gateway-1", head: sessionHead, row: sessionRow,
		}),
		list(f, api.GatewayEvents, listOf[api.ListEvents, api.Event]{
			example: "  gatewayd gateway events --limit 20\n  gatewayd gateway events --device phone-1",
			head:    "AT\tGATEWAY\tEVENT\tDEVICE\tSESSION\tPEER\tREASON",
			row: func(e api.Event) string {
				return cells(e.At, e.Gateway, e.Kind, e.Device, e.Session, e.Peer, e.Reason)
			},
		}),
		group("config", "Groups, access lists, pools and settings of all gateways", f.gatewayExport(), f.gatewayImport()),
	)
	c.Example = `  gatewayd gateway add gw1 10.0.0.7:8447 --host gw1.example.com --fingerprint 5a0c...
  gatewayd gateway list
  gatewayd gateway config export > gateways.yaml`
	f.add(c)
	return c
}

// forgetVersionsCommand is for the gateway itself, and the only one here that is.
func (g *global) forgetVersionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget-versions",
		Short: "At the gateway itself: let any manager go on from here, whatever was pushed last",
		Long: `Run this on the gateway, not where the manager is. The gateway forgets which
version it has of what was pushed, keeps what is in force, and takes what the next
manager that connects says. It is the way out where somebody with a stolen manager's
key has pushed versions so far ahead that "gatewayd gateway epoch" doesn't get past
them: revoke that key first, then run this at each gateway. It is logged, with who
asked for it.`,
		Example: `  gatewayd gateway forget-versions`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := g.client().ForgetVersions(c.Context()); err != nil {
				return explain(err)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "forgotten; what is in force stays until a manager pushes")
			return err
		},
	}
}

func gatewayState(v api.Gateway) string {
	switch {
	case !v.Connected:
		return "away"
	case v.Health != "":
		return v.Health
	}
	return "connected"
}

func gatewayTrouble(v api.Gateway) string {
	if !v.Connected {
		return v.Trouble
	}
	return strings.Join(append(v.Drift, v.Problems...), "; ")
}

func gatewayTable(t *tabwriter.Writer, v api.Gateway) {
	pairs(t, "gateway", v.Name+", "+gatewayState(v), "address", v.Address, "host", v.Host, "fingerprint", v.Fingerprint, "added", v.Added,
		"certificate until", v.Certificate, "connected since", v.Since, "software", v.Software, "build", v.Build,
		"sessions", v.Sessions, "events", fmt.Sprintf("%d, disbelieved %d", v.Events, v.Disbelieved))
	if v.Draining {
		pairs(t, "draining", "to "+orDash(v.DrainTo))
	}
	for _, s := range v.Sections {
		text := s.Has
		if s.Has != s.Wanted {
			text += ", committed is " + s.Wanted
		}
		pairs(t, s.Section, text)
	}
	pairs(t, "trouble", gatewayTrouble(v))
}

const sessionHead = "DEVICE\tGATEWAY\tSESSION\tSINCE\tPEER\tADDRESSES"

func sessionRow(s api.Session) string {
	return cells(s.Device, s.Gateway, s.Session, s.Since, s.Peer, commas(s.Addresses))
}

func (f *managerFlags) gatewayAdd() *cobra.Command {
	in := &api.AddGateway{}
	c, _ := bare(api.GatewayAdd.Operation, `Manage the gateway whose key has a fingerprint: it gets a certificate, and then all
that is committed. NAME is what it calls itself (gateway.management.name); "gatewayd
init gateway --managed" and its log at each start show the command as a whole.`, `  gatewayd gateway add gw1 10.0.0.7:8447 --host gw1.example.com --fingerprint 5a0c...
  gatewayd gateway add gw1.example.com --fingerprint 5a0c...`, in)
	c.Use, c.Args = "add NAME [ADDRESS[:PORT]]", args(cobra.RangeArgs(1, 2))
	flags := c.Flags()
	flags.StringVar(&in.Body.Fingerprint, "fingerprint", "", "SHA-256 of its public key, hexadecimal")
	flags.StringVar(&in.Body.Host, "host", "", "the name in its certificate, gateway.management.host (default: NAME)")
	var o *output
	c.RunE = f.with(func(c *cobra.Command, names []string, m *client.Client) error {
		if in.Body.Fingerprint == "" {
			return usage("which gateway is it? Give its --fingerprint, which it shows when it starts")
		}
		in.Body.Name = names[0]
		in.Body.Host = cmp.Or(in.Body.Host, in.Body.Name)
		address, err := managementAddress(c.Context(), append(names, in.Body.Host)[1])
		if err != nil {
			return err
		}
		in.Body.Address = address.String()
		v, err := client.Call(c.Context(), m, api.GatewayAdd, in)
		if err != nil {
			return err
		}
		return o.print(c.OutOrStdout(), v, func(t *tabwriter.Writer) { gatewayTable(t, v) })
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

// managementAddress of a gateway: an address or a name, with or without a port.
func managementAddress(ctx context.Context, text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a, managementPort), nil
	}
	host, port := text, strconv.Itoa(managementPort)
	if h, p, err := net.SplitHostPort(text); err == nil {
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, usage("%s: want ADDRESS, ADDRESS:PORT or a name in place of the address", text)
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w; give the address of its management port behind its name", err)
	}
	return netip.AddrPortFrom(all[0].Unmap(), uint16(n)), nil
}

func (f *managerFlags) gatewayDrain() *cobra.Command {
	var within time.Duration
	return verb(f, api.GatewayDrain, verbOf[api.DrainGateway, api.Drained]{
		long: `Send the sessions of a gateway to another one, and those to come. Devices keep their
addresses. Who can't be redirected is disconnected. It stays so, also over a restart
of the gateway, until undrain.`,
		example: "  gatewayd gateway drain gateway-1 --to gw2.example.com --within 10m",
		flags: func(flags *pflag.FlagSet, in *api.DrainGateway) {
			flags.StringVar(&in.Body.To, "to", "", "name or address of another gateway; empty: sessions only end")
			flags.DurationVar(&within, "within", 5*time.Minute, "how long it may take")
		},
		prepare: func(_ *cobra.Command, in *api.DrainGateway) error {
			in.Body.Within = int(within / time.Second)
			if within < 0 || within%time.Second != 0 {
				return usage("--within %v: want whole seconds", within)
			}
			return nil
		},
		table: drainedTable,
	})
}

func drainedTable(t *tabwriter.Writer, d api.Drained) {
	if d.Now {
		fmt.Fprintln(t, "done")
		return
	}
	fmt.Fprintln(t, "the gateway isn't connected: it is told when it is")
}

func (f *managerFlags) gatewayExport() *cobra.Command {
	c, _ := bare(api.GatewayExport.Operation, `Write groups with their access lists, pools, excluded addresses and settings as YAML:
for a backup, for a script, to change them.`, "  gatewayd gateway config export > gateways.yaml", &api.None{})
	c.RunE = f.with(func(c *cobra.Command, _ []string, m *client.Client) error {
		v, err := client.Call(c.Context(), m, api.GatewayExport, &api.None{})
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(c.OutOrStdout(), v.YAML)
		return err
	})
	return c
}

// maxGatewayConfig is what the server takes.
const maxGatewayConfig = 16 << 20

func (f *managerFlags) gatewayImport() *cobra.Command {
	in := &api.SetContent{}
	c, _ := bare(api.GatewayImport.Operation, `Replace groups, access lists, pools, excluded addresses and settings by those of a
file, - for standard input. All of it holds, or, if anything is wrong, none. Devices
whose address isn't in a pool any more get another one.`, "  gatewayd gateway config import gateways.yaml", in)
	c.Use, c.Args = "import FILE", args(cobra.ExactArgs(1))
	c.RunE = f.with(func(c *cobra.Command, names []string, m *client.Client) error {
		text, err := readInput(c, names[0], maxGatewayConfig)
		if err != nil {
			return err
		}
		in.Body.YAML = string(text)
		_, err = client.Call(c.Context(), m, api.GatewayImport, in)
		return err
	})
	return c
}

// deviceAtGateways are the commands on devices as gateways know them.
func (f *managerFlags) deviceAtGateways() []*cobra.Command {
	var group string
	var held, barred bool
	return []*cobra.Command{
		list(f, api.DeviceWhere, listOf[api.OneDevice, api.Session]{
			long:    "Show at which gateways a device has a session, the newest last. There are several\nwhile it moves, and where a gateway hasn't told yet that one has ended.",
			example: "  gatewayd device where phone-1", complete: f.managed(), head: sessionHead, row: sessionRow,
		}),
		verb(f, api.DeviceDisconnect, verbOf[api.EndSessions, api.Ended]{
			example: "  gatewayd device disconnect phone-1", complete: f.managed(),
			table: func(t *tabwriter.Writer, e api.Ended) { pairs(t, "sessions ended", e.Sessions) },
		}),
		verb(f, api.DeviceAccess, verbOf[api.OneDevice, api.Access]{example: "  gatewayd device access phone-1", complete: f.managed(), table: accessTable}),
		verb(f, api.DeviceAuthorise, verbOf[api.SetAccess, api.Access]{
			long:     "Set the group of a device, put it into quarantine or release it, bar it or let it in\nagain. It holds at all gateways at once, for sessions that are up, too.",
			example:  "  gatewayd device authorise phone-1 --held=false\n  gatewayd device authorise phone-1 --group guests\n  gatewayd device authorise phone-1 --barred",
			complete: f.managed(),
			flags: func(flags *pflag.FlagSet, _ *api.SetAccess) {
				flags.StringVar(&group, "group", "", "whose access list holds for it")
				flags.BoolVar(&held, "held", false, "keep it in quarantine; --held=false releases it")
				flags.BoolVar(&barred, "barred", false, "keep it out; --barred=false lets it in again")
			},
			prepare: func(c *cobra.Command, in *api.SetAccess) error {
				some := false
				if c.Flags().Changed("group") {
					in.Body.Group, some = &group, true
				}
				if c.Flags().Changed("held") {
					in.Body.Held, some = &held, true
				}
				if c.Flags().Changed("barred") {
					in.Body.Barred, some = &barred, true
				}
				if !some {
					return usage("what shall change? Give --group, --held or --barred")
				}
				return nil
			},
			table: accessTable,
		}),
	}
}

func accessTable(t *tabwriter.Writer, a api.Access) {
	state := "released"
	if a.Held {
		state = "in quarantine"
	}
	if a.Barred {
		state = "barred"
	}
	pairs(t, "device", a.Device+", "+state, "group", orDash(a.Group), "addresses", commas(a.Addresses), "enrolled", a.Enrolled)
}
