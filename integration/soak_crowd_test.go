package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/process"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/traffic"
)

const (
	// soakCrowdEnv is how many devices TestSoakCrowd has, if not 100,000.
	soakCrowdEnv = "ROAMGATE_SOAK_CROWD"
	crowdSockets = 512
	// crowdAtOnce do something at a time.
	crowdAtOnce = 512
	// crowdRest is for how long all are silent before memory is looked at: what is
	// dropped when idle is gone then, garbage is collected, and its memory was given
	// back.
	crowdRest = 2 * time.Minute
	// crowdIdle is for how long nothing may happen.
	crowdIdle = 30 * time.Second
	// crowdSession is what a session may take, resident and in BPF maps, in octets,
	// beside crowdOnce: queues, tables that are bounded, and pages of the program.
	crowdSession = 4 << 10
	crowdOnce    = 24 << 20
)

// A hundred thousand devices come, each rekeys both its SAs once, and then all are
// silent. What a session takes is told by component, in octets; a gateway whose
// devices are parked sends nothing, and what it does all the same is told in
// processor time, as is an exchange when they are asked.
//
//	dev1 (100,000 simulated devices, 512 sockets) -- gw (gatewayd) -- lan
func TestSoakCrowd(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("takes minutes: run `make soak`")
	}
	devices := 100_000
	if text := os.Getenv(soakCrowdEnv); text != "" {
		var err error
		if devices, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", soakCrowdEnv, err)
		}
	}
	s := newScenario(t, options{patience: time.Hour, configure: func(s *scenario) {
		s.conf.Pools = []netip.Prefix{netip.MustParsePrefix("10.128.0.0/13")}
		s.conf.LogLevel, s.conf.PProf, s.conf.Guard = "warn", true, "{mode: off}"
		s.conf.Extra = "  limits:\n    sessions: 200000\n" +
			"    half_open: {max: 8192, cookie_at: 4096}\n    half_open_per_prefix: {max: 8192, cookie_at: 4096}\n"
	}})
	c := s.newCrowd(t, devices)
	c.each(t, 100, "connected", (*crowd).connect) // what there is only once
	before := s.takes(t, "before")
	began, spent := time.Now(), s.spent(t)
	micros := func() float64 { return float64((s.spent(t) - spent).Microseconds()) / float64(devices) }
	c.each(t, devices, "connected", (*crowd).connect)
	t.Logf("%d devices came in %v, %.0f us of processor time each", devices, time.Since(began).Round(time.Second), micros())
	spent = s.spent(t)
	c.each(t, devices, "rekeyed", (*crowd).rekey)
	t.Logf("and had rekeyed after %v, %.0f us each", time.Since(began).Round(time.Second), micros())
	if n := s.metric(t, "sessions"); int(n) != devices {
		t.Errorf("%v sessions, want %d", n, devices)
	}
	time.Sleep(crowdRest)
	after := s.takes(t, "after")
	each := func(a, b uint64) int64 { return (int64(b) - int64(a)) / int64(devices-100) }
	resident, maps := each(before.resident, after.resident), each(before.maps, after.maps)
	t.Logf("a session: resident %d octets, of which heap %d; BPF maps %d; in all %d MiB resident",
		resident, each(before.heap, after.heap), maps, after.resident>>20)
	if resident+maps > crowdSession+int64(crowdOnce/devices) {
		t.Errorf("a session takes %d octets, %d in maps", resident, maps)
	}

	spent = s.spent(t)
	packets := s.sentOutside(t, crowdIdle)
	spent = s.spent(t) - spent
	t.Logf("parked: %.2f %% of a processor", 100*spent.Seconds()/crowdIdle.Seconds())
	if len(packets) > 0 {
		t.Errorf("%d packets in %v to devices that are parked, the first ones\n%s",
			len(packets), crowdIdle, strings.Join(packets[:min(10, len(packets))], "\n"))
	}

	spent, began = s.spent(t), time.Now()
	c.each(t, devices, "asked", (*crowd).probe)
	t.Logf("probing: %.1f us of processor time an exchange, %.0f a second",
		float64((s.spent(t)-spent).Microseconds())/float64(devices), float64(devices)/time.Since(began).Seconds())
	if n := s.metric(t, "sessions"); int(n) != devices {
		t.Errorf("%v sessions in the end, want %d", n, devices)
	}
}

// crowd of devices that do what all do.
type crowd struct {
	configs []device.Config
	devices []*device.Device
}

