package ike

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Who wants a downlink that isn't his, or that it goes to somebody else.

var victim = netip.MustParseAddrPort("198.51.100.7:4500")

// toward counts what the gateway does toward an address.
func (w *world) toward(a netip.Addr) (messages, octets, moves *int) {
	messages, octets, moves = new(int), new(int), new(int)
	w.check = func(s *side, o Output) {
		switch o := o.(type) {
		case Send:
			if s == w.gw && o.Remote.Addr() == a {
				*messages++
				*octets += len(o.Data)
			}
		case Apply:
			for _, c := range o.Changes {
				if mv, ok := c.(dataplane.Move); ok && s == w.gw && mv.Path.Remote.Addr() == a {
					*moves++
				}
			}
		}
	}
	return messages, octets, moves
}

// A thief who forwards a packet of a device from his own address, again and
// again for a minute, gets a few IKE messages that he can't read.
func TestThiefOfTheDownlink(t *testing.T) {
	for _, mob := range []bool{false, true} {
		t.Run(fmt.Sprint("MOBIKE ", mob), func(t *testing.T) {
			set := func(c *Config) { c.MOBIKE = mob }
			w := newWorld(t, options{dev: set, gw: set})
			w.connect()
			messages, _, moved := w.toward(thief.Addr())
			w.lose = func(o Send) bool { return o.Remote == thief }
			const hints = 12 // one every 5 s is what package session lets through
			for range hints {
				w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: thief})
				w.pass(5 * time.Second)
			}
			w.pass(time.Minute)
			if *moved != 0 || *messages > hints*hintTries {
				t.Errorf("%d messages, at most %d; %d moves\n%s", *messages, hints*hintTries, *moved, w.log.String())
			}
			w.lose = nil
			w.one("after the thief")
		})
	}
}

// The same who also forwards our question to the device, and the answer to us
// from his own address if he can read it on its link: he becomes the way of the
// packets, as a NAT is, until the device's next packet. That is all that RFC
// 4555 section 5.1 leaves. If he can't catch the answer nothing happens.
func TestThiefForwardsTheQuestion(t *testing.T) {
	w := newWorld(t, options{dev: mobike, gw: mobike})
	w.connect()
	_, _, moved := w.toward(thief.Addr())
	w.step(w.gw, AddressHint{Inbound: 0xa001, Local: w.gw.m.path.local, Remote: thief})
	w.wire[0].data.Remote = home.Local // the thief sends it on in our name
	w.deliver()
	if *moved != 0 {
		t.Errorf("the answer came from the device's own address and moved its Child SA\n%s", w.log.String())
	}
	w.one("after the thief")
}

// A stranger forges UPDATE_SA_ADDRESSES: with junk for keys, in the clear, and
// by sending the device's own once more from elsewhere.
func TestForgedUpdate(t *testing.T) {
	w := newWorld(t, options{dev: mobike, gw: mobike})
	w.connect()
	w.roam(elsewhere)
	w.lose = nil
	var mine []byte
	w.check = func(s *side, o Output) {
		if send, ok := o.(Send); ok && s == w.dev && mine == nil {
			mine = bytes.Clone(send.Data)
		}
	}
	w.step(w.dev, third)
	w.deliver()
	messages, octets, moved := w.toward(thief.Addr())
	from := func(raw []byte) {
		w.stepMachine(w.gw, w.gw.m, Message{Data: raw, Local: w.gw.m.path.local, Remote: thief, Marker: true})
		w.deliver()
	}
	h := w.dev.m.header(ikewire.Informational, w.dev.m.request.id, false)
	plain, err := (&ikewire.Message{Header: h, Payloads: []ikewire.Payload{notify(ikewire.NotifyUpdateSAAddresses, nil)}}).Append(nil)
	must(err)
	from(plain)
	for range 100 {
		junk := bytes.Clone(mine)
		junk[23]++ // the next message ID
		_, _ = rand.Read(junk[36:])
		from(junk)
	}
	if *messages != 0 || *moved != 0 {
		t.Errorf("%d messages and %d moves for forgeries", *messages, *moved)
	}
	// What was answered is answered again, an answer for each, to where it came
	// from. It is no longer than what it answers.
	for range 10 {
		from(mine)
	}
	if *messages > 10 || *octets > 10*len(mine) || *moved != 0 {
		t.Errorf("%d messages of %d octets and %d moves for 10 replays of %d octets", *messages, *octets, *moved, len(mine))
	}
	if w.gw.m.path.remote != third.Local {
		t.Errorf("the IKE SA is at %v", w.gw.m.path.remote)
	}
	w.one("after the forger")
}

