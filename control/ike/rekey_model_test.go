package ike

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// TestRekeyModel lets chance mix rekeyings of Child SAs and IKE SAs by both
// sides with losses, delays, reordering, and data planes and workers that answer
// late. At each moment what a side sends by is received at the other; afterwards
// there is one Child SA, and both send by it. ROAMGATE_REKEY_MODEL is how many
// runs to make, if more than usual.
func TestRekeyModel(t *testing.T) {
	n := 500
	if testing.Short() {
		n = 100
	}
	if more, err := strconv.Atoi(os.Getenv("ROAMGATE_REKEY_MODEL")); err == nil {
		n = more
	}
	var total rekeyCount
	for seed := range n {
		total.add(runRekeyModel(t, uint64(seed)))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d runs: %+v", n, total)
	if total.Collisions == 0 || total.Refused == 0 || total.Lost == 0 || total.Late == 0 {
		t.Error("the model is too tame")
	}
}

// rekeyCount is what happened.
type rekeyCount struct{ Child, IKE, Collisions, Refused, Late, Lost, Sent int }

func (c *rekeyCount) add(o rekeyCount) {
	c.Child += o.Child
	c.IKE += o.IKE
	c.Collisions += o.Collisions
	c.Refused += o.Refused
	c.Late += o.Late
	c.Lost += o.Lost
	c.Sent += o.Sent
}

// plane is the data plane of a side by the contract: the one that was told last
// carries the packets.
type plane struct {
	outbound map[dataplane.SPI]dataplane.SPI // of those installed, by the inbound one
	used     []dataplane.SPI                 // the last one last
}

// sends is the SPI by which packets go out; 0 if there is none.
func (p *plane) sends() dataplane.SPI {
	for i := len(p.used) - 1; i >= 0; i-- {
		if out, ok := p.outbound[p.used[i]]; ok {
			return out
		}
	}
	return 0
}

func (p *plane) apply(changes []dataplane.Change) {
	for _, c := range changes {
		switch c := c.(type) {
		case dataplane.Install:
			p.outbound[c.Child.Inbound.SPI] = c.Child.Outbound.SPI
		case dataplane.UseOutbound:
			p.used = append(p.used, c.Inbound)
		case dataplane.Remove:
			delete(p.outbound, c.Inbound)
		case dataplane.Move, dataplane.Regroup:
		}
	}
}

type rekeyModel struct {
	*world
	name   string
	random *rand.Rand
	planes map[*side]*plane
	up     bool
	count  rekeyCount
}

func runRekeyModel(t *testing.T, seed uint64) rekeyCount {
	set := func(c *Config) {
		c.Tries = 9
		c.Rand = newRand(byte(seed) ^ byte(seed>>8) ^ byte(len(c.ID.Data)))
	}
	m := &rekeyModel{
		name:  fmt.Sprintf("seed %d", seed),
		world: newWorld(t, options{dev: set, gw: set}), random: rand.New(rand.NewPCG(seed, 2)),
	}
	m.planes = map[*side]*plane{
		m.dev: {outbound: map[dataplane.SPI]dataplane.SPI{}},
		m.gw:  {outbound: map[dataplane.SPI]dataplane.SPI{}},
	}
	m.check = m.inspect
	m.connect()
	m.log.Reset()
	m.up = true
	m.worse()
	for range 16 {
		m.act()
		for range m.random.IntN(7) {
			m.pump()
		}
		if m.random.IntN(4) == 0 {
			m.wait(time.Duration(m.random.IntN(9000)) * time.Millisecond)
		}
	}
	m.lose = nil
	m.release()
	for range 60 { // the longest: a request that nobody answers, after supersededFor
		m.drain()
		m.wait(30 * time.Second)
	}
	m.one(m.name)
	for s, p := range m.planes {
		if len(p.outbound) != 1 || p.sends() != s.m.children[0].outbound {
			t.Fatalf("%s: %s sends by %x of %x\n%s", m.name, s.name, p.sends(), p.outbound, m.log.String())
		}
	}
	return m.count
}

// worse makes wire and workers unreliable.
func (m *rekeyModel) worse() {
	loss, late := m.random.IntN(30), m.random.IntN(40)
	m.lose = func(Send) bool {
		m.count.Sent++
		lost := m.random.IntN(100) < loss
		if lost {
			m.count.Lost++
		}
		return lost
	}
	m.hold = func(*side, Input) bool {
		held := m.random.IntN(100) < late
		if held {
			m.count.Late++
		}
		return held
	}
}

// act does one thing.
func (m *rekeyModel) act() {
	s := []*side{m.dev, m.gw}[m.random.IntN(2)]
	switch m.random.IntN(8) {
	case 0, 1, 2:
		m.rekeyChildOf(s)
	case 3, 4:
		m.rekeyChildOf(m.dev)
		m.rekeyChildOf(m.gw)
	case 5:
		m.count.IKE++
		s.m.rekey.due = m.now
		m.step(s, Tick{})
	case 6:
		m.step(s, Probe{})
	case 7:
		m.now = m.now.Add(time.Second)
	}
}

func (m *rekeyModel) rekeyChildOf(s *side) {
	if n := len(s.m.children); n > 0 {
		m.count.Child++
		m.step(s, Rekey{Inbound: s.m.children[m.random.IntN(n)].inbound})
	}
}

// pump delivers a message, or an answer that was kept back; not always the first.
func (m *rekeyModel) pump() {
	if n := len(m.held); n > 0 && (len(m.wire) == 0 || m.random.IntN(3) == 0) {
		i := m.random.IntN(n)
		f := m.held[i]
		m.held = append(m.held[:i:i], m.held[i+1:]...)
		f()
		return
	}
	if len(m.wire) == 0 {
		return
	}
	i := 0
	if m.random.IntN(4) == 0 {
		i = m.random.IntN(len(m.wire))
	}
	p := m.wire[i]
	m.wire = append(m.wire[:i:i], m.wire[i+1:]...)
	m.give(p)
}

func (m *rekeyModel) drain() {
	for len(m.wire)+len(m.held) > 0 {
		m.pump()
	}
}

// wait lets time pass, with every Tick that falls due.
func (m *rekeyModel) wait(d time.Duration) {
	for end := m.now.Add(d); ; {
		due, who, which := m.soonest(end)
		if who == nil {
			m.now = end
			return
		}
		if due.After(m.now) {
			m.now = due
		} else {
			m.now = m.now.Add(100 * time.Millisecond)
		}
		m.stepMachine(who, which, Tick{})
		m.drain()
	}
}

// inspect sees that nobody sends to where nobody receives.
func (m *rekeyModel) inspect(s *side, o Output) {
	switch o := o.(type) {
	case Apply:
		m.planes[s].apply(o.Changes)
	case Noted:
		if o.Note == NoteRekeyCollision {
			m.count.Collisions++
		}
		if o.Note == NoteChildRefused {
			m.count.Refused++
		}
	}
	for from, to := range map[*side]*side{m.dev: m.gw, m.gw: m.dev} {
		spi := m.planes[from].sends()
		if _, received := m.planes[to].outbound[spi]; m.up && !received {
			m.t.Fatalf("%s: %s sends to %x, which %s doesn't receive\n%s", m.name, from.name, spi, to.name, m.log.String())
		}
	}
}
