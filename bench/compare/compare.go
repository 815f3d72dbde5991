package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/bench/report"
)

// Names of all contestants.
func Names() []string {
	var names []string
	for _, c := range contestants {
		names = append(names, c.name)
	}
	return names
}

// Plan of a comparison.
type Plan struct {
	Programs
	// Contestants by name, those that are there take part; and how often each
	// has its turn.
	Contestants  []string
	Rounds       int
	Measurements []Measurement
	// Repeats of a round in which the host stole more than report.Steals.
	Repeats int
}

// setUp is how long a contestant may take to stand.
const setUp = 40 * time.Second

// patience is how long a measurement may take beyond that.
const patience = 3 * time.Minute

// Run measures every contestant once in every round, in turn, each in fresh
// namespaces, and adds tables to the report: median, spread, and ratio to the
// others. A contestant that isn't there is named as missing.
func (p *Plan) Run(ctx context.Context, r *report.Report, say func(string)) error {
	there, err := p.present(r)
	if err != nil {
		return err
	}
	values := make(map[Figure]map[string][]float64) // contestant
	known := make(map[string]map[string]float64)    // contestant, measurement
	for _, c := range there {
		known[c.name] = make(map[string]float64)
	}
	rounds := report.Table{Name: "rounds", Columns: []string{"round", "took s", "stolen %"}}
	repeated := 0
	for round := 0; round < p.Rounds && ctx.Err() == nil; round++ {
		began, before := time.Now(), report.ReadUsage()
		results := make(map[string]map[Figure]float64)
		for _, c := range there {
			say(fmt.Sprintf("round %d of %d: %s", round+1, p.Rounds, c.name))
			got, err := p.turn(ctx, c, known[c.name], say)
			if err != nil && ctx.Err() == nil {
				r.Notes = append(r.Notes, fmt.Sprintf("round %d, %s: %v", round+1, c.name, err))
			}
			results[c.name] = got
		}
		steal, _ := report.ReadUsage().Since(before)
		row := []string{fmt.Sprint(round + 1), fmt.Sprintf("%.0f", time.Since(began).Seconds()), fmt.Sprintf("%.1f", 100*steal)}
		if steal > report.Steals && repeated < p.Repeats {
			repeated++
			round--
			row[0] += ", repeated"
			rounds.Rows = append(rounds.Rows, row)
			continue
		}
		if ctx.Err() != nil {
			break // half a round compares nothing
		}
		rounds.Rows = append(rounds.Rows, row)
		for name, got := range results {
			for f, v := range got {
				if values[f] == nil {
					values[f] = make(map[string][]float64)
				}
				values[f][name] = append(values[f][name], v)
			}
		}
	}
	for _, m := range p.Measurements {
		for _, f := range m.Figures {
			if t, ok := table(f, there, values[f]); ok {
				r.Tables = append(r.Tables, t)
			}
		}
	}
	r.Tables = append(r.Tables, rounds)
	return nil
}

// present are the contestants that can take part.
func (p *Plan) present(r *report.Report) (there []contestant, err error) {
	if p.Bench == "" {
		if p.Bench, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if err := find(&p.IPerf, "iperf3"); err != nil {
		return nil, fmt.Errorf("%w: install the package iperf3", err)
	}
	for _, name := range p.Contestants {
		i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("contestant %q is none of %s", name, strings.Join(Names(), ", "))
		}
		if err := contestants[i].available(&p.Programs); err != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("%s doesn't take part: %v", name, err))
			continue
		}
		there = append(there, contestants[i])
	}
	if len(there) == 0 {
		return nil, errors.New("no contestant is on this machine")
	}
	return there, nil
}

// turn measures one contestant: all measurements through one tunnel, and those
// of gateways at one of their own. A measurement that fails ends neither.
func (p *Plan) turn(ctx context.Context, c contestant, known map[string]float64, say func(string)) (map[Figure]float64, error) {
	got := make(map[Figure]float64)
	var errs []error
	for _, gateway := range []bool{false, true} {
		var mine []Measurement
		for _, m := range p.Measurements {
			if m.Gateway == gateway && m.takes(c) {
				mine = append(mine, m)
			}
		}
		if len(mine) == 0 {
			continue
		}
		errs = append(errs, p.stand(ctx, c, gateway, func(l *lab, pid int) error {
			t := &turn{lab: l, pid: pid, known: known}
			var errs []error
			for _, m := range mine {
				say(c.name + ": " + m.Name)
				bounded, cancel := context.WithTimeout(ctx, cmp.Or(m.patience, patience))
				values, err := m.run(bounded, t)
				cancel()
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
					continue
				}
				for i, v := range values {
					got[m.Figures[i]] = v
				}
			}
			return errors.Join(errs...)
		}))
	}
	return got, errors.Join(errs...)
}

// takes says whether a contestant takes part.
func (m *Measurement) takes(c contestant) bool {
	if m.Gateway && c.serve == nil || !m.Gateway && c.connect == nil {
		return false
	}
	return (m.Variants || !c.variant) && (len(m.Only) == 0 || slices.Contains(m.Only, c.name))
}

// stand sets a contestant up, and takes it away again.
func (p *Plan) stand(ctx context.Context, c contestant, gateway bool, f func(l *lab, pid int) error) (err error) {
	l, err := newLab(p.Programs, gateway)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	bounded, cancel := context.WithTimeout(ctx, setUp)
	defer cancel()
	pid := 0
	if gateway {
		pid, err = c.serve(bounded, l)
	} else {
		err = c.connect(bounded, l)
	}
	if err != nil {
		return err
	}
	return f(l, pid)
}

// table of a figure: a row a contestant, with the ratio of medians to each other
// one, and all values. false if nobody was measured.
func table(f Figure, there []contestant, values map[string][]float64) (report.Table, bool) {
	t := report.Table{Name: f.Name, Columns: []string{"", strings.TrimSpace("median " + f.Unit), "min", "max"}}
	var measured []string
	for _, c := range there {
		if len(values[c.name]) > 0 {
			measured = append(measured, c.name)
			t.Columns = append(t.Columns, "/ "+c.name)
		}
	}
	for _, name := range measured {
		v := values[name]
		row := []string{name, show(median(v)), show(slices.Min(v)), show(slices.Max(v))}
		for _, other := range measured {
			ratio := ""
			if m := median(values[other]); m != 0 {
				ratio = fmt.Sprintf("%.2f", median(v)/m)
			}
			row = append(row, ratio)
		}
		var all []string
		for _, x := range v {
			all = append(all, show(x))
		}
		t.Rows = append(t.Rows, append(row, strings.Join(all, " ")))
	}
	t.Columns = append(t.Columns, "rounds")
	return t, len(measured) > 0
}

func show(v float64) string { return fmt.Sprintf("%.4g", v) }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
