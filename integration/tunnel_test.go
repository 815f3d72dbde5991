package integration

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/dataplane/userspace"
	"github.com/roamgate/roamgate/integration/netns"
)

/* Two engines of package userspace, one at each end of a tunnel, both in this
 * process, without IKE:
 *
 *	dev 10.1.0.2 [engine, TUN 10.9.0.1] -- 10.1.0.1 gw [engine, TUN] 10.2.0.1 -- 10.2.0.2 lan
 */

var (
	tunnelDevice = netip.MustParseAddr("10.9.0.1")
	tunnelPool   = netip.MustParsePrefix("10.9.0.0/16")
	tunnelGCM    = dataplane.Algorithm{Encryption: 20, KeyBits: 128}
)

type engine struct {
	device  *tun.Device
	backend *userspace.Backend
	local   dataplane.Path
}

// newEngine builds an engine in a namespace, with routes into its TUN device.
func newEngine(tb testing.TB, n *netns.Namespace, at netip.Addr, address netip.Prefix, routes ...netip.Prefix) *engine {
	tb.Helper()
	mtu, err := userspace.InnerMTU(1500, tunnelGCM, false)
	if err != nil {
		tb.Fatal(err)
	}
	e := new(engine)
	err = n.Do(func() (err error) {
		if e.device, err = tun.Create(tun.Config{Name: "rgtun0", MTU: mtu}); err != nil {
			return err
		}
		outer := netip.AddrPortFrom(at, 4500)
		e.local = dataplane.Path{Local: outer}
		e.backend, err = userspace.New(userspace.Config{
			Locals: []userspace.Local{{IKE: netip.AddrPortFrom(at, 500), Encap: outer}}, Inside: []userspace.Inside{e.device}, MaxChildren: 64,
		}, make(chan dataplane.Event, 16))
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(e.backend.Close(), e.device.Close()); err != nil {
			tb.Error(err)
		}
	})
	if err := n.AddAddress("rgtun0", address); err != nil {
		tb.Fatal(err)
	}
	if err := n.SetLink("rgtun0", true); err != nil {
		tb.Fatal(err)
	}
	for _, r := range routes {
		if err := n.AddRoute(r, address.Addr()); err != nil {
			tb.Fatal(err)
		}
	}
	return e
}

// join makes a pair of Child SAs between device and gateway.
func join(tb testing.TB, device, gateway *engine, virtual netip.Addr) {
	tb.Helper()
	key := func() dataplane.Keys {
		k := make([]byte, 20)
		rand.Read(k)
		return dataplane.Keys{Encryption: k}
	}
	up, down := key(), key()
	reserve := func(e *engine) dataplane.SPI {
		spi, err := e.backend.Reserve(virtual)
		if err != nil {
			tb.Fatal(err)
		}
		return spi
	}
	atDevice, atGateway := reserve(device), reserve(gateway)
	one := dataplane.Selector{First: virtual, Last: virtual, LastPort: 0xFFFF}
	net := dataplane.Selector{First: netip.MustParseAddr("10.2.0.0"), Last: netip.MustParseAddr("10.2.0.255"), LastPort: 0xFFFF}
	child := func(e, other *engine, in, out dataplane.SPI, inKeys, outKeys dataplane.Keys, local, remote dataplane.Selector, virtual netip.Addr) {
		path := e.local
		path.Remote = other.local.Local
		for _, err := range e.backend.Apply([]dataplane.Change{
			dataplane.Install{Child: dataplane.Child{
				Inbound: dataplane.SA{SPI: in, Keys: inKeys}, Outbound: dataplane.SA{SPI: out, Keys: outKeys},
				Algorithm: tunnelGCM, VirtualIPs: []netip.Addr{virtual},
				Local: []dataplane.Selector{local}, Remote: []dataplane.Selector{remote}, Path: path,
			}},
			dataplane.UseOutbound{Inbound: in},
		}) {
			if err != nil {
				tb.Fatal(err)
			}
		}
	}
	child(gateway, device, atGateway, atDevice, up, down, net, one, virtual)
	// To the device's engine the host behind the gateway is the virtual address.
	child(device, gateway, atDevice, atGateway, down, up, one, net, netns.LANHost)
}

// tunnel lays all of it and starts an iperf3 server on the lan.
func tunnel(tb testing.TB) (*netns.Topology, *engine, *engine) {
	tb.Helper()
	top := netns.ForTest(tb, netns.Options{Prefix: "rgsp"})
	dev := top.Devices[0]
	gateway := newEngine(tb, top.Gateway, netns.GatewayOutside, netip.PrefixFrom(tunnelPool.Addr(), 32), tunnelPool)
	device := newEngine(tb, dev.Namespace, dev.Address, netip.PrefixFrom(tunnelDevice, 32), netns.Inside)
	if _, err := top.Gateway.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		tb.Fatal(err)
	}
	join(tb, device, gateway, tunnelDevice)
	return top, device, gateway
}

