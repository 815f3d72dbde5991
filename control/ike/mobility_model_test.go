package ike

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// TestMobilityModel lets chance mix moves, rekeyings by both sides, NATs that
// forget, losses, delays, reordering and a thief's hints. The network is
// modelled: a device has one address, with or without a NAT before it; what is
// for another is lost. Nothing moves to, or is made at, an address at which the
// device never was reached; afterwards there is one of everything, at one place.
func TestMobilityModel(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 50
	}
	var total [8]int
	for seed := range n {
		for i, c := range runModel(t, uint64(seed), seed%4 != 0) {
			total[i] += c
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d runs: %d moves, %d NAT remaps, %d hints, %d thief's hints, %d rekeyings, %d messages lost of %d; %d Move and Install at the gateway",
		n, total[0], total[1], total[2], total[3], total[4], total[5], total[6], total[7])
}

// model is the network and where the device is in it.
type model struct {
	*world
	random  *rand.Rand
	mobike  bool
	local   Move           // of the device
	mapped  netip.AddrPort // by a NAT; or as it is
	next    uint16
	reached map[netip.AddrPort]bool
	count   [8]int
}

var thief = netip.MustParseAddrPort("198.51.100.66:4500")

func runModel(t *testing.T, seed uint64, mob bool) [8]int {
	set := func(c *Config) {
		c.MOBIKE, c.Tries = mob, 9
		c.Rand = newRand(byte(seed) ^ byte(len(c.ID.Data)))
	}
	m := &model{
		world:  newWorld(t, options{dev: set, gw: both(set, func(c *Config) { c.ForceUDP = seed%3 > 0 || !mob })}),
		mobike: mob, random: rand.New(rand.NewPCG(seed, 1)), local: home, mapped: home.Local, next: 1024,
		reached: map[netip.AddrPort]bool{home.Local: true},
	}
	m.connect()
	m.log.Reset()
	m.nat = func(a netip.AddrPort) netip.AddrPort {
		if a == m.local.Local {
			return m.mapped
		}
		return a
	}
	m.check = m.inspect
	loss := m.random.IntN(30)
	m.lose = func(Send) bool {
		lost := m.random.IntN(100) < loss
		if lost {
			m.count[5]++
		}
		m.count[6]++
		return lost
	}
	for range 12 {
		m.act()
		for range m.random.IntN(6) {
			m.pump()
		}
		if m.random.IntN(3) == 0 {
			m.deliverAll()
			m.passModel(time.Duration(m.random.IntN(8000)) * time.Millisecond)
		}
	}
	m.lose = nil
	for range 40 {
		m.deliverAll()
		m.packet()
		m.deliverAll()
		m.passModel(30 * time.Second)
	}
	m.agree(fmt.Sprintf("seed %d, MOBIKE %v", seed, mob))
	return m.count
}

// act does one thing.
func (m *model) act() {
	switch m.random.IntN(9) {
	case 0, 1, 2:
		if m.mobike {
			m.move()
		}
	case 3:
		m.remap()
	case 4:
		m.packet()
	case 5:
		m.count[3]++
		m.step(m.gw, AddressHint{Inbound: m.gw.m.children[0].inbound, Local: m.gw.m.path.local, Remote: thief})
	case 6:
		s := []*side{m.dev, m.gw}[m.random.IntN(2)]
		m.count[4]++
		m.step(s, Rekey{Inbound: s.m.children[0].inbound})
	case 7:
		s := []*side{m.dev, m.gw}[m.random.IntN(2)]
		m.count[4]++
		s.m.rekey.due = m.now
		m.step(s, Tick{})
	case 8:
		m.step([]*side{m.dev, m.gw}[m.random.IntN(2)], Probe{})
	}
}

// move goes to another address, sometimes behind another NAT.
func (m *model) move() {
	m.count[0]++
	to := []Move{home, elsewhere, third, over6}[m.random.IntN(4)]
	if to == m.local {
		return
	}
	m.local, m.mapped = to, to.Local
	if to != over6 && m.random.IntN(3) == 0 {
		m.remap()
	}
	for _, x := range m.dev.machines() {
		m.stepMachine(m.dev, x, to)
	}
}

