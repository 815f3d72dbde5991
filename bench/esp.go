package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/bench/swarm"
)

// espFlags of a run.
type espFlags struct {
	to      string
	sizes   []int
	imix    bool
	search  bool
	from    float64
	known   bool // --from was given
	loss    float64
	latency time.Duration
	plan    swarm.Plan
	timeout time.Duration
}

func espCommand() *cobra.Command {
	var (
		o output
		f fleetFlags
		e espFlags
	)
	c := &cobra.Command{
		Use:   "esp",
		Short: "Packets through the tunnels of many devices: throughput, loss, latency",
		Long: `Connects devices with real handshakes, then sends packets of their tunnels in
turn, by one system call for many, without GSO: what a fleet is to a gateway.
A receiver behind the gateway counts:

  bench flow receive --at 10.2.0.2:5202 --quiet-after 1h

It is asked through a tunnel of its own. --search finds the highest rate of
which less than --loss is lost, from below. With --gso each tunnel's packets go
as one message of a burst of packets (UDP_SEGMENT). Needs CAP_NET_RAW; the way to
the gateway and the virtual addresses are IPv4.`,
		Example: `  bench esp --gateway 10.1.0.1 --gateway-id gw.example --root root.crt --ca root.crt --ca-key root.key \
      --to 10.2.0.2:5202 --devices 1000 --imix --search`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e.known = c.Flags().Changed("from")
			if err := e.check(); err != nil {
				return err
			}
			fleet, err := f.build()
			if err != nil {
				return err
			}
			return o.measure(c, commandLine(c), fleet.captured(func(ctx context.Context, r *report.Report, say func(string)) error {
				return e.run(ctx, fleet, r, say)
			}))
		},
	}
	o.flags(c)
	f.flags(c)
	l := c.Flags()
	l.StringVar(&e.to, "to", "", "`address:port` of the receiver (required)")
	l.IntSliceVar(&e.sizes, "sizes", []int{64}, "octets of inner IP packets, sent in turn")
	l.BoolVar(&e.imix, "imix", false, "the simple Internet mix: 64, 594 and 1,400 octets as 7:4:1")
	l.Float64Var(&e.plan.Rate, "rate", 0, "packets a second; 0: as fast as it goes")
	l.IntVar(&e.plan.Burst, "burst", 1, "packets of one tunnel in a row")
	l.BoolVar(&e.plan.GSO, "gso", false, "a burst is one message; packets have one size")
	l.DurationVar(&e.plan.Duration, "duration", 5*time.Second, "how long, with --search each trial")
	l.BoolVar(&e.search, "search", false, "find the highest rate without loss")
	l.Float64Var(&e.from, "from", 10000, "`rate` at which --search begins; one that is about the result is found in few trials")
	l.Float64Var(&e.loss, "loss", 0.01, "share of packets that may get lost for a rate to count")
	l.DurationVar(&e.latency, "latency", 100*time.Millisecond, "p99 of one way above which a rate doesn't count: queues grow")
	l.DurationVar(&e.timeout, "timeout", 10*time.Second, "after which a handshake has failed")
	if err := c.MarkFlagRequired("to"); err != nil {
		panic(err)
	}
	return c
}

func (e *espFlags) check() (err error) {
	if e.plan.To, err = netip.ParseAddrPort(e.to); err != nil || !e.plan.To.Addr().Is4() {
		return fmt.Errorf("%w: --to: got %q, expected an IPv4 address and a port", errUsage, e.to)
	}
	e.plan.Mix = e.sizes
	if e.imix {
		e.plan.Mix = flow.IMIX
	}
	switch err := e.plan.Mix.Validate(); {
	case err != nil:
		return fmt.Errorf("%w: --sizes: %w", errUsage, err)
	case e.plan.Burst < 1 || e.plan.Duration <= 0 || e.plan.Rate < 0:
		return fmt.Errorf("%w: --burst and --duration must be above 0, --rate not below", errUsage)
	case e.from < 1:
		return fmt.Errorf("%w: --from: at least 1", errUsage)
	case e.loss <= 0 || e.loss >= 1:
		return fmt.Errorf("%w: --loss is a share between 0 and 1", errUsage)
	}
	return nil
}

