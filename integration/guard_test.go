package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/integration/netns"
)

// mountBPF makes a BPF file system for the pins of one test.
func mountBPF(t *testing.T, at string) {
	t.Helper()
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", at, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
}

// reaches says whether a datagram to the gateway passes the guard when nobody
// listens: the kernel then refuses it, and the sender hears of it.
func reaches(t *testing.T, dev netns.Device, datagram []byte) bool {
	t.Helper()
	conn, err := listenUDP(dev.Namespace, dev.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optErr error
	err = raw.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1) })
	if err := errors.Join(err, optErr); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteToUDPAddrPort(datagram, netip.AddrPortFrom(netns.GatewayOutside, 4500)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 100))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("nobody listens, and the answer is %v", err)
	}
	return true
}

// A client that we didn't write connects through the guard. When the gateway
// ends the guard goes on: ESP of unknown SPIs doesn't even reach the host. The
// next gateway takes over, forgets the SPIs of the former one, and has the peer
// told (RFC 7296 section 1.5).
//
//	dev1 (strongSwan) -- XDP, gw (gatewayd, ended and started) -- lan
func TestGuardOverARestart(t *testing.T) {
	s := newScenario(t, options{configure: func(s *scenario) {
		pins := filepath.Join(s.dir, "bpf")
		mountBPF(t, pins)
		s.conf.Guard = "{pins: " + pins + "/gatewayd}"
	}})
	dev := s.top.Devices[0]
	status := func(want ...string) {
		t.Helper()
		out, err := s.gw.Command(s.ctx, "status")
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("status lacks %q:\n%s", w, out)
			}
		}
	}
	status("generic XDP, stays in force over a restart")
	id := s.root.device(t, "dev1", keyECDSA(t))
	client := s.client(t, dev, id)
	before := s.connect(t, client)
	s.ping(t, client, before)
	if n := s.metric(t, `guard_packets_total{verdict="esp"}`); n == 0 {
		t.Error("the guard saw no ESP")
	}
	if _, err := s.gw.Command(s.ctx, "guard", "remove"); err == nil {
		t.Error("a guard that is in use was removed")
	}

	client.Vanish()
	if err := s.gw.Terminate(15 * time.Second); err != nil {
		t.Fatalf("SIGTERM: %v", err)
	}
	unknown := append([]byte{0xde, 0xad, 0xbe, 0xef}, make([]byte, 60)...)
	if reaches(t, dev, unknown) {
		t.Error("ESP of an unknown SPI passes while the gateway is down")
	}
	if !reaches(t, dev, make([]byte, 60)) {
		t.Error("IKE doesn't pass while the gateway is down")
	}

	s.start()
	if log := s.gw.LogTail(200); !strings.Contains(log, "took_over=true") {
		t.Errorf("the second gateway didn't take over:\n%s", log)
	}
	conn, err := listenUDP(dev.Namespace, dev.Address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteToUDPAddrPort(unknown, netip.AddrPortFrom(netns.GatewayOutside, 4500)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 200)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// Marker, header, notify INVALID_SPI (11) with the SPI.
	n, err := conn.Read(answer)
	if want := 4 + 28 + 12; err != nil || n != want || binary.BigEndian.Uint16(answer[38:]) != 11 || binary.BigEndian.Uint32(answer[40:]) != 0xdeadbeef {
		t.Errorf("answer to an unknown SPI: % x, %v", answer[:n], err)
	}
	_ = conn.Close()
	back := s.client(t, dev, id)
	if after := s.connect(t, back); after != before {
		t.Errorf("virtual IP %s after the restart, %s before", after, before)
	}
	s.ping(t, back, before)
	back.Vanish()

	if err := s.gw.Terminate(15 * time.Second); err != nil {
		t.Fatalf("SIGTERM: %v", err)
	}
	if out, err := s.gw.Command(s.ctx, "guard", "remove"); err != nil || !strings.Contains(out, "the guard is gone") {
		t.Errorf("guard remove: %q, %v", out, err)
	}
	if !reaches(t, dev, unknown) {
		t.Error("a guard that was removed is still in force")
	}
	s.noTraces(t)
}

// floodRate of spoofed packets a second, half ESP, half IKE_SA_INIT. It is what
// a shared machine with two cores bears beside clients and gateway.
const floodRate = 2000

// spoof sends from the namespace of a device until ctx ends, from addresses all
// over the world and all over the device's own /24, and returns how many.
func spoof(ctx context.Context, dev netns.Device, init []byte) (sent int, err error) {
	var fd int
	err = dev.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Addr: netns.GatewayOutside.As4()}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		for i := range floodRate / 200 {
			source := [4]byte{198, 18, byte(rand.Uint32()), byte(rand.Uint32())}
			if i%4 < 2 {
				source = dev.Address.As4()
				source[3] = byte(100 + rand.IntN(100))
			}
			port, payload := uint16(500), append([]byte(nil), init...)
			binary.BigEndian.PutUint64(payload, rand.Uint64()|1)
			if i%2 == 0 {
				port, payload = 4500, binary.BigEndian.AppendUint32(nil, rand.Uint32()|256)
				payload = append(payload, make([]byte, 100)...)
			}
			if err := unix.Sendto(fd, datagramOf(source, to.Addr, port, payload), 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return sent, err
			}
			sent++
		}
	}
	return sent, nil
}

