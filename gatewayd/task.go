package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/dmlink/task"
)

func (g *global) taskCommand() *cobra.Command {
	f := &managerFlags{global: g}
	place := group("place", "Place a task for a device, a user or a group")
	types := task.Types()
	for _, name := range types.Names() {
		place.AddCommand(f.taskPlace(types[name]))
	}
	place.Example = `  gatewayd task place lock --device phone-1
  gatewayd task place query --group sales --uri ./DevInfo/Mod --wait
  gatewayd task place wipe --imei 350000000000001 --valid 72h`
	c := group("task", "Ask devices to do something: lock, wipe, query, any node",
		place,
		list(f, api.TaskList, listOf[api.Paging, api.Task]{
			example: "  gatewayd task list --limit 20",
			head:    "TASK\tTYPE\tFOR\tMADE\tBY\tEXPIRES",
			row:     func(k api.Task) string { return cells(k.ID, k.Type, k.Group, k.Created, k.By, k.Expires) },
		}),
		verb(f, api.TaskShow, verbOf[api.OneTask, api.Task]{
			example: "  gatewayd task show K4X7", complete: f.taskIDs(),
			table: func(t *tabwriter.Writer, k api.Task) {
				pairs(t, "task", k.ID, "type", k.Type, "group", k.Group, "made", k.Created, "by", k.By, "expires", k.Expires)
				for name, v := range k.Values {
					pairs(t, name, v)
				}
			},
		}),
		list(f, api.TaskCommands, listOf[api.TaskCommandsOf, api.Command]{
			example: "  gatewayd task commands K4X7", complete: f.taskIDs(), head: commandHead, row: commandRow,
		}),
		verb(f, api.TaskAnswer, verbOf[api.OneCommand, api.Answer]{
			long:    "Show what a device answered to a command, by its number in `task commands`.",
			example: "  gatewayd task answer 1041",
			table: func(t *tabwriter.Writer, a api.Answer) {
				for _, p := range a.Parts {
					pairs(t, p.URI, fmt.Sprint("status ", p.Code))
				}
				for _, r := range a.Results {
					pairs(t, r.URI, r.Data)
				}
			},
		}),
		verb(f, api.TaskCancel, verbOf[api.CancelTask, api.Cancelled]{
			long:    "Cancel what still waits of a task. What was sent may be done all the same.",
			example: "  gatewayd task cancel K4X7", complete: f.taskIDs(),
			table: func(t *tabwriter.Writer, v api.Cancelled) {
				pairs(t, "cancelled", fmt.Sprint(v.Commands, " that waited"))
			},
		}),
		list(f, api.TaskWipes, listOf[api.ListWipes, api.Wipe]{
			example: "  gatewayd task wipes\n  gatewayd task wipes --state closed",
			head:    "DEVICE\tTASK\tSTATE\tREASON\tEXPIRES\tTROUBLE",
			row:     func(w api.Wipe) string { return cells(w.Device, w.Task, w.State, w.Reason, w.Expires, w.Trouble) },
		}),
		list(f, api.TaskTypes, listOf[api.None, api.TaskType]{
			example: "  gatewayd task types",
			head:    "TYPE\tPARAMETERS\tROLES\tDOES",
			row: func(v api.TaskType) string {
				var names []string
				for _, p := range v.Parameters {
					names = append(names, p.Name)
				}
				return cells(v.Name, commas(names), commas(v.Roles), v.Help)
			},
		}))
	c.Example = `  gatewayd task place lock --device phone-1 --wait
  gatewayd task list
  gatewayd task commands K4X7`
	f.add(c)
	return c
}

func (f *managerFlags) taskIDs() cobra.CompletionFunc {
	return f.completed(func(c *cobra.Command, m *client.Client) ([]string, error) {
		p, err := client.Call(c.Context(), m, api.TaskList, &api.Paging{Limit: maxCompleted})
		var names []string
		for _, k := range p.Items {
			names = append(names, k.ID+"\t"+k.Type+", "+when(k.Created))
		}
		return names, err
	})
}

