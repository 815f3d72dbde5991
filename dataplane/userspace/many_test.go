package userspace

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// sink is an inside device that takes everything.
type sink struct{ wake int }

func (s sink) FD() int                        { return s.wake }
func (s sink) Read([]byte) (int, error)       { return 0, unix.EAGAIN }
func (s sink) Write([]byte) error             { return nil }
func (s sink) WriteVector([]unix.Iovec) error { return nil }
func (s sink) USO() bool                      { return true }

// BenchmarkManySAs is what a packet costs the loop between the socket and TUN,
// without either: look-up, window, opening, checks, coalescer. Packets of 64 octets
// come from SAs in turn, in an order that no prefetcher knows, so with many of them
// a state was last used so many packets ago. Not touched: states are fetched one by
// one (see touch). Few ciphers: with the default ActiveChildren, which is less than
// there are SAs, each packet makes its cipher anew.
//
//	go test -run xxx -bench ManySAs -benchtime 2s ./dataplane/userspace
func BenchmarkManySAs(b *testing.B) {
	for _, sas := range []int{1, 100, 1000, 10_000, 100_000} {
		for _, kind := range []struct {
			name  string
			touch bool
			ready int
		}{{"touched", true, 1 << 20}, {"not touched", false, 1 << 20}, {"few ciphers", true, defaultActive}} {
			if kind.ready < sas || kind.ready != defaultActive {
				b.Run(fmt.Sprintf("%d/%s", sas, kind.name), func(b *testing.B) { manySAs(b, sas, kind.ready, kind.touch) })
			}
		}
	}
}

func manySAs(b *testing.B, sas, ready int, touch bool) {
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(wake)
	backend, err := New(Config{
		Locals: []Local{loopback4}, Inside: []Inside{sink{wake}}, Pools: []netip.Prefix{pool},
		MaxChildren: sas, ActiveChildren: ready,
	}, make(chan dataplane.Event, 16))
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	key := dataplane.Keys{Encryption: make([]byte, 20)}
	seal, err := esp.New(gcm128, key, false)
	if err != nil {
		b.Fatal(err)
	}
	local := backend.Locals()[0].Encap
	remote := netip.MustParseAddrPort("127.0.0.9:4500")
	spis := make([]dataplane.SPI, sas)
	virtual := make([]netip.Addr, sas)
	at := netip.MustParseAddr("10.128.0.0")
	host := netip.MustParseAddr("10.2.0.2")
	for i := range spis {
		at = at.Next()
		if spis[i], err = backend.Reserve(at); err != nil {
			b.Fatal(err)
		}
		virtual[i] = at
		child := dataplane.Child{
			Inbound: dataplane.SA{SPI: spis[i], Keys: key.Clone()}, Outbound: dataplane.SA{SPI: 0xC0FFEE, Keys: key.Clone()},
			Algorithm: gcm128, VirtualIPs: []netip.Addr{at},
			Local:  []dataplane.Selector{{First: host, Last: host, LastPort: 0xffff}},
			Remote: []dataplane.Selector{{First: at, Last: at, LastPort: 0xffff}},
			Path:   dataplane.Path{Local: local, Remote: remote, Encapsulation: dataplane.EncapsulationUDP},
		}
		for _, err := range backend.Apply([]dataplane.Change{dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: spis[i]}}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(sas)
	next := make([]uint64, sas)
	turn := 0
	l := backend.loops[0]
	var buffers [batch][]byte
	var packets [batch]encap.Datagram
	for i := range buffers {
		buffers[i] = make([]byte, 256)
	}
	var took time.Duration
	round := func() {
		for i := range packets {
			n := order[turn]
			turn = (turn + 1) % sas
			next[n]++
			inner := dptest.IP{Src: virtual[n], Dst: host}.UDP(1, 2, make([]byte, 36))
			copy(buffers[i][seal.HeaderLen():], inner)
			packets[i] = encap.Datagram{Payload: seal.Seal(buffers[i][:256], len(inner), protoIPv4, uint32(spis[n]), next[n]), Remote: remote}
		}
		began := time.Now()
		for i := range packets {
			if touch && i%touchAhead == 0 {
				for k := i; k < i+touchAhead; k++ {
					l.touchState(packets[k].Payload)
				}
			}
			l.fromESP(l.locals[0], &packets[i])
		}
		l.flushInside()
		took += time.Since(began)
	}
	for range sas/batch + 1 { // ciphers are made, and windows begin
		if err := l.do(round); err != nil {
			b.Fatal(err)
		}
	}
	took = 0
	rounds := 0
	for b.Loop() {
		if err := l.do(round); err != nil {
			b.Fatal(err)
		}
		rounds++
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(rounds*batch), "ns/packet")
	b.ReportMetric(0, "ns/op")
	if drops := backend.Drops(); drops != (dataplane.Drops{}) {
		b.Errorf("drops %v", drops)
	}
}