// run: device 0 asks the receiver, the others send.
func (e *espFlags) run(ctx context.Context, f *fleet, r *report.Report, say func(string)) error {
	f.devices++
	if err := f.issue(ctx, say); err != nil {
		return err
	}
	var connected crowd
	defer connected.end(e.timeout)
	asker, err := f.device(0)
	if err != nil {
		return err
	}
	connecting, cancel := context.WithTimeout(ctx, e.timeout)
	info, err := asker.Connect(connecting)
	cancel()
	if err != nil {
		return fmt.Errorf("the first device: %w", reasonOf(err))
	}
	connected.add(asker)
	members, err := e.connect(ctx, f, &connected, say)
	if err != nil {
		return err
	}
	if f.capture != nil {
		e.plan.Note = f.capture.Datagram
	}
	s, err := swarm.New(members)
	if err != nil {
		return err
	}
	defer s.Close()
	t := trial{swarm: s, plan: e.plan, asker: asker, from: info.Summary.VirtualIPs[0], gateway: f.gatewayPID, say: say}
	if _, err := t.ask(ctx); err != nil {
		return err
	}
	result, err := e.rate(ctx, &t)
	if err != nil && ctx.Err() == nil {
		return err
	}
	r.Seconds = t.seconds
	r.Add("tunnels", float64(len(members)), "")
	r.Add("offered", result.sent, "packets/s")
	r.Add("received", result.received, "packets/s")
	r.Add("inner throughput", result.received*e.plan.Mix.Mean()*8/1e9, "Gb/s")
	r.Add("lost", 100*result.loss(), "%")
	if f.gatewayPID != 0 && result.cost > 0 {
		r.Add("gateway's processor time a packet", float64(result.cost), "ns")
		r.Add("gateway's processors in use", result.busy, "")
	}
	r.Latencies = append(r.Latencies, result.latency)
	return nil
}

// connect the devices that send.
func (e *espFlags) connect(ctx context.Context, f *fleet, connected *crowd, say func(string)) ([]*swarm.Member, error) {
	members := make([]*swarm.Member, f.devices)
	err := f.each(ctx, say, func(number uint64) (err error) {
		if number > 0 {
			members[number], err = e.member(ctx, f, number, connected)
		}
		return reasonOf(err)
	})
	return members[1:], err
}

func (e *espFlags) member(ctx context.Context, f *fleet, number uint64, connected *crowd) (*swarm.Member, error) {
	m := swarm.NewMember()
	cfg, err := f.config(number)
	if err != nil {
		return nil, err
	}
	cfg.Forward = m
	cfg.Listen = func() (device.Socket, error) {
		conn, err := f.dial()
		if err != nil {
			return nil, err
		}
		m.Socket(conn)
		return f.noting(conn), nil
	}
	d, err := device.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	if _, err := d.Connect(ctx); err != nil {
		d.Vanish()
		return nil, err
	}
	connected.add(d)
	return m, nil
}

// searchTolerance is how near the result of --search is to a rate that was too much.
const searchTolerance = 0.04

// keptPace is the share of a rate that has to be offered for it to count as
// offered.
const keptPace = 0.97

// rate of one trial, or of the best one.
func (e *espFlags) rate(ctx context.Context, t *trial) (best outcome, err error) {
	if !e.search {
		return t.run(ctx, e.plan.Rate)
	}
	s := load.Search{From: e.from, Known: e.known, Tolerance: searchTolerance}
	err = s.Run(func(rate float64) (load.Verdict, error) {
		got, err := t.run(ctx, rate)
		switch {
		case err != nil:
			return 0, err
		case got.loss() >= e.loss, got.latency.P99 > float64(e.latency.Microseconds()):
			return load.Fails, t.drain(ctx)
		}
		if got.received > best.received {
			best = got
		}
		if got.sent < keptPace*rate {
			t.say("the generator can't offer more")
			return load.Behind, nil
		}
		return load.Stands, nil
	})
	return best, err
}

