package ike

import (
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// FuzzInit throws octets at a responder that knows nobody: it may answer, it
// may not fall over, and it answers a datagram with at most one.
func FuzzInit(f *testing.F) {
	w := newWorld(&testing.T{}, options{})
	w.step(w.dev, Tick{})
	f.Add(w.wire[0].data.Data)
	cfg := config(identities()["gw"], 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewResponder(cfg, 0x11, 0x22)
		sent := 0
		in := Input(Message{Data: data, Local: netip.AddrPortFrom(gwAddr, 500), Remote: netip.AddrPortFrom(devAddr, 500)})
		for in != nil {
			out := m.Step(time.Unix(1, 0), in)
			in = nil
			for _, o := range out {
				switch o := o.(type) {
				case Send:
					sent++
				case Work:
					in = WorkDone{ID: o.ID, Result: o.Do()}
				}
			}
		}
		if sent > 1 {
			t.Errorf("%d answers to one datagram", sent)
		}
	})
}

// FuzzAuthenticated lets a peer that has keys send any chain of payloads, in
// any exchange, before and after it is established. Whatever it sends, it is
// not let in without AUTH, and the machine answers or stays silent.
func FuzzAuthenticated(f *testing.F) {
	w := newWorld(&testing.T{}, options{})
	var seeds [][]ikewire.Payload
	w.check = func(s *side, o Output) {
		if send, ok := o.(Send); ok && s == w.dev && w.gw.m.open != nil {
			if m, err := ikewire.Parse(send.Data); err == nil {
				if inner, err := w.gw.m.open.Open(send.Data, m); err == nil {
					seeds = append(seeds, inner)
				}
			}
		}
	}
	w.connect()
	w.step(w.dev, Close{Reason: CloseKilled})
	for i, inner := range seeds {
		first, body, err := ikewire.AppendPayloads(nil, inner)
		must(err)
		f.Add(byte(ikewire.IKEAuth)+byte(2*i), byte(first), body, i > 0)
	}
	f.Fuzz(func(t *testing.T, exchange, first byte, body []byte, up bool) {
		payloads, err := ikewire.ParsePayloads(ikewire.PayloadType(first), body)
		if err != nil {
			return
		}
		w := newWorld(t, options{})
		w.step(w.dev, Tick{})
		if !up {
			// Cut the device's own IKE_AUTH short of the wire.
			w.deliverOne()
			w.deliverOne()
			w.wire = nil
		} else {
			w.deliver()
		}
		established := 0
		w.check = func(s *side, o Output) {
			if _, ok := o.(Established); ok && s == w.gw {
				established++
			}
		}
		d := w.dev.m
		id := w.gw.m.in.next
		h := d.header(ikewire.ExchangeType(exchange), id, false)
		if h.Exchange == ikewire.IKESAInit {
			return
		}
		raw, err := d.seal.Seal(nil, &ikewire.Message{Header: h}, payloads)
		if err != nil {
			return
		}
		sent := w.sent
		w.step(w.gw, Message{Data: raw, Local: netip.AddrPortFrom(gwAddr, 4500), Remote: netip.AddrPortFrom(devAddr, 4500), Marker: true})
		if w.sent > sent+1 {
			t.Errorf("%d answers to one request\n%s", w.sent-sent, w.log.String())
		}
		if _, signed := ikewire.Find[*ikewire.Auth](payloads); established > 0 && (!signed || up) {
			t.Errorf("established by %v\n%s", payloads, w.log.String())
		}
	})
}

// FuzzMobility lets a peer with MOBIKE send any INFORMATIONAL request from
// another address: it is answered, and asked there once at most; nothing moves
// to where it didn't return what was sent.
func FuzzMobility(f *testing.F) {
	for _, payloads := range [][]ikewire.Payload{
		{notify(ikewire.NotifyUpdateSAAddresses, nil), notify(ikewire.NotifyCookie2, make([]byte, 8))},
		{notify(ikewire.NotifyUpdateSAAddresses, nil), notify(ikewire.NotifyNATDetectionSourceIP, make([]byte, 20)), notify(ikewire.NotifyNATDetectionDestinationIP, nil)},
		{notify(ikewire.NotifyUpdateSAAddresses, nil), notify(ikewire.NotifyNoNATsAllowed, tuple(elsewhere.Local, elsewhere.Remote))},
		{notify(ikewire.NotifyAdditionalIP4Address, []byte{10, 3, 0, 2}), notify(ikewire.NotifyAdditionalIP6Address, make([]byte, 16))},
		{notify(ikewire.NotifyNoAdditionalAddresses, nil), notify(ikewire.NotifyNoNATsAllowed, make([]byte, 36))},
	} {
		first, body, err := ikewire.AppendPayloads(nil, payloads)
		must(err)
		f.Add(byte(first), body)
	}
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		payloads, err := ikewire.ParsePayloads(ikewire.PayloadType(first), body)
		if err != nil {
			return
		}
		w := newWorld(t, options{dev: mobike, gw: mobike})
		w.connect()
		d := w.dev.m
		raw, err := d.seal.Seal(nil, &ikewire.Message{Header: d.header(ikewire.Informational, w.gw.m.in.next, false)}, payloads)
		if err != nil {
			return
		}
		messages, _, moved := w.toward(elsewhere.Local.Addr())
		w.lose = func(o Send) bool { return o.Remote == elsewhere.Local }
		w.step(w.gw, Message{Data: raw, Local: elsewhere.Remote, Remote: elsewhere.Local, Marker: true})
		if *messages > 2 || *moved != 0 || len(w.gw.m.mobility.peer) > maxAddresses {
			t.Errorf("%d messages, %d moves, addresses %v\n%s", *messages, *moved, w.gw.m.mobility.peer, w.log.String())
		}
	})
}
