package dptest

import (
	"errors"
	"reflect"

	"github.com/roamgate/roamgate/dataplane"
)

// export takes all states of the backend, which forwards no more.
func (e *env) export() []dataplane.ChildState {
	e.Helper()
	var states []dataplane.ChildState
	err := e.Backend.Export(func(s dataplane.ChildState) bool {
		states = append(states, s)
		return true
	})
	if err != nil {
		e.Fatalf("Export: %v", err)
	}
	return states
}

// rehome gives states the addresses of the backend that is to import them. In a
// test it has others than its predecessor.
func (e *env) rehome(states []dataplane.ChildState) {
	for i := range states {
		states[i].Child.Path.Local = e.Encap
	}
}

func exportImport(e *env) {
	first, second := e.child(nil), e.child(nil)
	first.ESN = e.Backend.Features().ESN
	e.apply(
		dataplane.Install{Child: first}, dataplane.Install{Child: second},
		dataplane.UseOutbound{Inbound: first.Inbound.SPI},
		dataplane.UseOutbound{Inbound: second.Inbound.SPI},
		dataplane.UseOutbound{Inbound: first.Inbound.SPI},
	)
	states := e.export()
	if len(states) != 2 || !reflect.DeepEqual(states[0].Child, second) || !reflect.DeepEqual(states[1].Child, first) {
		e.Fatalf("exported %+v; want what was installed, the newest last", states)
	}
	for _, s := range states {
		if !s.Active || s.NextSequence != 1 || s.Replay != 0 {
			e.Errorf("exported %+v of a child that carried nothing", s)
		}
	}

	next := e.successor()
	next.rehome(states)
	if err := next.Backend.Import(states); err != nil {
		e.Fatalf("Import: %v", err)
	}
	if again := next.export(); !reflect.DeepEqual(again, states) {
		e.Errorf("exported %+v, imported %+v", again, states)
	}
}

func importAllOrNone(e *env) {
	first, second := e.child(nil), e.child(nil)
	e.apply(dataplane.Install{Child: first}, dataplane.Install{Child: second})
	states := e.export()
	next := e.successor()
	next.rehome(states)

	breaks := []struct {
		name string
		want error
		edit func(*dataplane.ChildState)
	}{
		{"no selector", dataplane.ErrInvalid, func(s *dataplane.ChildState) { s.Child.Local = nil }},
		{"no sequence number", dataplane.ErrInvalid, func(s *dataplane.ChildState) { s.NextSequence = 0 }},
		{"the same SPI twice", dataplane.ErrInvalid, func(s *dataplane.ChildState) { s.Child.Inbound.SPI = states[0].Child.Inbound.SPI }},
		{"reserved SPI", dataplane.ErrInvalid, func(s *dataplane.ChildState) { s.Child.Inbound.SPI = 17 }},
		{"short key", dataplane.ErrKeyLength, func(s *dataplane.ChildState) { s.Child.Inbound.Keys.Encryption = []byte{1} }},
	}
	for _, b := range breaks {
		broken := append([]dataplane.ChildState(nil), states...)
		b.edit(&broken[1])
		if err := next.Backend.Import(broken); !errors.Is(err, b.want) {
			e.Errorf("%s: %v, want %v", b.name, err, b.want)
		}
		for c := range next.Backend.Counters {
			e.Errorf("%s: %#08x was installed", b.name, uint32(c.Inbound))
		}
	}
	if err := next.Backend.Import(states); err != nil {
		e.Errorf("Import after failed ones: %v", err)
	}
	// What is reserved now stays clear of what came in.
	for range min(manySPIs, next.Backend.Features().MaxChildren-len(states)) {
		if spi := next.reserve(); spi == states[0].Child.Inbound.SPI || spi == states[1].Child.Inbound.SPI {
			e.Errorf("Reserve gave %#08x, which was imported", uint32(spi))
		}
	}
}

