package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/dmlink/policy"
)

func (g *global) policyCommand() *cobra.Command {
	f := &managerFlags{global: g}
	c := group("policy", "Say which nodes devices shall have, and with which values",
		verb(f, api.PolicyShow, verbOf[api.OnePolicy, api.Policy]{
			long:    "Show the policies, or a former version of them. `policy export` writes them as a\nfile that `policy apply` reads.",
			example: "  gatewayd policy show\n  gatewayd policy show --version 7 -o yaml", table: policyTable,
		}),
		f.policyExport(), f.policyPlan(), f.policyApply(),
		list(f, api.PolicyVersions, listOf[api.ListPolicies, api.PolicyVersion]{
			example: "  gatewayd policy history --limit 10",
			head:    "VERSION\tAT\tBY\tCOMMENT",
			row: func(v api.PolicyVersion) string {
				return cells(v.Number, v.At, v.By, v.Comment)
			},
		}),
		verb(f, api.PolicyStatus, verbOf[api.None, api.PolicyBehind]{
			long: `Show how many devices' commands are still to be computed after a change of the
policies, or of the devices. Of all others the commands wait for their next session.`,
			example: "  gatewayd policy status",
			table: func(t *tabwriter.Writer, b api.PolicyBehind) {
				pairs(t, "version", b.Version, "devices to compute", b.Devices, "since", b.Since)
			},
		}),
		verb(f, api.PolicyExplain, verbOf[api.OneDevice, api.Explanation]{
			long: `Explain which sets a device has and why it has not the others, which set gave
which value and which lost, and how far the device is with each.`,
			example: "  gatewayd policy explain phone-1", complete: f.managed(), table: explanationTable,
		}))
	c.Example = `  gatewayd policy export > policies.yaml
  gatewayd policy plan policies.yaml
  gatewayd policy apply policies.yaml --comment 'cameras off in the lab'
  gatewayd policy status
  gatewayd policy explain phone-1`
	f.add(c)
	return c
}

func policyTable(t *tabwriter.Writer, p api.Policy) {
	pairs(t, "version", p.Number, "at", p.At, "by", p.By, "comment", p.Comment)
	fmt.Fprintln(t, "\nUNIT\tORDER\tSET\tENFORCED\tSETTINGS\tFOR")
	settings, groups := map[string]int{}, map[string]string{}
	for _, s := range p.Document.Sets {
		settings[s.Name] = len(s.Settings)
		groups[s.Name] = commas(s.Groups)
		if s.Filter != "" {
			groups[s.Name] += " " + s.Filter
		}
	}
	for _, l := range p.Document.Links {
		fmt.Fprintln(t, cells(cmp.Or(l.Unit, "(all)"), l.Order, l.Set, l.Enforced, settings[l.Set], groups[l.Set]))
	}
}

func explanationTable(t *tabwriter.Writer, e api.Explanation) {
	pairs(t, "device", e.Device, "unit", e.Unit, "groups", commas(e.Groups), "version", e.Version)
	fmt.Fprintln(t, "\nSET\tUNIT\tORDER\tVERDICT\tWHY")
	for _, s := range e.Result.Sets {
		fmt.Fprintln(t, cells(s.Set, cmp.Or(s.Unit, "(all)"), s.Order, string(s.Verdict), s.Why))
	}
	fmt.Fprintln(t, "\nNODE\tVALUE\tSET\tDEVICE\tINSTEAD OF")
	for _, v := range e.Result.Values {
		status := e.Nodes[v.Setting.URI]
		text := string(status.Progress)
		if status.Code != 0 {
			text += fmt.Sprintf(" (%d)", status.Code)
		}
		var lost []string
		for _, l := range v.Lost {
			lost = append(lost, l.Set+": "+l.Why)
		}
		fmt.Fprintln(t, cells(v.Setting.URI, settingText(v.Setting), v.Set, text, commas(lost)))
	}
	for _, uri := range e.Removals {
		fmt.Fprintln(t, cells(uri, "", "", "to be removed", ""))
	}
}

func settingText(s policy.Setting) string {
	if s.Absent {
		return "(absent)"
	}
	if len(s.Data) > 60 {
		return s.Data[:60] + "…"
	}
	return s.Data
}

// exported is the first line of an exported file: what a change of it is based
// on.
var exported = regexp.MustCompile(`^# policies, version (\d+) of instance `)

func (f *managerFlags) policyExport() *cobra.Command {
	var version int64
	c := &cobra.Command{
		Use: "export", Short: "Write the policies as a file that apply reads",
		Long: `Write the policies as YAML: for a backup, for a script, to change them. The first
line says which version it is, so that apply notices a newer one.`,
		Example: "  gatewayd policy export > policies.yaml\n  gatewayd policy export --version 7 > former.yaml",
		Args:    args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, m *client.Client) error {
			p, err := client.Call(c.Context(), m, api.PolicyShow, &api.OnePolicy{Version: version})
			if err != nil {
				return err
			}
			self, err := client.Call(c.Context(), m, api.RoleWhoami, &api.None{})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "# policies, version %d of instance %s\n", p.Number, oneLine(self.Instance))
			return policy.Export(c.OutOrStdout(), p.Document)
		}),
	}
	c.Flags().Int64Var(&version, "version", 0, "a former version; 0: the newest")
	return c
}

