package userspace

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// TestRemapUnderLoad: devices whose NAT gives them another port again and again,
// in mid-stream, over four loops. No packet counts as a replay, and steered by
// the kernel none overtakes another of its flow; passed on between loops, those
// of the old port may still be under way when the first of the new one come.
func TestRemapUnderLoad(t *testing.T) {
	t.Run("steered", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root to load BPF programs")
		}
		if overtaken := remapUnderLoad(t, steered(t, 4)); overtaken != 0 {
			t.Errorf("%d packets were overtaken", overtaken)
		}
	})
	t.Run("passed on", func(t *testing.T) {
		t.Logf("%d packets were overtaken", remapUnderLoad(t, withLoops(t, 4)))
	})
}

func remapUnderLoad(t *testing.T, edit func(*Config)) (overtaken int) {
	const devices, packets, between, window = 12, 4000, 250, 20
	h := newHarness(t, make(chan dataplane.Event, 64), edit)
	var peers [devices]*peer
	loops := make(map[uint8]bool)
	for i := range peers {
		virtual := netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + i)})
		spi, err := h.backend.Reserve(virtual)
		if err != nil {
			t.Fatal(err)
		}
		loops[loopOf(spi)] = true
		peers[i] = newPeer(t, h, func(c *dataplane.Child) {
			c.Inbound.SPI, c.VirtualIPs = spi, []netip.Addr{virtual}
		})
	}
	if len(loops) < 3 {
		t.Fatalf("devices of %d loops", len(loops))
	}

	var mu sync.Mutex // guards what follows
	var last, came [devices]uint32
	stop := make(chan struct{})
	var readers, senders sync.WaitGroup
	for _, l := range h.backend.loops {
		readers.Go(func() {
			for {
				packet, ok := l.inside.(*pipe).Receive(20 * time.Millisecond)
				if !ok {
					select {
					case <-stop:
						return
					default:
						continue
					}
				}
				i, n := packet[15]-10, binary.BigEndian.Uint32(packet[28:])
				mu.Lock()
				if n < last[i] {
					overtaken++
				}
				last[i] = max(last[i], n)
				came[i]++
				mu.Unlock()
			}
		})
	}
	// All senders share a thread's processor, so that loopback keeps the order of
	// what they send; a window keeps pipes and sockets from running over.
	senders.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its affinity
		var one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &one); err != nil {
			t.Error(err)
			return
		}
		for cpu, found := 0, false; cpu < 1024; cpu++ {
			if one.IsSet(cpu) && found {
				one.Clear(cpu)
			}
			found = found || one.IsSet(cpu)
		}
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Error(err)
			return
		}
		for n := uint32(1); n <= packets; n += 10 {
			for i, p := range peers {
				if n%between == 1 && n > 1 {
					p.remap()
				}
				inner := dptest.IP{Src: p.child.VirtualIPs[0], Dst: host4, DontFragment: true}
				for k := range uint32(10) {
					payload := binary.BigEndian.AppendUint32(nil, n+k)
					p.queue(inner.UDP(uint16(i), 2, append(payload, make([]byte, 60)...)), protoIPv4, 0)
				}
				p.flush()
				behind := func() bool {
					mu.Lock()
					defer mu.Unlock()
					return came[i]+window < n
				}
				for end := time.Now().Add(20 * time.Second); behind(); time.Sleep(50 * time.Microsecond) {
					if time.Now().After(end) {
						t.Error("packets got lost")
						return
					}
				}
			}
		}
	})
	senders.Wait()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		all := true
		for _, n := range came {
			all = all && n == packets
		}
		mu.Unlock()
		if all || t.Failed() {
			break
		}
		if time.Now().After(end) {
			t.Errorf("came %v of %d; drops %v", came, packets, h.backend.Drops())
			break
		}
	}
	close(stop)
	readers.Wait()
	drops := h.backend.Drops()
	drops[dataplane.ReasonEventsLost] = 0 // nobody reads them
	if drops != (dataplane.Drops{}) {
		t.Errorf("drops %v", drops)
	}
	t.Logf("%d packets of %d devices over %d loops; %d were passed on", devices*packets, devices, len(loops), h.backend.PassedOn())
	return overtaken
}

// remap gives the peer another port.
func (p *peer) remap() {
	s, err := encap.Listen(netip.AddrPortFrom(p.Encap.Addr(), 0), "")
	if err != nil {
		p.t.Error(err)
		return
	}
	p.t.Cleanup(func() { s.Close() })
	p.socket, p.sender = s, encap.NewSender(s, batch, encap.MaxDatagram)
}
