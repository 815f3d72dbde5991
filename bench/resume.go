package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/control/ike"
)

func resumeCommand() *cobra.Command {
	var (
		o     output
		f     fleetFlags
		p     planFlags
		storm bool
	)
	c := &cobra.Command{
		Use:   "resume",
		Short: "Devices that come back by a ticket (RFC 5723): rate and latency",
		Long: `Connects devices in full once, each of which gets a ticket and vanishes without
a word; then they come back by their tickets, one after the other: vanished each
time, so that the gateway has the session of before to clear away too.

Those that the gateway had begin in full (ticket refused) and those that had no
ticket to show are counted apart; their time is among the others'.

With --storm all come back at once, as after an outage, and repeat what isn't
answered as devices do: how long until the last one is back. One that isn't
within --timeout counts as failed.`,
		Example: `  bench resume --gateway 10.1.0.1 --gateway-id gw.example --root root.crt --ca root.crt --ca-key root.key --devices 2000
  bench resume ... --rate 500 --poisson --duration 1m
  bench resume ... --devices 10000 --storm --timeout 2m`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if storm {
				for _, name := range []string{"rate", "concurrency", "duration", "count", "poisson"} {
					if c.Flags().Changed(name) {
						return fmt.Errorf("%w: --storm is all devices at once, it has no --%s", errUsage, name)
					}
				}
			}
			fleet, err := f.build()
			if err != nil {
				return err
			}
			if storm {
				p.plan.Concurrency, p.plan.Count, p.plan.Duration = int(fleet.devices), fleet.devices, 0
			}
			plan, err := p.build()
			if err != nil {
				return err
			}
			return o.measure(c, commandLine(c), fleet.captured(func(ctx context.Context, r *report.Report, say func(string)) error {
				return p.resume(ctx, fleet, plan, storm, r, say)
			}))
		},
	}
	o.flags(c)
	f.flags(c)
	p.flags(c, "resumptions")
	c.Flags().BoolVar(&storm, "storm", false, "all devices at once, each one time")
	return c
}

// returner is a device between its connections: what it keeps is the ticket.
type returner struct {
	mu     sync.Mutex // one connection at a time
	number uint64
	ticket *ike.Ticket
}

// returnerQueue is how many datagrams wait for a device that carries no packets:
// there may be a hundred thousand at once.
const returnerQueue = 8

// returns counts how devices came back that had no ticket's worth.
type returns struct{ refused, ticketless, again atomic.Uint64 }

func (p *planFlags) resume(ctx context.Context, f *fleet, plan *load.Plan, storm bool, r *report.Report, say func(string)) error {
	if err := f.issue(ctx, say); err != nil {
		return err
	}
	returners := make([]*returner, f.devices)
	defer func() {
		for _, d := range returners {
			if d != nil {
				d.forget()
			}
		}
	}()
	err := f.each(ctx, say, func(number uint64) error {
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		d := &returner{number: number}
		returners[number] = d
		if _, err := d.connect(ctx, f); err != nil {
			return err
		}
		if d.ticket == nil {
			return errors.New("the gateway gives no tickets")
		}
		return nil
	})
	if err != nil {
		return err
	}
	var n returns
	result := load.NewResult()
	offer := func() time.Duration {
		return plan.Run(ctx, func(ctx context.Context, number uint64) error {
			ctx, cancel := context.WithTimeout(ctx, p.timeout)
			defer cancel()
			return returners[number%f.devices].comeBack(ctx, f, &n)
		}, result)
	}
	if storm {
		offer = func() time.Duration { return stormOf(ctx, f, returners, p.timeout, &n, result) }
	}
	used, err := watch(f.gatewayPID)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	series := follow(watching, "resumptions", result, plan, say)
	offered := offer()
	stop()
	summarize(r, "resumption", result, offered)
	if storm {
		r.Add("until the last was back", offered.Seconds(), "s")
		r.Add("gave up and began again", float64(n.again.Load()), "")
	}
	r.Add("devices", float64(f.devices), "")
	r.Add("ticket refused, began in full", float64(n.refused.Load()), "")
	r.Add("without a ticket, began in full", float64(n.ticketless.Load()), "")
	r.Series = append(r.Series, <-series)
	return used.report(r, "resumption", result.Done.Load())
}

// comeBack of a device.
func (d *returner) comeBack(ctx context.Context, f *fleet, n *returns) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	without := d.ticket == nil
	info, err := d.connect(ctx, f)
	if err == nil {
		n.count(without, info)
	}
	return err
}

func (n *returns) count(without bool, info device.Info) {
	switch {
	case without:
		n.ticketless.Add(1)
	case info.TicketRefused:
		n.refused.Add(1)
	}
}

// connect, by the ticket if there is one, take the next one and vanish. A ticket
// serves once, also when nothing came of it: whether the gateway has seen it isn't
// known.
func (d *returner) connect(ctx context.Context, f *fleet) (device.Info, error) {
	client, err := d.client(f)
	if err != nil {
		return device.Info{}, err
	}
	info, err := client.Connect(ctx)
	client.Vanish()
	d.forget()
	d.ticket = client.Ticket()
	return info, reasonOf(err)
}

// client is what connects it the next time.
func (d *returner) client(f *fleet) (*device.Device, error) {
	cfg, err := f.config(d.number)
	if err != nil {
		return nil, err
	}
	cfg.Tickets, cfg.Ticket = true, d.ticket
	cfg.Queue = returnerQueue
	return device.New(cfg)
}

func (d *returner) forget() {
	if d.ticket != nil {
		d.ticket.Erase()
		d.ticket = nil
	}
}
