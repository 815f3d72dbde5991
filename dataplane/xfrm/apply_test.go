package xfrm

import (
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// modelOnly is a backend that never asks the kernel: its messages can be made,
// but not sent.
func modelOnly(t testing.TB, max int) *Backend {
	t.Helper()
	ls, _, err := listen([]Local{{IKE: netip.MustParseAddrPort("127.0.0.1:0"), Encap: netip.MustParseAddrPort("127.0.0.1:0")}}, "")
	if err != nil {
		t.Skipf("no sockets as the backend wants them: %v", err)
	}
	b := &Backend{
		model: newModel(), locals: ls, reserved: make(map[dataplane.SPI]struct{}), rests: make(map[dataplane.SPI]struct{}),
		abilities: Abilities{Direction: true}, features: dataplane.Features{Algorithms: []dataplane.Algorithm{gcm128}},
		config: Config{IfID: testIfID, Pools: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/16")}, MaxChildren: max, Now: time.Now},
	}
	b.config.setDefaults()
	return b
}

// BenchmarkInstallMessages is what the backend does for one Child SA beside
// asking the kernel.
func BenchmarkInstallMessages(bench *testing.B) {
	const children = 1000
	for bench.Loop() {
		bench.StopTimer()
		b := modelOnly(bench, children)
		virtual, remote := netip.MustParseAddr("10.128.0.1"), netip.MustParseAddr("198.18.0.1")
		var all []dataplane.Child
		for range children {
			spi, err := b.Reserve(virtual)
			check(bench, err)
			all = append(all, dataplane.Child{
				Inbound: dataplane.SA{SPI: spi, Keys: dataplane.Keys{Encryption: make([]byte, 20)}}, Outbound: dataplane.SA{SPI: 1 << 31, Keys: dataplane.Keys{Encryption: make([]byte, 20)}},
				Algorithm: gcm128, ESN: true, VirtualIPs: []netip.Addr{virtual},
				Local:  []dataplane.Selector{{First: netip.IPv4Unspecified(), Last: netip.MustParseAddr("255.255.255.255"), LastPort: 0xFFFF}},
				Remote: []dataplane.Selector{{First: virtual, Last: virtual, LastPort: 0xFFFF}},
				Path:   dataplane.Path{Local: b.locals[0].Encap.Local(), Remote: netip.AddrPortFrom(remote, 4500)},
			})
			virtual, remote = virtual.Next(), remote.Next()
		}
		bench.StartTimer()
		for at := 0; at < children; at += atOnce {
			r := b.newRun(2 * atOnce)
			for i := range atOnce {
				c := &all[at+i]
				check(bench, r.install(2*i, c), r.useOutbound(2*i+1, c.Inbound.SPI))
			}
			of := r.of
			r.of = nil
			r.q.reset()
			r.giveBack(of)
		}
		bench.StopTimer()
		check(bench, b.locals.Close())
		bench.StartTimer()
	}
	bench.ReportMetric(float64(bench.Elapsed().Nanoseconds())/float64(bench.N)/children, "ns/child")
}
