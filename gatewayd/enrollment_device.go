package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
)

func commas(list []string) string { return strings.Join(list, ", ") }

func openOrClosed(d admin.Device) string {
	if d.Open {
		return "open"
	}
	return "closed"
}

func (f *adminFlags) deviceNames() cobra.CompletionFunc {
	return f.completed(func(c *cobra.Command, client *admin.Client) ([]string, error) {
		list, err := client.Devices(c.Context(), "", "", 100)
		var names []string
		for _, d := range list {
			names = append(names, d.Name+"\t"+d.User)
		}
		return names, err
	})
}

func (f *adminFlags) deviceList() *cobra.Command {
	var o *output
	var user, group string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List devices that enrolled",
		Example: "  gatewayd enrollment device list --user bob",
		Args:    args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, client *admin.Client) error {
			list, err := client.Devices(c.Context(), user, group, limit)
			if err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "DEVICE\tUSER\tSTATE\tGROUPS\tENROLLED")
				for _, d := range list {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", d.Name, d.User, openOrClosed(d), orDash(commas(d.Groups)), when(d.Created))
				}
			})
		}),
	}
	c.Flags().StringVar(&user, "user", "", "of this user")
	c.Flags().StringVar(&group, "group", "", "in this group")
	limitFlag(c, &limit)
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (f *adminFlags) deviceShow() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use: "show DEVICE", Short: "Show a device and its certificates",
		Example:           "  gatewayd enrollment device show phone-1",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.deviceNames(),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			d, err := client.Device(c.Context(), names[0])
			if err != nil {
				return err
			}
			list, err := client.Certificates(c.Context(), admin.CertificateFilter{Device: d.Name}, maxListed)
			if err != nil {
				return err
			}
			all := struct {
				admin.Device
				Certificates []admin.Certificate `json:"certificates"`
			}{d, list}
			return o.print(c.OutOrStdout(), all, func(t *tabwriter.Writer) {
				fmt.Fprintf(t, "device\t%s, %s\nuser\t%s\ngroups\t%s\nenrolled\t%s\n", d.Name, openOrClosed(d), d.User, orDash(commas(d.Groups)), when(d.Created))
				for _, v := range list {
					fmt.Fprintf(t, "certificate\t%s, until %s%s\n", v.Serial, when(v.NotAfter), revokedText(v))
				}
			})
		}),
	}
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func revokedText(v admin.Certificate) string {
	if v.Revoked.IsZero() {
		return ""
	}
	return fmt.Sprintf(", revoked %s (%s)", when(v.Revoked), v.Reason)
}

func (f *adminFlags) deviceClose() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "close DEVICE", Short: "Revoke all that a device has",
		Long: `Revoke all certificates of a device and cancel its open requests. It may come
again by a new request only. Gateways hear of it with the next revocation list.`,
		Example:           "  gatewayd enrollment device close phone-1 --reason key-compromise",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.deviceNames(),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			d, err := client.CloseDevice(c.Context(), names[0], reason)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "device %s of %s is closed\n", d.Name, d.User)
			return err
		}),
	}
	reasonFlag(c, &reason)
	return c
}

func reasonFlag(c *cobra.Command, reason *string) {
	var names []string
	for _, r := range ca.Reasons {
		names = append(names, r.String())
	}
	c.Flags().StringVar(reason, "reason", ca.Unspecified.String(), commas(names))
	_ = c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}
