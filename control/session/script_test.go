package session

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// script is a machine that does what a test says.
type script struct {
	cfg *ike.Config
	spi uint64

	mu       sync.Mutex
	inputs   []ike.Input
	deadline time.Time
	// answer gives the outputs for the next inputs; nil gives none.
	answer func(in ike.Input) []ike.Output
}

func (m *script) Step(_ time.Time, in ike.Input) []ike.Output {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inputs = append(m.inputs, in)
	if m.answer == nil {
		return nil
	}
	return m.answer(in)
}

func (m *script) Deadline() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deadline
}

func (m *script) Rest(*slab.Octets) bool { return false }

func (m *script) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *script) last() ike.Input {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.inputs) == 0 {
		return nil
	}
	return m.inputs[len(m.inputs)-1]
}

func (m *script) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.inputs)
}

// closes is a script's answer that ends at once when it is asked to.
func closes(in ike.Input) []ike.Output {
	if c, ok := in.(ike.Close); ok {
		return []ike.Output{ike.Closed{Reason: c.Reason}}
	}
	return nil
}

// makeScript is the maker of a world's machines.
func (w *world) makeScript(cfg *ike.Config, _, spiR uint64) stepper {
	m := &script{cfg: cfg, spi: spiR, answer: closes}
	w.scriptsMu.Lock()
	defer w.scriptsMu.Unlock()
	w.scripts = append(w.scripts, m)
	return m
}

func (w *world) lastScript() *script {
	w.scriptsMu.Lock()
	defer w.scriptsMu.Unlock()
	if len(w.scripts) == 0 {
		w.t.Fatal("no machine was made")
	}
	return w.scripts[len(w.scripts)-1]
}

// initFrom is an IKE_SA_INIT that the gate lets pass, of 10.1.0.n.
func initFrom(n byte, spi uint64) dataplane.Datagram {
	b := binary.BigEndian.AppendUint64(nil, spi)
	b = append(b, make([]byte, 8)...)
	b = append(b, 40, 0x20, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 28+36)
	b = append(b, 0, 0, 0, 36)
	b = append(b, make([]byte, 32)...)
	return dataplane.Datagram{Data: b, Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, n}), 500), Remote: gatewayIKE}
}

// withCookie is an IKE_SA_INIT again, with the cookie of the answer to it.
func withCookie(init dataplane.Datagram, answer []byte) dataplane.Datagram {
	b := slices.Clone(init.Data[:28])
	b[16] = 41 // the notification comes first
	b = append(b, answer[28:]...)
	b[28] = init.Data[16]
	b = append(b, init.Data[28:]...)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	init.Data = b
	return init
}

// informational is a message for an IKE SA, with an empty SK payload.
func informational(spiR uint64) dataplane.Datagram {
	b := binary.BigEndian.AppendUint64(nil, 1)
	b = binary.BigEndian.AppendUint64(b, spiR)
	b = append(b, 46, 0x20, 37, 0x08, 0, 0, 0, 2, 0, 0, 0, 32, 0, 0, 0, 4)
	return dataplane.Datagram{Data: b, Local: netip.MustParseAddrPort("10.1.0.99:4500"), Remote: gatewayNATT, Marker: true}
}

// open has a scripted machine made.
func (w *world) open(n byte) *script {
	w.t.Helper()
	w.net.send(initFrom(n, uint64(n)))
	w.settled()
	return w.lastScript()
}

func (w *world) shardOf(m *script) *shard { return w.server.shards[m.spi>>56] }

type onShard func(now time.Time)

func (f onShard) deliver(_ *shard, now time.Time) { f(now) }

// on runs f on the shard's goroutine and waits for it.
func (w *world) on(sh *shard, f func(now time.Time)) {
	sh.mail.put(onShard(f))
	w.settled()
}

// emit has the machine give out outputs.
func (w *world) emit(m *script, outputs ...ike.Output) {
	m.set(func() {
		answer := m.answer
		m.answer = func(ike.Input) []ike.Output { m.answer = answer; return outputs }
	})
	w.shardOf(m).mail.put(answer{m.spi, ike.Tick{}})
	w.settled()
}

// up has the machine's session come up, with a lease.
func (w *world) up(m *script, s ike.Summary) {
	w.t.Helper()
	w.emit(m, ike.AskLease{Device: s.Device, IPv4: true})
	s.VirtualIPs = m.last().(ike.Leased).Addresses
	w.emit(m, ike.Established{Summary: s})
}

