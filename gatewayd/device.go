package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/roamgate/roamgate/dmlink/api"
)

func (g *global) deviceCommand() *cobra.Command {
	f := &managerFlags{global: g}
	c := group("device", "Show and arrange managed devices",
		list(f, api.DeviceList, listOf[api.ListDevices, api.Device]{
			example: "  gatewayd device list --user bob\n  gatewayd device list --group sales --open -o json\n  gatewayd device list --imei 350000000000001",
			head:    "DEVICE\tUSER\tSTATE\tIMEI\tPHONE\tENROLLED\tSEEN",
			row: func(d api.Device) string {
				return cells(d.Name, d.User, deviceState(d), d.IMEI, d.Phone, d.Enrolled, d.Seen)
			},
		}),
		verb(f, api.DeviceShow, verbOf[api.OneDevice, api.DeviceDetail]{
			example: "  gatewayd device show phone-1", complete: f.managed(), table: deviceTable,
		}),
		list(f, api.DeviceCommands, listOf[api.ListCommands, api.Command]{
			example: "  gatewayd device commands phone-1 --limit 20", complete: f.managed(), head: commandHead, row: commandRow,
		}),
		list(f, api.DeviceAlerts, listOf[api.OneDevice, api.Alert]{
			example: "  gatewayd device alerts phone-1", complete: f.managed(),
			head: "AT\tCODE\tTASK\tTOLD",
			row:  func(a api.Alert) string { return cells(a.At, a.Code, a.Correlator, commas(a.Items)) },
		}),
		list(f, api.DeviceMessages, listOf[api.ListMessages, api.Message]{
			long:     "Read the log of messages of a device, the newest first. With --octets, in JSON or\nYAML, the messages themselves, in base64. The audit log has who looked.",
			example:  "  gatewayd device messages phone-1 --limit 10\n  gatewayd device messages phone-1 --octets --limit 1 -o json | jq -r '.[0].octets' | base64 -d",
			complete: f.managed(), head: "ID\tAT\tFROM\tTYPE\tSIZE\tPROVEN",
			row: func(m api.Message) string {
				from := "device"
				if m.Sent {
					from = "server"
				}
				return cells(m.ID, m.At, from, m.ContentType, m.Size, m.Proven)
			},
		}),
		verb(f, api.DeviceGroups, verbOf[api.SetGroups, api.Device]{
			long:    "Replace the groups of a device: it is in those that are named, and in no other.\nWhere enrollment keeps groups, its word replaces them at the next enrollment.",
			example: "  gatewayd device groups phone-1 --group sales --group berlin\n  gatewayd device groups phone-1 --group ''", complete: f.managed(),
			flags: func(flags *pflag.FlagSet, in *api.SetGroups) {
				flags.StringSliceVar(&in.Body.Groups, "group", nil, "a group that it shall be in; may be repeated, or empty for none")
			},
			prepare: func(c *cobra.Command, in *api.SetGroups) error {
				if !c.Flags().Changed("group") {
					return usage("which groups? Name each with --group, or none with --group ''")
				}
				in.Body.Groups = slices.DeleteFunc(in.Body.Groups, func(g string) bool { return g == "" })
				if in.Body.Groups == nil {
					in.Body.Groups = []string{}
				}
				return nil
			},
			table: func(t *tabwriter.Writer, d api.Device) {
				pairs(t, "device", d.Name, "groups", orDash(commas(d.Groups)))
			},
		}),
		verb(f, api.DeviceUnit, verbOf[api.SetUnit, api.Device]{
			long:    "Move a device in the tree of units, to which policies are linked.",
			example: "  gatewayd device unit phone-1 --unit corp/sales\n  gatewayd device unit phone-1 --unit ''", complete: f.managed(),
			flags: func(flags *pflag.FlagSet, in *api.SetUnit) {
				flags.StringVar(&in.Body.Unit, "unit", "", "such as corp/sales; empty: the top")
			},
			prepare: func(c *cobra.Command, _ *api.SetUnit) error {
				if !c.Flags().Changed("unit") {
					return usage("which unit? Name it with --unit, or the top with --unit ''")
				}
				return nil
			},
			table: func(t *tabwriter.Writer, d api.Device) { pairs(t, "device", d.Name, "unit", orDash(d.Unit)) },
		}),
	)
	c.AddCommand(f.deviceAtGateways()...)
	c.Example = "  gatewayd device list --user bob\n  gatewayd device show phone-1\n  gatewayd device commands phone-1"
	f.add(c)
	return c
}

