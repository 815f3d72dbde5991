package lease

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// loop is the goroutine that owns table and file. It takes all that waits and
// serves it: the longer a transaction takes, the more share the next one.
func (r *Registry) loop() {
	defer close(r.done)
	timer := time.NewTimer(r.saveInterval)
	defer timer.Stop()
	var tasks []task
	saving := false
	for {
		if !saving {
			select {
			case <-r.wake:
				// Whoever is about to ask shares the transaction.
				runtime.Gosched()
			case <-timer.C:
				saving = true
			}
		}
		var closed bool
		tasks, closed = r.take(tasks)
		r.serve(tasks)
		if closed {
			r.finish()
			return
		}
		if saving {
			if more, err := r.save(); err != nil || !more {
				saving = false
				timer.Reset(r.saveInterval)
			}
		}
		r.publish()
	}
}

// take swaps the tasks that wait for those that were served.
func (r *Registry) take(served []task) (tasks []task, closed bool) {
	clear(served)
	r.mu.Lock()
	defer r.mu.Unlock()
	tasks, r.waiting = r.waiting, served[:0]
	r.requests = 0
	return tasks, r.closed
}

// serve carries out tasks in order. Calls stand between batches.
func (r *Registry) serve(tasks []task) {
	for len(tasks) > 0 {
		n := slices.IndexFunc(tasks, func(t task) bool { return t.call != nil })
		if n == 0 {
			tasks[0].call()
			tasks = tasks[1:]
			continue
		}
		if n < 0 {
			n = len(tasks)
		}
		r.batch(tasks[:n])
		tasks = tasks[n:]
	}
}

// result of a task in a batch.
type result struct {
	grant Grant
	waits SessionID
	err   error
}

// batch carries out tasks, writes what they changed in one transaction, and
// answers. If it can't be written, all is taken back and carried out again
// without what needs writing: a full disk keeps no device out that has a lease.
func (r *Registry) batch(tasks []task) {
	now := time.Now().UnixNano()
	// Some of those that wait for others' ends may have waited for one of these.
	ends := slices.IndexFunc(tasks, func(t task) bool { return t.answer == nil })
	if len(r.parked) > 0 && ends >= 0 {
		tasks = slices.Concat(tasks, r.parked)
		r.parked = nil
	}
	r.table.begin()
	results := r.apply(tasks, now, false)
	if err := r.commit(r.table.changed, now); err != nil {
		r.table.rollback()
		results = r.apply(tasks, now, true)
		for i := range results {
			if errors.Is(results[i].err, ErrStore) {
				results[i].err = fmt.Errorf("%w: %s: %w", ErrStore, r.path, err)
			}
		}
	}
	r.table.begin()
	r.publish()
	for i, t := range tasks {
		switch {
		case t.answer != nil && results[i].waits != 0:
			r.park(t, results[i].waits)
		case t.answer != nil:
			t.answer(results[i].grant, results[i].err)
		case t.released != nil:
			t.released <- results[i].err
		}
	}
}

// park a request until a session has ended. Who can end it is told once.
func (r *Registry) park(t task, waits SessionID) {
	if t.waits != waits {
		t.waits = waits
		t.request.Evict(waits)
	}
	r.parked = append(r.parked, t)
}

func (r *Registry) apply(tasks []task, now int64, readOnly bool) []result {
	results := make([]result, len(tasks))
	for i, t := range tasks {
		switch {
		case t.answer != nil && t.request.Assigned:
			results[i].grant, results[i].waits, results[i].err = r.table.acquireAssigned(t.request, now, readOnly)
		case t.answer != nil:
			results[i].grant, results[i].err = r.table.acquire(t.request, now, readOnly)
		case t.released != nil:
			results[i].err = r.table.release(t.request.Device, now, readOnly)
		default:
			r.table.end(t.request.Device, t.request.Session, now)
		}
	}
	return results
}

// commit writes what the table says of these addresses, and of those that an
// earlier transaction was to write and failed. Without any it does nothing.
func (r *Registry) commit(keys []key, now int64) error {
	if r.store == nil {
		return nil
	}
	for _, k := range keys {
		r.unsaved[k] = struct{}{}
	}
	if len(r.unsaved) == 0 {
		return nil
	}
	if err := r.store.write(r.table, r.unsaved, now); err != nil {
		r.writeErrors++
		return err
	}
	r.writes++
	for k := range r.unsaved {
		if l := r.table.leases[k]; l != nil {
			l.stale = false
		}
	}
	clear(r.unsaved)
	return nil
}

// save writes some of the times of last use and says whether there are more.
func (r *Registry) save() (more bool, err error) {
	keys := r.table.takeStale(saveChunk)
	err = r.commit(keys, time.Now().UnixNano())
	return len(r.table.stale) > 0, err
}

// finish writes the rest and closes the file. Sessions that are live then stay
// marked so in the file and count as used until now.
func (r *Registry) finish() {
	defer r.publish()
	for _, t := range r.parked {
		t.answer(Grant{}, ErrClosed)
	}
	if r.store == nil {
		return
	}
	var err error
	for more := true; more && err == nil; {
		more, err = r.save()
	}
	if err == nil && r.table.live > 0 {
		err = r.store.write(r.table, nil, time.Now().UnixNano())
	}
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrStore, r.path, err)
	}
	r.closeErr = errors.Join(err, r.store.close())
}

func (r *Registry) publish() {
	t := r.table
	s := Stats{
		Assigned: t.assigned, Outside: t.outside, Live: t.live,
		Exhausted: t.exhausted, Displaced: t.displaced, Reassigned: t.reassigned,
		Writes: r.writes, WriteErrors: r.writeErrors,
	}
	for f := range t.spaces {
		s.Capacity[f] = t.spaces[f].capacity
	}
	r.stats.Store(&s)
}
