package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/roamgate/roamgate/bench/report"
)

// output is where the results go.
type output struct {
	json, html, markdown string
	quiet                bool
}

func (o *output) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.json, "json", "", "write the results to this `file` as JSON; - is standard output")
	f.StringVar(&o.html, "html", "", "write the results to this `file` as one HTML page with plots")
	f.StringVar(&o.markdown, "markdown", "", "write the results to this `file` as Markdown")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress")
}

// measurement is what a subcommand does: it fills the report until ctx ends,
// and says in between how it goes.
type measurement func(ctx context.Context, r *report.Report, say func(string)) error

// measure runs it and writes the results, also when it was interrupted.
func (o *output) measure(c *cobra.Command, args []string, m measurement) error {
	r := &report.Report{
		Bench: c.Name(), Arguments: args, Version: version, Started: time.Now(),
		Environment: report.ReadEnvironment(),
	}
	p := newProgress(c.ErrOrStderr(), o.quiet)
	before := report.ReadUsage()
	err := m(c.Context(), r, p.say)
	p.end()
	r.Steal, r.Load = report.ReadUsage().Since(before)
	if err != nil {
		return err
	}
	r.Interrupted = c.Context().Err() != nil
	return o.write(c.OutOrStdout(), r)
}

func (o *output) write(stdout io.Writer, r *report.Report) error {
	if o.json == "-" {
		return errors.Join(r.WriteJSON(stdout), toFile(o.html, r.WriteHTML), toFile(o.markdown, r.WriteMarkdown))
	}
	return errors.Join(r.WriteText(stdout), toFile(o.json, r.WriteJSON), toFile(o.html, r.WriteHTML), toFile(o.markdown, r.WriteMarkdown))
}

// toFile replaces a file as a whole; an empty name is none.
func toFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".bench-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}

// progress is one line that changes on a terminal, and a line every ten seconds
// elsewhere.
type progress struct {
	w        io.Writer
	quiet    bool
	terminal bool
	width    int
	last     time.Time
}

const plainPeriod = 10 * time.Second

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, quiet: quiet, last: time.Now()}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	return p
}

func (p *progress) say(line string) {
	switch {
	case p.quiet:
	case p.terminal:
		fmt.Fprintf(p.w, "\r%-*s", p.width, line)
		p.width = max(p.width, len(line))
	case time.Since(p.last) >= plainPeriod:
		p.last = time.Now()
		fmt.Fprintln(p.w, line)
	}
}

func (p *progress) end() {
	if p.terminal && p.width > 0 {
		fmt.Fprintf(p.w, "\r%*s\r", p.width, "")
	}
}

// each calls f every second until ctx ends, with the seconds since the start.
func each(ctx context.Context, f func(at float64)) {
	began := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f(time.Since(began).Seconds())
		}
	}
}

func renderCommand() *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "render FILE",
		Short: "Show the results of an earlier run, from its JSON",
		Example: `  bench render ike.json
  bench render ike.json --html ike.html`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := report.Read(f)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return o.write(c.OutOrStdout(), r)
		},
	}
	o.flags(c)
	return c
}

// commandLine is the flags that were set, for the record.
func commandLine(c *cobra.Command) []string {
	var out []string
	c.Flags().Visit(func(f *pflag.Flag) { out = append(out, "--"+f.Name+"="+f.Value.String()) })
	return out
}
