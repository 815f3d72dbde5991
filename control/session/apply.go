package session

import (
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// maxApply is how many machines' changes go into one call of the backend.
const maxApply = 256

// applier is the one goroutine that changes the data plane, which may take its
// time. It takes whatever waits: first all changes, then the reservations, then
// the ends of leases. So a lease ends after the Remove that was asked for
// before it, an SPI that was given back can be reserved, and the record of a
// session's end has the last figures.
type applier struct {
	backend dataplane.Backend
	meter   *meter
	leases  Leases
	records *recorder
	log     *slog.Logger
	tasks   *queue[task]

	// Room for what goes into one call.
	batch   []task
	changes []dataplane.Change
}

// task is one of apply, reserve, end and stop.
type task struct {
	sh  *shard
	spi uint64 // of the machine that waits for the answer

	apply   *ike.Apply
	group   lease.SessionID // apply changes the group of this session's device
	reserve *ike.Reserve
	end     *heldLease
	stop    *stopped
}

// stopped is the record of a session's end, whose figures are still to come.
type stopped struct {
	record  Record
	account *account
}

// heldLease is a lease that a session was granted.
type heldLease struct {
	device  string
	session lease.SessionID
}

// run ends with quit, after all that was put before.
func (a *applier) run(quit <-chan struct{}, wg *sync.WaitGroup) {
	wg.Go(func() {
		var tasks []task
		for stop := false; !stop; {
			select {
			case <-quit:
				stop = true
			case <-a.tasks.wake:
				// Whoever is about to ask shares the call of the data plane.
				runtime.Gosched()
			}
			tasks = a.tasks.drain(tasks)
			a.do(tasks)
			clear(tasks)
		}
	})
}

func (a *applier) do(tasks []task) {
	for _, t := range tasks {
		if t.apply == nil {
			continue
		}
		if a.batch = append(a.batch, t); len(a.batch) == maxApply {
			a.apply()
		}
	}
	a.apply()
	for _, t := range tasks {
		switch {
		case t.reserve != nil:
			spi, err := a.backend.Reserve(t.reserve.Hint)
			t.sh.mail.put(reserved{spi: t.spi, id: t.reserve.ID, inbound: spi, err: err})
		case t.end != nil:
			a.leases.End(t.end.device, t.end.session)
		case t.stop != nil:
			t.stop.record.Traffic = t.stop.account.read().Traffic
			a.records.put(t.stop.record)
			a.meter.close(t.stop.account)
		}
	}
}

// apply makes one call of several machines' changes and gives each the first
// error of its own. Keys are erased: the backend has copied them.
func (a *applier) apply() {
	if len(a.batch) == 0 {
		return
	}
	for _, t := range a.batch {
		a.changes = append(a.changes, t.apply.Changes...)
	}
	removed := askFinal(a.changes)
	errs := a.backend.Apply(a.changes)
	for _, r := range removed {
		a.meter.remove(r.Inbound, r.Final)
	}
	for _, t := range a.batch {
		n := len(t.apply.Changes)
		err := firstError(errs[:n])
		errs = errs[n:]
		eraseKeys(t.apply.Changes)
		switch {
		case t.apply.Wait:
			t.sh.mail.put(answer{t.spi, ike.Applied{ID: t.apply.ID, Err: err}})
		case err != nil:
			a.log.Warn("data plane refused a change", slog.Any("error", err))
			notRegrouped(t.sh, t.group, t.apply.Changes, err)
		}
	}
	clear(a.batch)
	clear(a.changes)
	a.batch, a.changes = a.batch[:0], a.changes[:0]
}

// askFinal has each Remove give the last counters, and returns them.
func askFinal(changes []dataplane.Change) (removed []dataplane.Remove) {
	for i, c := range changes {
		if r, ok := c.(dataplane.Remove); ok {
			r.Final = new(dataplane.ChildCounters)
			changes[i] = r
			removed = append(removed, r)
		}
	}
	return removed
}

func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func eraseKeys(changes []dataplane.Change) {
	for _, c := range changes {
		if in, ok := c.(dataplane.Install); ok {
			in.Child.EraseKeys()
		}
	}
}

// reserved answers ike.Reserve.
type reserved struct {
	spi     uint64
	id      ike.WorkID
	inbound dataplane.SPI
	err     error
}

func (r reserved) deliver(sh *shard, now time.Time) {
	s := sh.machines[r.spi]
	switch {
	case s != nil && !s.closed && r.err != nil:
		sh.step(now, s, ike.ReserveFailed{ID: r.id, Err: r.err})
	case s != nil && !s.closed:
		sh.step(now, s, ike.Reserved{ID: r.id, SPI: r.inbound})
	case r.err == nil:
		// The machine is gone and can't give it back.
		sh.server.data.tasks.put(task{apply: &ike.Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: r.inbound}}}})
	}
}