// BenchmarkTunnelTCP reports what TCP of iperf3 gets through the tunnel, and
// what a packet of 1,400 octets costs both engines together, in all and in user mode:
// how much of the kernel's time it takes depends on what else the machine does. Drops
// are those of the engines and their sockets.
func BenchmarkTunnelTCP(b *testing.B) {
	l := newLine(b)
	for _, way := range []struct {
		name string
		args []string
	}{{"up", nil}, {"down", []string{"-R"}}, {"up4", []string{"-P", "4"}}, {"down4", []string{"-R", "-P", "4"}}} {
		b.Run(way.name, func(b *testing.B) {
			var octets, user, system, gigabits, again float64
			before := l.drops(b)
			for b.Loop() {
				userBefore, systemBefore := cpuTime(b)
				end := l.iperf(b, way.args...)
				userAfter, systemAfter := cpuTime(b)
				user += (userAfter - userBefore).Seconds()
				system += (systemAfter - systemBefore).Seconds()
				octets += end.Received.Bytes
				gigabits += end.Received.Bytes * 8e-9 / end.Received.Seconds
				again += end.Sent.Retransmits
			}
			b.ReportMetric(gigabits/float64(b.N), "Gb/s")
			b.ReportMetric((user+system)*1e9/(octets/1400), "cpu-ns/packet")
			b.ReportMetric(user*1e9/(octets/1400), "user-ns/packet")
			b.ReportMetric(float64(l.drops(b)-before), "drops")
			b.ReportMetric(again, "sent-again")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTunnelUDP reports how much of 100 Mb/s of UDP gets lost on its way through
// the tunnel, in datagrams of 1,300 octets, which is iperf3's own loss too, and what
// was dropped by the engines and their sockets.
func BenchmarkTunnelUDP(b *testing.B) {
	l := newLine(b)
	for _, way := range []struct {
		name string
		args []string
	}{{"up", nil}, {"down", []string{"-R"}}} {
		b.Run(way.name, func(b *testing.B) {
			var packets, lost float64
			before := l.drops(b)
			for b.Loop() {
				end := l.iperf(b, append([]string{"-u", "-l", "1300", "-b", "100M", "-w", "4M"}, way.args...)...)
				packets += end.Received.Packets
				lost += end.Received.Lost
			}
			b.ReportMetric(packets/2/float64(b.N), "packets/s")
			b.ReportMetric(100*lost/packets, "%-lost")
			b.ReportMetric(float64(l.drops(b)-before), "drops")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// line is a tunnel with an iperf3 server behind it.
type line struct {
	top     *netns.Topology
	engines [2]*engine
}

func newLine(b *testing.B) *line {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root for network namespaces")
	}
	top, device, gateway := tunnel(b)
	server, err := top.LAN.Start(exec.Command("iperf3", "-s", "--logfile", filepath.Join(b.TempDir(), "server")))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Stop(time.Second) })
	time.Sleep(300 * time.Millisecond)
	return &line{top: top, engines: [2]*engine{device, gateway}}
}

// drops of both engines, for whatever reason but that nobody had asked for it, and of
// the sockets before them.
func (l *line) drops(b *testing.B) (all uint64) {
	b.Helper()
	for i, n := range []*netns.Namespace{l.top.Devices[0].Namespace, l.top.Gateway} {
		for reason, n := range l.engines[i].backend.Drops() {
			if dataplane.Reason(reason) != dataplane.ReasonNoChild { // the host's own IPv6
				all += n
			}
		}
		err := n.Do(func() error {
			snmp, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			var names []string
			for line := range strings.Lines(string(snmp)) {
				fields := strings.Fields(line)
				if fields[0] != "Udp:" {
					continue
				}
				if names == nil {
					names = fields
					continue
				}
				full, err := strconv.ParseUint(fields[slices.Index(names, "RcvbufErrors")], 10, 64)
				all += full
				return err
			}
			return errors.New("no UDP in snmp")
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return all
}

// iperfEnd is what iperf3 says of a run; lost packets it counts for UDP only.
type iperfEnd struct {
	Sent struct {
		Retransmits float64 `json:"retransmits"`
	} `json:"sum_sent"`
	Received struct {
		Bytes   float64 `json:"bytes"`
		Seconds float64 `json:"seconds"`
		Packets float64 `json:"packets"`
		Lost    float64 `json:"lost_packets"`
	} `json:"sum_received"`
}

// iperf runs the client on the device for two seconds.
func (l *line) iperf(b *testing.B, args ...string) iperfEnd {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	args = append([]string{"-c", netns.LANHost.String(), "-B", tunnelDevice.String(), "-t", "2", "-J"}, args...)
	out, err := l.top.Devices[0].Run(ctx, exec.Command("iperf3", args...))
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	var result struct {
		End iperfEnd `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		b.Fatal(err)
	}
	return result.End
}

// cpuTime of this process, in user and system mode.
func cpuTime(tb testing.TB) (user, system time.Duration) {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}
