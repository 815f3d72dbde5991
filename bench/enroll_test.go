package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/identity"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/jointest"
)

// codesOf new requests, in a file.
func codesOf(t *testing.T, i *jointest.Instance, count int) string {
	t.Helper()
	var lines strings.Builder
	for range count {
		code := i.Request()
		fmt.Fprintln(&lines, code.Reveal())
	}
	name := filepath.Join(t.TempDir(), "codes")
	if err := os.WriteFile(name, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// benchEnroll runs the command and reads its report.
func benchEnroll(t *testing.T, args ...string) *report.Report {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := execute(append([]string{"enroll", "--json", "-", "--quiet"}, args...), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var r report.Report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v", &stdout, err)
	}
	return &r
}

func figure(t *testing.T, r *report.Report, name string) float64 {
	t.Helper()
	f, ok := r.Figure(name)
	if !ok {
		t.Errorf("the report has no %q: %v", name, r.Figures)
	}
	return f.Value
}

// Each code becomes one certificate, in runs of one and of several devices at a
// time, and the report counts them. One that was used before is a failure.
func TestEnroll(t *testing.T) {
	// Devices have addresses of their own, or this would be too much of one.
	i := jointest.New(t, jointest.Options{Policy: enroll.Policy{SourceBurst: 2, SourceEvery: time.Hour}})
	codes := codesOf(t, i, 12)
	keep := filepath.Join(t.TempDir(), "devices.pem")
	r := benchEnroll(t, "--server", i.Address, "--codes", codes, "--devices", "1,4", "--keep", keep)
	kept, err := identity.LoadAll(keep)
	if err != nil || kept.Len() != 12 {
		t.Errorf("kept %v, %v", kept, err)
	}
	if one, four := figure(t, r, "enrolled, 1 at a time"), figure(t, r, "enrolled, 4 at a time"); one != 6 || four != 6 || len(r.Failures) > 0 {
		t.Errorf("%v and %v enrolled, failures %v", one, four, r.Failures)
	}
	issued, err := i.Directory().Certificates(t.Context(), directory.CertificateFilter{Profile: ca.Device})
	if err != nil || len(issued) != 12 {
		t.Errorf("%d certificates: %v", len(issued), err)
	}
	if len(r.Latencies) != 2 || r.Latencies[1].Count != 6 || len(r.Series) != 2 || len(r.Tables) != 1 {
		t.Errorf("%+v", r)
	}
	again := benchEnroll(t, "--server", i.Address, "--codes", codes, "--devices", "3", "--rate", "1000")
	if done := figure(t, again, "enrolled, 3 at a time"); done != 0 || again.Failures["the server can't show that it knows the code"] != 12 {
		t.Errorf("codes that were used: %v enrolled, failures %v", done, again.Failures)
	}
}

func TestEnrollFlags(t *testing.T) {
	good := filepath.Join(t.TempDir(), "codes")
	if err := os.WriteFile(good, []byte("XK7M-29QA-8R2N-W4TB-0HJD-6YEV\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("XK7M-29QA-8R2N-W4TB-0HJD-6YEV\nno code\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{}, exitFailed, "required"},
		{[]string{"--server", "127.0.0.1:1", "--codes", good, "--key", "dsa"}, exitUsage, "--key"},
		{[]string{"--server", "127.0.0.1:1", "--codes", good, "--devices", "0"}, exitUsage, "concurrency"},
		{[]string{"--server", "127.0.0.1:1", "--codes", good, "--devices", "1,2"}, exitUsage, "1 codes for 2 runs"},
		{[]string{"--server", "127.0.0.1:1", "--codes", good, "--from", "::/64"}, exitUsage, "--from"},
		{[]string{"--server", "127.0.0.1:1", "--codes", bad, "--devices", "1"}, exitFailed, "bad:2"},
	} {
		var stdout, stderr bytes.Buffer
		if code := execute(append([]string{"enroll", "--quiet"}, c.args...), &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.text) {
			t.Errorf("%q: exit code %d, %s", c.args, code, &stderr)
		}
	}
}

func TestSources(t *testing.T) {
	for _, c := range []struct {
		network string
		number  uint64
		want    string
	}{
		{"127.16.0.0/12", 0, "127.16.0.0"}, {"127.16.0.0/12", 1, "127.24.0.0"}, {"127.16.0.0/12", 300, "127.19.72.0"}, {"127.16.0.0/12", 1 << 20, "127.16.0.0"}, {"192.0.2.4/30", 5, "192.0.2.6"}, {"192.0.2.9/32", 7, "192.0.2.9"}, {"2001:db8::/64", 258, "2001:db8::2040:0"},
	} {
		f := sources{network: netip.MustParsePrefix(c.network)}
		if got := f.source(c.number).String(); got != netip.AddrPortFrom(netip.MustParseAddr(c.want), 0).String() {
			t.Errorf("%d of %s: %s, want %s", c.number, c.network, got, c.want)
		}
	}
	if f := (sources{}); f.source(1) != nil {
		t.Error("an address without a network")
	}
}
