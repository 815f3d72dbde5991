package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/command"
)

// output is the flag -o of commands that print something.
type output struct {
	format  string
	formats []string
}

// addOutput adds the flag; the first format is the default.
func addOutput(c *cobra.Command, formats ...string) *output {
	o := &output{formats: formats}
	c.Flags().StringVarP(&o.format, "output", "o", formats[0], strings.Join(formats, ", "))
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains(formats, o.format) {
			return usage("--output %q is none of %s", o.format, strings.Join(formats, ", "))
		}
		return run(c, args)
	}
	return o
}

// print writes v as JSON or YAML, or the table.
func (o *output) print(w io.Writer, v any, table func(t *tabwriter.Writer)) error {
	return command.Print(w, o.format, v, table)
}

// size in binary units.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// ago is a moment in the past for people; "-" for the zero time.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return now.Sub(t).Round(time.Second).String() + " ago"
}

// orDash is for cells that would be empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
