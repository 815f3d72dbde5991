package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

//go:embed report.html.tmpl
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"number": number, "micros": micros, "percent": func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) },
}).Parse(page))

// WriteHTML writes one page with plots, which loads nothing from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	var plots []template.HTML
	add := func(p *plot.Plot, err error) error {
		if err != nil {
			return fmt.Errorf("plot: %w", err)
		}
		svg, err := drawn(p)
		plots = append(plots, svg)
		return err
	}
	for _, l := range r.Latencies {
		if len(l.Curve) > 1 {
			if err := add(latencyPlot(l)); err != nil {
				return err
			}
		}
	}
	for _, s := range r.Series {
		if len(s.At) > 1 {
			if err := add(seriesPlot(s)); err != nil {
				return err
			}
		}
	}
	return pageTemplate.Execute(w, struct {
		*Report
		Plots  []template.HTML
		Steals float64
	}{r, plots, Steals})
}

func drawn(p *plot.Plot) (template.HTML, error) {
	canvas := vgsvg.New(16*vg.Centimeter, 8*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", err
	}
	_, svg, ok := bytes.Cut(b.Bytes(), []byte("<svg"))
	if !ok {
		return "", fmt.Errorf("plot: no SVG")
	}
	// Our own drawing; names in it were escaped by the canvas.
	return template.HTML(append([]byte("<svg"), svg...)), nil
}

func line(p *plot.Plot, points plotter.XYs) error {
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Width = vg.Points(1.5)
	p.Add(plotter.NewGrid(), l)
	return nil
}

// nines are the marks of a latency plot: each step right is ten times rarer.
var nines = plot.ConstantTicks{
	{Value: 0, Label: "0 %"}, {Value: 1, Label: "90 %"}, {Value: 2, Label: "99 %"},
	{Value: 3, Label: "99.9 %"}, {Value: 4, Label: "99.99 %"}, {Value: 5, Label: "99.999 %"},
}

// latencyPlot is over the nines: x is -log10(1-q), so that the rare cases have
// the room.
func latencyPlot(l Latency) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = l.Name
	p.X.Label.Text, p.Y.Label.Text = "percentile", "milliseconds"
	p.X.Tick.Marker = nines
	var points plotter.XYs
	for _, q := range l.Curve {
		if q.Percentile < 100 {
			points = append(points, plotter.XY{X: -math.Log10(1 - q.Percentile/100), Y: q.Value / 1e3})
		}
	}
	if len(points) == 0 {
		points = plotter.XYs{{X: 0, Y: l.Max / 1e3}}
	}
	return p, line(p, points)
}

func seriesPlot(s Series) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = s.Name
	p.X.Label.Text, p.Y.Label.Text = "seconds", s.Unit
	p.Y.Min = 0
	points := make(plotter.XYs, min(len(s.At), len(s.Values)))
	for i := range points {
		points[i] = plotter.XY{X: s.At[i], Y: s.Values[i]}
	}
	return p, line(p, points)
}
