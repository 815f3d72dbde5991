package session

import (
	"container/heap"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// retryTick is when a machine is told the time again whose deadline did not
// move by a Tick.
const retryTick = 100 * time.Millisecond

// timers is a heap of machines by sa.due. A deadline that moves away is
// left where it is until it is reached: most do, with every message.
type timers []*sa

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].slot, t[j].slot = i, j
}

func (t *timers) Push(x any) {
	s := x.(*sa)
	s.slot = len(*t)
	*t = append(*t, s)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	s := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	s.slot = -1
	return s
}

// set makes s due at; the zero time is never.
func (t *timers) set(s *sa, at time.Time) {
	switch {
	case at.IsZero() && s.slot >= 0:
		heap.Remove(t, s.slot)
	case at.IsZero():
	case s.slot < 0:
		s.due = at
		heap.Push(t, s)
	default:
		s.due = at
		heap.Fix(t, s.slot)
	}
}

// sooner makes s due earlier than it is, not later.
func (t *timers) sooner(s *sa, at time.Time) {
	if s.slot < 0 || at.Before(s.due) && !at.IsZero() {
		t.set(s, at)
	}
}

// hurried is how long a stranger may take that came when there were many: a
// third, so that the places for them are free three times as soon. It is enough
// for a client that has to repeat something.
func hurried(halfOpen time.Duration) time.Duration {
	return min(halfOpen, max(halfOpen/3, 5*time.Second))
}

// deadline is the machine's, or when its session is to be looked at.
func (s *sa) deadline() time.Time {
	if s.carries() && !s.session.over && s.session.closing == "" {
		return earliest(s.machine.Deadline(), s.session.lookAt)
	}
	return s.machine.Deadline()
}

// expire serves all machines that are due.
func (sh *shard) expire(now time.Time) {
	for len(sh.timers) > 0 && !sh.timers[0].due.After(now) {
		s := sh.timers[0]
		if d := s.deadline(); d.IsZero() || d.After(now) {
			sh.timers.set(s, d)
			continue
		}
		if s.carries() && due(now, s.session.lookAt) {
			switch {
			case s.session.up():
				sh.look(now, s.session)
			case s.session.closing == "" && !s.session.over:
				sh.close(now, s.session, ike.CloseHalfOpenTimeout)
			}
		}
		if due(now, s.machine.Deadline()) {
			sh.step(now, s, ike.Tick{Heard: s.session.heard()})
		}
		if sh.machines[s.spi] != s {
			continue
		}
		d := s.deadline()
		if due(now, d) {
			d = now.Add(retryTick)
		}
		sh.timers.set(s, d)
	}
}

func due(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }

// arm sets the shard's timer to the next deadline.
func (sh *shard) arm() {
	switch {
	case sh.held:
		sh.armed = time.Time{}
		sh.timer.Reset(heldFor)
	case len(sh.timers) == 0:
		sh.timer.Stop()
		sh.armed = time.Time{}
	case !sh.timers[0].due.Equal(sh.armed):
		sh.armed = sh.timers[0].due
		sh.timer.Reset(time.Until(sh.armed))
	}
}
