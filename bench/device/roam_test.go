package device

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// TestRoamInEachStageOfRekeying: the network dies after so many messages of a
// rekeying, and the device goes on from another.
func TestRoamInEachStageOfRekeying(t *testing.T) {
	rekeyings := map[string]func(*Device) error{"Child SA": (*Device).RekeyChild, "IKE SA": (*Device).RekeyIKE}
	for what, rekey := range rekeyings {
		for passed := range 6 {
			t.Run(fmt.Sprintf("%s, %d messages", what, passed), func(t *testing.T) {
				inWorld(t, nil, func(w *world) {
					d := w.connect(nil)
					w.ping(d)
					time.Sleep(time.Minute)
					old := d.Info().Local
					left := passed
					w.net.rule(func(from, to netip.AddrPort, _ []byte) bool {
						if from == old || to == old {
							left--
							return left < 0
						}
						return false
					})
					if err := rekey(d); err != nil {
						w.Fatal(err)
					}
					time.Sleep(50 * time.Millisecond)
					if err := d.Roam(must(w.net.listener("10.3.0.7")())); err != nil {
						w.Fatal(err)
					}
					w.await(d, "the move and the rekeying", func(i Info) bool {
						return i.Moves > 0 && i.ChildSAs+i.IKESAs == 3 && i.Children == 1
					})
					time.Sleep(time.Minute)
					w.ping(d)
					if n := w.gateway.sessions(); n != 1 {
						w.Errorf("the gateway has %d machines, want 1", n)
					}
					if i := d.Info(); i.State != Up || i.ChildSAs+i.IKESAs != 3 {
						w.Errorf("afterwards %+v", i)
					}
				})
			})
		}
	}
}

// TestAddressesAreTold both ways, in the handshake and later.
func TestAddressesAreTold(t *testing.T) {
	more := netip.MustParseAddr("192.0.2.7")
	inWorld(t, func(g *gateway) { g.cfg.Addresses = []netip.Addr{gwIKE.Addr(), more} }, func(w *world) {
		var theirs []netip.Addr
		w.gateway.told = func(o ike.Output) {
			if a, ok := o.(ike.PeerAddresses); ok {
				theirs = a.Addresses
			}
		}
		d := w.connect(func(c *Config) { c.NoNATs = true })
		if i := d.Info(); !slices.Equal(i.GatewayAddresses, []netip.Addr{more}) {
			w.Errorf("the gateway told of %v, want %v", i.GatewayAddresses, more)
		}
		other := netip.MustParseAddr("10.3.0.7")
		if err := d.Announce([]netip.Addr{other}); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		if err := d.Roam(must(w.net.listener("10.4.0.7")())); err != nil {
			w.Fatal(err)
		}
		w.await(d, "move", func(i Info) bool { return i.Moves == 1 })
		time.Sleep(time.Second)
		w.ping(d)
		w.gateway.do(func() {
			if !slices.Equal(theirs, []netip.Addr{other}) {
				w.Errorf("the device told of %v, want %v", theirs, other)
			}
		})
	})
}

// robber sits at an address of his own, and on the device's line.
type robber struct {
	*endpoint
	mu       sync.Mutex
	ike, esp int
	taken    [][]byte // IKE messages of the device
}

func (r *robber) listen() {
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := r.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		if n > 4 && binary.BigEndian.Uint32(buffer) == 0 {
			r.ike++
		} else {
			r.esp++
		}
		r.mu.Unlock()
	}
}

// TestRobberOnTheLine sends a device's packets from his own address, before the
// gateway has seen them, and repeats its messages of IKE, an update among them.
// He is asked where he is, twice for each hint, and told again what the device
// was told; of the downlink he gets nothing.
func TestRobberOnTheLine(t *testing.T) {
	for _, mobike := range []bool{true, false} {
		t.Run(fmt.Sprint("MOBIKE ", mobike), func(t *testing.T) {
			inWorld(t, func(g *gateway) { g.cfg.MOBIKE = mobike }, func(w *world) {
				r := &robber{endpoint: w.net.listen(netip.MustParseAddrPort("198.51.100.66:4500"))}
				go r.listen()
				defer r.Close()
				d := w.connect(nil)
				w.ping(d)
				own := d.Info().Local
				var robbed [][]byte
				w.net.rule(func(from, to netip.AddrPort, data []byte) bool {
					if from != own || to != gwNATT || len(data) < 8 {
						return false
					}
					r.mu.Lock()
					defer r.mu.Unlock()
					if binary.BigEndian.Uint32(data) == 0 {
						r.taken = append(r.taken, slices.Clone(data))
						return false
					}
					robbed = append(robbed, slices.Clone(data))
					return true
				})
				for i := range 20 {
					w.plane.mu.Lock()
					clear(w.plane.hinted) // each of his packets is a hint
					w.plane.mu.Unlock()
					_ = d.Send(down(lan, uint16(i)))
					synctest.Wait()
					r.mu.Lock()
					again := slices.Concat(robbed, r.taken)
					robbed, r.taken = nil, nil
					r.mu.Unlock()
					for _, packet := range again {
						_, _ = r.WriteToUDPAddrPort(packet, gwNATT)
					}
					w.plane.send(down(firstIP, uint16(i)))
					time.Sleep(5 * time.Second)
				}
				r.mu.Lock()
				// Two for a hint; and an answer for each message of his, of which the
				// gateway's questions make the device send one in five seconds at most.
				if r.esp != 0 || r.ike > 20*3 {
					w.Errorf("the robber got %d packets of ESP and %d messages", r.esp, r.ike)
				}
				w.Logf("he got %d messages", r.ike)
				r.mu.Unlock()
				w.net.rule(nil)
				time.Sleep(20 * time.Second)
				w.ping(d)
				w.gateway.do(func() {
					if w.gateway.moved != 0 {
						w.Errorf("moved %d times", w.gateway.moved)
					}
				})
			})
		})
	}
}
