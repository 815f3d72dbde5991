package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/report"
)

// planFlags say how much is offered.
type planFlags struct {
	plan    load.Plan
	timeout time.Duration
}

func (p *planFlags) flags(c *cobra.Command, what string) {
	f := c.Flags()
	f.Float64Var(&p.plan.Rate, "rate", 0, what+" a second, each when it is due (open loop); 0: the next one when one is over")
	f.IntVar(&p.plan.Concurrency, "concurrency", 32, "how many "+what+" at a time; with --rate, at most")
	f.DurationVar(&p.plan.Duration, "duration", 10*time.Second, "how long; 0 until --count")
	f.Uint64Var(&p.plan.Count, "count", 0, "how many; 0 until --duration")
	f.BoolVar(&p.plan.Poisson, "poisson", false, "arrivals as of independent devices, not evenly spread")
	f.Uint64Var(&p.plan.Seed, "seed", 1, "of random arrivals")
	f.DurationVar(&p.timeout, "timeout", 10*time.Second, "after which one counts as failed")
}

func (p *planFlags) build() (*load.Plan, error) {
	p.plan.Grace = p.timeout
	if err := p.plan.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return &p.plan, nil
}

func ikeCommand() *cobra.Command {
	var (
		o    output
		f    fleetFlags
		p    planFlags
		keep bool
	)
	c := &cobra.Command{
		Use:   "ike",
		Short: "Full IKEv2 handshakes: rate and latency",
		Long: `Full IKEv2 handshakes (IKE_SA_INIT, IKE_AUTH with certificates, a Child SA).

Closed loop, without --rate: as many as the gateway can do. Open loop, with
--rate: each handshake has its time and its latency counts from there, also
when the gateway was busy with others, as devices would see it.`,
		Example: `  bench ike --gateway 10.1.0.1 --gateway-id gw.example --root root.crt --ca root.crt --ca-key root.key
  bench ike ... --rate 200 --duration 1m --poisson --json ike.json --html ike.html
  bench ike ... --count 10000 --keep`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			plan, err := p.build()
			if err != nil {
				return err
			}
			fleet, err := f.build()
			if err != nil {
				return err
			}
			return o.measure(c, commandLine(c), fleet.captured(func(ctx context.Context, r *report.Report, say func(string)) error {
				return handshakes(ctx, fleet, plan, p.timeout, keep, r, say)
			}))
		},
	}
	o.flags(c)
	f.flags(c)
	p.flags(c, "handshakes")
	c.Flags().BoolVar(&keep, "keep", false, "keep the sessions until the end; otherwise each is deleted at once")
	return c
}

// handshakes are measured from when they were due until the Child SA is there.
// Deleting isn't part of the time, but of the load.
func handshakes(ctx context.Context, f *fleet, plan *load.Plan, timeout time.Duration, keep bool, r *report.Report, say func(string)) error {
	if err := f.issue(ctx, say); err != nil {
		return err
	}
	if err := f.agree(say); err != nil {
		return err
	}
	var kept crowd
	defer kept.end(timeout)
	gone := newCloser(timeout)
	defer gone.stop()
	result := load.NewResult()
	op := func(ctx context.Context, number uint64) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		d, err := f.device(number)
		if err != nil {
			return err
		}
		if _, err := d.Connect(ctx); err != nil {
			d.Vanish()
			return reasonOf(err)
		}
		if keep {
			kept.add(d)
		} else {
			gone.close(d)
		}
		return nil
	}
	used, err := watch(f.gatewayPID)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	series := follow(watching, "handshakes", result, plan, say)
	offered := plan.Run(ctx, op, result)
	stop()
	summarize(r, "handshake", result, offered)
	r.Series = append(r.Series, <-series)
	if keep {
		time.Sleep(keptSettle)
	} else {
		gone.wait() // deletions are part of what it costs
	}
	return used.report(r, "handshake", result.Done.Load())
}

// keptSettle is how long a gateway has to tidy up before its memory is looked at.
const keptSettle = 2 * time.Second

// closer ends devices: who measures how long they take to come doesn't wait until
// they have gone.
type closer struct {
	within  time.Duration
	leaving chan leaving
	gone    sync.WaitGroup
}

type leaving struct {
	*device.Device
	since time.Time
}

// mostLeaving is far more than leave while one of them has lost its DELETE and
// repeats it: that must not hold up those who come.
const mostLeaving = 4096

func newCloser(within time.Duration) *closer {
	c := &closer{within: within, leaving: make(chan leaving, mostLeaving)}
	go func() {
		// Who left first has most likely gone when it is looked at: one waits for
		// all.
		for d := range c.leaving {
			d.end(within)
			c.gone.Done()
		}
	}()
	return c
}

// close blocks only when many are on their way out already.
func (c *closer) close(d *device.Device) {
	c.gone.Add(1)
	_ = d.Leave() // or it has ended
	c.leaving <- leaving{d, time.Now()}
}

func (d leaving) end(within time.Duration) {
	if d.Info().State != device.Ended {
		ctx, cancel := context.WithDeadline(context.Background(), d.since.Add(within))
		defer cancel()
		_, _ = d.Await(ctx, func(i device.Info) bool { return i.State == device.Ended })
	}
	d.Vanish()
}

// wait until all have gone.
func (c *closer) wait() { c.gone.Wait() }

// stop when nobody is closed any more.
func (c *closer) stop() {
	c.wait()
	close(c.leaving)
}

// follow says every second how it goes and returns the rate over time when ctx
// has ended.
func follow(ctx context.Context, what string, result *load.Result, plan *load.Plan, say func(string)) <-chan report.Series {
	out := make(chan report.Series, 1)
	go func() {
		s := report.Series{Name: what, Unit: what + " per second"}
		var last uint64
		var before float64
		each(ctx, func(at float64) {
			done := result.Done.Load()
			rate := float64(done-last) / (at - before)
			last, before = done, at
			s.At, s.Values = append(s.At, at), append(s.Values, rate)
			say(fmt.Sprintf("%s %d %s, %.0f/s, %d failed, p99 %v", remaining(at, plan), done, what, rate,
				result.Failed.Load(), result.Latency.Quantile(99).Round(10*time.Microsecond)))
		})
		out <- s
	}()
	return out
}

func remaining(at float64, plan *load.Plan) string {
	if plan.Duration > 0 {
		return fmt.Sprintf("%.0f/%.0f s:", at, plan.Duration.Seconds())
	}
	return fmt.Sprintf("%.0f s:", at)
}

// summarize what was done of a plan.
func summarize(r *report.Report, what string, result *load.Result, offered time.Duration) {
	r.Seconds = offered.Seconds()
	done := result.Done.Load()
	r.Add(what+"s", float64(done), "")
	r.Add("rate", float64(done)/offered.Seconds(), "1/s")
	if late := result.Late.Load(); late > 0 {
		r.Add("due, but not begun in time", float64(late), "")
	}
	r.Latencies = append(r.Latencies, result.Latency.Latency(what))
	if f := result.Failures(); len(f) > 0 {
		r.Failures = f
	}
}
