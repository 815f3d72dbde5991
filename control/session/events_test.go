package session

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

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

func TestEventsOfNobody(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connect("phone")
		w.net.Tell(dataplane.LimitReached{Inbound: 0x999999})
		w.net.Tell(dataplane.AddressChanged{Inbound: 0x999999})
		w.net.Tell(dataplane.Expired{Inbound: 0x999999})
		w.settled()
		w.want("device", d.state(), "up")
		for _, name := range []string{"soft_limit", "address_changed", "expired"} {
			w.want(name, w.server.Stats().Events[name], uint64(1))
		}
		w.want("hints", w.server.Stats().Events["address_hint"], uint64(0))
		close(w.events) // the backend is done
		w.settled()
		w.want("device", d.state(), "up")
	})
}

// A NAT gives the device another port. The data plane sees it, the device is
// asked there and answers from there: everything goes there from now on.
func TestAddressHintIsConfirmed(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connect("phone")
		before := w.only()
		outside := netip.MustParseAddrPort("10.1.0.99:61000")
		w.net.set(func() { w.net.outside = map[netip.AddrPort]netip.AddrPort{before.Remote: outside} })
		for range 3 {
			w.net.Tell(dataplane.AddressChanged{Inbound: before.Inbound, Local: gatewayNATT, Remote: outside})
		}
		w.settled()
		after := w.only()
		w.want("remote", after.Remote, outside)
		w.want("session", after.ID, before.ID)
		child, _ := w.net.Child(after.Inbound)
		w.want("Child SA's remote", child.Child.Path.Remote, outside)
		st := w.server.Stats()
		w.want("hints", st.Events["address_hint"], uint64(1))
		w.want("confirmed", st.Events["address_hint_confirmed"], uint64(1))
		w.want("moved", st.Moved, uint64(1))
		w.want("too soon", st.Drops[ReasonHintRate.String()], uint64(2))
		w.want("device", d.state(), "up")
	})
}

// Somebody forwards a device's packets from elsewhere: nobody answers there, so
// nothing moves. One attempt in five seconds is all he gets.
func TestAddressHintIsReverted(t *testing.T) {
	run(t, options{}, func(w *world) {
		d := w.connect("phone")
		before := w.only()
		thief := netip.MustParseAddrPort("10.1.0.66:4500")
		for range 40 {
			w.net.Tell(dataplane.AddressChanged{Inbound: before.Inbound, Local: gatewayNATT, Remote: thief})
			w.later(time.Second)
		}
		st := w.server.Stats()
		w.want("remote", w.only().Remote, before.Remote)
		w.want("hints", st.Events["address_hint"], uint64(8))
		w.want("confirmed", st.Events["address_hint_confirmed"], uint64(0))
		if st.Notes[ike.NoteHintReverted] == 0 || st.Moved != 0 {
			t.Errorf("%d reverted, %d moved", st.Notes[ike.NoteHintReverted], st.Moved)
		}
		if n := len(w.net.sentTo(thief.Addr())); n > 16 {
			t.Errorf("%d messages to the thief", n)
		}
		w.want("device", d.state(), "up")
	})
}
