package main

import (
	"cmp"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/gatewayd/join"
)

func (g *global) enrollmentCommand() *cobra.Command {
	f := &adminFlags{global: g}
	request := group("request", "Make, show and cancel requests to enroll a device",
		f.requestCreate(), f.requestList(), f.requestShow(), f.requestCancel())
	device := group("device", "Show and close devices", f.deviceList(), f.deviceShow(), f.deviceClose())
	c := group("enrollment", "Let devices enroll, and enroll this one", request, f.deliverCommand(), device, f.auditCommand(), join.Command())
	c.Example = `  gatewayd enrollment request create --user bob --device phone-1
  gatewayd enrollment request list --state open
  gatewayd enrollment deliver 7K2M-9QXA --mail bob.eml --from it@example.com
  gatewayd enrollment join --server enroll.example.com`
	f.add(c)
	return c
}

// maxListed is the default of --limit.
const maxListed = 1000

func limitFlag(c *cobra.Command, limit *int) {
	c.Flags().IntVar(limit, "limit", maxListed, "at most so many")
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}

func (f *adminFlags) requestCreate() *cobra.Command {
	var n admin.NewRequest
	var valid time.Duration
	var o *output
	var d deliveryFlags
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a request and its one-time password",
		Long: `Make a request for a device and its one-time password. The password is shown this
once: give it to the user another way than the link. It is good for one device,
once, until the request expires; after an error it stays good.

An older open request for the same device is cancelled by this.`,
		Example: `  gatewayd enrollment request create --user bob --device phone-1
  gatewayd enrollment request create --user bob --device phone-1 --email bob@example.com --group sales --valid 1h
  gatewayd enrollment request create --user bob --device phone-1 --email bob@example.com --mail phone-1.eml --from it@example.com
  gatewayd enrollment request create --user bob --device phone-1 -o json`,
		Args: args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, client *admin.Client) error {
			if n.User == "" && n.Email == "" || n.Device == "" {
				return usage("a request needs --user and --device; see `%s --help`", c.CommandPath())
			}
			n.User = cmp.Or(n.User, n.Email)
			if valid < 0 || valid%time.Second != 0 {
				return usage("--valid %v: want whole seconds", valid)
			}
			if err := d.check(n.Email); err != nil {
				return err
			}
			n.ValidSeconds = int64(valid / time.Second)
			server, err := client.Server(c.Context())
			if err != nil {
				return err
			}
			made, err := client.CreateRequest(c.Context(), n)
			if err != nil {
				return err
			}
			if err := o.print(c.OutOrStdout(), made, func(t *tabwriter.Writer) {
				requestRows(t, made.Request)
				fmt.Fprintf(t, "page\t%s\n", made.URL)
				fmt.Fprintf(t, "\n")
				fmt.Fprintf(t, "one-time password\t%s\n", made.Password)
				fmt.Fprintf(t, "\t(shown this once; no letter O, I, L or U in it)\n")
				fmt.Fprintf(t, "code for `join`\t%s\n", made.Code)
			}); err != nil {
				return err
			}
			return d.deliver(c, message(server, made.Request, made.URL), made.Password)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&n.User, "user", "", "who will have the device")
	flags.StringVar(&n.Device, "device", "", "name of the device: letters, digits, '.', '_', '-', '@'")
	flags.StringVar(&n.Email, "email", "", "e-mail address of the user")
	flags.StringSliceVar(&n.Groups, "group", nil, "group of the device, may be repeated")
	flags.DurationVar(&valid, "valid", 0, "how long the password is good (default: as the server is configured)")
	d.add(c)
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func requestRows(t *tabwriter.Writer, q admin.Request) {
	fmt.Fprintf(t, "request\t%s, %s\n", q.ID, q.State)
	fmt.Fprintf(t, "device\t%s\n", q.Device)
	fmt.Fprintf(t, "user\t%s\n", q.User)
	if q.Email != "" {
		fmt.Fprintf(t, "e-mail\t%s\n", q.Email)
	}
	if len(q.Groups) > 0 {
		fmt.Fprintf(t, "groups\t%s\n", commas(q.Groups))
	}
	fmt.Fprintf(t, "made\t%s by %s\n", when(q.Created), q.CreatedBy)
	fmt.Fprintf(t, "expires\t%s\n", when(q.Expires))
	if q.Guesses > 0 {
		fmt.Fprintf(t, "wrong passwords\t%d\n", q.Guesses)
	}
	if q.Serial != "" {
		fmt.Fprintf(t, "certificate\t%s\n", q.Serial)
	}
}

func (f *adminFlags) requestList() *cobra.Command {
	var o *output
	var state, user, device string
	var limit int
	c := &cobra.Command{
		Use:     "list",
		Short:   "List requests",
		Example: "  gatewayd enrollment request list --state open\n  gatewayd enrollment request list --user bob -o json",
		Args:    args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, client *admin.Client) error {
			list, err := client.Requests(c.Context(), state, user, device, limit)
			if err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "REQUEST\tSTATE\tDEVICE\tUSER\tMADE\tEXPIRES\tBY")
				for _, q := range list {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", q.ID, q.State, q.Device, q.User, when(q.Created), when(q.Expires), q.CreatedBy)
				}
			})
		}),
	}
	c.Flags().StringVar(&state, "state", "", "open, used, expired, cancelled or exhausted")
	c.Flags().StringVar(&user, "user", "", "of this user")
	c.Flags().StringVar(&device, "device", "", "for this device")
	limitFlag(c, &limit)
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"open", "used", "expired", "cancelled", "exhausted"}, cobra.ShellCompDirectiveNoFileComp))
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (f *adminFlags) requestNames(state string) cobra.CompletionFunc {
	return f.completed(func(c *cobra.Command, client *admin.Client) ([]string, error) {
		list, err := client.Requests(c.Context(), state, "", "", 100)
		var names []string
		for _, q := range list {
			names = append(names, q.ID+"\t"+q.Device+" of "+q.User)
		}
		return names, err
	})
}

func (f *adminFlags) requestShow() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use: "show REQUEST", Short: "Show a request",
		Example:           "  gatewayd enrollment request show 7K2M-9QXA",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.requestNames(""),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			q, err := client.Request(c.Context(), names[0])
			if err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), q, func(t *tabwriter.Writer) { requestRows(t, q) })
		}),
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (f *adminFlags) requestCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel REQUEST", Short: "Cancel an open request",
		Long:              "Cancel an open request: its one-time password is good for nothing from then on.",
		Example:           "  gatewayd enrollment request cancel 7K2M-9QXA",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.requestNames("open"),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			q, err := client.CancelRequest(c.Context(), names[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "request %s for %s is cancelled\n", q.ID, q.Device)
			return err
		}),
	}
}

func (f *adminFlags) auditCommand() *cobra.Command {
	var o *output
	var after int64
	var limit int
	c := &cobra.Command{
		Use: "audit", Short: "Show who did what",
		Example: "  gatewayd enrollment audit\n  gatewayd enrollment audit --after 1200 -o json",
		Args:    args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, client *admin.Client) error {
			list, err := client.Audit(c.Context(), after, limit)
			if err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "ID\tAT\tBY\tFROM\tACTION\tDEVICE\tREQUEST\tDETAIL")
				for _, e := range list {
					fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.At.UTC().Format(time.RFC3339), e.By, orDash(e.Source), e.Action, orDash(e.Device), orDash(e.Request), e.Detail)
				}
			})
		}),
	}
	c.Flags().Int64Var(&after, "after", 0, "entries with IDs above this one")
	limitFlag(c, &limit)
	o = addOutput(c, "table", "json", "yaml")
	return c
}