// A device that was let in wants a victim to be flooded: it says that it is at
// the victim's address, which returns nothing; then collects at its own address
// the COOKIE2 that was made for the victim's, by saying that it is back, and
// returns it when it is "at" the victim's again.
func TestCookieOfAnotherAddress(t *testing.T) {
	w := newWorld(t, options{dev: mobike, gw: mobike})
	w.connect()
	_, _, moved := w.toward(victim.Addr())
	at := home.Local
	w.nat = func(netip.AddrPort) netip.AddrPort { return at }
	w.lose = func(o Send) bool { return o.Remote == victim || o.Local == home.Local } // the device's own machine answers nothing
	d := w.dev.m
	id := d.request.id
	say := func(from netip.AddrPort) {
		raw, err := d.encode(d.header(ikewire.Informational, id, false), []ikewire.Payload{notify(ikewire.NotifyUpdateSAAddresses, nil)})
		must(err)
		id++
		w.stepMachine(w.gw, w.gw.m, Message{Data: raw[0], Local: w.gw.m.path.local, Remote: from, Marker: true})
	}
	say(victim)
	w.wire = nil
	say(home.Local)
	var cookie *ikewire.Notify
	var open uint32
	for _, p := range w.wire {
		m, err := ikewire.Parse(p.data.Data)
		must(err)
		if m.IsResponse() {
			continue
		}
		inner, err := d.open.Open(p.data.Data, m)
		must(err)
		cookie, open = ikewire.FindNotify(inner, ikewire.NotifyCookie2), m.MessageID
	}
	if cookie == nil {
		t.Fatalf("the open COOKIE2 doesn't follow the device\n%s", w.log.String())
	}
	say(victim)
	w.wire = nil
	raw, err := d.encode(d.header(ikewire.Informational, open, true), []ikewire.Payload{cookie})
	must(err)
	w.stepMachine(w.gw, w.gw.m, Message{Data: raw[0], Local: w.gw.m.path.local, Remote: victim, Marker: true})
	w.pass(5 * time.Minute)
	if *moved != 0 {
		t.Errorf("%d moves to the victim\n%s", *moved, w.log.String())
	}
}

// A device that was let in sends its IKE_AUTH in the victim's name. If it is at
// that address, behind a NAT with several, it answers and all is well.
func TestAuthFromElsewhere(t *testing.T) {
	for _, mob := range []bool{false, true} {
		for _, there := range []bool{false, true} {
			t.Run(fmt.Sprintf("MOBIKE %v, there %v", mob, there), func(t *testing.T) {
				set := func(c *Config) { c.MOBIKE = mob }
				w := newWorld(t, options{dev: set, gw: set})
				w.nat = func(a netip.AddrPort) netip.AddrPort {
					if a.Port() == 4500 {
						return victim
					}
					return a
				}
				if !there {
					w.forge = func(o Send) Send {
						if o.Remote != victim {
							return o
						}
						// The device is told the answer to its IKE_AUTH by an accomplice at
						// the victim's, but can't answer from there.
						if m, err := ikewire.Parse(o.Data); err != nil || !m.IsResponse() {
							o.Data = nil
						}
						return o
					}
				}
				_, _, moved := w.toward(victim.Addr())
				w.connect()
				if w.gw.m.state != stateEstablished {
					t.Fatalf("not up\n%s", w.log.String())
				}
				for _, c := range w.gw.changes {
					if in, ok := c.(dataplane.Install); ok && in.Child.Path.Remote.Addr() != devAddr {
						t.Errorf("the first Child SA sends to %v\n%s", in.Child.Path.Remote, w.log.String())
					}
				}
				if (*moved == 1) != there {
					t.Errorf("%d moves\n%s", *moved, w.log.String())
				}
			})
		}
	}
}

// A device announces victims and answers nothing: what they get is bounded.
func TestVictimsAnnounced(t *testing.T) {
	w := newWorld(t, options{dev: both(mobike, func(c *Config) {
		for i := range 20 {
			c.Addresses = append(c.Addresses, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		}
		c.Addresses = append(c.Addresses, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("224.0.0.1"))
	}), gw: mobike})
	w.connect()
	if n := len(w.gw.m.mobility.peer); n > maxAddresses {
		t.Errorf("%d addresses are kept", n)
	}
	sent := map[netip.Addr]int{}
	w.check = func(s *side, o Output) {
		if o, ok := o.(Send); ok && s == w.gw && o.Remote.Addr() != devAddr {
			sent[o.Remote.Addr()]++
		}
	}
	w.lose = func(Send) bool { return true }
	w.step(w.gw, Probe{})
	w.pass(5 * time.Minute)
	if len(sent) != maxAlternatives {
		t.Errorf("sent to %v, want %d addresses", sent, maxAlternatives)
	}
	for a, n := range sent {
		if n > w.gw.m.cfg.Tries-hintTries {
			t.Errorf("%d messages to %v", n, a)
		}
	}
}

// Updates without end: one check is open, one waits.
func TestUpdateFlood(t *testing.T) {
	w := newWorld(t, options{dev: mobike, gw: mobike})
	w.connect()
	d := w.dev.m
	w.lose = func(o Send) bool { return isGateway(o.Local) }
	for i := range 500 {
		raw, err := d.encode(d.header(ikewire.Informational, d.request.id+uint32(i), false), []ikewire.Payload{notify(ikewire.NotifyUpdateSAAddresses, nil)})
		must(err)
		w.step(w.gw, Message{Data: raw[0], Local: w.gw.m.path.local, Remote: netip.AddrPortFrom(devAddr, uint16(5000+i)), Marker: true})
	}
	if n := len(w.gw.m.tasks); n > 1 {
		t.Errorf("%d tasks wait", n)
	}
	for _, c := range w.gw.changes {
		if mv, ok := c.(dataplane.Move); ok {
			t.Errorf("moved to %v", mv.Path.Remote)
		}
	}
}
