package session

import (
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// An IKE SA that is forgotten because there are too many has a Child SA (made
// by CREATE_CHILD_SA on a rival): nobody removes it, not even the session's end.
func TestHostileForgottenChild(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone", Inbound: 1})
		sh := w.shardOf(m)
		w.emit(m, ike.Spawned{Next: ike.NewResponder(nil, 0, 0), InitiatorSPI: 77, ResponderSPI: m.spi + 1})
		rival := &script{spi: m.spi + 1}
		rival.answer = func(in ike.Input) []ike.Output {
			if _, ok := in.(ike.Close); ok {
				return []ike.Output{
					ike.Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: 0x4444}}},
					ike.ChildDown{Inbound: 0x4444}, ike.Closed{Reason: ike.CloseKilled},
				}
			}
			return []ike.Output{ike.ChildUp{Inbound: 0x4444}}
		}
		w.on(sh, func(now time.Time) {
			s := sh.machines[m.spi+1]
			s.machine = rival
			sh.step(now, s, ike.Tick{}) // its CREATE_CHILD_SA
		})
		for n := range uint64(maxMachines) {
			w.emit(m, ike.Spawned{Next: ike.NewResponder(nil, 0, 0), InitiatorSPI: n, ResponderSPI: m.spi + n + 2})
		}
		w.server.Kill(func(Info) bool { return true })
		w.later(5 * time.Minute)
		closed := false
		for _, in := range rival.inputs {
			if _, ok := in.(ike.Close); ok {
				closed = true
			}
		}
		if !closed {
			t.Errorf("the IKE SA with Child SA 0x4444 was forgotten and never closed: the Child SA stays in the data plane; inputs %v", rival.inputs)
		}
	})
}

// An IKE SA that is to be forgotten, because its session has too many, may carry the
// session before that is done: then it stays, for its place is handed out again.
func TestCarrierIsNotForgotten(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		m := w.open(1)
		w.up(m, ike.Summary{Device: "phone", Inbound: 1})
		next := ike.NewResponder(nil, 0, 0)
		w.emit(m, ike.Spawned{Next: next, InitiatorSPI: 77, ResponderSPI: m.spi + 1})
		rival := &script{spi: m.spi + 1}
		sh := w.shardOf(m)
		var phone *session
		w.on(sh, func(time.Time) {
			s := sh.machines[rival.spi]
			sh.mail.put(forgetSA{s.spi})
			sh.rekeyed(sh.machines[m.spi], ike.Rekeyed{Next: next})
			phone, s.machine = s.session, rival
		})
		other := w.open(2)
		before := other.count()
		if phone.current.machine != stepper(rival) || sh.machines[rival.spi] != phone.current {
			t.Fatalf("the session is carried by %x, want %x", phone.current.spi, rival.spi)
		}
		w.server.Kill(func(i Info) bool { return i.Device == "phone" })
		w.settled()
		if _, ok := rival.last().(ike.Close); !ok || other.count() != before {
			t.Errorf("killed: its own IKE SA was told %v, another's %v", rival.inputs, other.inputs[before:])
		}
	})
}