func deviceState(d api.Device) string {
	if d.Open {
		return "open"
	}
	return "closed"
}

func deviceTable(t *tabwriter.Writer, d api.DeviceDetail) {
	pairs(t, "device", d.Name+", "+deviceState(d.Device), "user", d.User, "unit", d.Unit, "groups", commas(d.Groups), "IMEI", d.IMEI, "IMSI", d.IMSI, "phone", d.Phone,
		"enrolled", d.Enrolled, "closed", d.Closed, "seen", d.Seen)
	if w := d.Wipe; w != nil {
		pairs(t, "wipe", fmt.Sprintf("%s, task %s, expires %s", w.State, w.Task, when(w.Expires)), "trouble", w.Trouble)
	}
	for _, uri := range slices.Sorted(maps.Keys(d.Info)) {
		pairs(t, uri, d.Info[uri])
	}
}

const commandHead = "COMMAND\tTASK\tDEVICE\tSTATE\tCODE\tSENT\tENDED"

func commandRow(k api.Command) string {
	code := ""
	if k.Code != 0 {
		code = fmt.Sprint(k.Code)
	}
	return cells(k.ID, k.Task, k.Device, k.State, code, k.Sent, k.Ended)
}

func (g *global) scheduleCommand() *cobra.Command {
	f := &managerFlags{global: g}
	seconds := func(n int64) string { return (time.Duration(n) * time.Second).String() }
	show := func(t *tabwriter.Writer, s api.Schedule) {
		pairs(t, "first visit", seconds(s.First)+" after enrollment", "until one worked", fmt.Sprintf("each %s, %d times", seconds(s.Retry), s.Tries),
			"from then on", fmt.Sprintf("each %s, give or take %s", seconds(s.Every), seconds(s.Jitter)))
	}
	c := group("schedule", "Say when devices come by themselves",
		verb(f, api.ScheduleShow, verbOf[api.OneDevice, api.Schedule]{example: "  gatewayd schedule show phone-1", complete: f.managed(), table: show}),
		scheduleSet(f, show),
		verb(f, api.ScheduleDelete, verbOf[api.DeleteSchedule, api.Done]{
			long:    "Delete the schedule of a group, or, without --group, of all devices. They are told\nat their next visit.",
			example: "  gatewayd schedule delete --group sales",
			table:   func(t *tabwriter.Writer, _ api.Done) { fmt.Fprintln(t, "deleted") },
		}))
	c.Example = "  gatewayd schedule show phone-1\n  gatewayd schedule set --group sales --every 4h --jitter 15m"
	f.add(c)
	return c
}

func scheduleSet(f *managerFlags, show func(*tabwriter.Writer, api.Schedule)) *cobra.Command {
	var first, retry, every, jitter time.Duration
	return verb(f, api.ScheduleSet, verbOf[api.SetSchedule, api.Schedule]{
		long: `Set when the devices of a group come by themselves, or, without --group, all
devices. Of a device's groups the one with the lowest rank decides. Devices hear
of it at their next visit.`,
		example: "  gatewayd schedule set --group sales --every 4h --jitter 15m\n  gatewayd schedule set --every 12h",
		flags: func(flags *pflag.FlagSet, in *api.SetSchedule) {
			flags.DurationVar(&first, "first", 3*time.Minute, "first visit, so long after enrollment")
			flags.DurationVar(&retry, "retry", 15*time.Minute, "until a visit worked: so long after enrollment, and again after each try")
			flags.IntVar(&in.Body.Tries, "tries", 192, "so many tries")
			flags.DurationVar(&every, "every", 8*time.Hour, "between visits, from then on")
			flags.DurationVar(&jitter, "jitter", 30*time.Minute, "each visit is earlier or later by up to so much")
		},
		prepare: func(_ *cobra.Command, in *api.SetSchedule) error {
			for _, p := range []struct {
				to   *int64
				name string
				d    time.Duration
			}{{&in.Body.First, "first", first}, {&in.Body.Retry, "retry", retry}, {&in.Body.Every, "every", every}, {&in.Body.Jitter, "jitter", jitter}} {
				if p.d < 0 || p.d%time.Second != 0 {
					return usage("--%s %v: want whole seconds", p.name, p.d)
				}
				*p.to = int64(p.d / time.Second)
			}
			return nil
		},
		table: show,
	})
}
