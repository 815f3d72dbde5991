package compare

import (
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
	values := make(map[string]map[string][]float64) // measurement, contestant
	for _, m := range p.Measurements {
		values[m.Name] = make(map[string][]float64)
	}
	repeated := 0
	for round := 0; round < p.Rounds && ctx.Err() == nil; round++ {
		before := report.ReadUsage()
		results := make(map[string]map[string]float64)
		for _, c := range there {
			say(fmt.Sprintf("round %d of %d: %s", round+1, p.Rounds, c.name))
			got, err := p.turn(ctx, c, say)
			if err != nil && ctx.Err() == nil {
				r.Notes = append(r.Notes, fmt.Sprintf("round %d, %s: %v", round+1, c.name, err))
			}
			results[c.name] = got
		}
		if steal, _ := report.ReadUsage().Since(before); steal > report.Steals && repeated < p.Repeats {
			repeated++
			round--
			r.Notes = append(r.Notes, fmt.Sprintf("a round with %.1f %% of the time stolen was repeated", 100*steal))
			continue
		}
		if ctx.Err() != nil {
			break // half a round compares nothing
		}
		for name, got := range results {
			for m, v := range got {
				values[m][name] = append(values[m][name], v)
			}
		}
	}
	for _, m := range p.Measurements {
		if t, ok := table(m, there, values[m.Name]); ok {
			r.Tables = append(r.Tables, t)
		}
	}
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
// of handshakes at a gateway of their own.
func (p *Plan) turn(ctx context.Context, c contestant, say func(string)) (map[string]float64, error) {
	got := make(map[string]float64)
	var errs []error
	for _, handshakes := range []bool{false, true} {
		var mine []Measurement
		for _, m := range p.Measurements {
			if m.Handshakes == handshakes {
				mine = append(mine, m)
			}
		}
		if len(mine) == 0 || handshakes && c.serve == nil {
			continue
		}
		errs = append(errs, p.stand(ctx, c, handshakes, func(l *lab, pid int) error {
			for _, m := range mine {
				say(c.name + ": " + m.Name)
				bounded, cancel := context.WithTimeout(ctx, patience)
				v, err := m.run(bounded, l, pid)
				cancel()
				if err != nil {
					return fmt.Errorf("%s: %w", m.Name, err)
				}
				got[m.Name] = v
			}
			return nil
		}))
	}
	return got, errors.Join(errs...)
}

// stand sets a contestant up, and takes it away again.
func (p *Plan) stand(ctx context.Context, c contestant, handshakes bool, f func(l *lab, pid int) error) (err error) {
	l, err := newLab(p.Programs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	bounded, cancel := context.WithTimeout(ctx, setUp)
	defer cancel()
	pid := 0
	if handshakes {
		pid, err = c.serve(bounded, l)
	} else {
		err = c.connect(bounded, l)
	}
	if err != nil {
		return err
	}
	return f(l, pid)
}

// table of a measurement: a row a contestant, with the ratio of medians to each
// other one. false if nobody was measured.
func table(m Measurement, there []contestant, values map[string][]float64) (report.Table, bool) {
	t := report.Table{Name: m.Name, Columns: []string{"", "median " + m.Unit, "min", "max", "rounds"}}
	var measured []string
	for _, c := range there {
		if len(values[c.name]) > 0 {
			measured = append(measured, c.name)
			t.Columns = append(t.Columns, "/ "+c.name)
		}
	}
	for _, name := range measured {
		v := values[name]
		row := []string{name, show(median(v)), show(slices.Min(v)), show(slices.Max(v)), fmt.Sprint(len(v))}
		for _, other := range measured {
			row = append(row, fmt.Sprintf("%.2f", median(v)/median(values[other])))
		}
		t.Rows = append(t.Rows, row)
	}
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
