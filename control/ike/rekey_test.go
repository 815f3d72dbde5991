package ike

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Scenarios of an IKE SA that lives: rekeying, moving, redirection. Their
// transcripts begin when it is up.

var lives = map[string]struct {
	options
	run func(w *world)
}{
	"rekey_child_by_device": {run: func(w *world) {
		w.step(w.dev, Rekey{Inbound: 0xd001})
		w.deliver()
	}},
	"rekey_child_by_gateway_lifetime": {
		options: options{gw: func(c *Config) {
			c.ChildLife = Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour}
		}},
		run: func(w *world) { w.pass(90 * time.Minute) },
	},
	"rekey_child_pfs": {run: func(w *world) {
		w.dev.m.children[0].group = ikewire.GroupECP256
		w.step(w.dev, Rekey{Inbound: 0xd001})
		w.deliver()
		w.say("    and the gateway the next one, with a key exchange because the device wanted one")
		w.step(w.gw, Rekey{Inbound: w.gw.m.children[0].inbound})
		w.deliver()
	}},
	"rekey_child_invalid_ke": {
		options: options{gw: func(c *Config) { c.Suites = append(c.Suites[:1:1], cbcP384) }},
		run: func(w *world) {
			w.dev.m.children[0].group = ikewire.GroupECP256
			w.dev.m.cfg.Suites = w.dev.m.cfg.Suites[:3]
			w.step(w.dev, Rekey{Inbound: 0xd001})
			w.deliver()
		},
	},
	"rekey_child_not_found": {run: func(w *world) {
		// The device forgot to tell that it deleted.
		w.provoke(w.dev, func(m *Machine) { m.drop(m.children[0]) })
		w.step(w.gw, Rekey{Inbound: 0xa001})
		w.deliver()
	}},
	"delete_crosses_rekey": {run: func(w *world) {
		w.step(w.gw, Rekey{Inbound: 0xa001})
		w.deleteChild(w.dev)
		w.deliver()
	}},
	"child_hard_lifetime": {
		options: options{gw: func(c *Config) { c.ChildLife = Lifetime{Hard: time.Hour} }},
		run:     func(w *world) { w.pass(2 * time.Hour) },
	},
	"rekey_ike_by_device": {run: func(w *world) {
		w.dev.m.rekey.due = w.now.Add(time.Minute)
		w.pass(2 * time.Minute)
		w.say("    keys of the next Child SA come from the new IKE SA")
		w.step(w.gw, Rekey{Inbound: 0xa001})
		w.deliver()
	}},
	"rekey_ike_by_gateway_lifetime": {
		options: options{gw: func(c *Config) { c.IKELife = Lifetime{Rekey: 4 * time.Hour, Hard: 8 * time.Hour} }},
		run: func(w *world) {
			w.pass(5 * time.Hour)
			w.step(w.gw, Probe{})
			w.step(w.dev, Probe{})
			w.deliver()
		},
	},
	"ike_hard_lifetime": {
		options: options{gw: func(c *Config) { c.IKELife = Lifetime{Hard: time.Hour} }},
		run:     func(w *world) { w.pass(2 * time.Hour) },
	},
	"rekey_ike_while_child_is_rekeyed": {run: func(w *world) {
		w.step(w.gw, Rekey{Inbound: 0xa001})
		w.dev.m.rekey.due = w.now
		w.step(w.dev, Tick{})
		w.deliver()
		w.pass(time.Minute)
	}},
	"superseded_and_never_deleted": {run: func(w *world) {
		w.dev.m.rekey.due = w.now
		w.step(w.dev, Tick{})
		w.deliverOne()
		w.deliverOne()
		w.wire = nil // the device's DELETE and all its repetitions are lost
		w.dev.older[0].request = request{}
		w.pass(5 * time.Minute)
	}},
	"another_child": {run: func(w *world) {
		w.anotherChild("10.2.0.0/16")
	}},
	"too_many_children": {
		options: options{gw: func(c *Config) { c.MaxChildren = 1 }},
		run:     func(w *world) { w.anotherChild("10.2.0.0/16") },
	},
	"mobike_moves": {
		options: options{dev: mobike, gw: mobike},
		run: func(w *world) {
			w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
			w.request(w.dev, ikewire.Informational, append(w.dev.m.natPayloads(w.dev.m.spiR, w.dev.m.path),
				notify(ikewire.NotifyUpdateSAAddresses, nil), notify(ikewire.NotifyCookie2, []byte("12345678")))...)
		},
	},
	"mobike_forbids_nat": {
		options: options{dev: mobike, gw: mobike},
		run: func(w *world) {
			w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
			w.request(w.dev, ikewire.Informational, notify(ikewire.NotifyUpdateSAAddresses, nil),
				notify(ikewire.NotifyNoNATsAllowed, []byte{10, 1, 0, 2, 10, 1, 0, 1, 0x11, 0x94, 0x11, 0x94}))
		},
	},
	"mobike_device_moves": {
		options: options{dev: mobike, gw: mobike},
		run:     func(w *world) { w.step(w.dev, elsewhere); w.deliver() },
	},
	"mobike_device_moves_while_it_rekeys": {
		options: options{dev: mobike, gw: mobike},
		run: func(w *world) {
			w.lose = func(o Send) bool { return o.Remote.Addr() == devAddr } // the old network is gone
			w.step(w.dev, Rekey{Inbound: 0xd001})
			w.deliver()
			w.step(w.dev, elsewhere)
			w.deliver()
		},
	},
	"mobike_device_moves_twice": {
		options: options{dev: mobike, gw: mobike},
		run: func(w *world) {
			w.step(w.dev, Move{Local: netip.MustParseAddrPort("10.4.0.2:4500"), Remote: elsewhere.Remote})
			w.step(w.dev, elsewhere)
			w.deliver()
		},
	},
	"mobike_device_moves_after_gateway_rekeyed_ike": {
		options: options{dev: mobike, gw: mobike},
		run: func(w *world) {
			w.gw.m.rekey.due = w.now
			w.step(w.gw, Tick{})
			w.deliver()
			w.step(w.dev, elsewhere)
			w.deliver()
		},
	},
	"move_without_mobike": {run: func(w *world) { w.step(w.dev, elsewhere); w.deliver() }},
	"update_without_mobike": {run: func(w *world) {
		w.request(w.dev, ikewire.Informational, notify(ikewire.NotifyUpdateSAAddresses, nil))
	}},
	"address_hint_confirmed": {run: func(w *world) {
		w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
		w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: netip.MustParseAddrPort("203.0.113.9:1024")})
		w.deliver()
	}},
	// A NAT that restarts may map a device twice in a moment: what was asked at
	// the first address is asked again at the second, not after 62 seconds.
	"address_hint_overtaken": {run: func(w *world) {
		first, second := netip.MustParseAddrPort("203.0.113.9:1024"), netip.MustParseAddrPort("203.0.113.9:1025")
		w.nat = func(netip.AddrPort) netip.AddrPort { return second }
		w.lose = func(o Send) bool { return o.Remote != second && o.Local.Addr() == gwAddr }
		w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: first})
		w.pass(5 * time.Second)
		w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: second})
		w.deliver()
	}},
	"address_hint_during_request": {run: func(w *world) {
		now := netip.MustParseAddrPort("203.0.113.9:1024")
		w.nat = func(netip.AddrPort) netip.AddrPort { return now }
		w.lose = func(o Send) bool { return o.Remote != now && o.Local.Addr() == gwAddr }
		w.step(w.gw, Rekey{Inbound: 0xa001})
		w.deliver()
		w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: now})
		w.deliver()
	}},
	"address_hint_was_a_thief": {run: func(w *world) {
		thief := netip.MustParseAddrPort("203.0.113.66:4500")
		w.lose = func(o Send) bool { return o.Remote == thief }
		w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: thief})
		w.pass(time.Minute)
	}},
	"peer_refuses_afterwards": {run: func(w *world) {
		w.request(w.dev, ikewire.Informational, notify(ikewire.NotifyAuthenticationFailed, nil))
		w.dev.done = true
		w.pass(time.Minute)
	}},
	"redirect_live": {run: func(w *world) {
		w.step(w.gw, Redirect{To: "gw2.example"})
		w.deliver()
		w.pass(time.Minute)
	}},
}

