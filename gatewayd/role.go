package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
)

func (g *global) roleCommand() *cobra.Command {
	f := &managerFlags{global: g}
	grant := verb(f, api.RoleGrant, verbOf[api.PutGrant, api.Grant]{
		long: `Give a role to an administrator: certificate:NAME is who shows an administrator's
certificate with that name (` + "`gatewayd certificate issue admin NAME`" + `), local:USER a user
of the manager's own host. root on that host is a server administrator by itself.`,
		example:  "  gatewayd role grant certificate:alice device\n  sudo gatewayd role grant --local local:root device",
		complete: f.subjects(),
		table: func(t *tabwriter.Writer, v api.Grant) {
			pairs(t, "subject", v.Subject, "role", v.Role, "granted", v.Granted, "by", v.By)
		},
	})
	revoke := verb(f, api.RoleRevoke, verbOf[api.TakeGrant, api.Done]{
		long:     "Take a role from an administrator. It holds from the next request on.",
		example:  "  gatewayd role revoke certificate:alice device",
		complete: f.subjects(),
		table: func(t *tabwriter.Writer, v api.Done) {
			if v.Changed {
				fmt.Fprintln(t, "revoked")
			} else {
				fmt.Fprintln(t, "there was no such role")
			}
		},
	})
	whoami := verb(f, api.RoleWhoami, verbOf[api.None, api.Self]{
		example: "  gatewayd role whoami",
		table: func(t *tabwriter.Writer, v api.Self) {
			pairs(t, "you are", v.Subject, "instance", v.Instance, "roles", commas(v.Roles), "you may", commas(v.May))
		},
	})
	c := group("role", "Say who may administer, and what",
		whoami,
		list(f, api.RoleOperations, listOf[api.None, api.Permission]{
			example: "  gatewayd role operations",
			head:    "OPERATION\t" + strings.ToUpper(strings.Join(access.Everybody.Names(), "\t")) + "\tMETHOD\tPATH",
			row: func(p api.Permission) string {
				text := p.Operation
				for _, r := range access.Everybody.Names() {
					if strings.Contains(","+strings.Join(p.Roles, ",")+",", ","+r+",") {
						text += "\tx"
					} else {
						text += "\t."
					}
				}
				return text + "\t" + cells(p.Method, p.Path)
			},
		}),
		list(f, api.RoleList, listOf[api.ListGrants, api.Grant]{
			example: "  gatewayd role list\n  gatewayd role list --subject certificate:alice",
			head:    "SUBJECT\tROLE\tGRANTED\tBY",
			row:     func(v api.Grant) string { return cells(v.Subject, v.Role, v.Granted, v.By) },
		}),
		grant, revoke, f.tokenCommand())
	c.Example = `  gatewayd role whoami
  gatewayd role grant certificate:alice device
  gatewayd role token create inventory --role auditor --valid 720h`
	f.add(c)
	return c
}

// subjects completes who has a role, then roles.
func (f *managerFlags) subjects() cobra.CompletionFunc {
	first := f.completed(func(c *cobra.Command, m *client.Client) ([]string, error) {
		p, err := client.Call(c.Context(), m, api.RoleList, &api.ListGrants{Paging: api.Paging{Limit: maxCompleted}})
		var names []string
		for _, g := range p.Items {
			if len(names) == 0 || names[len(names)-1] != g.Subject {
				names = append(names, g.Subject)
			}
		}
		return names, err
	})
	return func(c *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return access.Everybody.Names(), cobra.ShellCompDirectiveNoFileComp
		}
		return first(c, args, to)
	}
}

func (f *managerFlags) tokenCommand() *cobra.Command {
	tokens := f.completed(func(c *cobra.Command, m *client.Client) ([]string, error) {
		p, err := client.Call(c.Context(), m, api.RoleTokenList, &api.Paging{Limit: maxCompleted})
		var names []string
		for _, k := range p.Items {
			if k.State == "valid" || k.State == "powerless" {
				names = append(names, k.Name+"\t"+commas(k.Given))
			}
		}
		return names, err
	})
	c := group("token", "Make, list and revoke tokens for scripts",
		f.tokenCreate(),
		list(f, api.RoleTokenList, listOf[api.Paging, api.Token]{
			example: "  gatewayd role token list",
			head:    "NAME\tROLES\tGIVEN\tSTATE\tEXPIRES\tUSED\tMADE\tBY",
			row: func(k api.Token) string {
				return cells(k.Name, commas(k.Roles), commas(k.Given), k.State, k.Expires, k.Used, k.Created, k.By)
			},
		}),
		verb(f, api.RoleTokenRevoke, verbOf[api.RevokeToken, api.Token]{
			example: "  gatewayd role token revoke inventory", complete: tokens,
			table: func(t *tabwriter.Writer, k api.Token) { pairs(t, "token", k.Name, "revoked", k.Revoked) },
		}))
	c.Example = "  gatewayd role token create inventory --role auditor --valid 720h > inventory.token"
	return c
}

