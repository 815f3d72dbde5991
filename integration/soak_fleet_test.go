package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

const (
	// soakFleetEnv is how long the fleet lives, where ten minutes are too long,
	// and soakFleetDevicesEnv how many devices it has, if not 2,000.
	soakFleetEnv        = "ROAMGATE_SOAK_FLEET"
	soakFleetDevicesEnv = "ROAMGATE_SOAK_FLEET_DEVICES"

	// fleetNetworks are IPv4 /24 that devices are in and roam between, each with
	// one address.
	fleetNetworks = 16
	// fleetLoss of datagrams, each way.
	fleetLoss = 0.02
	// fleetRestarts of the gateway, by kill -9.
	fleetRestarts = 2
	// heapSlack is how much more than that of one that was just started the live
	// heap of a gateway may hold that had devices: maps and buffers don't shrink.
	// heapSlackDevice is for each device, in octets: most of it are slots of Child SAs,
	// 464 each, of which a device that rekeys once a minute has one and two that rest
	// for two minutes. A session holds more than 4 KiB.
	heapSlack       = 4 << 20
	heapSlackDevice = 2 << 10
)

// Two thousand devices live for ten minutes: they roam, sleep, lose packets,
// are remapped, rekey, leave with and without a word and come back, while the
// gateway is killed twice. At no time has an address two owners, and
// afterwards nothing is left: no session, no live lease, no half-open IKE SA, no
// Child SA, no goroutine, no file, nothing on the heap.
//
//	dev2 (2,000 simulated devices) 10.1.121.0/24 to 10.1.136.0/24 -- net -- gw (gatewayd, killed) -- lan
func TestSoakFleet(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("takes minutes: run `make soak`")
	}
	lasts, devices := 10*time.Minute, 2000
	var err error
	if text := os.Getenv(soakFleetEnv); text != "" {
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakFleetEnv, err)
		}
	}
	if text := os.Getenv(soakFleetDevicesEnv); text != "" {
		if devices, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", soakFleetDevicesEnv, err)
		}
	}
	s := newScenario(t, options{devices: 2, patience: lasts + 8*time.Minute, configure: func(s *scenario) {
		s.conf.Pools = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/19")}
		s.conf.HalfOpen, s.conf.LogLevel, s.conf.PProf = 10*time.Second, "warn", true
		s.conf.IKELifetime = gateway.Lifetime{Rekey: 90 * time.Second, Hard: 20 * time.Minute}
		s.conf.ESPLifetime = gateway.Lifetime{Rekey: 60 * time.Second, Hard: 20 * time.Minute}
	}})
	f := s.newFleet(t, s.top.Devices[1], devices)

	ctx, cancel := context.WithTimeout(s.ctx, lasts)
	defer cancel()
	began := time.Now()
	f.live(ctx)
	restart := time.NewTicker(lasts / (fleetRestarts + 1))
	defer restart.Stop()
	restarts, most := 0, 0
	for ctx.Err() == nil {
		select {
		case <-restart.C:
			if restarts < fleetRestarts && lasts-time.Since(began) > 10*time.Second {
				s.gw.Kill()
				s.start()
				restarts++
				t.Logf("%v: killed and started again; before it up to %d sessions; %v", time.Since(began).Round(time.Second), most, f)
			}
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
			most = max(most, s.oneOwnerEach(t))
		}
	}
	f.runs.Wait()
	t.Logf("%v with %d restarts: %v", time.Since(began).Round(time.Second), restarts, f)
	t.Logf("resident %d MiB, %v goroutines", residentMemory(t, s.gw.PID()), s.metric(t, "go_goroutines"))
	if f.up.Load() < uint64(devices) || f.roamed.Load() == 0 || f.slept.Load() == 0 || most < devices/2 {
		t.Errorf("that was no life: up to %d sessions, %v", most, f)
	}

	// What vanished devices left is what an administrator ends.
	if _, err := s.gw.Command(s.ctx, "session", "kill", "--all"); err != nil {
		t.Fatal(err)
	}
	for _, gauge := range []string{"sessions", "half_open", `leases{state="live"}`} {
		s.within(t, 5*time.Minute, gauge+" to be 0", func() (bool, string) {
			n := s.metric(t, gauge)
			return n == 0, fmt.Sprint(n)
		})
	}
	// Those that lingered are forgotten, which no gauge tells.
	time.Sleep(16 * time.Second)
	// A gateway that never had a device is the measure.
	goroutines, files := s.metric(t, "go_goroutines"), openFiles(t, s.gw.PID())
	// What is resident says little: of the runtime's it is garbage, and pages that
	// it keeps for more, up to the size of what lives, with tables of which
	// most was never touched.
	garbage := uint64(s.metric(t, "go_memstats_heap_alloc_bytes"))
	kept := s.metric(t, "go_memstats_heap_idle_bytes") - s.metric(t, "go_memstats_heap_released_bytes")
	resident := residentMemory(t, s.gw.PID())
	live := s.liveHeap(t, "after")
	t.Logf("afterwards resident %d MiB, %v goroutines, %d files; heap %d KiB, of which %d KiB live, and %.0f KiB kept",
		resident, goroutines, files, garbage>>10, live>>10, kept/1024)
	if err := s.gw.Terminate(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.noTraces(t)
	s.start()
	fresh := s.liveHeap(t, "fresh")
	t.Logf("just started resident %d MiB, live heap %d KiB", residentMemory(t, s.gw.PID()), fresh>>10)
	if live > fresh+heapSlack+uint64(devices)*heapSlackDevice {
		t.Errorf("live heap is %d KiB, %d KiB in a gateway that was just started", live>>10, fresh>>10)
	}
	if fresh := s.metric(t, "go_goroutines"); goroutines > fresh+4 {
		t.Errorf("%v goroutines, %v in a gateway that was just started", goroutines, fresh)
	}
	if fresh := openFiles(t, s.gw.PID()); files > fresh+2 {
		t.Errorf("%d open files, %d in a gateway that was just started", files, fresh)
	}
	leases, err := s.gw.Leases(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	owners := make(map[netip.Addr]string)
	for _, l := range leases {
		if other := owners[l.Address]; other != "" || l.State != "idle" {
			t.Errorf("lease %v of %s is %s, and also %q's", l.Address, l.Device, l.State, other)
		}
		owners[l.Address] = l.Device
	}
}

// oneOwnerEach checks that no two sessions have one address or one device, and
// returns how many there are.
func (s *scenario) oneOwnerEach(t *testing.T) int {
	t.Helper()
	owners, devices := make(map[netip.Addr]string), make(map[string]bool)
	sessions := s.sessions(t)
	replaced := 0
	for _, i := range sessions {
		if devices[i.Device] {
			// For the moment in which one replaces the other a device may have two.
			replaced++
		}
		devices[i.Device] = true
		for _, a := range i.VirtualIPs {
			if other := owners[a]; other != "" && other != i.Device {
				t.Errorf("%v belongs to %s and to %s", a, i.Device, other)
			}
			owners[a] = i.Device
		}
	}
	if replaced > 16 {
		t.Errorf("%d devices have two sessions at once", replaced)
	}
	return len(sessions) - replaced
}

// fleet of devices that live.
type fleet struct {
	runs    sync.WaitGroup
	configs []device.Config
	dev     netns.Device
	sources []netip.Addr

	up, failed, ended, roamed, remapped, slept, rekeyed, closed, vanished, echoes, silences atomic.Uint64
}

func (f *fleet) String() string {
	return fmt.Sprintf("%d connects, %d failed, %d ended by IKE, %d roams, %d remaps, %d sleeps, %d rekeyings, %d closes, %d vanished, %d echoes, %d without",
		f.up.Load(), f.failed.Load(), f.ended.Load(), f.roamed.Load(), f.remapped.Load(), f.slept.Load(), f.rekeyed.Load(),
		f.closed.Load(), f.vanished.Load(), f.echoes.Load(), f.silences.Load())
}

func (s *scenario) newFleet(t *testing.T, dev netns.Device, devices int) *fleet {
	t.Helper()
	f := &fleet{dev: dev}
	for i := range fleetNetworks {
		at := netip.AddrFrom4([4]byte{10, 1, byte(121 + i), 2})
		if err := dev.AddAddress(netns.HostLink, netip.PrefixFrom(at, 24)); err != nil {
			t.Fatal(err)
		}
		if err := s.top.Router.AddRoute(netip.PrefixFrom(at, 24).Masked(), dev.Address); err != nil {
			t.Fatal(err)
		}
		f.sources = append(f.sources, at)
	}
	key := keyECDSA(t)
	for i := range devices {
		cfg := s.simulatedConfig(dev, s.root.device(t, fmt.Sprintf("fleet-%04d", i), key))
		cfg.Profile, cfg.Queue, cfg.Keepalive = device.StrongSwan, 8, 30*time.Second
		cfg.Listen = f.listen
		f.configs = append(f.configs, cfg)
	}
	return f
}

// listen in any of the networks.
func (f *fleet) listen() (device.Socket, error) {
	conn, err := listenUDP(f.dev.Namespace, f.sources[rand.IntN(len(f.sources))])
	if err != nil {
		return nil, err
	}
	return &lossy{conn}, nil
}

// lossy loses some of what goes through it.
type lossy struct{ device.Socket }

func (l *lossy) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if rand.Float64() < fleetLoss {
		return len(b), nil
	}
	return l.Socket.WriteToUDPAddrPort(b, to)
}