func mobike(c *Config) { c.MOBIKE = true }

// elsewhere is where the device moves to.
var elsewhere = Move{Local: netip.MustParseAddrPort("10.3.0.2:4500"), Remote: netip.AddrPortFrom(gwAddr, 4500)}

func TestLives(t *testing.T) {
	for name, s := range lives {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s.options)
			w.connect()
			w.log.Reset()
			s.run(w)
			w.golden(name)
			w.settled()
		})
	}
}

// deleteChild has a side delete its first Child SA.
func (w *world) deleteChild(s *side) {
	w.provoke(s, func(m *Machine) { m.deleteChild(w.now, m.children[0]) })
}

// provoke has a machine do what no input asks for.
func (w *world) provoke(s *side, do func(m *Machine)) {
	m := s.m
	m.out = m.out[:0]
	do(m)
	for _, o := range append([]Output(nil), m.out...) {
		w.carryOut(s, m, o)
	}
}

// anotherChild has the device ask for a second Child SA.
func (w *world) anotherChild(network string) {
	m := w.dev.m
	spec := espProposal(espChoice{algorithm: espGCM, sayESN: true}, 1, 0xd0ff)
	w.request(w.dev, ikewire.CreateChildSA,
		&ikewire.SA{Proposals: []ikewire.Proposal{spec}}, &ikewire.Nonce{Data: make([]byte, 32)},
		tsPayload(true, hosts(m.virtual)),
		tsPayload(false, networks([]netip.Prefix{netip.MustParsePrefix(network)}, families{ipv4: true})))
}