// Another request with the same source and SPI is another peer behind the same
// NAT, or the same one with a cookie; only the same octets are a repetition.
func TestInitIsKnownByItsContent(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		first := w.open(1)
		w.want("inputs", first.count(), 1)
		w.net.send(initFrom(1, 1))
		w.settled()
		w.want("inputs after the repetition", first.count(), 2)
		w.want("machines", w.server.Stats().Initiated, uint64(1))
		other := initFrom(1, 1)
		other.Data[40] ^= 1
		w.net.send(other)
		w.settled()
		w.want("machines", w.server.Stats().Initiated, uint64(2))
		w.want("inputs of the first", first.count(), 2)
	})
}

// Our SPI leads to the machine from whatever address.
func TestMessagesAreRoutedByOurSPI(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		a, b := w.open(1), w.open(2)
		w.net.send(informational(a.spi))
		w.settled()
		w.want("inputs of a", a.count(), 2)
		w.want("inputs of b", b.count(), 1)
		in := a.last().(ike.Message)
		w.want("remote", in.Remote, netip.MustParseAddrPort("10.1.0.99:4500"))
		w.want("local", in.Local, gatewayNATT)
		w.want("marker", in.Marker, true)
	})
}

// An answer that comes when its machine is gone gives back what it brings.
func TestLateAnswers(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		hold := make(chan struct{})
		w.net.set(func() { w.net.hold = hold })
		m := w.open(1)
		// The applier is stuck in the first Apply; the reservation waits.
		w.emit(m, ike.Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: 7}}}, ike.Reserve{})
		w.emit(m, ike.AskLease{Device: "phone", IPv4: true}, ike.Closed{Reason: ike.CloseHalfOpenTimeout})
		w.net.set(func() { w.net.hold = nil })
		close(hold)
		w.settled()
		w.wantEmpty()
		w.want("live leases", w.leases.Stats().Live, 0)
		w.want("half-open", w.server.Stats().HalfOpen, 0)
	})
}

// A data plane that takes its time holds up only those who wait for it.
func TestSlowDataPlaneBlocksNoShard(t *testing.T) {
	run(t, options{scripted: true, config: func(c *Config) { c.Shards = 1 }}, func(w *world) {
		hold := make(chan struct{})
		w.net.set(func() { w.net.hold = hold })
		a := w.open(1)
		w.emit(a, ike.Apply{ID: 5, Wait: true, Changes: []dataplane.Change{dataplane.UseOutbound{Inbound: 7}}})
		b := w.open(2)
		w.emit(b, ike.Send{Data: []byte("answer"), Local: gatewayIKE, Remote: netip.MustParseAddrPort("10.1.0.2:500")})
		w.want("messages to b", len(w.net.sentTo(netip.MustParseAddr("10.1.0.2"))), 1)
		w.want("inputs of a", a.count(), 2)
		w.net.set(func() { w.net.hold = nil })
		close(hold)
		w.settled()
		w.want("answer to a", a.last(), ike.Input(ike.Applied{ID: 5, Err: dataplane.ErrUnknownSPI}))
	})
}

// Changes of one machine reach the data plane in the order in which it gave
// them out, those it doesn't wait for too; keys are erased.
func TestChangesKeepTheirOrder(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.emit(m, ike.Reserve{ID: 7})
		w.want("number", m.last().(ike.Reserved).ID, ike.WorkID(7))
		spi := m.last().(ike.Reserved).SPI
		key := bytes.Repeat([]byte{7}, 20)
		virtual := netip.MustParseAddr("10.9.0.1")
		host := []dataplane.Selector{{First: virtual, Last: virtual, LastPort: 65535}}
		child := dataplane.Child{
			Inbound:    dataplane.SA{SPI: spi, Keys: dataplane.Keys{Encryption: key}},
			Outbound:   dataplane.SA{SPI: 0x4711, Keys: dataplane.Keys{Encryption: bytes.Clone(key)}},
			Algorithm:  dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128},
			VirtualIPs: []netip.Addr{virtual},
			Local:      host, Remote: host,
			Path: dataplane.Path{Local: gatewayNATT, Remote: netip.MustParseAddrPort("10.1.0.1:4500")},
		}
		w.emit(m,
			ike.Apply{ID: 1, Wait: true, Changes: []dataplane.Change{dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: spi}}},
			ike.Apply{ID: 2, Changes: []dataplane.Change{dataplane.Remove{Inbound: spi}}},
			ike.Apply{ID: 3, Wait: true, Changes: []dataplane.Change{dataplane.Remove{Inbound: spi}}},
		)
		m.mu.Lock()
		answers := slices.Clone(m.inputs[len(m.inputs)-2:])
		m.mu.Unlock()
		want := []ike.Input{ike.Applied{ID: 1}, ike.Applied{ID: 3, Err: dataplane.ErrUnknownSPI}}
		if !slices.Equal(answers, want) {
			t.Errorf("answers %v, want %v", answers, want)
		}
		if !bytes.Equal(key, make([]byte, 20)) {
			t.Error("keys were not erased")
		}
		w.wantEmpty()
	})
}

