package session

import (
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

var errRand = errors.New("no randomness")

// goodFor reads zeros until it has given out so many octets.
type goodFor struct{ left int }

func (g *goodFor) Read(b []byte) (int, error) {
	if g.left -= len(b); g.left < 0 {
		return 0, errRand
	}
	clear(b)
	return len(b), nil
}

var _ io.Reader = (*goodFor)(nil)

// Every reason has to be caused by something that happens.
func TestEveryReason(t *testing.T) {
	causes := map[Reason]struct {
		options
		cause func(w *world)
	}{
		ReasonInboxFull: {options{scripted: true, config: func(c *Config) { c.Shards = 1 }}, func(w *world) {
			// The shard is busy with its mail meanwhile.
			release := make(chan struct{})
			w.server.shards[0].mail.put(onShard(func(time.Time) { <-release }))
			w.settled()
			for n := range inboxLen + 1 {
				w.net.send(informational(uint64(n + 1)))
				w.settled()
			}
			close(release)
		}},
		ReasonUnknownIKESPI: {options{scripted: true}, func(w *world) {
			w.net.send(informational(1))
			w.net.send(informational(0xff << 56)) // no such shard
		}},
		ReasonWaitsAlready: {options{scripted: true, config: func(c *Config) { c.Workers = 1 }}, func(w *world) {
			defer w.busy()()
			again := w.cookied(1)
			w.net.send(again)
			w.settled()
			w.net.send(again)
			w.settled()
		}},
		ReasonWaitedTooLong: {options{scripted: true, config: func(c *Config) { c.Workers = 1 }}, func(w *world) {
			release := w.busy()
			w.net.send(w.cookied(1))
			w.settled()
			time.Sleep(newcomerPatience)
			release()
			time.Sleep(2 * heldFor)
		}},
		ReasonShuttingDown: {options{scripted: true}, func(w *world) {
			m := w.open(1)
			// Takes its time to go.
			m.set(func() { m.answer = nil })
			go func() { _ = w.stop() }()
			w.settled()
			w.net.send(initFrom(2, 2))
		}},
		ReasonNoRandomness: {options{scripted: true, config: func(c *Config) { c.IKE.Rand = &goodFor{16 + 32} }}, func(w *world) {
			w.net.send(initFrom(1, 1))
		}},
		ReasonSessionsFull: {options{config: func(c *Config) { c.MaxSessions = 1 }}, func(w *world) {
			w.connect("one")
			w.connect("two")
		}},
		ReasonSendFailed: {options{scripted: true}, func(w *world) {
			m := w.open(1)
			w.net.set(func() { w.net.unsent = true })
			w.emit(m, ike.Send{Data: []byte("lost")}, ike.Send{Data: []byte("lost too")})
		}},
		ReasonHintRate: {options{scripted: true}, func(w *world) {
			w.up(w.open(1), ike.Summary{Device: "phone", Inbound: 1})
			w.net.Tell(dataplane.AddressChanged{Inbound: 1})
			w.net.Tell(dataplane.AddressChanged{Inbound: 1})
		}},
		ReasonRekeyedSAs: {options{scripted: true}, func(w *world) {
			m := w.open(1)
			for n := range uint64(maxMachines) {
				w.emit(m, ike.Spawned{Next: ike.NewResponder(nil, 0, 0), ResponderSPI: m.spi + n + 1})
			}
		}},
		ReasonRecordLost: {options{scripted: true, config: func(c *Config) { c.Records = func(Record) { time.Sleep(time.Hour) } }}, func(w *world) {
			w.server.records.put(Record{Event: RecordInterim})
			w.settled() // that one is being written
			for range recordBacklog + 1 {
				w.server.records.put(Record{Event: RecordInterim})
			}
			w.server.records.queue.drain(nil) // the rest need not be written
		}},
		ReasonESPUnanswered: {options{scripted: true}, func(w *world) {
			w.net.Tell(dataplane.UnknownSPI{SPI: 0x1234, Encapsulation: dataplane.EncapsulationNone})
		}},
	}
	names := make(map[string]bool)
	for r := range gate.Reason(gate.NumReasons) {
		names[r.String()] = true
	}
	for r := range Reason(NumReasons) {
		c, ok := causes[r]
		if !ok {
			t.Errorf("nothing causes %v", r)
			continue
		}
		run(t, c.options, func(w *world) {
			before := w.server.Stats().Drops[r.String()]
			c.cause(w)
			w.settled()
			if before != 0 || w.server.Stats().Drops[r.String()] == 0 {
				t.Errorf("%v was not counted", r)
			}
		})
		if r.String() == "" || names[r.String()] {
			t.Errorf("reason %d has no name of its own: %q", r, r)
		}
		names[r.String()] = true
	}
}

// source of randomness that dries up.
type source struct{ dry atomic.Bool }

func (s *source) Read(b []byte) (int, error) {
	if s.dry.Load() {
		return 0, errRand
	}
	return rand.Read(b)
}

// Without randomness an IKE SA can't be rekeyed, and must not wait for ever.
func TestRekeyingWithoutRandomness(t *testing.T) {
	s := &source{}
	run(t, options{scripted: true, config: func(c *Config) { c.IKE.Rand = s }}, func(w *world) {
		m := w.open(1)
		w.emit(m, ike.ReserveIKE{ID: 3})
		got, ok := m.last().(ike.ReservedIKE)
		if !ok || got.ID != 3 || got.SPI>>56 != m.spi>>56 || got.SPI == m.spi {
			t.Errorf("machine %x was told %+v", m.spi, m.last())
		}
		s.dry.Store(true)
		w.emit(m, ike.ReserveIKE{ID: 4})
		w.want("told", m.last(), ike.Input(ike.Close{Reason: ike.CloseInternal}))
		w.want("counted", w.server.Stats().Drops[ReasonNoRandomness.String()], uint64(1))
	})
}

// What the gate drops or answers is counted too.
func TestGateReasonsAreCounted(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		d := initFrom(1, 1)
		d.Data[17] = 0x30 // version 3
		w.net.send(d)
		short := initFrom(1, 1)
		short.Data = short.Data[:20]
		w.net.send(short)
		w.settled()
		drops := w.server.Stats().Drops
		w.want("new version", drops[gate.ReasonNewVersion.String()], uint64(1))
		w.want("short", drops[gate.ReasonShort.String()], uint64(1))
		w.want("answers", len(w.net.sentTo(netip.MustParseAddr("10.1.0.1"))), 1)
		w.want("machines", w.server.Stats().Initiated, uint64(0))
	})
}

// busy gives the worker more to do than newcomers may wait for, until release.
func (w *world) busy() (release func()) {
	wait := make(chan struct{})
	for range int(newcomerWait/firstGuess) + 1 {
		w.server.work.put(classSession, func() { <-wait })
	}
	w.settled()
	return func() { close(wait) }
}

// cookied is an IKE_SA_INIT of host n with the cookie that it was asked for.
func (w *world) cookied(n byte) dataplane.Datagram {
	w.t.Helper()
	w.net.send(initFrom(n, uint64(n)))
	w.settled()
	answers := w.net.sentTo(netip.AddrFrom4([4]byte{10, 1, 0, n}))
	w.want("cookies that were asked for", len(answers), 1)
	return withCookie(initFrom(n, uint64(n)), answers[0].Data)
}