// settled: what is installed is what the machines know, crosswise; nothing is
// left over.
func (w *world) settled() {
	w.t.Helper()
	w.checkKeys()
	for _, s := range []*side{w.dev, w.gw} {
		known := map[dataplane.SPI]bool{}
		for _, m := range s.machines() {
			for _, c := range m.children {
				known[c.inbound] = true
			}
			for _, d := range m.departing {
				known[d.inbound] = true
			}
			if len(m.reserved) > 0 {
				w.t.Errorf("%s keeps reserved SPIs %v", s.name, m.reserved)
			}
		}
		installed := map[dataplane.SPI]bool{}
		for _, c := range s.changes {
			switch c := c.(type) {
			case dataplane.Install:
				installed[c.Child.Inbound.SPI] = true
			case dataplane.Remove:
				delete(installed, c.Inbound)
			case dataplane.UseOutbound, dataplane.Move:
			}
		}
		if fmt.Sprint(known) != fmt.Sprint(installed) {
			w.t.Errorf("%s knows %v, installed are %v\n%s", s.name, known, installed, w.log.String())
		}
	}
}

// TestSleeperIsNotRekeyed: what would find nobody is put off until the device
// is heard; its hard lifetime stands.
func TestSleeperIsNotRekeyed(t *testing.T) {
	life := Lifetime{Rekey: time.Hour, Hard: 25 * time.Hour}
	w := newWorld(t, options{gw: func(c *Config) { c.ChildLife, c.IKELife = life, life }})
	w.connect()
	slept, sent := w.now, w.sent
	for w.now.Sub(slept) < 24*time.Hour {
		w.now = w.gw.m.Deadline()
		w.step(w.gw, Tick{Heard: slept})
	}
	if w.sent != sent || w.gw.m.state != stateEstablished {
		t.Fatalf("%d messages to a device that sleeps\n%s", w.sent-sent, w.log.String())
	}
	w.now = w.gw.m.Deadline()
	w.step(w.gw, Tick{Heard: w.now})
	w.deliver()
	if w.sent == sent {
		t.Error("not rekeyed after it woke")
	}
	w.pass(time.Minute)
	w.one("woken")
}

