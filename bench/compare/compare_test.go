package compare

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/integration/netns"
)

func programs(t *testing.T) Programs {
	t.Helper()
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs root and network namespaces: run `make test`")
	}
	p := Programs{Bench: os.Getenv("ROAMGATE_BENCH"), Gatewayd: os.Getenv("ROAMGATE_GATEWAYD"), IPerf: "iperf3"}
	if p.Bench == "" || p.Gatewayd == "" {
		t.Fatal("ROAMGATE_BENCH and ROAMGATE_GATEWAYD have to name the programs")
	}
	return p
}

// Each contestant that is here really carries what is measured: one short round
// of every kind. wireguard-go isn't in the distribution; who has it installed
// sees it tested too.
func TestRound(t *testing.T) {
	// Where the kernel has IPsec there are more than are counted here.
	names := slices.DeleteFunc(Names(), func(name string) bool { return name == XFRM || name == StrongSwanKernel })
	plan := Plan{
		Programs: programs(t), Contestants: names, Rounds: 1,
		Measurements: []Measurement{
			TCP(false, 1, "cubic", time.Second), TCP(true, 1, "reno", time.Second),
			{Name: "1,000 packets/s", Figures: one("1,000 packets/s", "pps"), run: func(ctx context.Context, t *turn) ([]float64, error) {
				o, err := t.offer(ctx, flow.IMIX, false, 1000, time.Second)
				return []float64{o.received}, err
			}},
			Handshakes(time.Second), tunnelsAt(1000),
		},
	}
	r := &report.Report{}
	if err := plan.Run(t.Context(), r, func(s string) { t.Log(s) }); err != nil {
		t.Fatal(err)
	}
	missing, others := 0, 0 // others need another build
	for _, n := range r.Notes {
		t.Log(n)
		switch {
		case strings.HasPrefix(n, WireGuard+" doesn't take part"):
			missing++
		case strings.HasPrefix(n, Together+" doesn't take part"):
			others++
		}
	}
	if len(r.Notes) > missing+others {
		t.Error("there are notes of failures")
	}
	tables := make(map[string]report.Table)
	for _, table := range r.Tables {
		tables[table.Name] = table
	}
	if len(tables["rounds"].Rows) != 1 {
		t.Errorf("rounds %v", tables["rounds"].Rows)
	}
	for _, m := range plan.Measurements {
		want := 4 - missing // plain, gatewayd, wireguard-go, strongswan
		switch {
		case m.Gateway && m.Variants:
			want = 4 // gatewayd thrice, strongswan
		case m.Gateway:
			want = 2
		}
		for _, f := range m.Figures {
			table := tables[f.Name]
			if len(table.Rows) != want {
				t.Errorf("%s: %d rows, want %d", f.Name, len(table.Rows), want)
			}
			for _, row := range table.Rows {
				if row[1] == "0" {
					t.Errorf("%s, %s: nothing got through", f.Name, row[0])
				}
			}
		}
	}
}

// tunnelsAt offers packets of twenty tunnels at a rate that everybody stands.
func tunnelsAt(rate int) Measurement {
	name := "IMIX at a rate"
	return Measurement{Name: name, Figures: one(name, "1/s"), Gateway: true, Variants: true, run: func(ctx context.Context, t *turn) ([]float64, error) {
		at, err := t.receiver(ctx)
		if err != nil {
			return nil, err
		}
		args := t.devices(20, "--to", at, "--imix", "--rate", strconv.Itoa(rate), "--duration", "1s")
		v, _, err := t.load(ctx, "esp", args, "received")
		return v, err
	}}
}

