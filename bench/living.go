package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/life"
	"github.com/roamgate/roamgate/bench/report"
)

func fleetCommand() *cobra.Command {
	var (
		o                output
		f                fleetFlags
		duration, within time.Duration
		seed             uint64
	)
	c := &cobra.Command{
		Use:   "fleet SCENARIO",
		Short: "Devices that live by a scenario: come, move, sleep, wake, go, vanish",
		Long: `Devices that live by a scenario file, each by its own clock. All times are
means of exponential distributions; what isn't named never happens:

  devices: 2000     # how many (--devices isn't used)
  arrive: 1m        # over how long they come first
  roam: 5m          # another port or address (MOBIKE)
  sleep: 10m        # deaf and dumb after so long ...
  asleep: 2m        # ... for so long
  rekey: 30m        # the Child SA
  leave: 1h         # in order
  vanish: 2h        # without a word
  away: 1m          # before it comes back
  ping: 30s         # through the tunnel
  host: 10.2.0.2`,
		Example: `  bench fleet day.yaml --gateway 10.1.0.1 --gateway-id gw.example --root root.crt --ca root.crt --ca-key root.key --duration 10m`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			scenario, err := life.Read(args[0])
			if err != nil {
				return err
			}
			f.devices = scenario.Devices
			fleet, err := f.build()
			if err != nil {
				return err
			}
			if fleet.devices < scenario.Devices {
				return fmt.Errorf("%w: %d devices need --ca and --ca-key", errUsage, scenario.Devices)
			}
			if duration <= 0 {
				return fmt.Errorf("%w: --duration: must be above 0", errUsage)
			}
			w := &life.World{Scenario: scenario, Device: fleet.device, Listen: fleet.listen, Timeout: within, Seed: seed}
			return o.measure(c, append(commandLine(c), args[0]), fleet.captured(func(ctx context.Context, r *report.Report, say func(string)) error {
				if err := fleet.issue(ctx, say); err != nil {
					return err
				}
				live(ctx, w, duration, r, say)
				return nil
			}))
		},
	}
	o.flags(c)
	f.flags(c)
	l := c.Flags()
	l.DurationVar(&duration, "duration", 10*time.Minute, "how long")
	l.DurationVar(&within, "timeout", 10*time.Second, "after which an answer isn't waited for")
	l.Uint64Var(&seed, "seed", 1, "of all that is random")
	return c
}

// diary is what happened to all devices.
type diary struct {
	mu       sync.Mutex
	took     map[life.Event]*report.Histogram
	failures map[string]uint64
	failed   uint64
}

func (d *diary) tell(e life.Event, took time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failed++
		d.failures[fmt.Sprintf("%s: %v", e, reasonOf(err))]++
		return
	}
	h := d.took[e]
	if h == nil {
		h = report.NewHistogram()
		d.took[e] = h
	}
	h.Record(took)
}

func (d *diary) line() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := ""
	for _, e := range slices.Sorted(maps.Keys(d.took)) {
		text += fmt.Sprintf("%s %d, ", e, d.took[e].Count())
	}
	return text + fmt.Sprintf("failed %d", d.failed)
}

func live(ctx context.Context, w *life.World, duration time.Duration, r *report.Report, say func(string)) {
	d := &diary{took: make(map[life.Event]*report.Histogram), failures: make(map[string]uint64)}
	w.Tell = d.tell
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	began := time.Now()
	var devices sync.WaitGroup
	for n := range w.Devices {
		devices.Go(func() { w.Live(ctx, n) })
	}
	each(ctx, func(at float64) { say(fmt.Sprintf("%.0f/%.0f s: %s", at, duration.Seconds(), d.line())) })
	r.Seconds = time.Since(began).Seconds()
	devices.Wait()
	for _, e := range slices.Sorted(maps.Keys(d.took)) {
		r.Add(string(e), float64(d.took[e].Count()), "")
		if e != life.Slept && e != life.Vanished {
			r.Latencies = append(r.Latencies, d.took[e].Latency(string(e)))
		}
	}
	r.Failures = d.failures
}