// Half-open machines are bounded, and room comes back when they end.
func TestHalfOpenIsBounded(t *testing.T) {
	run(t, options{scripted: true, config: func(c *Config) {
		c.Gate = gate.Config{MaxHalfOpen: 3, CookieAt: 2, MaxHalfOpenPrefix: 3, CookieAtPrefix: 2}
	}}, func(w *world) {
		a := w.open(1)
		w.open(2)
		w.net.send(initFrom(3, 3))
		w.settled()
		w.want("cookies", w.server.Stats().Drops[gate.ReasonCookieRequired.String()], uint64(1))
		w.want("half-open", w.server.Stats().HalfOpen, 2)
		w.emit(a, ike.Closed{Reason: ike.CloseHalfOpenTimeout})
		w.want("half-open", w.server.Stats().HalfOpen, 1)
		w.later(10 * time.Second) // as long as cookies are asked for once it was necessary
		w.open(3)
		w.want("machines", w.server.Stats().Initiated, uint64(3))
	})
}

// Machines that linger are counted with the half-open ones; where there is no
// room for one it is forgotten at once.
func TestLingeringIsBounded(t *testing.T) {
	run(t, options{scripted: true, config: func(c *Config) {
		c.Gate = gate.Config{MaxHalfOpen: 1, CookieAt: 0, MaxHalfOpenPrefix: 1, CookieAtPrefix: 0}
		c.Shards = 1
	}}, func(w *world) {
		// The gate wants cookies, so machines are made behind it.
		sh := w.server.shards[0]
		start := func(n byte) *script {
			d := initFrom(n, uint64(n))
			p := packet{data: d.Data, remote: d.Local, local: d.Remote}
			p.header.Init, p.header.InitiatorSPI = true, uint64(n)
			sh.newcomers.put(time.Now(), p, uint64(n))
			w.settled()
			return w.lastScript()
		}
		a := start(1)
		w.up(a, ike.Summary{Device: "a", Inbound: 1})
		b := start(2)
		w.up(b, ike.Summary{Device: "b", Inbound: 2})
		w.on(sh, func(time.Time) { sh.parted = maxParted - 1 })
		w.emit(a, ike.Closed{Reason: ike.ClosePeerDeleted, Linger: true})
		w.emit(b, ike.Closed{Reason: ike.ClosePeerDeleted, Linger: true})
		w.want("half-open", w.server.Stats().HalfOpen, 0)
		w.on(sh, func(time.Time) {
			w.want("lingering", sh.parted, maxParted)
			w.want("machines", len(sh.machines), 1)
		})
		w.emit(a, ike.Forget{})
		w.on(sh, func(time.Time) {
			w.want("lingering", sh.parted, maxParted-1)
			w.want("machines", len(sh.machines), 0)
		})
	})
}

// Timers: a deadline that moves away is followed, one that comes closer too,
// and one that never moves doesn't keep the shard busy.
func TestDeadlines(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		begin := time.Now()
		m.set(func() { m.deadline = begin.Add(10 * time.Second) })
		w.emit(m)
		n := m.count()
		m.set(func() { m.deadline = begin.Add(20 * time.Second) })
		w.later(15 * time.Second)
		w.want("Ticks before the deadline", m.count()-n, 0)
		m.set(func() { m.deadline = begin.Add(16 * time.Second) })
		w.emit(m)
		n = m.count()
		w.later(900 * time.Millisecond)
		w.want("Ticks before the earlier deadline", m.count()-n, 0)
		w.later(time.Second)
		if n = m.count() - n; n < 5 || n > 20 {
			t.Errorf("%d Ticks in a second for a deadline that stays", n)
		}
		m.set(func() { m.deadline = time.Time{} })
		w.later(time.Second)
		n = m.count()
		w.later(time.Hour)
		w.want("Ticks without a deadline", m.count()-n, 0)
	})
}

