package compare

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// device arguments of bench.
func (t *turn) devices(n int, more ...string) []string {
	return append([]string{
		"--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID, "--root", "ca.crt", "--ca", "ca.crt", "--ca-key", "ca.key",
		"--devices", strconv.Itoa(n), "--gateway-pid", strconv.Itoa(t.pid),
		"--ike", "aes128gcm16-prfsha256-curve25519", "--esp", espProposal, "--quiet", "--json", "-",
	}, more...)
}

// load runs bench and returns some of its figures.
func (t *turn) load(ctx context.Context, command string, args []string, figures ...string) ([]float64, *ran, error) {
	r, err := t.bench(ctx, append([]string{command}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	values := make([]float64, len(figures))
	for i, name := range figures {
		if values[i], err = r.figure(name); err != nil {
			return nil, nil, err
		}
	}
	return values, r, nil
}

// Handshakes of devices that are new to the gateway, in a closed loop of 32: the
// rate, the gateway's processor time for each with its deletion, and how much of
// that is public key cryptography that no responder can do without. What is missing
// to 100 % is everything else. Then, in an open loop at half of that rate, how long
// they take.
func Handshakes(trial time.Duration) Measurement {
	figures := []Figure{
		{"handshakes", "1/s"}, {"gateway's processor time a handshake", "us"},
		{"cryptography in it", "%"}, {"handshake at half of the rate, p50", "us"}, {"handshake at half of the rate, p99", "us"},
	}
	return Measurement{Name: "handshakes", Figures: figures, Gateway: true, run: func(ctx context.Context, t *turn) ([]float64, error) {
		var full []float64
		bare, err := t.besideBare(ctx, func() (err error) {
			full, _, err = t.load(ctx, "ike", t.devices(5000, "--sockets", fewSockets, "--duration", trial.String()), "rate", "gateway's processor time a handshake")
			return err
		})
		if err != nil {
			return nil, err
		}
		half := strconv.FormatFloat(full[0]/2, 'f', 1, 64)
		_, r, err := t.load(ctx, "ike", t.devices(5000, "--sockets", fewSockets, "--duration", trial.String(), "--rate", half, "--poisson", "--concurrency", "256"))
		if err != nil {
			return nil, err
		}
		if len(r.Latencies) == 0 {
			return nil, errors.New("bench ike reported no latency")
		}
		l := r.Latencies[0]
		return append(full, 100*float64(bare)/float64(time.Microsecond)/full[1], l.P50, l.P99), nil
	}}
}

// fewSockets are shared by devices whose number of handshakes, resumptions or moves is
// what counts: one for each is opened, polled and closed in a tenth to a quarter of the
// generator's time, and datagrams come one by one.
const fewSockets = "32"

// Resumptions by ticket, in a closed loop: rate and the gateway's processor time.
func Resumptions(trial time.Duration) Measurement {
	return closedLoop("resumption", "resume", 1000, trial, gatewaydOnly)
}

// Moves by MOBIKE to another port, proven by COOKIE2 where the gateway asks for it.
func Moves(trial time.Duration) Measurement {
	return closedLoop("move", "roam", 1000, trial, gatewaydOnly)
}

// gatewaydOnly: strongSwan has no resumption, and moves each address once in a
// while only.
var gatewaydOnly = []string{Gatewayd}

func closedLoop(what, command string, devices int, trial time.Duration, only []string) Measurement {
	figures := []Figure{{what + "s", "1/s"}, {"gateway's processor time a " + what, "us"}}
	return Measurement{Name: what + "s", Figures: figures, Gateway: true, Only: only, run: func(ctx context.Context, t *turn) ([]float64, error) {
		args := t.devices(devices, "--sockets", fewSockets, "--duration", trial.String())
		values, _, err := t.load(ctx, command, args, "rate", "gateway's processor time a "+what)
		return values, err
	}}
}

// Memory of the gateway: resident growth for each of many established sessions.
func Memory(sessions int) Measurement {
	figures := one(fmt.Sprintf("resident memory a session, of %d", sessions), "KiB")
	return Measurement{Name: "memory", Figures: figures, Gateway: true, patience: 20 * time.Minute, run: func(ctx context.Context, t *turn) ([]float64, error) {
		args := t.devices(sessions, "--keep", "--sockets", crowdSockets, "--duration", "0s", "--count", strconv.Itoa(sessions), "--timeout", "30s")
		values, r, err := t.load(ctx, "ike", args, "handshakes", "gateway's memory, growth a handshake")
		if err != nil {
			return nil, err
		}
		if values[0] < float64(sessions) {
			return nil, fmt.Errorf("%.0f of %d sessions: %v", values[0], sessions, r.Failures)
		}
		return []float64{values[1] / 1024}, nil
	}}
}

// crowdSockets are shared by devices of which there are more than a process may have
// files open.
const crowdSockets = "1000"

// Storm of devices that all come back at once by their tickets.
func Storm(devices int) Measurement {
	figures := []Figure{
		{"until the last was back", "s"}, {"back, p50", "s"}, {"back, p99", "s"},
		{"gateway's processor time a resumption", "us"}, {"ticket refused, began in full", ""}, {"gave up and began again", ""},
	}
	return Measurement{Name: fmt.Sprintf("storm of %d", devices), Figures: figures, Gateway: true, Only: gatewaydOnly, patience: 20 * time.Minute, run: func(ctx context.Context, t *turn) ([]float64, error) {
		args := t.devices(devices, "--storm", "--timeout", "10m", "--sockets", fewSockets)
		v, r, err := t.load(ctx, "resume", args, "until the last was back", "gateway's processor time a resumption", "ticket refused, began in full", "gave up and began again", "resumptions")
		if err != nil {
			return nil, err
		}
		if v[4] < float64(devices) || len(r.Latencies) == 0 {
			return nil, fmt.Errorf("%.0f of %d devices came back: %v", v[4], devices, r.Failures)
		}
		l := r.Latencies[0]
		return []float64{v[0], l.P50 / 1e6, l.P99 / 1e6, v[1], v[2], v[3]}, nil
	}}
}

// gsoBurst is how many packets of a tunnel a sender with GSO has in one message.
const gsoBurst = 32

// Tunnels is the highest rate through the tunnels of many devices of which less
// than one in a hundred got lost, and the gateway's processor time for a packet at
// that rate, from which what one processor could do follows. IMIX comes without
// GSO, packets of the tunnels in turn; with gso it is packets of 64 octets in
// bursts.
func Tunnels(devices int, gso bool, trial time.Duration) Measurement {
	name := fmt.Sprintf("IMIX, %d tunnels, no GSO", devices)
	traffic := []string{"--imix"}
	if gso {
		name = fmt.Sprintf("64 octets, %d tunnels, GSO sender", devices)
		traffic = []string{"--sizes", "64", "--gso", "--burst", strconv.Itoa(gsoBurst)}
	}
	figures := []Figure{{name, "kpps"}, {name + ": gateway's processor time a packet", "ns"}, {name + ": by that, packets of one processor", "kpps"}}
	return Measurement{Name: name, Figures: figures, Gateway: true, Variants: true, run: func(ctx context.Context, t *turn) ([]float64, error) {
		at, err := t.receiver(ctx)
		if err != nil {
			return nil, err
		}
		s := t.search(name, firstRate)
		args := append(t.devices(devices, "--to", at, "--search", "--duration", trial.String()), traffic...)
		if s.Known {
			args = append(args, "--from", strconv.FormatFloat(s.From, 'f', 0, 64))
		}
		v, _, err := t.load(ctx, "esp", args, "received", "gateway's processor time a packet")
		if err != nil {
			return nil, err
		}
		t.known[name] = v[0]
		return []float64{v[0] / 1e3, v[1], 1e6 / v[1]}, nil
	}}
}

// receiver in lan, which stands until the lab ends, on the generator's processor,
// as what the kernel does for it.
func (t *turn) receiver(ctx context.Context) (at string, err error) {
	at = netns.LANHost.String() + ":" + flowPort
	if t.receiving {
		return at, nil
	}
	if t.apart {
		mask := strconv.FormatUint(1<<t.generator, 16)
		if err := t.sysfs(ctx, t.LAN, "class/net/"+netns.HostLink+"/queues/rx-0/rps_cpus", mask); err != nil {
			return "", err
		}
	}
	program, args := t.onGenerator(t.Bench, "flow", "receive", "--at", at, "--quiet-after", "1h")
	p, err := t.start(t.LAN, "receive", program, args...)
	if err != nil {
		return "", err
	}
	t.receiving = true
	return at, t.says(ctx, p, "receive", "listening")
}