// remap is a NAT that forgets the device; the packets tell.
func (m *model) remap() {
	if m.local == over6 || !m.gw.m.natBetween {
		return
	}
	m.count[1]++
	m.next++
	m.mapped = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), m.next)
}

// packet is one of a Child SA, from where the device is: the gateway's data
// plane hints if that isn't the path it has.
func (m *model) packet() {
	c := m.gw.m.children
	if len(c) == 0 || m.gw.m.childPath().Remote == m.mapped && m.gw.m.childPath().Local == m.local.Remote {
		return
	}
	m.count[2]++
	m.step(m.gw, AddressHint{Inbound: c[0].inbound, Local: m.local.Remote, Remote: m.mapped})
}

// pump delivers one message, not always the first.
func (m *model) pump() {
	if len(m.wire) == 0 {
		return
	}
	i := 0
	if m.random.IntN(4) == 0 {
		i = m.random.IntN(len(m.wire))
	}
	p := m.wire[i]
	m.wire = append(m.wire[:i:i], m.wire[i+1:]...)
	switch {
	case p.to == m.gw:
		// What was sent before a move arrives from where it was sent. Without
		// MOBIKE it is all that shows where the device is.
		if !m.mobike {
			m.reached[m.nat(p.data.Local)] = true
		}
		m.give(p)
	case p.data.Remote == m.mapped && p.data.Local == m.local.Remote:
		m.reached[m.mapped] = true
		p.data.Remote = m.local.Local // the NAT's doing
		m.give(p)
	}
}

func (m *model) deliverAll() {
	for len(m.wire) > 0 {
		m.pump()
	}
}

// passModel is pass over this network.
func (m *model) passModel(d time.Duration) {
	for end := m.now.Add(d); ; {
		due, who, which := m.soonest(end)
		if who == nil {
			m.now = end
			return
		}
		if due.After(m.now) {
			m.now = due
		}
		m.stepMachine(who, which, Tick{})
		m.deliverAll()
	}
}

// inspect sees that nothing goes to where the device was not.
func (m *model) inspect(s *side, o Output) {
	a, ok := o.(Apply)
	if !ok || s != m.gw {
		return
	}
	for _, c := range a.Changes {
		var to netip.AddrPort
		switch c := c.(type) {
		case dataplane.Move:
			to = c.Path.Remote
		case dataplane.Install:
			to = c.Child.Path.Remote
		default:
			continue
		}
		m.count[7]++
		if !m.reached[to] {
			m.t.Errorf("%T to %v, where nobody was reached\n%s", c, to, m.log.String())
		}
	}
}

// agree checks the end.
func (m *model) agree(name string) {
	fail := func(format string, args ...any) {
		m.t.Fatalf("%s: %s\n%s", name, fmt.Sprintf(format, args...), m.log.String())
	}
	d, g := m.dev.m, m.gw.m
	if d.state != stateEstablished || g.state != stateEstablished || d.spiI != g.spiI || d.spiR != g.spiR {
		fail("IKE SAs %d %x/%x and %d %x/%x", d.state, d.spiI, d.spiR, g.state, g.spiI, g.spiR)
	}
	if len(d.children) != 1 || len(g.children) != 1 || d.children[0].inbound != g.children[0].outbound {
		fail("%d and %d Child SAs", len(d.children), len(g.children))
	}
	if p := g.childPath(); p.Remote != m.mapped || p.Local != m.local.Remote {
		fail("the gateway sends to %v from %v, the device is at %v", p.Remote, p.Local, m.mapped)
	}
	if g.path.remote != m.mapped {
		fail("the gateway's IKE SA is at %v, the device at %v", g.path.remote, m.mapped)
	}
	if p := d.childPath(); m.mobike && (p.Local != m.local.Local || p.Remote != m.local.Remote) {
		fail("the device sends from %v to %v, and is at %v", p.Local, p.Remote, m.local)
	}
	if (d.childPath().Encapsulation == dataplane.EncapsulationUDP) != (g.childPath().Encapsulation == dataplane.EncapsulationUDP) {
		fail("encapsulation %v and %v", d.childPath().Encapsulation, g.childPath().Encapsulation)
	}
	m.settled()
}