func (s *scenario) newCrowd(t *testing.T, n int) *crowd {
	t.Helper()
	dev := s.top.Devices[0]
	pool, err := device.NewPool(func() (device.Socket, error) { return listenUDP(dev.Namespace, dev.Address) }, crowdSockets)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{devices: make([]*device.Device, n)}
	t.Cleanup(func() {
		for _, d := range c.devices {
			if d != nil {
				d.Vanish()
			}
		}
		pool.Close()
	})
	key := keyECDSA(t)
	for i := range n {
		cfg := s.simulatedConfig(dev, s.root.device(t, fmt.Sprintf("crowd-%06d", i), key))
		cfg.Profile, cfg.Queue, cfg.Keepalive, cfg.Listen = device.StrongSwan, 4, -1, pool.Listen
		c.configs = append(c.configs, cfg)
	}
	return c
}

// each has the first n do something, some at a time, and says how far they are.
func (c *crowd) each(t *testing.T, n int, done string, do func(*crowd, context.Context, int) error) {
	t.Helper()
	var wg sync.WaitGroup
	var next, failed atomic.Int64
	for range crowdAtOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() < 10; i = int(next.Add(1)) - 1 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if err := do(c, ctx, i); err != nil {
					failed.Add(1)
					t.Errorf("device %d: %v", i, err)
				}
				cancel()
				if every := max(len(c.devices)/5, 1000); (i+1)%every == 0 {
					t.Logf("%d %s", i+1, done)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		t.FailNow()
	}
}

func (c *crowd) connect(ctx context.Context, i int) error {
	if c.devices[i] != nil {
		return nil
	}
	d, err := device.New(c.configs[i])
	if err != nil {
		return err
	}
	c.devices[i], c.configs[i] = d, device.Config{}
	_, err = d.Connect(ctx)
	return err
}

func (c *crowd) rekey(ctx context.Context, i int) error {
	d := c.devices[i]
	if err := d.RekeyChild(); err != nil {
		return err
	}
	if _, err := d.Await(ctx, func(i device.Info) bool { return i.ChildSAs == 2 && i.Children == 1 }); err != nil {
		return err
	}
	if err := d.RekeyIKE(); err != nil {
		return err
	}
	_, err := d.Await(ctx, func(i device.Info) bool { return i.IKESAs == 2 })
	return err
}

// probe waits for the answer.
func (c *crowd) probe(ctx context.Context, i int) error {
	d := c.devices[i]
	before := d.Counters().IKEReceived
	if err := d.Probe(); err != nil {
		return err
	}
	for d.Counters().IKEReceived == before {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// takes is what the gateway takes, in octets.
type takes struct{ resident, heap, maps uint64 }

func (s *scenario) takes(t *testing.T, name string) takes {
	t.Helper()
	resident, err := process.Resident(s.gw.PID())
	if err != nil {
		t.Fatal(err)
	}
	heap := func(what string) uint64 { return uint64(s.metric(t, "go_memstats_heap_"+what+"_bytes")) }
	inUse, garbage := heap("inuse"), heap("alloc")
	kept := int64(heap("idle")) - int64(heap("released")) // of two scrapes
	live := s.liveHeap(t, name)
	t.Logf("%s: %d MiB resident; heap in use %d, of which objects %d, of these live %d; idle and not given back %d",
		name, resident>>20, inUse>>20, garbage>>20, live>>20, kept>>20)
	return takes{uint64(resident), live, mapMemory(t, s.gw.PID())}
}

// mapMemory of the BPF maps that a process has open.
func mapMemory(t *testing.T, pid int) (octets uint64) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // closed since
		}
		fields := make(map[string]string)
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if id := fields["map_id"]; id != "" && !seen[id] {
			seen[id] = true
			n, err := strconv.ParseUint(fields["memlock"], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			octets += n
		}
	}
	return octets
}

// sentOutside are the IP packets that the gateway sends to devices within a time. What
// its kernel asks neighbours for isn't sent to a device.
func (s *scenario) sentOutside(t *testing.T, within time.Duration) (packets []string) {
	t.Helper()
	file := filepath.Join(s.dir, "outside.pcap")
	capture, err := traffic.StartCapture(s.top.Gateway, netns.OutsideLink, file, 256)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(within)
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	if packets, err = traffic.Sent(file, netns.GatewayOutside, netns.GatewayOutside6); err != nil {
		t.Fatal(err)
	}
	return packets
}

// spent processor time.
func (s *scenario) spent(t *testing.T) time.Duration {
	t.Helper()
	d, err := process.Time(s.gw.PID())
	if err != nil {
		t.Fatal(err)
	}
	return d
}