func afterExport(e *env) {
	child := e.child(nil)
	e.apply(dataplane.Install{Child: child})
	e.export()
	e.refused(dataplane.UseOutbound{Inbound: child.Inbound.SPI}, dataplane.ErrClosed)
	if _, err := e.Backend.Reserve(virtual4); !errors.Is(err, dataplane.ErrClosed) {
		e.Errorf("Reserve: %v", err)
	}
	if err := e.Backend.Import(nil); !errors.Is(err, dataplane.ErrClosed) {
		e.Errorf("Import: %v", err)
	}
	if err := e.Backend.Export(func(dataplane.ChildState) bool { return true }); !errors.Is(err, dataplane.ErrClosed) {
		e.Errorf("second Export: %v", err)
	}
}

func afterClose(e *env) {
	waiting := make(chan error)
	go func() {
		batch := []dataplane.Datagram{{Data: make([]byte, 16)}}
		_, err := e.Backend.Transport().Receive(batch)
		waiting <- err
	}()
	child := e.child(nil)
	e.apply(dataplane.Install{Child: child})
	for range 2 {
		if err := e.Backend.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
	}
	if err := <-waiting; !errors.Is(err, dataplane.ErrClosed) {
		e.Errorf("Receive: %v", err)
	}
	if _, err := e.Backend.Transport().Send([]dataplane.Datagram{{Data: []byte{1}, Local: e.IKE, Remote: e.IKE}}); !errors.Is(err, dataplane.ErrClosed) {
		e.Errorf("Send: %v", err)
	}
	e.refused(dataplane.Remove{Inbound: child.Inbound.SPI}, dataplane.ErrClosed)
	if _, err := e.Backend.Reserve(virtual4); !errors.Is(err, dataplane.ErrClosed) {
		e.Errorf("Reserve: %v", err)
	}
	for c := range e.Backend.Counters {
		e.Errorf("counters %+v", c)
	}
}

// handOver: sequence numbers, the replay window, counters and the order of
// UseOutbound go on in another backend.
func handOver(e *env) {
	d := e.device()
	older := e.connect(d, nil)
	u := e.connect(d, func(c *dataplane.Child) { c.ESN = e.Backend.Features().ESN })
	var last uint64
	for range 5 {
		want := payload()
		u.up(uplink4.UDP(devicePort, hostPort, want))
		e.wantInside(want)
		e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
		_, last = u.down()
	}
	replay := u.sealedAs(uplink4.UDP(devicePort, hostPort, payload()), u.next-2)
	before := e.counters(u.child.Inbound.SPI)

	states := e.export()
	next := e.successor()
	next.rehome(states)
	if err := next.Backend.Import(states); err != nil {
		e.Fatalf("Import: %v", err)
	}
	if err := e.Backend.Close(); err != nil {
		e.Errorf("Close: %v", err)
	}
	u.gateway, older.gateway = next.Encap, next.Encap

	if after := next.counters(u.child.Inbound.SPI); !after.LastIn.Equal(before.LastIn) || !after.LastOut.Equal(before.LastOut) || after.BytesIn != before.BytesIn || after.PacketsOut != before.PacketsOut {
		e.Errorf("counters %+v, before the hand-over %+v", after, before)
	}
	drops := next.Backend.Drops()
	u.send(replay, u.gateway)
	next.dropped(drops, dataplane.ReasonReplay)
	want := payload()
	u.up(uplink4.UDP(devicePort, hostPort, want))
	next.wantInside(want)
	next.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	if _, seq := u.down(); seq != last+1 {
		e.Errorf("sequence number %d after the hand-over, want %d", seq, last+1)
	}
}

// afterCrash: who comes after a backend that was killed finds nothing of it in
// its way, and nothing of it still carries packets.
func afterCrash(e *env) {
	if e.Crash == nil {
		e.Skip("the backend can't be made to crash")
	}
	d := e.device()
	old := e.connect(d, nil)
	e.bothWays(old)
	late := old.sealed(uplink4.UDP(devicePort, hostPort, payload()))

	events := make(chan dataplane.Event, 64)
	e.Harness, e.events = e.Crash(e.T, events), events
	old.gateway = e.Encap
	e.wantDropped(old, late, dataplane.ReasonUnknownSPI)
	before := e.Backend.Drops()
	e.sendInside(downlink4.UDP(hostPort, devicePort, payload()))
	e.dropped(before, dataplane.ReasonNoChild)
	for c := range e.Backend.Counters {
		e.Errorf("counters %+v", c)
	}
	e.bothWays(e.connect(d, nil))
}
