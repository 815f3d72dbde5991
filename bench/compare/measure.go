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
	"github.com/roamgate/roamgate/integration/netns"
)

// Measurement of one contestant, in one set-up.
type Measurement struct {
	// Name for tables, such as "TCP up, 4 flows".
	Name string
	// Unit of what it returns.
	Unit string
	// Handshakes need a gateway only; others a tunnel.
	Handshakes bool
	run        func(ctx context.Context, l *lab, pid int) (float64, error)
}

// TCP by iperf3, in Gb/s that the receiver saw.
func TCP(down bool, flows int, duration time.Duration) Measurement {
	way := "up"
	if down {
		way = "down"
	}
	name := fmt.Sprintf("TCP %s, %d flows", way, flows)
	if flows == 1 {
		name = "TCP " + way
	}
	return Measurement{Name: name, Unit: "Gb/s", run: func(ctx context.Context, l *lab, _ int) (float64, error) {
		return l.iperf(ctx, down, flows, duration)
	}}
}

const iperfPort = "5201"

func (l *lab) iperf(ctx context.Context, down bool, flows int, duration time.Duration) (float64, error) {
	server, err := l.start(l.LAN, "iperf3", l.IPerf, "-s", "-1", "--forceflush", "-p", iperfPort)
	if err != nil {
		return 0, err
	}
	if err := l.says(ctx, server, "iperf3", "listening"); err != nil {
		return 0, err
	}
	// The first second is slow start.
	args := []string{"-c", netns.LANHost.String(), "-p", iperfPort, "-J", "-O", "1",
		"-t", strconv.Itoa(int(duration.Seconds())), "-P", strconv.Itoa(flows), "--connect-timeout", "5000"}
	if down {
		args = append(args, "-R")
	}
	out, err := l.run(ctx, l.Devices[0].Namespace, l.IPerf, args...)
	if err != nil {
		return 0, err
	}
	<-server.Done()
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
	return Measurement{Name: "UDP " + name, Unit: "kpps", run: func(ctx context.Context, l *lab, _ int) (float64, error) {
		return l.highest(ctx, mix, gso, trial)
	}}
}

// lossAllowed is how much of a rate may get lost for it to count.
const lossAllowed = 0.01

// highest finds the rate by halving an interval, from what arrives when as much
// is sent as the sender can.
func (l *lab) highest(ctx context.Context, mix flow.Mix, gso bool, trial time.Duration) (float64, error) {
	t, err := l.offer(ctx, mix, gso, 0, trial)
	if err != nil {
		return 0, err
	}
	low, high := 0.0, t.sent
	if t.loss() < lossAllowed {
		return t.received / 1e3, nil
	}
	try := t.received // what came through when it was flooded is a good guess
	for high-low > 0.05*high {
		if t, err = l.offer(ctx, mix, gso, try, trial); err != nil {
			return 0, err
		}
		if t.loss() < lossAllowed {
			low = math.Max(low, t.received)
		} else {
			high = math.Min(high, try)
		}
		try = (low + high) / 2
	}
	return low / 1e3, nil
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
	return outcome{float64(sent.Packets) / seconds, float64(got.Packets-got.Twice) / seconds}, nil
}

// Handshakes a second, closed loop.
func Handshakes(duration time.Duration) Measurement {
	return Measurement{Name: "handshakes", Unit: "1/s", Handshakes: true, run: func(ctx context.Context, l *lab, _ int) (float64, error) {
		r, err := l.handshakes(ctx, "--duration", duration.String())
		if err != nil {
			return 0, err
		}
		return r.figure("rate")
	}}
}

// GatewayCPU is the gateway's processor time for one handshake in microseconds:
// what it costs, whoever else shares the processors.
func GatewayCPU(count int) Measurement {
	return Measurement{Name: "gateway's processor time a handshake", Unit: "us", Handshakes: true, run: func(ctx context.Context, l *lab, pid int) (float64, error) {
		each, err := l.processorTimeEach(ctx, pid, count)
		return float64(each) / float64(time.Microsecond), err
	}}
}

func (l *lab) handshakes(ctx context.Context, more ...string) (*ran, error) {
	args := append([]string{"ike", "--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID,
		"--root", "ca.crt", "--ca", "ca.crt", "--ca-key", "ca.key", "--devices", "5000",
		"--ike", "aes128gcm16-prfsha256-curve25519", "--esp", espProposal, "--quiet", "--json", "-"}, more...)
	return l.bench(ctx, args...)
}

// Tunnels is the highest rate in thousands of packets a second through the
// tunnels of many devices of which less than one in a hundred got lost.
func Tunnels(devices int, trial time.Duration) Measurement {
	return Measurement{
		Name: fmt.Sprintf("IMIX through %d tunnels", devices), Unit: "kpps", Handshakes: true,
		run: func(ctx context.Context, l *lab, _ int) (float64, error) {
			at := netns.LANHost.String() + ":" + flowPort
			p, err := l.start(l.LAN, "receive", l.Bench, "flow", "receive", "--at", at, "--quiet-after", "1h")
			if err != nil {
				return 0, err
			}
			if err := l.says(ctx, p, "receive", "listening"); err != nil {
				return 0, err
			}
			r, err := l.bench(ctx, "esp", "--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID,
				"--root", "ca.crt", "--ca", "ca.crt", "--ca-key", "ca.key", "--devices", strconv.Itoa(devices),
				"--ike", "aes128gcm16-prfsha256-curve25519", "--esp", espProposal, "--to", at, "--imix", "--search",
				"--duration", trial.String(), "--quiet", "--json", "-")
			if err != nil {
				return 0, err
			}
			v, err := r.figure("received")
			return v / 1e3, err
		},
	}
}
