package ike

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// What a hostile peer tried, each kept after it was stopped.

// TestHostileChildSurvivesSession: the device uses the gateway's own rekeying of
// the IKE SA to own a Child SA that no machine knows: it outlives the session.
func TestHostileChildSurvivesSession(t *testing.T) {
	w := newWorld(t, options{gw: func(c *Config) { c.MaxChildren = 8 }})
	w.connect()
	old := w.gw.m
	// The gateway begins; the device keeps the request.
	old.rekey.due = w.now
	w.step(w.gw, Tick{})
	kept := w.wire
	w.wire = nil
	// The device rekeys on its own: a rival.
	w.dev.m.rekey.due = w.now
	w.step(w.dev, Tick{})
	w.deliverOne() // its request
	w.deliverOne() // the gateway's answer
	w.wire = nil   // its DELETE of the old IKE SA is never sent
	// Child SAs on the rival, before the gateway's rekeying is over.
	rival := w.gw.older[0]
	w.anotherChild("10.0.0.0/8")
	w.deliver()
	if len(rival.children) != 0 {
		t.Errorf("%d Child SAs on an IKE SA that may not go on", len(rival.children))
	}
	// Now the gateway's request is refused: the rival takes over.
	w.wire = kept
	w.deliver()
	// Revoked / killed: every machine of the gateway is closed and gone.
	for _, m := range append([]*Machine{w.gw.m}, w.gw.older...) {
		w.stepMachine(w.gw, m, Close{Reason: CloseRevoked})
	}
	w.deliver()
	installed := map[dataplane.SPI]bool{}
	for _, c := range w.gw.changes {
		switch c := c.(type) {
		case dataplane.Install:
			installed[c.Child.Inbound.SPI] = true
		case dataplane.Remove:
			delete(installed, c.Inbound)
		}
	}
	if len(installed) > 0 {
		t.Errorf("still in the data plane after all machines closed: %v\n%s", installed, w.log.String())
	}
}

// A revoked device whose CREATE_CHILD_SA waits for its SPI gets a Child SA
// after the DELETE was sent.
func TestHostileChildAfterRevocation(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	w.hold = func(s *side, in Input) bool { _, ok := in.(Reserved); return ok && s == w.gw }
	w.anotherChild("10.0.0.0/8")
	w.deliver()
	w.lose = func(Send) bool { return true } // the device answers nothing
	w.step(w.gw, Close{Reason: CloseRevoked})
	at := len(w.gw.changes)
	w.release()
	for _, c := range w.gw.changes[at:] {
		if in, ok := c.(dataplane.Install); ok {
			t.Errorf("installed %x after Close{revoked}; Deadline %v, Tries %d", in.Child.Inbound.SPI, w.gw.m.Deadline().Sub(w.now), w.gw.m.cfg.Tries)
		}
	}
}

// INVALID_KE_PAYLOAD lets two requests go out under one message ID.
func TestHostileTwoRequestsOneID(t *testing.T) {
	w := newWorld(t, options{gw: func(c *Config) { c.Suites = append(c.Suites[:1:1], cbcP384) }})
	w.connect()
	seen := map[uint32]string{}
	w.check = func(s *side, o Output) {
		if o, ok := o.(Send); ok && s == w.gw {
			h, _ := ikewire.ParseHeader(o.Data)
			if h.Flags&ikewire.FlagResponse != 0 {
				return
			}
			key := fmt.Sprint(h.Exchange)
			if was := seen[h.MessageID]; was != "" && was != key {
				t.Errorf("message ID %d: %s, then %s", h.MessageID, was, key)
			}
			seen[h.MessageID] = key
		}
	}
	w.gw.m.rekey.due = w.now
	w.step(w.gw, Tick{})
	req := w.wire[0]
	w.wire = nil
	w.hold = func(s *side, in Input) bool { _, ok := in.(WorkDone); return ok && s == w.gw }
	// The device's answer: another group.
	d := w.dev.m
	m, _ := ikewire.Parse(req.data.Data)
	h := d.header(ikewire.CreateChildSA, m.MessageID, true)
	raw, err := d.encode(h, []ikewire.Payload{notify(ikewire.NotifyInvalidKEPayload, binary.BigEndian.AppendUint16(nil, cbcP384.Group))})
	if err != nil {
		t.Fatal(err)
	}
	w.stepMachine(w.gw, w.gw.m, Message{Data: raw[0], Local: req.data.Local, Remote: req.data.Remote, Marker: req.data.Marker})
	w.step(w.gw, Probe{}) // while the workers compute
	w.release()
}

