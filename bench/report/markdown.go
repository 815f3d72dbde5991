package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteMarkdown writes the report as tables for a document.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	if len(r.Figures) > 0 {
		row(&b, "", "")
		rule(&b, 2)
		for _, f := range r.Figures {
			row(&b, f.Name, strings.TrimSpace(number(f.Value)+" "+f.Unit))
		}
		b.WriteByte('\n')
	}
	if len(r.Latencies) > 0 {
		row(&b, "latency", "count", "min", "p50", "p90", "p99", "p99.9", "max")
		rule(&b, 8)
		for _, l := range r.Latencies {
			row(&b, l.Name, fmt.Sprint(l.Count), micros(l.Min), micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
		}
		b.WriteByte('\n')
	}
	for _, t := range r.Tables {
		row(&b, append([]string{strings.TrimSpace(t.Name + " " + t.Columns[0])}, t.Columns[1:]...)...)
		rule(&b, len(t.Columns))
		for _, cells := range t.Rows {
			row(&b, cells...)
		}
		b.WriteByte('\n')
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Failures)) {
		fmt.Fprintf(&b, "- failed %d times: %s\n", r.Failures[reason], reason)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(n, "\n", " "))
	}
	e := r.Environment
	fmt.Fprintf(&b, "\n%s, %d processors, Linux %s, %s; %.1f %% stolen by the host. `bench %s %s`\n",
		e.CPU, e.Processors, e.Kernel, e.Go, 100*r.Steal, r.Bench, strings.Join(r.Arguments, " "))
	_, err := io.WriteString(w, b.String())
	return err
}

func row(b *strings.Builder, cells ...string) {
	for _, c := range cells {
		b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
	}
	b.WriteString("|\n")
}

func rule(b *strings.Builder, columns int) { b.WriteString(strings.Repeat("|---", columns) + "|\n") }
