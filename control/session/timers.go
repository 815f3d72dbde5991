package session

import (
	"container/heap"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// retryTick is when a machine is told the time again whose deadline did not
// move by a Tick.
const retryTick = 100 * time.Millisecond

// timers is a heap of sessions by session.due. A deadline that moves away is
// left where it is until it is reached: most do, with every message.
type timers []*session

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].slot, t[j].slot = i, j
}

func (t *timers) Push(x any) {
	s := x.(*session)
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
func (t *timers) set(s *session, at time.Time) {
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
func (t *timers) sooner(s *session, at time.Time) {
	if s.slot < 0 || at.Before(s.due) && !at.IsZero() {
		t.set(s, at)
	}
}

// deadline is the machine's, or when the admission ends.
func (s *session) deadline() time.Time {
	d := s.machine.Deadline()
	if s.established.IsZero() || s.closing || s.closed || s.until.IsZero() {
		return d
	}
	if d.IsZero() || s.until.Before(d) {
		return s.until
	}
	return d
}

// expire serves all sessions that are due.
func (sh *shard) expire(now time.Time) {
	for len(sh.timers) > 0 && !sh.timers[0].due.After(now) {
		s := sh.timers[0]
		d := s.deadline()
		if d.IsZero() || d.After(now) {
			sh.timers.set(s, d)
			continue
		}
		if d.Equal(s.until) {
			sh.close(now, s, ike.CloseExpired)
		} else {
			sh.step(now, s, ike.Tick{})
		}
		if sh.sessions[s.spi] != s {
			continue
		}
		d = s.deadline()
		if !d.IsZero() && !d.After(now) {
			d = now.Add(retryTick)
		}
		sh.timers.set(s, d)
	}
}

// arm sets the shard's timer to the next deadline.
func (sh *shard) arm() {
	switch {
	case len(sh.timers) == 0:
		sh.timer.Stop()
		sh.armed = time.Time{}
	case !sh.timers[0].due.Equal(sh.armed):
		sh.armed = sh.timers[0].due
		sh.timer.Reset(time.Until(sh.armed))
	}
}
