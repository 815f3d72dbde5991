package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/process"
	"github.com/roamgate/roamgate/integration/netns"
)

// Measurement of one contestant, in one set-up.
type Measurement struct {
	// Name for progress and errors.
	Name string
	// Figures that it gives, a table each.
	Figures []Figure
	// Gateway: it needs a gateway only; others a tunnel from dev to lan. The gateway
	// has one processor then, and what loads it another.
	Gateway bool
	// Only these contestants take part; empty: all that can. Variants of one take
	// part only if Variants is set.
	Only     []string
	Variants bool
	// patience is how long it may take; 0: as long as all others.
	patience time.Duration
	// run returns as many values as there are figures.
	run func(ctx context.Context, t *turn) ([]float64, error)
}

// Figure of a measurement.
type Figure struct{ Name, Unit string }

// turn of a contestant.
type turn struct {
	*lab
	pid int // of the gateway, where there is nothing else
	// known rates of earlier rounds, by measurement; searches begin there.
	known     map[string]float64
	receiving bool // the receiver in lan stands
}

func one(name, unit string) []Figure { return []Figure{{name, unit}} }

// TCP by iperf3, in Gb/s that the receiver saw, by the congestion control of that
// name: what paces itself (BBR) ends a flow by its own estimate.
func TCP(down bool, flows int, congestion string, duration time.Duration) Measurement {
	way := "up"
	if down {
		way = "down"
	}
	name := "TCP " + way
	if flows > 1 {
		name += fmt.Sprintf(", %d flows", flows)
	}
	name += ", " + congestion
	return Measurement{Name: name, Figures: one(name, "Gb/s"), run: func(ctx context.Context, t *turn) ([]float64, error) {
		v, err := t.iperf(ctx, down, flows, congestion, duration)
		return []float64{v}, err
	}}
}

const iperfPort = "5201"

func (l *lab) iperf(ctx context.Context, down bool, flows int, congestion string, duration time.Duration) (float64, error) {
	server, err := l.start(l.LAN, "iperf3", l.IPerf, "-s", "-1", "--forceflush", "-p", iperfPort)
	if err != nil {
		return 0, err
	}
	if err := l.says(ctx, server, "iperf3", "listening"); err != nil {
		return 0, err
	}
	// The first second is slow start.
	args := []string{"-c", netns.LANHost.String(), "-p", iperfPort, "-J", "-O", "1",
		"-t", strconv.Itoa(int(duration.Seconds())), "-P", strconv.Itoa(flows), "-C", congestion, "--connect-timeout", "5000"}
	if down {
		args = append(args, "-R")
	}
	out, err := l.run(ctx, l.Devices[0].Namespace, l.IPerf, args...)
	if err != nil {
		return 0, err
	}
	// Its one client has gone. Sometimes it doesn't notice.
	if err := server.Stop(5 * time.Second); ctx.Err() != nil {
		return 0, errors.Join(ctx.Err(), err)
	}
	var result struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	if result.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", result.Error)
	}
	return result.End.Received.Rate / 1e9, nil
}

// UDP is the highest rate in thousands of packets a second of which less than
// one in a hundred got lost.
func UDP(name string, mix flow.Mix, gso bool, trial time.Duration) Measurement {
	name = "UDP " + name
	return Measurement{Name: name, Figures: one(name, "kpps"), run: func(ctx context.Context, t *turn) ([]float64, error) {
		v, err := t.highest(ctx, name, mix, gso, trial)
		return []float64{v / 1e3}, err
	}}
}

const (
	// lossAllowed is how much of a rate may get lost for it to count.
	lossAllowed = 0.01
	// keptPace is how much of it has to be offered.
	keptPace = 0.97
	// firstRate that is tried, in packets a second.
	firstRate = 10000
)

// highest rate in packets a second, as they came.
func (t *turn) highest(ctx context.Context, name string, mix flow.Mix, gso bool, trial time.Duration) (best float64, err error) {
	s := t.search(name, firstRate)
	err = s.Run(func(rate float64) (load.Verdict, error) {
		o, err := t.offer(ctx, mix, gso, rate, trial)
		switch {
		case err != nil:
			return 0, err
		case o.loss() >= lossAllowed:
			return load.Fails, nil
		}
		best = math.Max(best, o.received)
		if o.sent < keptPace*rate {
			return load.Behind, nil
		}
		return load.Stands, nil
	})
	if err == nil {
		t.known[name] = best
	}
	return best, err
}