// TestRekeyFlood: a peer that rekeys and rekeys and never deletes gets no more
// than a few Child SAs and IKE SAs out of it.
func TestRekeyFlood(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	for i := range 100 {
		old := w.gw.m.children[len(w.gw.m.children)-1]
		offer := espProposal(espChoice{algorithm: espGCM, sayESN: true}, 1, dataplane.SPI(0xe000+i))
		w.request(w.dev, ikewire.CreateChildSA,
			&ikewire.Notify{Protocol: ikewire.ProtocolESP, NotifyType: ikewire.NotifyRekeySA, SPI: binary.BigEndian.AppendUint32(nil, uint32(old.outbound))},
			&ikewire.SA{Proposals: []ikewire.Proposal{offer}}, &ikewire.Nonce{Data: make([]byte, 32)},
			tsPayload(true, old.remote), tsPayload(false, old.local))
	}
	if n := len(w.gw.m.children); n > 2*w.gw.m.cfg.MaxChildren {
		t.Errorf("%d Child SAs", n)
	}
	w = newWorld(t, options{})
	w.connect()
	for range 100 {
		w.dev.m.rekey.due = w.now
		w.step(w.dev, Tick{})
		w.deliver()
		w.now = w.now.Add(time.Second / 10)
	}
	if n := len(w.gw.older); n > 3 {
		t.Errorf("%d old IKE SAs", n)
	}
}

// TestRekeyMatrix: who begins, what is rekeyed, whether both do, which of the
// messages get lost, in which order the rest arrives. Afterwards there is one
// IKE SA and one Child SA, both sides agree on them, and nothing is left.
func TestRekeyMatrix(t *testing.T) {
	actions := map[string]func(w *world, s *side){
		"child": func(w *world, s *side) { w.step(s, Rekey{Inbound: s.m.children[0].inbound}) },
		"ike": func(w *world, s *side) {
			s.m.rekey.due = w.now
			w.step(s, Tick{})
		},
		"nothing": func(*world, *side) {},
	}
	n := 0
	for devDoes, dev := range actions {
		for gwDoes, gw := range actions {
			for loss := range 1 << 6 { // of the first six messages
				for order := range 4 {
					name := fmt.Sprintf("dev %s, gw %s, loss %06b, order %d", devDoes, gwDoes, loss, order)
					w := newWorld(t, options{dev: seed(byte(loss)), gw: seed(byte(100 + order))})
					w.connect()
					w.log.Reset()
					for i := range 6 {
						w.drop[w.sent+i+1] = loss>>i&1 == 1
					}
					dev(w, w.dev)
					gw(w, w.gw)
					w.shuffled(order)
					w.pass(20 * time.Minute)
					w.one(name)
					n++
				}
			}
		}
	}
	t.Logf("%d cases", n)
}

// TestCrossedRekeyIsNotRefused: both sides rekey the Child SA, and the device
// did so too often before. Refused between the gateway's request and its DELETE
// it would forget that the Child SA was replaced, if it were strongSwan.
func TestCrossedRekeyIsNotRefused(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	w.log.Reset()
	w.gw.m.pace = pace{began: true, at: w.now}
	w.step(w.dev, Rekey{Inbound: 0xd001})
	w.step(w.gw, Rekey{Inbound: 0xa001})
	w.deliver()
	w.pass(2 * passage)
	w.one("crossed")
	if strings.Contains(w.log.String(), "TEMPORARY_FAILURE") {
		t.Errorf("refused\n%s", w.log.String())
	}
	w.gw.m.pace = pace{began: true, at: w.now}
	w.step(w.dev, Rekey{Inbound: w.dev.m.children[0].inbound})
	w.deliver()
	if !strings.Contains(w.log.String(), "TEMPORARY_FAILURE") {
		t.Error("the pace holds for nobody")
	}
}