func (f *managerFlags) tokenCreate() *cobra.Command {
	in := &api.CreateToken{}
	var valid time.Duration
	c, _ := bare(api.RoleTokenCreate.Operation, `Make a token with roles. It is printed this once, alone on standard output; what
else is to be said goes to standard error. A name is used once, because the audit
log knows the token by it.`, `  (umask 077; gatewayd role token create inventory --role auditor > inventory.token)
  gatewayd device list --admin-url https://dm.example.com:8446 --admin-root root.pem --admin-token-file inventory.token
  gatewayd role token create ci --role device --role helpdesk --valid 24h -o json`, in)
	c.Use, c.Args = "create NAME", args(cobra.ExactArgs(1))
	c.Flags().StringSliceVar(&in.Body.Roles, "role", nil, "role that it has: "+access.Everybody.String()+"; may be repeated")
	c.Flags().DurationVar(&valid, "valid", access.DefaultLifetime, "how long it is good")
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(access.Everybody.Names(), cobra.ShellCompDirectiveNoFileComp))
	var o *output
	c.RunE = f.with(func(c *cobra.Command, names []string, m *client.Client) error {
		in.Body.Name = names[0]
		if len(in.Body.Roles) == 0 {
			return usage("a token needs a role: --role, one of %s", access.Everybody)
		}
		if valid < access.MinLifetime || valid > access.MaxLifetime || valid%time.Second != 0 {
			return usage("--valid %v: want whole seconds, from %v to %v", valid, access.MinLifetime, access.MaxLifetime)
		}
		in.Body.ValidSeconds = int64(valid / time.Second)
		made, err := client.Call(c.Context(), m, api.RoleTokenCreate, in)
		if err != nil {
			return err
		}
		if o.format != "table" {
			return o.print(c.OutOrStdout(), made, nil)
		}
		fmt.Fprintf(c.ErrOrStderr(), "token %s, %s, until %s; it is shown this once:\n", made.Token.Name, commas(made.Token.Roles), when(made.Token.Expires))
		_, err = fmt.Fprintln(c.OutOrStdout(), made.Secret)
		return err
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (g *global) auditCommand() *cobra.Command {
	f := &managerFlags{global: g}
	c := group("audit", "Read and prove what administrators did",
		list(f, api.AuditList, listOf[api.ListAudit, api.Entry]{
			long: `Read the audit log, the newest first. A change has an entry when it was asked for,
and one when it was done or failed; an asked that nothing follows was cut off.`,
			example: "  gatewayd audit list --since 24h --phase refused\n  gatewayd audit list --subject certificate:alice --operation task.place.wipe -o json\n  gatewayd audit list --object 'device phone-1'",
			head:    "NUMBER\tAT\tWHO\tFROM\tPHASE\tOPERATION\tOBJECT\tDETAIL",
			row: func(e api.Entry) string {
				return cells(e.Number, e.At, e.Subject, e.Source, e.Phase, e.Operation, e.Object, e.Detail)
			},
		}), f.auditVerify())
	c.Example = "  gatewayd audit list --since 24h --phase refused\n  gatewayd audit verify"
	f.add(c)
	return c
}

// auditVerify fails if the log is broken, so that a timer can tell.
func (f *managerFlags) auditVerify() *cobra.Command {
	in := &api.VerifyAudit{}
	c, _ := bare(api.AuditVerify.Operation, `Prove that nobody changed the audit log: each entry has a hash over itself and the
one before, under a key that isn't in the database. Note the number and hash that
it prints somewhere else, and give them the next time: that shows also whether the
newest entries were cut off, or the whole log written anew. Exit code 1 if it is
broken.`, "  gatewayd audit verify\n  gatewayd audit verify --number 1041 --hash 5f0c…", in)
	var o *output
	c.RunE = f.with(func(c *cobra.Command, _ []string, m *client.Client) error {
		v, err := client.Call(c.Context(), m, api.AuditVerify, in)
		if err != nil {
			return err
		}
		if err := o.print(c.OutOrStdout(), v, func(t *tabwriter.Writer) {
			pairs(t, "intact", v.Intact, "entries", v.Entries, "newest", v.Number, "hash", v.Hash, "trouble", v.Trouble)
		}); err != nil || v.Intact {
			return err
		}
		return silentError{}
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (g *global) serverCommand() *cobra.Command {
	f := &managerFlags{global: g}
	c := group("server", "Show the manager",
		verb(f, api.ServerShow, verbOf[api.None, api.Server]{
			example: "  gatewayd server show",
			table: func(t *tabwriter.Writer, v api.Server) {
				pairs(t, "version", v.Version, "instance", v.Instance, "title", v.Title, "started", v.Started, "database", v.Database, "ready", v.Ready)
				for _, s := range v.Trouble {
					pairs(t, "trouble", s)
				}
			},
		}))
	c.Example = "  gatewayd server show -o json"
	f.add(c)
	return c
}