// gatewayLab is a gatewayd to load.
func gatewayLab(t *testing.T) (context.Context, *lab) {
	l, err := newLab(programs(t), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	if _, err := serveGatewayd(ctx, l); err != nil {
		t.Fatal(err)
	}
	return ctx, l
}

// Packets of several tunnels arrive, counted by the receiver and judged through
// a tunnel.
func TestTunnels(t *testing.T) {
	ctx, l := gatewayLab(t)
	at := netns.LANHost.String() + ":" + flowPort
	p, err := l.start(l.LAN, "receive", l.Bench, "flow", "receive", "--at", at, "--quiet-after", "1h")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.says(ctx, p, "receive", "listening"); err != nil {
		t.Fatal(err)
	}
	r, err := l.bench(ctx, "esp", "--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID,
		"--root", "ca.crt", "--ca", "ca.crt", "--ca-key", "ca.key", "--devices", "20", "--to", at,
		"--imix", "--rate", "1000", "--duration", "1s", "--quiet", "--json", "-")
	if err != nil {
		t.Fatal(err)
	}
	for name, least := range map[string]float64{"tunnels": 20, "offered": 100, "received": 100} {
		if v, err := r.figure(name); err != nil || v < least {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

// Devices move; come back by their tickets, one after the other and all at once;
// live for a while. Nobody fails, and nobody who has a ticket begins in full.
func TestDevices(t *testing.T) {
	ctx, l := gatewayLab(t)
	scenario := "devices: 5\narrive: 100ms\nroam: 500ms\nvanish: 1s\naway: 100ms\nping: 200ms\nhost: " + netns.LANHost.String() + "\n"
	if err := os.WriteFile(l.path("life.yaml"), []byte(scenario), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args     []string
		least    map[string]float64
		none     []string
		abandons bool // what is under way at the end counts as failed
	}{
		{args: []string{"roam", "--devices", "10", "--count", "50", "--duration", "0s"}, least: map[string]float64{"moves": 50, "devices": 10}},
		{
			args: []string{"resume", "--devices", "10", "--count", "50", "--duration", "0s"}, least: map[string]float64{"resumptions": 50},
			none: []string{"ticket refused, began in full", "without a ticket, began in full"},
		},
		{
			args: []string{"resume", "--devices", "10", "--rate", "100", "--count", "20", "--duration", "0s"}, least: map[string]float64{"resumptions": 20},
			none: []string{"ticket refused, began in full", "without a ticket, began in full"},
		},
		{
			args: []string{"resume", "--devices", "30", "--storm"}, least: map[string]float64{"resumptions": 30, "until the last was back": 0},
			none: []string{"ticket refused, began in full", "without a ticket, began in full"},
		},
		{args: []string{"fleet", "life.yaml", "--duration", "5s"}, least: map[string]float64{"connect": 5, "ping": 1}, abandons: true},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			args := append(test.args, "--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID,
				"--root", "ca.crt", "--ca", "ca.crt", "--ca-key", "ca.key", "--quiet", "--json", "-")
			r, err := l.bench(ctx, args...)
			if err != nil {
				t.Fatal(err)
			}
			for name, least := range test.least {
				if v, err := r.figure(name); err != nil || v < least {
					t.Errorf("%s: %v, want at least %v; %v", name, v, least, err)
				}
			}
			for _, name := range test.none {
				if v, err := r.figure(name); err != nil || v != 0 {
					t.Errorf("%s: %v, %v", name, v, err)
				}
			}
			if len(r.Failures) > 0 && !test.abandons {
				t.Errorf("failures: %v", r.Failures)
			}
			t.Logf("%v %v", r.Figures, r.Failures)
		})
	}
}

func TestTable(t *testing.T) {
	there := []contestant{{name: "a"}, {name: "b"}, {name: "c"}}
	got, ok := table(Figure{Name: "x", Unit: "Gb/s"}, there, map[string][]float64{"a": {3, 1, 2}, "b": {4, 4}})
	want := [][]string{{"a", "2", "1", "3", "1.00", "0.50", "3 1 2"}, {"b", "4", "4", "4", "2.00", "1.00", "4 4"}}
	if !ok || !slices.EqualFunc(got.Rows, want, slices.Equal) {
		t.Errorf("%v", got)
	}
	if _, ok := table(Figure{}, there, nil); ok {
		t.Error("a table of nothing")
	}
}