// TestRefusalWaitsForDelete: the device wants to rekey what the gateway is
// deleting. It hears so when it has taken the DELETE, not before.
func TestRefusalWaitsForDelete(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	w.log.Reset()
	w.step(w.dev, Rekey{Inbound: 0xd001})
	late := w.wire[0]
	w.wire = nil
	w.drop[w.sent+3] = true // the DELETE
	w.step(w.gw, Rekey{Inbound: 0xa001})
	w.deliver()
	w.give(late)
	w.deliver()
	if w.gw.m.in.awaits == nil || strings.Contains(w.log.String(), "TEMPORARY_FAILURE") {
		t.Errorf("answered before the device has the DELETE\n%s", w.log.String())
	}
	w.pass(time.Minute)
	if !strings.Contains(w.log.String(), "TEMPORARY_FAILURE") {
		t.Errorf("not answered\n%s", w.log.String())
	}
	w.one("refused")
}

// TestHeirIsNotRekeyed: the device may know nothing yet of a Child SA that it
// asked for. A request to rekey it would end in CHILD_SA_NOT_FOUND, and the
// device would send by what is no longer received.
func TestHeirIsNotRekeyed(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	w.step(w.dev, Rekey{Inbound: 0xd001})
	w.lose = func(o Send) bool { return o.Local.Addr() == gwAddr }
	w.deliver()
	w.lose = nil
	heir := w.gw.m.children[1].inbound
	w.step(w.gw, Rekey{Inbound: heir})
	w.deliver()
	w.pass(time.Minute)
	w.one("heir")
	if w.gw.m.children[0].inbound == heir {
		t.Errorf("not rekeyed when the device had it\n%s", w.log.String())
	}
}

// TestRekeyOfWhatIsBeingMade: the device wants to rekey the Child SA that it
// just made in answer to the gateway, which has the answer, but not yet its keys.
// Told CHILD_SA_NOT_FOUND the device would drop it.
func TestRekeyOfWhatIsBeingMade(t *testing.T) {
	for _, late := range []Input{WorkDone{}, Applied{}} {
		w := newWorld(t, options{})
		w.connect()
		w.log.Reset()
		w.gw.m.children[0].group = ikewire.GroupECP256
		asked := false
		w.hold = func(s *side, in Input) bool {
			return s == w.gw && asked && fmt.Sprintf("%T", in) == fmt.Sprintf("%T", late)
		}
		w.step(w.gw, Rekey{Inbound: 0xa001})
		asked = true
		w.deliver()
		made := w.dev.m.children[1]
		w.request(w.dev, ikewire.CreateChildSA,
			&ikewire.Notify{Protocol: ikewire.ProtocolESP, NotifyType: ikewire.NotifyRekeySA, SPI: binary.BigEndian.AppendUint32(nil, uint32(made.inbound))},
			&ikewire.SA{Proposals: []ikewire.Proposal{espProposal(espChoice{algorithm: espGCM, sayESN: true}, 1, 0xd0ff)}},
			&ikewire.Nonce{Data: make([]byte, 32)}, tsPayload(true, made.local), tsPayload(false, made.remote))
		if log := w.log.String(); !strings.Contains(log, "TEMPORARY_FAILURE") || strings.Contains(log, "CHILD_SA_NOT_FOUND") {
			t.Errorf("%T late: not told to try again\n%s", late, log)
		}
		w.release()
		w.deliver()
		w.pass(time.Minute)
		w.one("made")
	}
}

// TestTwoOrdersToRekeyIKE: the device rekeys, too. The second order finds the
// first computing the keys of the new IKE SA, and comes to nothing.
func TestTwoOrdersToRekeyIKE(t *testing.T) {
	for n := range byte(8) {
		w := newWorld(t, options{dev: seed(n), gw: seed(100 + n)})
		w.connect()
		w.log.Reset()
		w.drop[w.sent+4] = true // the gateway's answer
		w.step(w.gw, Rekey{})
		w.step(w.gw, Rekey{})
		w.step(w.dev, Rekey{})
		w.hold = func(s *side, in Input) bool {
			done, _ := in.(WorkDone)
			keys, ok := done.Result.(initKeys)
			return ok && s == w.gw && keys.public == nil // of its own, not those of its answer
		}
		w.deliver()
		w.release()
		w.deliver()
		w.pass(20 * time.Minute)
		w.one("twice")
		if n := strings.Count(w.log.String(), "gw    REKEYED"); n != 1 {
			t.Errorf("rekeyed %d times\n%s", n, w.log.String())
		}
	}
}