// datagramOf makes an IPv4 packet; the kernel fills in its checksum, and UDP's
// may be zero.
func datagramOf(from, to [4]byte, port uint16, payload []byte) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	binary.BigEndian.PutUint16(b[20:], 1024+uint16(rand.IntN(60000)))
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

// Spoofed IKE_SA_INIT and ESP of random SPIs from everywhere, and from the
// network of one of the devices: devices connect within 5 seconds, whether the
// guard is on or the gateway is alone, and a tunnel that is up loses nothing.
//
//	dev1 (simulated)                           -- net -- XDP, gw (gatewayd) -- lan
//	dev2 (attacker, strongSwan, simulated)     -/
//	dev3 (strongSwan, simulated)               -/
func TestFloodAtTheGuard(t *testing.T) {
	for mode, section := range map[string]string{
		"off": "{mode: off}",
		"on":  `{pins: "", rates: {init: {per_second: 50, burst: 50}}}`,
	} {
		t.Run(mode, func(t *testing.T) {
			s := newScenario(t, options{devices: 3, configure: func(s *scenario) {
				s.conf.Guard, s.conf.LogLevel = section, "info"
			}})
			attacker := s.top.Devices[1]
			standing, _ := s.simulate(t, s.simulatedConfig(s.top.Devices[0], s.root.device(t, "standing", keyECDSA(t))))
			s.pingsThrough(t, standing)
			inside := s.client(t, attacker, s.root.device(t, "inside", keyECDSA(t)))
			outside := s.client(t, s.top.Devices[2], s.root.device(t, "outside", keyECDSA(t)))
			init := oneInit(t, s.simulatedConfig(attacker, s.root.device(t, "pattern", keyECDSA(t))))

			ctx, cancel := context.WithCancel(s.ctx)
			type outcome struct {
				sent int
				err  error
			}
			done := make(chan outcome, 1)
			began := time.Now()
			go func() {
				sent, err := spoof(ctx, attacker, init)
				done <- outcome{sent, err}
			}()
			defer cancel()
			verdicts := func(verdict string) float64 { return s.metric(t, `guard_packets_total{verdict="`+verdict+`"}`) }
			if mode == "on" {
				s.within(t, time.Minute, "the guard asking for cookies", func() (bool, string) {
					n := verdicts("cookie_sent")
					return n > 0, fmt.Sprint(n)
				})
			}

			lost := 0
			for range 20 {
				ping, stop := context.WithTimeout(s.ctx, 5*time.Second)
				if _, err := standing.Ping(ping, netns.LANHost, make([]byte, 56)); err != nil {
					lost++
				}
				stop()
			}
			if lost > 0 {
				t.Errorf("%d of 20 echo requests through a tunnel that was up got lost", lost)
			}
			for name, dev := range map[string]netns.Device{"another-inside": attacker, "another-outside": s.top.Devices[2]} {
				s.connectsInTime(t, dev, name)
			}
			if err := inside.Connect(s.ctx, connectTime); err != nil {
				t.Errorf("strongSwan in the attacker's network: %v", err)
			}
			if err := outside.Connect(s.ctx, connectTime); err != nil {
				t.Errorf("strongSwan in another network: %v", err)
			}
			cancel()
			o := <-done
			if o.err != nil {
				t.Fatal(o.err)
			}
			t.Logf("guard %s: %.0f spoofed packets a second", mode, float64(o.sent)/time.Since(began).Seconds())
			if mode == "off" {
				return
			}
			for _, verdict := range []string{"esp_unknown_spi", "cookie_sent", "init_cookie", "esp"} {
				n := verdicts(verdict)
				t.Logf("guard: %s %.0f", verdict, n)
				if n == 0 {
					t.Errorf("the guard had no %s", verdict)
				}
			}
		})
	}
}

// connectsInTime with a simulated device at an address of its own network.
func (s *scenario) connectsInTime(t *testing.T, dev netns.Device, name string) {
	t.Helper()
	at := dev.Address.As4()
	at[3] = 9
	own := netip.AddrFrom4(at)
	if err := dev.AddAddress(netns.HostLink, netip.PrefixFrom(own, 24)); err != nil {
		t.Fatal(err)
	}
	cfg := s.simulatedConfig(dev, s.root.device(t, name, keyECDSA(t)))
	cfg.Listen = func() (device.Socket, error) { return listenUDP(dev.Namespace, own) }
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Vanish)
	ctx, cancel := context.WithTimeout(s.ctx, connectTime)
	defer cancel()
	began := time.Now()
	if _, err := d.Connect(ctx); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	t.Logf("%s connected within %v", name, time.Since(began).Round(time.Millisecond))
}

// connectTime is what connecting under a flood takes at most.
const connectTime = 5 * time.Second
