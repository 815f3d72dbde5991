package dptest

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// Harness is a backend under test and the ground it stands on. It is taken down
// by t.Cleanup of the test that it was built for.
type Harness struct {
	Backend dataplane.Backend
	// Local is what most scenarios use; Second, of the other address family, is
	// for those that need two. They aren't run where it is nil.
	Local
	Second *Local
	// Inside and the Outside of each Local are nil where the backend carries no
	// packets; then only the scenarios that need none are run.
	Inside Inside
	// Advance moves the clock of the backend on; nil where it has a clock that
	// can't be moved.
	Advance func(time.Duration)
	// Crash ends the backend without a Close, as if its process had been killed,
	// and starts another one in its place. Nil where that can't be done.
	Crash func(t *testing.T, events chan<- dataplane.Event) *Harness
}

// Local is an address of the gateway, to which devices send.
type Local struct {
	IKE, Encap netip.AddrPort
	// Outside opens a socket of a device that reaches it, each time on another
	// port or address.
	Outside func(t *testing.T) net.PacketConn
	// Raw opens two sockets of one device, at one address that no other device
	// has: for ESP directly over IP, and for UDP. Nil where there is no such way.
	Raw func(t *testing.T) (esp, udp net.PacketConn)
}

// Inside is a host behind the gateway. Packets are whole IP packets.
type Inside interface {
	Send(packet []byte) error
	// Receive returns the next packet; false if none came within timeout.
	Receive(timeout time.Duration) ([]byte, bool)
}

// patience is how long something that has to happen may take.
const patience = 10 * time.Second

// NewBackend builds a backend that tells events.
type NewBackend func(t *testing.T, events chan<- dataplane.Event) *Harness

// Run runs the conformance suite. Each scenario gets a new backend.
func Run(t *testing.T, newBackend NewBackend) {
	wire := newRecorder()
	run := func(name string, scenario func(*env)) {
		t.Run(name, func(t *testing.T) { scenario(newEnv(t, newBackend, wire)) })
	}
	first := newEnv(t, newBackend, wire)
	all := func(scenarios []scenario) {
		for _, s := range scenarios {
			if first.has(s.needs) {
				run(s.name, s.run)
			}
		}
	}
	all(changeScenarios)
	if first.Inside == nil {
		return
	}
	all(trafficScenarios)
	wire.verify(t)
}

type scenario struct {
	name  string
	run   func(*env)
	needs ground
}

// ground is what a scenario stands on.
type ground uint8

const (
	one ground = iota // local address
	two               // of them, one of each family
	raw               // ESP directly over IP
)

func (h *Harness) has(g ground) bool {
	switch g {
	case two:
		return h.Second != nil
	case raw:
		return h.Raw != nil && h.Backend.Features().RawESP
	default:
		return true
	}
}

// env is what a scenario works with.
type env struct {
	*testing.T
	*Harness
	newBackend NewBackend
	events     chan dataplane.Event
	wire       *recorder
}

func newEnv(t *testing.T, newBackend NewBackend, wire *recorder) *env {
	events := make(chan dataplane.Event, 64)
	return &env{T: t, Harness: newBackend(t, events), newBackend: newBackend, events: events, wire: wire}
}

// successor is an environment for a backend that takes over.
func (e *env) successor() *env { return newEnv(e.T, e.newBackend, e.wire) }

// apply carries out changes that have to succeed.
func (e *env) apply(changes ...dataplane.Change) {
	e.Helper()
	for i, err := range e.Backend.Apply(changes) {
		if err != nil {
			e.Fatalf("change %d, %T: %v", i, changes[i], err)
		}
	}
}

// refused carries out one change and wants that error.
func (e *env) refused(change dataplane.Change, want error) {
	e.Helper()
	if errs := e.Backend.Apply([]dataplane.Change{change}); len(errs) != 1 || !isError(errs[0], want) {
		e.Errorf("%T: errors %v, want %v", change, errs, want)
	}
}

func (e *env) reserve() dataplane.SPI {
	e.Helper()
	spi, err := e.Backend.Reserve(virtual4)
	if err != nil {
		e.Fatalf("Reserve: %v", err)
	}
	return spi
}

// dropped waits until one more packet was dropped for that reason, or the one
// under which the backend counts it, since the drops of before.
func (e *env) dropped(before dataplane.Drops, reason dataplane.Reason) {
	e.Helper()
	if other, ok := e.Backend.Features().CountedAs[reason]; ok {
		reason = other
	}
	e.eventually("drop "+reason.String(), func() bool { return e.Backend.Drops()[reason] == before[reason]+1 })
}

// droppedSomehow is for packets that the backend has forgotten the reason of.
func (e *env) droppedSomehow(before dataplane.Drops) {
	e.Helper()
	sum := func(d dataplane.Drops) (n uint64) {
		for _, v := range d {
			n += v
		}
		return n
	}
	e.eventually("one more drop", func() bool { return sum(e.Backend.Drops()) == sum(before)+1 })
}

func (e *env) eventually(what string, condition func() bool) {
	e.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			e.Fatalf("%s did not happen; drops %v", what, e.Backend.Drops())
		}
	}
}

// inside waits for the next packet of the suite behind the gateway; others, such
// as a kernel's own, and ICMP errors about the suite's, are passed over.
func (e *env) inside() []byte {
	e.Helper()
	for {
		p, ok := e.Inside.Receive(patience)
		if !ok {
			e.Fatalf("no packet came to the inside; drops %v", e.Backend.Drops())
		}
		if bytes.Contains(p, mark) && !isICMPError(p) {
			return p
		}
	}
}

// wantInside waits for a packet with that payload.
func (e *env) wantInside(payload []byte) {
	e.Helper()
	if p := e.inside(); !bytes.HasSuffix(p, payload) {
		e.Fatalf("inside got %q, want %q", p, payload)
	}
}

func (e *env) sendInside(packet []byte) {
	e.Helper()
	if err := e.Inside.Send(packet); err != nil {
		e.Fatalf("send from the inside: %v", err)
	}
}

// event waits for an event of one type; others are passed over.
func event[T dataplane.Event](e *env) T {
	e.Helper()
	timeout := time.After(patience)
	for {
		select {
		case got := <-e.events:
			if wanted, ok := got.(T); ok {
				return wanted
			}
		case <-timeout:
			var wanted T
			e.Fatalf("no %T; drops %v", wanted, e.Backend.Drops())
		}
	}
}

// noEvent says that no event waits.
func (e *env) noEvent() {
	e.Helper()
	select {
	case got := <-e.events:
		e.Errorf("unexpected event %#v", got)
	default:
	}
}

func (e *env) counters(spi dataplane.SPI) dataplane.ChildCounters {
	e.Helper()
	for c := range e.Backend.Counters {
		if c.Inbound == spi {
			return c
		}
	}
	e.Fatalf("no counters of %#08x", uint32(spi))
	return dataplane.ChildCounters{}
}