// TestDeletedWhileSuccessorIsComputed: both rekey the IKE SA, the device wins
// and deletes the old one while the gateway still computes its own new one. The
// device has that too, and is told that it goes.
func TestDeletedWhileSuccessorIsComputed(t *testing.T) {
	for n := range byte(8) {
		w := newWorld(t, options{dev: seed(n), gw: seed(100 + n)})
		w.connect()
		w.log.Reset()
		for _, s := range []*side{w.dev, w.gw} {
			s.m.rekey.due = w.now
			w.step(s, Tick{})
		}
		w.deliverOne()
		w.deliverOne()
		w.hold = func(s *side, in Input) bool { _, ok := in.(WorkDone); return ok && s == w.gw }
		w.deliver()
		w.release()
		w.deliver()
		w.pass(30 * time.Second)
		w.one("computed late")
	}
}

// seed makes nonces, and so the outcome of collisions, differ.
func seed(s byte) func(*Config) {
	return func(c *Config) { c.Rand, c.Tries = newRand(s), 8 }
}

// shuffled delivers what is on the wire, sometimes the last first.
func (w *world) shuffled(order int) {
	for i := 0; len(w.wire) > 0; i++ {
		if order>>(i%2)&1 == 1 {
			last := len(w.wire) - 1
			w.wire[0], w.wire[last] = w.wire[last], w.wire[0]
		}
		w.deliverOne()
	}
}

// one checks that there is one of everything.
func (w *world) one(name string) {
	w.t.Helper()
	w.settled()
	fail := func(format string, args ...any) {
		w.t.Helper()
		w.t.Fatalf("%s: %s\n%s", name, fmt.Sprintf(format, args...), w.log.String())
	}
	d, g := w.dev.m, w.gw.m
	if d.state != stateEstablished || g.state != stateEstablished || d.spiI != g.spiI || d.spiR != g.spiR {
		fail("IKE SAs %d %x/%x and %d %x/%x", d.state, d.spiI, d.spiR, g.state, g.spiI, g.spiR)
	}
	if len(d.children) != 1 || len(g.children) != 1 {
		fail("%d and %d Child SAs", len(d.children), len(g.children))
	}
	dc, gc := d.children[0], g.children[0]
	if dc.inbound != gc.outbound || dc.outbound != gc.inbound || dc.state != childUp || gc.state != childUp {
		fail("Child SAs %x/%x in state %d and %x/%x in state %d", dc.inbound, dc.outbound, dc.state, gc.inbound, gc.outbound, gc.state)
	}
	for _, s := range []*side{w.dev, w.gw} {
		for _, m := range s.older {
			if m.state == stateEstablished || m.state == stateDeleting {
				fail("%s has an old IKE SA %x/%x in state %d", s.name, m.spiI, m.spiR, m.state)
			}
		}
		if use := lastUse(s); use != s.m.children[0].inbound {
			fail("%s sends by %x, which is not %x", s.name, use, s.m.children[0].inbound)
		}
	}
	// They still understand each other.
	clear(w.drop)
	w.step(w.gw, Probe{})
	w.deliver()
	if w.gw.m.request.open {
		fail("no answer to a probe")
	}
}

// lastUse is the Child SA that carries outbound packets: the one told last
// among those that are installed.
func lastUse(s *side) dataplane.SPI {
	var order []dataplane.SPI
	gone := map[dataplane.SPI]bool{}
	for _, c := range s.changes {
		switch c := c.(type) {
		case dataplane.UseOutbound:
			order = append(order, c.Inbound)
		case dataplane.Remove:
			gone[c.Inbound] = true
		case dataplane.Install, dataplane.Move:
		}
	}
	for i := len(order) - 1; i >= 0; i-- {
		if !gone[order[i]] {
			return order[i]
		}
	}
	return 0
}
