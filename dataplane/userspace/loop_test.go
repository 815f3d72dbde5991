package userspace

import (
	"bytes"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// TestEverythingWakes: whatever comes ends the loop's sleep, on one processor, where it
// gives way instead, as on several, and nothing that comes while it falls asleep is
// overlooked.
func TestEverythingWakes(t *testing.T) {
	for _, processors := range []int{1, 2} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			p := newPeer(t, newHarness(t, make(chan dataplane.Event, 16), nil), nil)
			message := bytes.Repeat([]byte{1}, 40)
			messages := make(chan []byte, 1)
			go func() { // until the backend is closed
				defer close(messages)
				batch := []dataplane.Datagram{{Data: make([]byte, 100)}}
				for {
					batch[0].Data = batch[0].Data[:100]
					if _, err := p.backend.Transport().Receive(batch); err != nil {
						return
					}
					messages <- bytes.Clone(batch[0].Data)
				}
			}()
			receive := func() {
				t.Helper()
				select {
				case m := <-messages:
					if !bytes.Equal(m, message) {
						t.Fatalf("message %x", m)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("no IKE message came; drops %v", p.backend.Drops())
				}
			}
			var commands sync.WaitGroup
			for range 4 {
				commands.Go(func() {
					for range 200 {
						spi, err := p.backend.Reserve(netip.Addr{})
						if err != nil {
							t.Error(err)
							return
						}
						for _, err := range p.backend.Apply([]dataplane.Change{dataplane.Remove{Inbound: spi}}) {
							if err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			down := down4
			down.Dst = p.child.VirtualIPs[0]
			for range 100 {
				p.up(up4.UDP(1, 2, nil), 0)
				p.inside()
				p.down(down.UDP(2, 1, nil))
				p.raw(append(make([]byte, encap.MarkerLen), message...), p.Encap)
				receive()
				p.raw(message, p.IKE)
				receive()
			}
			commands.Wait()
		}()
	}
}
