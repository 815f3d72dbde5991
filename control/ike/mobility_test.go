package ike

import (
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Scenarios of RFC 4555. A roamer has one address at a time; what goes to
// another is lost.

var (
	gw6   = netip.MustParseAddr("2001:db8::1")
	dev6  = netip.MustParseAddrPort("[2001:db8:3::2]:4500")
	third = Move{Local: netip.MustParseAddrPort("10.4.0.2:4500"), Remote: elsewhere.Remote}
	over6 = Move{Local: dev6, Remote: netip.AddrPortFrom(gw6, 4500)}
	home  = Move{Local: netip.AddrPortFrom(devAddr, 4500), Remote: elsewhere.Remote}
)

var moves = map[string]struct {
	options
	run func(w *world)
}{
	"mobike_addresses_announced": {
		options: options{
			gw:  func(c *Config) { c.Addresses = []netip.Addr{gwAddr, gw6, netip.MustParseAddr("192.0.2.1")} },
			dev: func(c *Config) { c.Addresses = []netip.Addr{devAddr, dev6.Addr()} },
		},
		run: func(w *world) {
			w.say("    they were in IKE_AUTH: gw has %v, dev has %v", w.gw.m.mobility.peer, w.dev.m.mobility.peer)
			w.step(w.gw, Announce{Addresses: []netip.Addr{gwAddr}})
			w.deliver()
			w.step(w.dev, Announce{Addresses: []netip.Addr{elsewhere.Local.Addr(), dev6.Addr()}})
			w.deliver()
			w.say("    and go with each update, but for the one in use")
			w.roam(elsewhere)
		},
	},
	"mobike_to_ipv6_and_back": {
		options: options{gw: func(c *Config) { c.Addresses = []netip.Addr{gwAddr, gw6} }},
		run: func(w *world) {
			w.roam(over6)
			w.roam(home)
		},
	},
	"mobike_nat_appears_and_vanishes": {
		options: options{gw: func(c *Config) { c.ForceUDP = false }},
		run: func(w *world) {
			w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
			w.roam(elsewhere)
			w.nat = nil
			w.roam(third)
		},
	},
	"mobike_nat_vanishes_in_place": {
		// The address stays, so there is nothing to prove.
		options: options{gw: func(c *Config) { c.ForceUDP = false }},
		run: func(w *world) {
			w.gw.m.natBetween = true
			w.provoke(w.gw, func(m *Machine) { m.moveChildren() })
			w.provoke(w.dev, func(m *Machine) { m.mobility.updateDue = true; m.settle(w.now) })
			w.deliver()
		},
	},
	"mobike_nat_remap_found_by_device": {run: func(w *world) {
		w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
		w.step(w.dev, Probe{})
		w.deliver()
		w.say("    and nothing comes of it when it is asked again")
		w.step(w.dev, Probe{})
		w.deliver()
	}},
	"mobike_nat_remap_found_by_packet": {run: func(w *world) {
		at := netip.MustParseAddrPort("203.0.113.9:1024")
		w.nat = func(netip.AddrPort) netip.AddrPort { return at }
		w.hint(at)
	}},
	"mobike_nat_remap_overtaken": {run: func(w *world) {
		first, second := netip.MustParseAddrPort("203.0.113.9:1024"), netip.MustParseAddrPort("203.0.113.9:1025")
		w.nat = func(netip.AddrPort) netip.AddrPort { return second }
		w.lose = func(o Send) bool { return o.Remote != second && o.Local.Addr() == gwAddr }
		w.hint(first)
		w.pass(5 * time.Second)
		w.hint(second)
	}},
	"mobike_nat_remap_during_request": {run: func(w *world) {
		now := netip.MustParseAddrPort("203.0.113.9:1024")
		w.nat = func(netip.AddrPort) netip.AddrPort { return now }
		w.lose = func(o Send) bool { return o.Remote != now && o.Local.Addr() == gwAddr }
		w.step(w.gw, Rekey{Inbound: 0xa001})
		w.deliver()
		w.hint(now)
	}},
	"mobike_other_requests_move_nothing": {run: func(w *world) {
		w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
		w.request(w.dev, ikewire.Informational)
		w.nat = nil
		w.step(w.gw, Probe{})
		w.deliver()
	}},
	"mobike_nats_forbidden_and_none": {
		options: options{
			gw: func(c *Config) { c.ForceUDP = false }, initiator: func(c *InitiatorConfig) { c.NoNATs = true },
		},
		run: func(w *world) { w.roam(elsewhere); w.roam(over6) },
	},
	"mobike_nats_forbidden_and_found": {
		// Three tries, because an attacker may have changed one packet; then the
		// device stays where it was.
		options: options{
			gw: func(c *Config) { c.ForceUDP = false }, initiator: func(c *InitiatorConfig) { c.NoNATs = true },
		},
		run: func(w *world) {
			w.nat = func(netip.AddrPort) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:1024") }
			w.step(w.dev, elsewhere)
			w.deliver()
		},
	},
	"mobike_unacceptable": {run: func(w *world) {
		w.nat = func(a netip.AddrPort) netip.AddrPort {
			if a == elsewhere.Local {
				return netip.AddrPortFrom(lease, 4500)
			}
			return a
		}
		w.step(w.dev, elsewhere)
		w.deliver()
	}},
	"mobike_update_answer_lost": {run: func(w *world) {
		w.drop[w.sent+2] = true
		w.roam(elsewhere)
		w.pass(5 * time.Second)
	}},
	"mobike_check_lost": {run: func(w *world) {
		w.drop[w.sent+3] = true
		w.roam(elsewhere)
		w.pass(5 * time.Second)
	}},
	"mobike_back_before_the_answer": {run: func(w *world) {
		// The gateway must not be left believing in the first.
		w.at(elsewhere.Local)
		w.step(w.dev, elsewhere)
		w.at(home.Local)
		w.step(w.dev, home)
		w.deliver()
		w.pass(10 * time.Second)
	}},
	"mobike_moves_before_check": {run: func(w *world) {
		// The gateway's COOKIE2 finds nobody at the first place any more.
		w.at(elsewhere.Local)
		w.step(w.dev, elsewhere)
		w.deliverOne()
		w.at(third.Local)
		w.wire = nil
		w.step(w.dev, third)
		w.deliver()
		w.pass(10 * time.Second)
	}},
	"mobike_moves_while_ike_is_rekeyed_by_device": {run: func(w *world) {
		w.dev.m.rekey.due = w.now
		w.step(w.dev, Tick{})
		w.deliverOne()
		w.roam(elsewhere)
		w.pass(10 * time.Second)
	}},
	"mobike_moves_while_ike_is_rekeyed_by_gateway": {run: func(w *world) {
		w.gw.m.rekey.due = w.now
		w.step(w.gw, Tick{})
		w.roam(elsewhere)
		w.pass(10 * time.Second)
	}},
	"mobike_update_reaches_the_old_ike_sa": {run: func(w *world) {
		// It is late: the gateway has a new one already, and deletes that one.
		w.gw.m.rekey.due = w.now
		w.step(w.gw, Tick{})
		w.step(w.dev, elsewhere)
		update := w.wire[1]
		w.wire = w.wire[:1]
		w.deliverOne()
		w.deliverOne()
		w.at(elsewhere.Local)
		w.wire = append(w.wire, update)
		w.deliver()
		w.pass(10 * time.Second)
	}},
	"mobike_path_probed": {run: func(w *world) {
		w.step(w.dev, ProbePath(over6))
		w.deliver()
		w.lose = func(o Send) bool { return o.Local == third.Local || o.Remote == third.Local }
		w.step(w.dev, ProbePath(third))
		w.deliver()
		w.pass(10 * time.Second)
	}},
	"mobike_dead_path_alternatives": {
		options: options{dev: func(c *Config) { c.Addresses = []netip.Addr{elsewhere.Local.Addr(), dev6.Addr()} }},
		run: func(w *world) {
			w.at(elsewhere.Local)
			w.step(w.gw, Probe{})
			w.pass(10 * time.Second)
		},
	},
	"mobike_cookie_not_returned": {run: func(w *world) {
		w.lie(ikewire.NotifyCookie2)
		w.step(w.dev, elsewhere)
		w.deliver()
		w.pass(time.Minute)
	}},
	"closed_while_successor_is_computed": {run: func(w *world) {
		w.gw.m.rekey.due = w.now
		w.step(w.gw, Tick{})
		w.hold = func(s *side, in Input) bool { _, ok := in.(WorkDone); return ok && s == w.gw }
		w.deliver()
		w.step(w.gw, Close{Reason: CloseKilled})
		w.deliver()
		w.release()
		w.deliver()
		w.pass(time.Minute)
	}},
	"nat_remap_without_mobike_told_by_ike": {
		options: options{gw: func(c *Config) { c.MOBIKE = false }},
		run: func(w *world) {
			at := netip.MustParseAddrPort("203.0.113.9:1024")
			w.nat = func(netip.AddrPort) netip.AddrPort { return at }
			w.step(w.dev, Probe{})
			w.deliver()
		},
	},
}

func TestMoves(t *testing.T) {
	for name, s := range moves {
		t.Run(name, func(t *testing.T) {
			o := s.options
			o.dev, o.gw = both(mobike, o.dev), both(mobike, o.gw)
			w := newWorld(t, o)
			w.connect()
			w.log.Reset()
			s.run(w)
			w.golden(name)
			w.settled()
		})
	}
}

func both(a, b func(*Config)) func(*Config) {
	return func(c *Config) {
		a(c)
		if b != nil {
			b(c)
		}
	}
}

// at puts the device to an address: what goes to others is lost from now on,
// what is on the wire to them too.
func (w *world) at(a netip.AddrPort) {
	w.lose = func(o Send) bool { return o.Local.Port() == o.Remote.Port() && isGateway(o.Local) && o.Remote != a }
	kept := w.wire[:0]
	for _, p := range w.wire {
		if !w.lose(p.data) {
			kept = append(kept, p)
		}
	}
	w.wire = kept
}

func isGateway(a netip.AddrPort) bool { return a.Addr() == gwAddr || a.Addr() == gw6 }

func (w *world) roam(m Move) {
	if w.nat == nil {
		w.at(m.Local)
	} else {
		w.lose = nil
	}
	w.step(w.dev, m)
	w.deliver()
}

func (w *world) hint(remote netip.AddrPort) {
	w.step(w.gw, AddressHint{Inbound: w.gw.m.children[0].inbound, Local: w.gw.m.path.local, Remote: remote})
	w.deliver()
}

// lie has the device's next answers come without a notification.
func (w *world) lie(t ikewire.NotifyType) {
	w.forge = func(o Send) Send {
		m, err := ikewire.Parse(o.Data)
		if err != nil || !m.IsResponse() || isGateway(o.Local) {
			return o
		}
		inner, err := w.gw.find(o.Data).open.Open(o.Data, m)
		must(err)
		var kept []ikewire.Payload
		for _, p := range inner {
			if n, ok := p.(*ikewire.Notify); !ok || n.NotifyType != t {
				kept = append(kept, p)
			}
		}
		raw, err := w.dev.find(o.Data).encode(m.Header, kept)
		must(err)
		o.Data = raw[0]
		return o
	}
}

// TestChildMadeBeforeProof: a Child SA that is rekeyed while a move is unproven
// must not send there.
func TestChildMadeBeforeProof(t *testing.T) {
	w := newWorld(t, options{dev: mobike, gw: mobike})
	w.connect()
	victim := netip.MustParseAddrPort("198.51.100.7:4500")
	w.lose = func(o Send) bool { return o.Remote == victim }
	w.nat = func(netip.AddrPort) netip.AddrPort { return victim }
	w.request(w.dev, ikewire.Informational, notify(ikewire.NotifyUpdateSAAddresses, nil))
	w.nat = nil
	w.step(w.dev, Rekey{Inbound: 0xd001})
	w.pass(3 * time.Second)
	installs := 0
	for _, c := range w.gw.changes {
		if in, ok := c.(dataplane.Install); ok {
			installs++
			if in.Child.Path.Remote == victim {
				t.Errorf("Child SA %x sends to where nobody answered\n%s", in.Child.Inbound.SPI, w.log.String())
			}
		}
	}
	if installs != 2 {
		t.Errorf("%d Child SAs were made, want 2", installs)
	}
}

// TestAnswerThatCannotBeMade: the IKE SA ends, instead of being deaf to the
// peer for good.
func TestAnswerThatCannotBeMade(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	var closed []Closed
	w.check = func(s *side, o Output) {
		if c, ok := o.(Closed); ok && s == w.gw {
			closed = append(closed, c)
		}
	}
	w.gw.m.seal.Erase()
	w.step(w.dev, Probe{})
	w.deliver()
	if len(closed) != 1 || closed[0].Reason != CloseInternal {
		t.Errorf("closed %v, want once with %s", closed, CloseInternal)
	}
}
