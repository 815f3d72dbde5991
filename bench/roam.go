package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/report"
)

func roamCommand() *cobra.Command {
	var (
		o output
		f fleetFlags
		p planFlags
	)
	c := &cobra.Command{
		Use:   "roam",
		Short: "Devices that change their address (MOBIKE): rate and latency",
		Long: `Connects devices, then has them go on from another port, one after the other:
UPDATE_SA_ADDRESSES (RFC 4555), answered, and, where the gateway asks for it,
proof that the device is there (COOKIE2). A move has taken place when the
gateway has answered.`,
		Example: `  bench roam --gateway 10.1.0.1 --gateway-id gw.example --root root.crt --ca root.crt --ca-key root.key --devices 2000
  bench roam ... --rate 1000 --poisson --duration 1m`,
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
			if !fleet.profile.MOBIKE {
				return fmt.Errorf("%w: --profile %s knows no MOBIKE", errUsage, fleet.profile.Name)
			}
			return o.measure(c, commandLine(c), fleet.captured(func(ctx context.Context, r *report.Report, say func(string)) error {
				return p.roam(ctx, fleet, plan, r, say)
			}))
		},
	}
	o.flags(c)
	f.flags(c)
	p.flags(c, "moves")
	return c
}

// roamer moves once at a time.
type roamer struct {
	mu sync.Mutex
	*device.Device
}

func (p *planFlags) roam(ctx context.Context, f *fleet, plan *load.Plan, r *report.Report, say func(string)) error {
	if err := f.issue(ctx, say); err != nil {
		return err
	}
	var connected crowd
	defer connected.end(p.timeout)
	roamers := make([]*roamer, f.devices)
	err := f.each(ctx, say, func(number uint64) error {
		d, err := f.device(number)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		if _, err := d.Connect(ctx); err != nil {
			d.Vanish()
			return reasonOf(err)
		}
		connected.add(d)
		roamers[number] = &roamer{Device: d}
		return nil
	})
	if err != nil {
		return err
	}
	result := load.NewResult()
	op := func(ctx context.Context, number uint64) error {
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		return roamers[number%f.devices].move(ctx, f)
	}
	used, err := watch(f.gatewayPID)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	series := follow(watching, "moves", result, plan, say)
	offered := plan.Run(ctx, op, result)
	stop()
	summarize(r, "move", result, offered)
	r.Add("devices", float64(f.devices), "")
	r.Series = append(r.Series, <-series)
	return used.report(r, "move", result.Done.Load())
}

func (m *roamer) move(ctx context.Context, f *fleet) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := f.listen()
	if err != nil {
		return reasonOf(err)
	}
	before := m.Info()
	if err := m.Roam(s); err != nil {
		if errors.Is(err, device.ErrState) || errors.Is(err, device.ErrGone) {
			s.Close()
		}
		return err
	}
	info, err := m.Await(ctx, func(i device.Info) bool { return i.Moves > before.Moves || i.State == device.Ended })
	if err == nil && info.Moves == before.Moves {
		err = info.Closed
	}
	return reasonOf(err)
}

// each does something for all devices, several at a time, and returns the first
// error.
func (f *fleet) each(ctx context.Context, say func(string), do func(number uint64) error) error {
	places := make(chan struct{}, 8*runtime.GOMAXPROCS(0))
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed error
		done   int
	)
	for n := range f.devices {
		if ctx.Err() != nil {
			break
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := do(n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = fmt.Errorf("device %d: %w", n, err)
			}
			if done++; done%100 == 0 {
				say(fmt.Sprintf("connected: %d of %d", done, f.devices))
			}
		})
	}
	wg.Wait()
	return errors.Join(failed, ctx.Err())
}
