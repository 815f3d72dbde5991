package device

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// world is a gateway in memory, and what a test needs to play with it. It lives
// in a bubble: time passes when everybody waits.
type world struct {
	*testing.T
	net     *network
	plane   *memoryPlane
	gateway *gateway
	devices []*Device
}

// inWorld runs a test; edit changes the gateway before it starts.
func inWorld(t *testing.T, edit func(*gateway), test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		events := make(chan dataplane.Event, 64)
		w := &world{T: t, net: newNetwork()}
		w.plane = newMemoryPlane(w.net, events)
		w.gateway = newGateway(t, w.plane, events)
		if edit != nil {
			edit(w.gateway)
		}
		w.gateway.start()
		test(w)
		for _, d := range w.devices {
			d.Vanish()
		}
		w.gateway.stop()
		w.plane.close()
		synctest.Wait()
	})
}

// config of a device at 10.1.0.2 with the VPNv2 profile.
func (g *gateway) config(name string) Config {
	return Config{
		Gateway: gwIKE, GatewayNATT: gwNATT,
		ID: &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(name)}, Credential: g.issue(name),
		GatewayID: &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte("gw.example")},
		Verify:    VerifyGateway(g.roots, "gw.example"),
		Profile:   Windows10Profile,
	}
}

func (w *world) device(edit func(*Config)) *Device {
	w.Helper()
	cfg := w.gateway.config("dev")
	cfg.Listen = w.net.listener("10.1.0.2")
	if edit != nil {
		edit(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.devices = append(w.devices, d)
	return d
}

// connect makes a device that is up.
func (w *world) connect(edit func(*Config)) *Device {
	w.Helper()
	d := w.device(edit)
	if _, err := d.Connect(w.Context()); err != nil {
		w.Fatalf("Connect: %v", err)
	}
	return d
}

// ping has to be answered.
func (w *world) ping(d *Device) {
	w.Helper()
	ctx, cancel := timeout(w.T, 5*time.Second)
	defer cancel()
	if _, err := d.Ping(ctx, lan, []byte("are you there")); err != nil {
		w.Errorf("Ping: %v; %+v", err, d.Counters())
	}
}

// await waits for something that has to happen.
func (w *world) await(d *Device, what string, condition func(Info) bool) Info {
	w.Helper()
	ctx, cancel := timeout(w.T, time.Minute)
	defer cancel()
	i, err := d.Await(ctx, condition)
	if err != nil {
		w.Fatalf("%s: %v; %+v", what, err, i)
	}
	return i
}

// down is a packet from the host behind the gateway to a device.
func down(to netip.Addr, number uint16) []byte {
	return Echo{Src: lan, Dst: to, ID: 1, Number: number}.Append(nil)
}