// Keys go to whoever asked for them, and only there.
func TestKeysDerived(t *testing.T) {
	got := make(chan ike.KeysDerived, 1)
	run(t, options{scripted: true, config: func(c *Config) {
		c.Keys = func(k ike.KeysDerived) { got <- k }
	}}, func(w *world) {
		m := w.open(1)
		w.emit(m, ike.KeysDerived{IKE: &ike.IKEKeyLog{InitiatorSPI: 1}})
		if k := <-got; k.IKE == nil || k.IKE.InitiatorSPI != 1 {
			t.Errorf("keys %+v", k)
		}
	})
}

// A session of another shard is closed by its ID; an ID of nobody ends the
// lease that comes with the order.
func TestOrderForNobody(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		granted := make(chan lease.Grant, 1)
		w.leases.Acquire(lease.Request{Device: "phone", Session: 5}, func(g lease.Grant, err error) {
			if err != nil {
				t.Error(err)
			}
			granted <- g
		})
		<-granted
		w.server.give(12345, heldLease{device: "phone", session: 5})
		w.settled()
		w.want("live leases", w.leases.Stats().Live, 0)
	})
}

// What shards told each other before they ended is dealt with: a lease ends that a
// session of one of them was to end, or that was granted to nobody.
func TestLeasesEndWithTheShards(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		sh := w.server.shards[1]
		w.server.give(lease.SessionID(sh.number)<<56|5, heldLease{device: "phone", session: 5})
		sh.mail.put(granted{
			acquisition: acquisition{held: heldLease{device: "tablet", session: 6}}, grant: lease.Grant{Displaced: 7},
		})
		w.server.readRest()
		var ended []string
		for _, task := range w.server.data.tasks.drain(nil) {
			if task.end != nil {
				ended = append(ended, task.end.device)
			}
		}
		slices.Sort(ended)
		if !slices.Equal(ended, []string{"phone", "tablet"}) {
			t.Errorf("leases ended of %v, want phone and tablet", ended)
		}
	})
}

// A reload is for machines to come.
func TestReloadLeavesRunningMachinesAlone(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		before := w.open(1)
		settings := *w.server.settings.Load()
		old := settings.IKE
		settings.IKE = w.ca.ike("gw2.example", time.Hour)
		settings.Assign.DNS = []netip.Addr{netip.MustParseAddr("10.2.0.53")}
		if err := w.server.Update(settings); err != nil {
			t.Fatal(err)
		}
		after := w.open(2)
		w.want("running machine's configuration", before.cfg, old)
		w.want("new machine's configuration", after.cfg, settings.IKE)
		w.want("inputs of the running one", before.count(), 1)
		ask := ike.AskLease{Device: "phone", IPv4: true, Want: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.9.0.77")}}
		w.emit(before, ask)
		w.want("DNS servers for the running one", len(before.last().(ike.Leased).Settings.DNS), 0)
		w.want("address it asked for", before.last().(ike.Leased).Addresses[0], netip.MustParseAddr("10.9.0.77"))
		w.emit(after, ask)
		w.want("DNS servers for the new one", len(after.last().(ike.Leased).Settings.DNS), 1)
	})
}

// A displaced session that takes its time to go, because it waits for an answer
// of its peer, keeps the lease of the successor that failed alive.
func TestLeaseOfAFailedSuccessorEndsWithTheDisplacedSession(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		first, second := w.open(1), w.open(2)
		w.up(first, ike.Summary{Device: "phone", Inbound: 1})
		first.set(func() { first.answer = nil })
		w.emit(second, ike.AskLease{Device: "phone", IPv4: true})
		w.want("address", second.last().(ike.Leased).Addresses[0], netip.MustParseAddr("10.9.0.1"))
		w.emit(second, ike.Closed{Reason: ike.CloseInternal})
		w.want("the first was told", first.last(), ike.Input(ike.Close{Reason: ike.CloseReplaced}))
		w.want("live leases", w.leases.Stats().Live, 1)
		w.emit(first, ike.Closed{Reason: ike.CloseReplaced})
		w.want("live leases", w.leases.Stats().Live, 0)
	})
}