// Cost is what a datagram of a size from dev to lan takes of all processors: both
// ends, sender and receiver included, which are the same for all contestants but
// those with another client. It is what more of them take more, so nothing that
// happens once is in it. On a machine that others use it says nothing; in the
// virtual machine, whose clock counts instructions, it is instructions.
func Cost(size int, trial time.Duration) Measurement {
	name := fmt.Sprintf("a packet of %d octets, both ends and the host's own share", size)
	return Measurement{Name: name, Figures: one(name, "ns"), run: func(ctx context.Context, t *turn) ([]float64, error) {
		var busy, packets [2]float64
		for i, rate := range []float64{costRate, 8 * costRate} {
			before, err := process.Busy()
			if err != nil {
				return nil, err
			}
			o, err := t.offer(ctx, flow.Mix{size}, false, rate, trial)
			if err != nil {
				return nil, err
			}
			after, err := process.Busy()
			if err != nil {
				return nil, err
			}
			if o.loss() >= lossAllowed {
				return nil, fmt.Errorf("of %.0f packets a second %.1f %% got lost", rate, 100*o.loss())
			}
			busy[i], packets[i] = float64(after-before), o.received*trial.Seconds()
		}
		return []float64{(busy[1] - busy[0]) / (packets[1] - packets[0])}, nil
	}}
}

// costRate in packets a second; eight times as many are what an emulated processor
// can do without a queue.
const costRate = 1000

// search from the result of an earlier round, or from a first rate.
func (t *turn) search(name string, first float64) load.Search {
	s := load.Search{From: first, Tolerance: 0.05}
	if known := t.known[name]; known > 0 {
		s.From, s.Known = known, true
	}
	return s
}

// outcome of a trial, in packets a second.
type outcome struct{ sent, received float64 }

func (o outcome) loss() float64 {
	if o.sent == 0 {
		return 1
	}
	return 1 - o.received/o.sent
}

const flowPort = "5202"

// overtime is how long what was sent may take to arrive.
const overtime = 200 * time.Millisecond

// offer sends from dev to lan at a rate; 0 is as fast as it goes.
func (l *lab) offer(ctx context.Context, mix flow.Mix, gso bool, rate float64, trial time.Duration) (o outcome, err error) {
	at := netns.LANHost.String() + ":" + flowPort
	receiver, err := l.start(l.LAN, "receive", l.Bench, "flow", "receive", "--at", at, "--quiet-after", "500ms", "--json")
	if err != nil {
		return o, err
	}
	if err := l.says(ctx, receiver, "receive", "listening"); err != nil {
		return o, err
	}
	sizes := make([]string, len(mix))
	for i, n := range mix {
		sizes[i] = strconv.Itoa(n)
	}
	out, err := l.run(ctx, l.Devices[0].Namespace, l.Bench, "flow", "send", "--to", at, "--sizes", strings.Join(sizes, ","),
		"--rate", strconv.FormatFloat(rate, 'f', 0, 64), "--duration", trial.String(), "--gso="+strconv.FormatBool(gso), "--json")
	if err != nil {
		return o, err
	}
	var sent flow.Sent
	if err := json.Unmarshal(out, &sent); err != nil {
		return o, fmt.Errorf("bench flow send: %w", err)
	}
	select {
	case <-receiver.Done():
	case <-time.After(10 * time.Second): // nothing came at all
		receiver.Kill()
		return o, errors.New("no datagram came through")
	}
	var got flow.Received
	if err := l.result("receive", &got); err != nil {
		return o, err
	}
	seconds := sent.Took.Seconds()
	// What is still on its way long after it was sent stood in a queue without a
	// bound: that isn't a rate that something stands.
	whole := max(seconds, got.Span.Seconds())
	if whole > seconds+overtime.Seconds() {
		got.Packets, got.Twice = uint64(float64(got.Packets)*seconds/whole), 0
	}
	return outcome{float64(sent.Packets) / seconds, float64(got.Packets-got.Twice) / seconds}, nil
}
