// Package report is what a measurement leaves: figures, percentiles, series,
// the environment in which they came about, and their forms as text, JSON and
// one HTML page that needs nothing else.
//
// What lives here: the shape of results and how they are shown. What doesn't:
// measuring. Nothing here knows what was measured.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report of one run. Its JSON is stable: fields are added, never renamed.
type Report struct {
	// Bench is the subcommand, Arguments the command line behind it.
	Bench     string    `json:"bench"`
	Arguments []string  `json:"arguments"`
	Version   string    `json:"version"`
	Started   time.Time `json:"started"`
	// Seconds that were measured, warm-up excluded.
	Seconds float64 `json:"seconds"`
	// Interrupted: Ctrl-C ended it early; what stands here is until then.
	Interrupted bool        `json:"interrupted,omitempty"`
	Environment Environment `json:"environment"`
	// Steal is the share of processor time that the host took, 0 to 1. Above
	// 0.04 a run says little.
	Steal float64 `json:"steal"`
	// Load is the share of all processors that this generator itself used.
	Load float64 `json:"generator_load"`

	Figures   []Figure          `json:"figures,omitempty"`
	Latencies []Latency         `json:"latencies,omitempty"`
	Series    []Series          `json:"series,omitempty"`
	Tables    []Table           `json:"tables,omitempty"`
	Failures  map[string]uint64 `json:"failures,omitempty"`
	Notes     []string          `json:"notes,omitempty"`
}

// Figure is one number.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Series over time.
type Series struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// At are seconds since the start, Values as many.
	At     []float64 `json:"at"`
	Values []float64 `json:"values"`
}

// Table of text, for what has rows.
type Table struct {
	Name    string     `json:"name"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Steals is the share of stolen time above which a run should be repeated.
const Steals = 0.04

// Add appends a figure.
func (r *Report) Add(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit})
}

// Figure by its name.
func (r *Report) Figure(name string) (Figure, bool) {
	i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		return Figure{}, false
	}
	return r.Figures[i], true
}

// WriteJSON writes the report, indented.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Read a report that WriteJSON wrote.
func Read(from io.Reader) (*Report, error) {
	var r Report
	if err := json.NewDecoder(from).Decode(&r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return &r, nil
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s\t%s %s\n", f.Name, number(f.Value), f.Unit)
	}
	if len(r.Latencies) > 0 {
		fmt.Fprintf(t, "\nlatency\tcount\tmin\tp50\tp90\tp99\tp99.9\tmax\n")
		for _, l := range r.Latencies {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Count,
				micros(l.Min), micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
		}
	}
	for _, table := range r.Tables {
		fmt.Fprintf(t, "\n%s\n%s\n", table.Name, strings.Join(table.Columns, "\t"))
		for _, row := range table.Rows {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
	}
	if len(r.Failures) > 0 {
		fmt.Fprintf(t, "\nfailures\tcount\n")
		for _, reason := range slices.Sorted(maps.Keys(r.Failures)) {
			fmt.Fprintf(t, "%s\t%d\n", reason, r.Failures[reason])
		}
	}
	fmt.Fprintln(t)
	e := r.Environment
	fmt.Fprintf(t, "machine\t%s, %d processors, Linux %s\n", e.CPU, e.Processors, e.Kernel)
	fmt.Fprintf(t, "stolen by the host\t%.1f %%\n", 100*r.Steal)
	fmt.Fprintf(t, "used by this generator\t%.0f %% of the machine\n", 100*r.Load)
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Steal > Steals {
		fmt.Fprintf(w, "The host took more than %.0f %% of the processors: repeat the run.\n", 100*Steals)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	if r.Interrupted {
		fmt.Fprintln(w, "Interrupted: the figures are until then.")
	}
	return nil
}

// number with three to four digits that matter.
func number(v float64) string {
	switch {
	case v == float64(int64(v)) && v < 1e7:
		return strconv.FormatInt(int64(v), 10)
	case v >= 1000 || v <= -1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// micros is a time in microseconds, for people.
func micros(us float64) string {
	return time.Duration(us * float64(time.Microsecond)).Round(precision(us)).String()
}

func precision(us float64) time.Duration {
	switch {
	case us >= 1e6:
		return 10 * time.Millisecond
	case us >= 1e4:
		return 100 * time.Microsecond
	case us >= 100:
		return time.Microsecond
	default:
		return 100 * time.Nanosecond
	}
}