// outcome of a trial, in packets a second.
type outcome struct {
	sent, received float64
	latency        report.Latency
	// Of the gateway, if its process is known: processor time for a packet that
	// arrived, and how many processors it kept busy.
	cost time.Duration
	busy float64
}

func (o outcome) loss() float64 {
	if o.sent == 0 {
		return 1
	}
	return math.Max(0, 1-o.received/o.sent)
}

type trial struct {
	swarm   *swarm.Swarm
	plan    swarm.Plan
	asker   *device.Device
	from    netip.Addr
	gateway int // process ID, or 0
	say     func(string)
	seconds float64
	port    uint16
}

// settle is how long what is under way may take to arrive.
const settle = 300 * time.Millisecond

func (t *trial) run(ctx context.Context, rate float64) (outcome, error) {
	before, err := t.ask(ctx)
	if err != nil {
		return outcome{}, err
	}
	plan := t.plan
	plan.Rate = rate
	busy, err := gatewayTime(t.gateway)
	if err != nil {
		return outcome{}, err
	}
	sent, err := t.swarm.Send(ctx, plan)
	if err != nil {
		return outcome{}, err
	}
	time.Sleep(settle)
	spent, err := gatewayTime(t.gateway)
	if err != nil {
		return outcome{}, err
	}
	after, err := t.ask(ctx)
	if err != nil {
		return outcome{}, err
	}
	seconds := sent.Took.Seconds()
	t.seconds += seconds
	o := outcome{
		sent:     float64(sent.Packets) / seconds,
		received: float64(after.Packets-after.Twice-(before.Packets-before.Twice)) / seconds,
		latency:  after.Latency,
		busy:     (spent - busy).Seconds() / seconds,
	}
	if o.received > 0 {
		o.cost = time.Duration(float64(spent-busy) / (o.received * seconds))
	}
	t.say(fmt.Sprintf("offered %.0f/s, received %.0f/s, lost %.2f %%", o.sent, o.received, 100*o.loss()))
	return o, nil
}

// drain waits until what an overloaded gateway has queued is through, or a while.
func (t *trial) drain(ctx context.Context) error {
	last := uint64(math.MaxUint64)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(settle) {
		a, err := t.ask(ctx)
		if err != nil || a.Packets == last {
			return err
		}
		last = a.Packets
	}
	return nil
}

// ask the receiver what it counted. A question or its answer may get lost.
func (t *trial) ask(ctx context.Context) (a flow.Answer, err error) {
	for range 20 {
		t.port++
		if err := t.asker.Send(t.question()); err != nil {
			return a, err
		}
		waiting, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		found := t.await(waiting, &a)
		cancel()
		if found {
			return a, nil
		}
		if ctx.Err() != nil {
			return a, ctx.Err()
		}
	}
	return a, errors.New("the receiver doesn't answer: is `bench flow receive` running there, and does it have a route back?")
}

// question in an IP packet, from a port that no earlier question had.
func (t *trial) question() []byte {
	return swarm.Packet(t.from, t.plan.To, 40000+t.port, flow.Question())
}

func (t *trial) await(ctx context.Context, a *flow.Answer) bool {
	for {
		p, err := t.asker.Receive(ctx)
		if err != nil {
			return false
		}
		// IPv4 without options, UDP, to the port of the question.
		if len(p) > 28 && p[0] == 0x45 && p[9] == 17 && binary.BigEndian.Uint16(p[22:]) == 40000+t.port {
			return json.Unmarshal(p[28:], a) == nil
		}
	}
}
