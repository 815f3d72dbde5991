package session

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// ESP with an SPI of a former life is answered, a few times a second.
func TestUnknownSPIIsAnsweredSparingly(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		peer := netip.MustParseAddrPort("10.1.0.77:4500")
		for range 5 {
			w.net.Tell(dataplane.UnknownSPI{SPI: 0x1234, Local: gatewayNATT, Remote: peer})
			w.settled()
		}
		sent := w.net.sentTo(peer.Addr())
		w.want("answers", len(sent), 2) // AnswersPerSecond
		w.want("unanswered", w.server.Stats().Drops[ReasonESPUnanswered.String()], uint64(3))
		w.want("events", w.server.Stats().Events["unknown_spi"], uint64(5))
		if d := sent[0]; !bytes.Equal(d.Data, gate.AppendInvalidSPI(nil, 0x1234)) || d.Local != gatewayNATT || d.Remote != peer || !d.Marker {
			t.Errorf("answer %+v", d)
		}
	})
}

// A Child SA that carries nothing more takes its session with it.
func TestEndOfAChildEndsItsSession(t *testing.T) {
	for _, event := range []func(dataplane.SPI) dataplane.Event{
		func(spi dataplane.SPI) dataplane.Event { return dataplane.LimitReached{Inbound: spi, Hard: true} },
		func(spi dataplane.SPI) dataplane.Event { return dataplane.Expired{Inbound: spi} },
	} {
		run(t, options{}, func(w *world) {
			one, two := w.connect("one"), w.connect("two")
			for _, i := range w.server.Sessions() {
				if i.Device == "one" {
					w.net.Tell(event(i.Inbound))
				}
			}
			w.settled()
			w.want("one", one.state(), "closed: "+string(ike.ClosePeerDeleted))
			w.want("two", two.state(), "up")
			w.want("expired", w.server.Stats().Closed[ike.CloseExpired], uint64(1))
		})
	}
}

func TestEventsThatAreOnlyCounted(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connect("phone")
		inbound := w.server.Sessions()[0].Inbound
		w.net.Tell(dataplane.LimitReached{Inbound: inbound})
		w.net.Tell(dataplane.AddressChanged{Inbound: inbound})
		w.net.Tell(dataplane.Expired{Inbound: 0x999999})
		w.settled()
		w.want("device", d.state(), "up")
		for _, name := range []string{"soft_limit", "address_changed", "expired"} {
			w.want(name, w.server.Stats().Events[name], uint64(1))
		}
		close(w.events) // the backend is done
		w.settled()
		w.want("device", d.state(), "up")
	})
}
