package report

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is a distribution of times, in microseconds.
type Latency struct {
	Name  string  `json:"name"`
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	Min   float64 `json:"min_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p99_9_us"`
	Max   float64 `json:"max_us"`
	// Curve is what a plot over percentiles needs.
	Curve []Quantile `json:"curve,omitempty"`
}

// Quantile is a point of the cumulative distribution.
type Quantile struct {
	Percentile float64 `json:"percentile"`
	Value      float64 `json:"us"`
}

// Histogram takes times from any goroutine. It keeps three digits between 100
// nanoseconds and ten minutes; what is above counts as ten minutes.
type Histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

const (
	shortest = int64(100 * time.Nanosecond)
	longest  = int64(10 * time.Minute)
)

// NewHistogram returns an empty one.
func NewHistogram() *Histogram {
	return &Histogram{h: hdrhistogram.New(shortest, longest, 3)}
}

// Record one time.
func (h *Histogram) Record(d time.Duration) {
	v := min(max(int64(d), shortest), longest)
	h.mu.Lock()
	defer h.mu.Unlock()
	// A value within the bounds has its place.
	_ = h.h.RecordValue(v)
}

// Reset forgets what was recorded.
func (h *Histogram) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.h.Reset()
}

// Count of what was recorded.
func (h *Histogram) Count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.TotalCount()
}

// Quantile of what was recorded so far, 0 to 100.
func (h *Histogram) Quantile(percentile float64) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(h.h.ValueAtPercentile(percentile))
}

// Latency is what was recorded, under a name. With nothing recorded all its
// times are 0.
func (h *Histogram) Latency(name string) Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := Latency{Name: name, Count: h.h.TotalCount()}
	if l.Count == 0 {
		return l
	}
	at := func(percentile float64) float64 { return us(h.h.ValueAtPercentile(percentile)) }
	l.Mean, l.Min, l.Max = h.h.Mean()/1e3, us(h.h.Min()), us(h.h.Max())
	l.P50, l.P90, l.P99, l.P999 = at(50), at(90), at(99), at(99.9)
	for _, b := range h.h.CumulativeDistribution() {
		l.Curve = append(l.Curve, Quantile{Percentile: b.Quantile, Value: us(b.ValueAt)})
	}
	return l
}

func us(ns int64) float64 { return float64(ns) / 1e3 }