// How much a stranger gets for one spoofed IKE_SA_INIT, and how often.
func TestHostileReflection(t *testing.T) {
	for _, anchors := range []int{1, 10} {
		w := newWorld(t, options{gw: func(c *Config) { c.TrustAnchors = make([][20]byte, anchors) }})
		g := w.gw.m
		raw, err := (&ikewire.Message{
			Header: ikewire.Header{InitiatorSPI: 0x11, Version: ikewire.Version2, Exchange: ikewire.IKESAInit, Flags: ikewire.FlagInitiator},
			Payloads: []ikewire.Payload{
				&ikewire.SA{Proposals: []ikewire.Proposal{chosenSuite(g.cfg.Suites[0], 1)}},
				&ikewire.KE{Group: g.cfg.Suites[0].Group, Data: append(make([]byte, 31), 9)},
				&ikewire.Nonce{Data: make([]byte, 16)},
				notify(ikewire.NotifyNATDetectionSourceIP, nil),
			},
		}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		answers, octets := 0, 0
		w.check = func(_ *side, o Output) {
			if o, ok := o.(Send); ok {
				answers++
				octets += len(o.Data)
			}
		}
		in := Message{Data: raw, Local: netip.AddrPortFrom(gwAddr, 500), Remote: netip.MustParseAddrPort("198.51.100.1:53")}
		for range 1000 {
			w.step(w.gw, in)
		}
		if answers > 1+maxInitRepeats {
			t.Errorf("%d anchors: 1000 spoofed copies of %d octets -> %d answers of %d octets", anchors, len(raw), answers, octets/answers)
		}
	}
}

// A path into the tunnel is believed.
func TestHostileMoveIntoTunnel(t *testing.T) {
	w := newWorld(t, options{dev: mobike, gw: mobike})
	w.connect()
	w.nat = func(netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(lease, 4500) }
	w.request(w.dev, ikewire.Informational, notify(ikewire.NotifyUpdateSAAddresses, nil))
	for _, c := range w.gw.changes {
		if mv, ok := c.(dataplane.Move); ok {
			t.Errorf("Child SA of %v moved to %v", lease, mv.Path.Remote)
		}
	}
}

// What a stranger without any certificate leaves in memory: IKE_AUTH without
// its last fragment.
func TestHostileHalfOpenMemory(t *testing.T) {
	const n = 100
	newWorld(t, options{}).connect() // what is there once
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var keep []*Machine
	for range n {
		w := newWorld(t, options{dev: func(c *Config) { c.FragmentSize = 1200 }, gw: func(c *Config) { c.FragmentSize = 1200 }})
		w.lose = func(o Send) bool { return o.Marker }
		w.connect() // IKE_SA_INIT only
		d, g := w.dev.m, w.gw.m
		frags, err := d.seal.SealFragments(&ikewire.Message{Header: d.header(ikewire.IKEAuth, 1, false)},
			[]ikewire.Payload{&ikewire.Vendor{Data: make([]byte, 60000)}}, 1200)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frags[:len(frags)-1] {
			g.Step(w.now, Message{Data: append([]byte(nil), f...), Local: netip.AddrPortFrom(gwAddr, 4500), Remote: netip.AddrPortFrom(devAddr, 4500), Marker: true})
		}
		if g.in.parts.Pending() == 0 {
			t.Fatal("nothing kept")
		}
		keep = append(keep, g)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc - before.HeapAlloc) / n
	if per > 2*maxStranger {
		t.Errorf("%d octets for each half-open IKE SA", per)
	}
	runtime.KeepAlive(keep)
}

// While the gateway's own rekeying is open the device may rekey as often as it
// likes, without pause, and every result is a full IKE SA of its own.
func TestHostileManyRivals(t *testing.T) {
	w := newWorld(t, options{gw: func(c *Config) { c.MaxChildren = 8 }})
	w.connect()
	gw := w.gw.m
	gw.rekey.due = w.now
	w.step(w.gw, Tick{})
	w.wire = nil
	d := w.dev.m
	spawned := 0
	w.check = func(s *side, o Output) {
		if _, ok := o.(Spawned); ok && s == w.gw {
			spawned++
		}
	}
	for i := range 50 {
		kx, err := d.suite.Allow.NewKeyExchange(d.suite.Group, d.cfg.Rand)
		if err != nil {
			t.Fatal(err)
		}
		p := chosenSuite(d.suite, 1)
		p.SPI = []byte{9, 0, 0, 0, 0, 0, 0, byte(i)}
		raw, err := d.encode(d.header(ikewire.CreateChildSA, uint32(2+i), false), []ikewire.Payload{
			&ikewire.SA{Proposals: []ikewire.Proposal{p}}, &ikewire.Nonce{Data: make([]byte, 32)},
			&ikewire.KE{Group: d.suite.Group, Data: kx.Public()},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.stepMachine(w.gw, gw, Message{Data: raw[0], Local: gw.path.local, Remote: gw.path.remote, Marker: true})
		w.wire = nil
	}
	up := 0
	for _, m := range w.gw.older {
		if m.state == stateEstablished && !m.superseded {
			up++
		}
	}
	if spawned > 1 || up > 1 {
		t.Errorf("%d IKE SAs spawned at one moment, %d of them up", spawned, up)
	}
}
