package dptest

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

var (
	gateway  = netip.MustParseAddr("192.0.2.1")
	gateway6 = netip.MustParseAddr("2001:db8::2")
)

func fakeLocal(addr netip.Addr) Local {
	return Local{IKE: netip.AddrPortFrom(addr, fakeIKEPort), Encap: netip.AddrPortFrom(addr, fakeEncapPort)}
}

func TestFakeConformance(t *testing.T) {
	Run(t, func(t *testing.T, events chan<- dataplane.Event) *Harness {
		second := fakeLocal(gateway6)
		return &Harness{Backend: NewFake(gateway, events, gateway6), Local: fakeLocal(gateway), Second: &second}
	})
}

// A session's view of the fake, in a bubble: a message comes, is answered, and a
// child is installed, roams and goes.
func TestFakeInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan dataplane.Event, 1)
		f := NewFake(gateway, events)
		device := netip.MustParseAddrPort("198.51.100.7:1024")
		var spi dataplane.SPI
		go func() {
			batch := []dataplane.Datagram{{Data: make([]byte, 100)}}
			if n, err := f.Transport().Receive(batch); n != 1 || err != nil {
				t.Errorf("Receive: %d, %v", n, err)
			}
			spi, _ = f.Reserve(virtual4)
			child := childFor(t, f, spi, device)
			for _, err := range f.Apply([]dataplane.Change{dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: spi}}) {
				if err != nil {
					t.Error(err)
				}
			}
			clear(child.Outbound.Keys.Encryption)
			batch[0].Remote = device
			f.Transport().Send(batch)
		}()
		time.Sleep(time.Hour) // nothing happens before a message
		f.Deliver(dataplane.Datagram{Data: []byte("hello"), Local: fakeLocal(gateway).Encap, Remote: device, Marker: true})
		if got := <-f.Sent(); string(got.Data) != "hello" || got.Remote != device || !got.Marker {
			t.Errorf("sent %+v", got)
		}
		if got, ok := f.Outbound(virtual4); !ok || got != spi {
			t.Errorf("outbound child %#x, %t; want %#x", got, ok, spi)
		}
		state, ok := f.Child(spi)
		if !ok || !state.Active || state.Child.Outbound.Keys.Encryption[0] != 1 {
			t.Errorf("child %+v, %t; keys must be copies", state, ok)
		}
		if len(f.Changes()) != 2 {
			t.Errorf("changes %+v", f.Changes())
		}

		hint := dataplane.AddressChanged{Inbound: spi, Remote: device}
		if !f.Tell(hint) || f.Tell(hint) || f.Drops()[dataplane.ReasonEventsLost] != 1 {
			t.Error("of two events one has room")
		}
		f.SetCounters(dataplane.ChildCounters{Inbound: spi, BytesIn: 5})
		for c := range f.Counters {
			if c.BytesIn != 5 {
				t.Errorf("counters %+v", c)
			}
		}
		f.Refuse(dataplane.ErrFull)
		if _, err := f.Reserve(virtual4); !errors.Is(err, dataplane.ErrFull) {
			t.Errorf("refused Reserve: %v", err)
		}
		if errs := f.Apply([]dataplane.Change{dataplane.Remove{Inbound: spi}}); !errors.Is(errs[0], dataplane.ErrFull) {
			t.Errorf("refused Remove: %v", errs)
		}
		f.Refuse(nil)
		if errs := f.Apply([]dataplane.Change{dataplane.Remove{Inbound: spi}}); errs[0] != nil {
			t.Errorf("Remove: %v", errs)
		}
	})
}

func childFor(t *testing.T, f *Fake, spi dataplane.SPI, device netip.AddrPort) dataplane.Child {
	alg := f.Features().Algorithms[0]
	child := dataplane.Child{
		Inbound: dataplane.SA{SPI: spi, Keys: newKeys(t, alg)}, Outbound: dataplane.SA{SPI: 0x1234, Keys: newKeys(t, alg)},
		Algorithm: alg, VirtualIPs: []netip.Addr{virtual4},
		Local: []dataplane.Selector{anySelector("0.0.0.0", "255.255.255.255")}, Remote: []dataplane.Selector{anySelector("10.9.0.7", "10.9.0.7")},
		Path: dataplane.Path{Local: fakeLocal(gateway).Encap, Remote: device},
	}
	child.Outbound.Keys.Encryption[0] = 1
	return child
}

// Queues of the fake are bounded like those of a backend.
func TestFakeQueues(t *testing.T) {
	f := NewFake(gateway, nil)
	for range fakeQueue {
		f.Deliver(dataplane.Datagram{})
	}
	if f.Deliver(dataplane.Datagram{}) || f.Drops()[dataplane.ReasonIKEQueueFull] != 1 {
		t.Error("a full inbox takes another message")
	}
	batch := slices.Repeat([]dataplane.Datagram{{Local: fakeLocal(gateway).IKE}}, fakeQueue+1)
	if n, err := f.Send(batch); n != fakeQueue || err != nil || f.Drops()[dataplane.ReasonOutsideSend] != 1 {
		t.Errorf("Send: %d, %v", n, err)
	}
}