func (l *lossy) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, err := l.Socket.ReadFromUDPAddrPort(b)
		if err != nil || rand.Float64() >= fleetLoss {
			return n, from, err
		}
	}
}

// live has all devices live until ctx ends.
func (f *fleet) live(ctx context.Context) {
	for _, cfg := range f.configs {
		f.runs.Go(func() {
			pause(ctx, 20*time.Second)
			for ctx.Err() == nil {
				f.once(ctx, cfg)
				pause(ctx, 5*time.Second)
			}
		})
	}
}

// pause for a random part of d.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(rand.N(d)):
	case <-ctx.Done():
	}
}

// once connects a device that does this and that until it leaves, or nobody
// answers it.
func (f *fleet) once(ctx context.Context, cfg device.Config) {
	d, err := device.New(cfg)
	if err != nil {
		f.failed.Add(1)
		return
	}
	connecting, cancel := context.WithTimeout(ctx, time.Minute)
	_, err = d.Connect(connecting)
	cancel()
	if err != nil {
		f.failed.Add(1)
		return
	}
	f.up.Add(1)
	defer d.Vanish()
	for silent := 0; ctx.Err() == nil && silent < 3; {
		pause(ctx, 12*time.Second)
		if d.Info().State != device.Up {
			f.ended.Add(1)
			return
		}
		switch n := rand.IntN(20); {
		case n < 5:
			if socket, err := f.listen(); err == nil {
				if d.Roam(socket) == nil {
					f.roamed.Add(1)
				}
			}
		case n < 7:
			if d.RemapPort() == nil {
				f.remapped.Add(1)
			}
		case n < 10:
			if d.Sleep() == nil {
				pause(ctx, 20*time.Second)
				_ = d.Wake()
				f.slept.Add(1)
			}
		case n < 12:
			if d.RekeyChild() == nil {
				f.rekeyed.Add(1)
			}
		case n == 12:
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			_ = d.Close(leaving)
			cancel()
			f.closed.Add(1)
			return
		case n == 13:
			f.vanished.Add(1)
			return
		}
		if f.echo(ctx, d) {
			silent = 0
		} else {
			silent++
		}
	}
}

// echo asks three times: after a move the first answer goes to where the device
// was.
func (f *fleet) echo(ctx context.Context, d *device.Device) bool {
	for range 3 {
		ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		_, err := d.Ping(ctx, netns.LANHost, make([]byte, 56))
		cancel()
		if err == nil {
			f.echoes.Add(1)
			return true
		}
	}
	f.silences.Add(1)
	return false
}