// readInput of a file, or standard input for -, at most so large.
func readInput(c *cobra.Command, name string, most int64) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s: more than %d octets", name, most)
	}
	return text, err
}

// readPolicies of a file, and the version that it says it was; -1 if none.
func readPolicies(c *cobra.Command, name string) (policy.Document, int64, error) {
	text, err := readInput(c, name, policy.MaxSize)
	if err != nil {
		return policy.Document{}, 0, err
	}
	base := int64(-1)
	if found := exported.FindSubmatch(text); found != nil {
		if base, err = strconv.ParseInt(string(found[1]), 10, 64); err != nil {
			return policy.Document{}, 0, fmt.Errorf("%s, line 1: %w", name, err)
		}
	}
	d, err := policy.Import(bytes.NewReader(text))
	if err == nil {
		_, err = policy.Compile(d)
	}
	if err != nil {
		return policy.Document{}, 0, fmt.Errorf("%s: %w", name, err)
	}
	return d, base, nil
}

func (f *managerFlags) policyPlan() *cobra.Command {
	in := &api.PlanPolicy{}
	c, _ := bare(api.PolicyPlan.Operation, "Say what a file of policies would change, and for which devices. It changes nothing.",
		"  gatewayd policy plan policies.yaml\n  gatewayd policy plan - < policies.yaml", in)
	c.Use, c.Args = "plan FILE", args(cobra.ExactArgs(1))
	var o *output
	c.RunE = f.with(func(c *cobra.Command, names []string, m *client.Client) error {
		var err error
		if in.Body.Document, _, err = readPolicies(c, names[0]); err != nil {
			return err
		}
		p, err := client.Call(c.Context(), m, api.PolicyPlan, in)
		if err != nil {
			return err
		}
		return o.print(c.OutOrStdout(), p, func(t *tabwriter.Writer) { planTable(t, p) })
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func planTable(t *tabwriter.Writer, p api.PolicyPlanned) {
	pairs(t, "compared with version", p.Base, "devices looked at", p.Touched, "devices that change", p.Changed)
	if len(p.Nodes) > 0 {
		fmt.Fprintln(t, "\nNODE\tGAIN\tLOSE\tCHANGE")
		for _, uri := range slices.Sorted(maps.Keys(p.Nodes)) {
			n := p.Nodes[uri]
			fmt.Fprintln(t, cells(uri, n.Gain, n.Lose, n.Change))
		}
	}
	if len(p.Devices) > 0 {
		fmt.Fprintln(t, "\nDEVICE\tNODE\tBEFORE\tAFTER")
	}
	side := func(v *policy.Value) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf("%s (%s)", settingText(v.Setting), v.Set)
	}
	for _, d := range p.Devices {
		for _, n := range d.Nodes {
			fmt.Fprintln(t, cells(d.Device, n.URI, side(n.Before), side(n.After)))
		}
	}
	if more := p.Changed - len(p.Devices); more > 0 {
		fmt.Fprintf(t, "and %d more devices\n", more)
	}
}

func (f *managerFlags) policyApply() *cobra.Command {
	in := &api.ApplyPolicy{}
	base := int64(-1)
	c, _ := bare(api.PolicyApply.Operation, `Make a file the newest version of the policies. Devices that it touches get their
commands in their next session.

The file says in its first line, as export wrote it, which version it was made of;
--base says it otherwise. If somebody else has applied one since, nothing is
changed.`, `  gatewayd policy apply policies.yaml --comment 'cameras off in the lab'
  gatewayd policy apply former.yaml --base 9 --comment 'back to version 7'`, in)
	c.Use, c.Aliases, c.Args = "apply FILE", []string{"import"}, args(cobra.ExactArgs(1))
	c.Flags().Int64Var(&base, "base", -1, "the version that it was made of; 0 if there is none yet")
	c.Flags().StringVar(&in.Body.Comment, "comment", "", "why, for the history")
	var o *output
	c.RunE = f.with(func(c *cobra.Command, names []string, m *client.Client) error {
		d, said, err := readPolicies(c, names[0])
		if err != nil {
			return err
		}
		in.Body.Document, in.Body.Base = d, said
		if c.Flags().Changed("base") {
			in.Body.Base = base
		}
		if in.Body.Base < 0 {
			return usage("%s doesn't say which version it was made of: give --base (see `gatewayd policy history`; 0 if there is none yet)", names[0])
		}
		v, err := client.Call(c.Context(), m, api.PolicyApply, in)
		if err != nil {
			return err
		}
		return o.print(c.OutOrStdout(), v, func(t *tabwriter.Writer) {
			pairs(t, "version", v.Number, "at", v.At, "by", v.By)
		})
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}
