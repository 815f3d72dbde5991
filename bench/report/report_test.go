package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sample() *Report {
	h := NewHistogram()
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Millisecond)
	}
	r := &Report{
		Bench: "ike", Arguments: []string{"--target", "10.1.0.1"}, Version: "test",
		Started: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), Seconds: 10,
		Environment: ReadEnvironment(), Steal: 0.05, Load: 0.25,
		Latencies: []Latency{h.Latency("handshake <script>")},
		Series:    []Series{{Name: "handshakes", Unit: "per second", At: []float64{1, 2, 3}, Values: []float64{10, 12, 11}}},
		Tables:    []Table{{Name: "rounds", Columns: []string{"who", "Gb/s"}, Rows: [][]string{{"<b>", "1.5"}}}},
		Failures:  map[string]uint64{"timeout": 3, "auth": 1},
	}
	r.Add("rate", 1234.5678, "1/s")
	r.Add("handshakes", 12345, "")
	return r
}

// What is written as JSON reads as the same.
func TestJSON(t *testing.T) {
	want := sample()
	var b bytes.Buffer
	if err := want.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, got, want)
	}
	if _, err := Read(strings.NewReader("{")); err == nil {
		t.Error("half a report was read")
	}
}

// The text names each figure with its unit, and warns of a host that stole.
func TestText(t *testing.T) {
	var b strings.Builder
	if err := sample().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"rate        1235 1/s", "handshakes  12345", "1000   1ms  500.2ms",
		"auth      1", "repeat the run", "rounds",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// The page is well-formed, loads nothing, and takes no name for markup.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "<svg"); n != 2 {
		t.Errorf("%d plots, want 2", n)
	}
	for _, bad := range []string{"<script", "<link", "src=", "@import", "<td><b></td>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!doctype html>", "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuantiles(t *testing.T) {
	l := sample().Latencies[0]
	near := func(got, want float64) bool { return got > want*0.998 && got < want*1.002 }
	if l.Count != 1000 || !near(l.P50, 500e3) || !near(l.P99, 990e3) || !near(l.Max, 1e6) || !near(l.Min, 1e3) {
		t.Errorf("%+v", l)
	}
	h := NewHistogram()
	if l := h.Latency("none"); l.Count != 0 || l.Max != 0 {
		t.Errorf("empty: %+v", l)
	}
	h.Record(time.Hour)
	h.Record(-time.Second)
	if h.Count() != 2 || h.Quantile(100) < 9*time.Minute {
		t.Errorf("beyond the bounds: %d, %v", h.Count(), h.Quantile(100))
	}
}

func TestParseStat(t *testing.T) {
	total, steal := parseStat([]byte("cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2\n"))
	if total != 360 || steal != 80 {
		t.Errorf("total %d, steal %d", total, steal)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"} {
		if total, steal := parseStat([]byte(bad)); total != 0 || steal != 0 {
			t.Errorf("%q: %d, %d", bad, total, steal)
		}
	}
	before := ReadUsage()
	if before.total == 0 {
		t.Error("nothing read of /proc/stat")
	}
	for x := 0; ReadUsage().own == before.own; x++ { // until the clock has counted something
	}
	if _, own := ReadUsage().Since(before); own <= 0 || own > 1.5 {
		t.Errorf("used %f of the machine", own)
	}
}

func TestMarkdown(t *testing.T) {
	r := &Report{Bench: "compare", Tables: []Table{{Name: "TCP up", Columns: []string{"", "median Gb/s"}, Rows: [][]string{{"a|b", "1.5"}}}}, Notes: []string{"c is\nmissing"}}
	r.Add("rate", 12, "1/s")
	var b bytes.Buffer
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| TCP up | median Gb/s |\n|---|---|\n| a\\|b | 1.5 |\n", "| rate | 12 1/s |", "- c is missing\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