// taskPlace is the command of one type.
func (f *managerFlags) taskPlace(kind task.Type) *cobra.Command {
	row, ok := api.TaskPlace(kind.Name)
	if !ok {
		panic("no row for tasks of type " + kind.Name)
	}
	in := &api.PlaceTask{}
	n := &in.Body
	help := strings.ToUpper(kind.Help[:1]) + kind.Help[1:] + ".\n\nIt waits for the device, which does it in its next session."
	example := "  gatewayd task place " + kind.Name + " --device phone-1" + exampleValues(kind)
	if kind.Closes {
		help += "\n\nThe device can't come again before it has enrolled anew. If nobody confirms, the\nsame happens when the task expires. For one device at a time."
		example += " --valid 72h"
	} else {
		example += "\n  gatewayd task place " + kind.Name + " --group sales" + exampleValues(kind) + " --wait"
	}
	c, _ := bare(row.Operation, help, example, in)
	flags := c.Flags()
	values := map[string]*string{}
	for _, p := range kind.Parameters {
		text := p.Help
		if len(p.Choices) > 0 {
			text += ": " + commas(p.Choices)
			_ = c.RegisterFlagCompletionFunc(p.Name, cobra.FixedCompletions(p.Choices, cobra.ShellCompDirectiveNoFileComp))
		}
		values[p.Name] = flags.String(p.Name, p.Default, text)
	}
	var valueFile string
	if values["value"] != nil {
		flags.StringVar(&valueFile, "value-file", "", "read the value from a file, - for standard input: other users can see arguments")
	}
	flags.StringVar(&n.Target.Device, "device", "", "for this device")
	flags.StringVar(&n.Target.IMEI, "imei", "", "for the device with this IMEI")
	flags.StringVar(&n.Target.IMSI, "imsi", "", "for the device with this IMSI")
	flags.StringVar(&n.Target.Phone, "phone", "", "for the device with this phone number")
	if !kind.Closes {
		flags.StringVar(&n.Target.User, "user", "", "for all devices of this user")
		flags.StringVar(&n.Target.Group, "group", "", "for all devices that are in this group now")
	}
	flags.StringVar(&n.ID, "id", "", "ID of the task, which makes it safe to ask again (default: drawn)")
	var valid time.Duration
	flags.DurationVar(&valid, "valid", kind.Lifetime, "how long it waits for a device")
	var w waiting
	w.add(c)
	yes := false
	if kind.Closes {
		flags.BoolVar(&yes, "yes", false, "don't ask")
	}
	_ = c.RegisterFlagCompletionFunc("device", f.flagged(f.managed()))
	var o *output
	c.RunE = f.with(func(c *cobra.Command, _ []string, m *client.Client) error {
		if n.Target == (api.Target{}) {
			return usage("for whom? One of --device, --imei, --imsi, --phone, --user, --group; see `%s --help`", c.CommandPath())
		}
		if valid%time.Second != 0 || valid <= 0 {
			return usage("--valid %v: want whole seconds", valid)
		}
		n.ValidSeconds = int64(valid / time.Second)
		n.Values = map[string]string{}
		for name, v := range values {
			if c.Flags().Changed(name) {
				n.Values[name] = *v
			}
		}
		if valueFile != "" {
			if c.Flags().Changed("value") {
				return usage("--value and --value-file are two values: give one")
			}
			text, err := readInput(c, valueFile, 1<<20)
			if err != nil {
				return err
			}
			n.Values["value"] = strings.TrimSuffix(string(text), "\n")
		}
		if kind.Closes && !yes {
			if err := confirm(c, kind.Name, n.Target.String()); err != nil {
				return err
			}
		}
		placed, err := client.Call(c.Context(), m, row, in)
		if err != nil {
			return err
		}
		if !w.wait {
			return o.print(c.OutOrStdout(), placed, func(t *tabwriter.Writer) {
				pairs(t, "task", placed.ID, "devices", placed.Devices, "expires", placed.Expires)
				if placed.Devices == 0 {
					pairs(t, "note", "nobody is in that group")
				}
			})
		}
		commands, err := w.until(c, m, placed)
		if err != nil {
			return err
		}
		if err := o.print(c.OutOrStdout(), commands, func(t *tabwriter.Writer) {
			fmt.Fprintln(t, commandHead)
			for _, k := range commands {
				fmt.Fprintln(t, commandRow(k))
			}
		}); err != nil {
			return err
		}
		for _, k := range commands {
			if !k.Done {
				return silentError{}
			}
		}
		return nil
	})
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func exampleValues(kind task.Type) string {
	text := ""
	for _, p := range kind.Parameters {
		if !p.Required {
			continue
		}
		switch p.Name {
		case "uri":
			text += " --uri ./DevDetail/FwV"
		case "from":
			text += " --from ./DevInfo/Mod"
		default:
			text += fmt.Sprintf(" --%s 'see the help desk'", p.Name)
		}
	}
	return text
}

// flagged completes a flag as an argument would be.
func (f *managerFlags) flagged(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, to string) ([]string, cobra.ShellCompDirective) {
		return complete(c, nil, to)
	}
}

// confirm what can't be taken back: whoever types has to say for whom it is.
func confirm(c *cobra.Command, what, target string) error {
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usage("%s of %s can't be taken back: say --yes", what, target)
	}
	_, name, _ := strings.Cut(target, " ")
	fmt.Fprintf(c.ErrOrStderr(), "%s of %s can't be taken back. Type %s to go on: ", what, target, name)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != name {
		return fmt.Errorf("%s of %s: not confirmed, nothing was done", what, target)
	}
	return nil
}

// waiting is what --wait means.
type waiting struct {
	wait  bool
	every time.Duration
}

func (w *waiting) add(c *cobra.Command) {
	w.every = time.Second
	c.Flags().BoolVar(&w.wait, "wait", false, "wait until all devices have answered, or the task is over; exit code 1 if one hasn't done it")
}

// until no command of a task waits any more. Interrupted, the task goes on.
func (w *waiting) until(c *cobra.Command, m *client.Client, placed api.Placed) ([]api.Command, error) {
	said := ""
	for {
		in := &api.TaskCommandsOf{OneTask: api.OneTask{Task: placed.ID}}
		commands, err := client.Pages(c.Context(), m, api.TaskCommands, in, &in.Paging, placed.Devices+1)
		if err != nil {
			return nil, err
		}
		open, done := 0, 0
		for _, k := range commands {
			switch {
			case k.Done:
				done++
			case k.State == "waiting" || k.State == "accepted":
				open++
			}
		}
		now := fmt.Sprintf("task %s: %d of %d devices have done it, %d failed, %d to come", placed.ID, done, len(commands), len(commands)-done-open, open)
		if now != said {
			said = now
			fmt.Fprintln(c.ErrOrStderr(), now)
		}
		if open == 0 {
			return commands, nil
		}
		select {
		case <-time.After(w.every):
			// A large group takes hours: it is asked for less often.
			w.every = min(w.every*5/4, 15*time.Second)
		case <-c.Context().Done():
			return nil, hinted{c.Context().Err(), "The task goes on: `gatewayd task commands " + placed.ID + "`"}
		}
	}
}
