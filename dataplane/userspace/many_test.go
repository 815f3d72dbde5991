package userspace

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
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
func (s sink) Overflowed() uint64             { return 0 }

// BenchmarkManySAs is what a packet costs the loop between the socket and TUN,
// without either: look-up, window, opening, checks, coalescer. Packets of 64 octets
// come from SAs in turn, in an order that no prefetcher knows, so with many of them
// a state was last used so many packets ago. Not touched: states are fetched one by
// one (see touch). Few ciphers: with fewer places than
// there are SAs, each packet makes its cipher anew.
//
//	go test -run xxx -bench ManySAs -benchtime 2s ./dataplane/userspace
func BenchmarkManySAs(b *testing.B) {
	for _, sas := range []int{1, 100, 1000, 10_000, 100_000} {
		for _, kind := range []struct {
			name  string
			touch bool
			ready int
		}{{"touched", true, 1 << 20}, {"not touched", false, 1 << 20}, {"few ciphers", true, leastActive}} {
			if kind.ready < sas || kind.ready != leastActive {
				b.Run(fmt.Sprintf("%d/%s", sas, kind.name), func(b *testing.B) { manySAs(b, sas, kind.ready, kind.touch) })
			}
		}
	}
}

func manySAs(b *testing.B, sas, ready int, touch bool) {
	backend, rigs := rigged(b, sas, ready, 1)
	r := rigs[0]
	r.touch = touch
	for range sas/batch + 1 { // ciphers are made, and windows begin
		r.turn(b)
	}
	r.took, r.packets = 0, 0
	for b.Loop() {
		r.turn(b)
	}
	b.ReportMetric(float64(r.took.Nanoseconds())/float64(r.packets), "ns/packet")
	b.ReportMetric(0, "ns/op")
	if drops := backend.Drops(); drops != (dataplane.Drops{}) {
		b.Errorf("drops %v", drops)
	}
}

// BenchmarkLoops is the same work of 1,000 SAs by one loop and by two at once: what
// one loop opens in a second of its own, which falls where loops wait for each other
// or share what they write.
func BenchmarkLoops(b *testing.B) {
	for _, loops := range []int{1, 2} {
		b.Run(fmt.Sprint(loops), func(b *testing.B) {
			_, rigs := rigged(b, 1000*loops, 1<<20, loops)
			for b.Loop() {
				var all sync.WaitGroup
				for _, r := range rigs {
					all.Go(func() {
						for range 64 {
							r.turn(b)
						}
					})
				}
				all.Wait()
			}
			var took time.Duration
			packets := 0
			for _, r := range rigs {
				took, packets = took+r.took, packets+r.packets
			}
			b.ReportMetric(float64(packets)/took.Seconds(), "packets/s/loop")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// rig offers packets to one loop.
type rig struct {
	loop    *loop
	seal    esp.Transform
	touch   bool
	sas     []riggedSA
	order   []int
	at      int
	buffers [batch][]byte
	batch   [batch]encap.Datagram
	took    time.Duration
	packets int
}

type riggedSA struct {
	spi  dataplane.SPI
	from netip.Addr
	next uint64
}

var (
	rigHost   = netip.MustParseAddr("10.2.0.2")
	rigRemote = netip.MustParseAddrPort("127.0.0.9:4500")
)

// rigged is a backend with SAs of one key, and a rig for each loop.
func rigged(b *testing.B, sas, ready, loops int) (*Backend, []*rig) {
	b.Helper()
	config := Config{Locals: []Local{loopback4}, Pools: []netip.Prefix{pool}, MaxChildren: sas, ActiveChildren: ready}
	for range loops {
		wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(wake) })
		config.Inside = append(config.Inside, sink{wake})
	}
	backend, err := New(config, make(chan dataplane.Event, 16))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { backend.Close() })
	key := dataplane.Keys{Encryption: make([]byte, 20)}
	var rigs []*rig
	for _, l := range backend.loops {
		r := &rig{loop: l, touch: true}
		if r.seal, err = esp.New(gcm128, key, false); err != nil {
			b.Fatal(err)
		}
		for i := range r.buffers {
			r.buffers[i] = make([]byte, 256)
		}
		rigs = append(rigs, r)
	}
	at := netip.MustParseAddr("10.128.0.0")
	for range sas {
		at = at.Next()
		spi, err := backend.Reserve(at)
		if err != nil {
			b.Fatal(err)
		}
		child := dataplane.Child{
			Inbound: dataplane.SA{SPI: spi, Keys: key.Clone()}, Outbound: dataplane.SA{SPI: 0xC0FFEE, Keys: key.Clone()},
			Algorithm: gcm128, VirtualIPs: []netip.Addr{at},
			Local:  []dataplane.Selector{{First: rigHost, Last: rigHost, LastPort: 0xffff}},
			Remote: []dataplane.Selector{{First: at, Last: at, LastPort: 0xffff}},
			Path:   dataplane.Path{Local: backend.Locals()[0].Encap, Remote: rigRemote, Encapsulation: dataplane.EncapsulationUDP},
		}
		for _, err := range backend.Apply([]dataplane.Change{dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: spi}}) {
			if err != nil {
				b.Fatal(err)
			}
		}
		r := rigs[loopOf(spi)]
		r.sas = append(r.sas, riggedSA{spi: spi, from: at})
	}
	for _, r := range rigs {
		r.order = rand.New(rand.NewPCG(1, 2)).Perm(len(r.sas))
	}
	return backend, rigs
}

// turn has the loop open a batch, and counts the time.
func (r *rig) turn(b *testing.B) {
	if err := r.loop.do(r.round); err != nil {
		b.Error(err)
	}
}

func (r *rig) round() {
	for i := range r.batch {
		s := &r.sas[r.order[r.at]]
		r.at = (r.at + 1) % len(r.order)
		s.next++
		inner := dptest.IP{Src: s.from, Dst: rigHost}.UDP(1, 2, make([]byte, 36))
		copy(r.buffers[i][r.seal.HeaderLen():], inner)
		r.batch[i] = encap.Datagram{Payload: r.seal.Seal(r.buffers[i], len(inner), protoIPv4, uint32(s.spi), s.next), Remote: rigRemote}
	}
	began := time.Now()
	for i := range r.batch {
		if r.touch && i%touchAhead == 0 {
			for k := i; k < i+touchAhead; k++ {
				r.loop.touchState(r.batch[k].Payload)
			}
		}
		r.loop.fromESP(r.loop.locals[0], &r.batch[i])
	}
	r.loop.flushInside()
	r.took += time.Since(began)
	r.packets += len(r.batch)
}
