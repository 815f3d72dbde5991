package session

import (
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// Sessions that are up are looked at by timers of their own, so that a fleet
// that came or fell silent at once makes no burst.

const (
	// probeSpread and parkingSpread are the parts of a period by which it is
	// made longer at most.
	probeSpread   = 4
	parkingSpread = 24
	// answerTime after a device was heard what goes to it counts as an answer: a
	// device that asks something, gets it and falls asleep leaves nothing unanswered.
	answerTime = 2 * time.Second
)

// unanswered says whether a packet that was sent last waits for an answer.
func unanswered(heard, sent time.Time) bool { return sent.After(heard.Add(answerTime)) }

// jitter is this session's part of what d may be longer by.
func (s *session) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(s.spread) * float64(d))
}

// heard is when something authentic last came; zero before the session is up, and
// when it is over.
func (s *session) heard() time.Time {
	if s.account == nil {
		return time.Time{}
	}
	return latest(s.card.established, s.lastIn, s.account.read().LastIn)
}

// lookSoon has a session looked at as soon as the shard has done what it does.
func (sh *shard) lookSoon(now time.Time, s *session) {
	if s.up() {
		s.lookAt = now
		sh.timers.sooner(s.current, now)
	}
}

// lookAll has all sessions looked at, with new settings.
type lookAll struct{}

func (lookAll) deliver(sh *shard, now time.Time) {
	for _, s := range sh.sessions {
		sh.lookSoon(now, s)
	}
}

// lookSome has those looked at to which packets went that may be unanswered.
type lookSome []lease.SessionID

func (l lookSome) deliver(sh *shard, now time.Time) {
	for _, id := range l {
		if s := sh.sessions[id]; s != nil {
			sh.lookSoon(now, s)
		}
	}
}

// unanswered has the shards look.
func (s *Server) unanswered(ids []lease.SessionID) {
	some := make([]lookSome, len(s.shards))
	for _, id := range ids {
		some[id>>56] = append(some[id>>56], id)
	}
	for n, l := range some {
		if len(l) > 0 {
			s.shards[n].mail.put(l)
		}
	}
}

// look closes a session whose admission or idle limit has ended, has its peer
// probed, writes an interim record, and says when to look again.
func (sh *shard) look(now time.Time, s *session) {
	settings := sh.server.settings.Load()
	usage := s.account.watch(latest(s.card.established, s.lastIn))
	heard := latest(s.card.established, s.lastIn, usage.LastIn)
	parked := settings.Parking.idle()
	idleAt := heard.Add(parked + s.jitter(parked/parkingSpread))
	switch {
	case due(now, s.until):
		sh.close(now, s, ike.CloseExpired)
		return
	case due(now, idleAt):
		sh.close(now, s, ike.CloseIdle)
		return
	}
	var a attention
	if s.attention != nil {
		a = *s.attention
	}
	sh.lookInterim(now, s, &a, settings.Records.Interim)
	next := sh.lookUnanswered(now, s, &a, settings.Liveness.Idle, heard, usage.LastOut)
	s.lookAt, s.attention = earliest(s.until, idleAt, a.interimAt, next), nil
	if a != (attention{}) {
		s.attention = &a
	}
}

// lookUnanswered has the machine ask a peer that leaves packets unanswered for
// too long; if it doesn't answer that either, the machine gives it up. A device
// to which nothing is sent is left alone, and not looked at before the meter says
// that something was.
func (sh *shard) lookUnanswered(now time.Time, s *session, a *attention, idle time.Duration, heard, sent time.Time) (next time.Time) {
	if idle == 0 || !unanswered(heard, sent) {
		a.waiting, a.probed = time.Time{}, time.Time{}
		return time.Time{}
	}
	if !a.waiting.After(heard) {
		a.waiting = sent
	}
	patience := idle + s.jitter(idle/probeSpread)
	if due(now, latest(a.waiting, a.probed).Add(patience)) {
		a.probed = now
		sh.step(now, s.current, ike.Probe{})
	}
	return latest(a.waiting, a.probed).Add(patience)
}

// lookInterim writes a record each period. The first one comes earlier by up to
// a half.
func (sh *shard) lookInterim(now time.Time, s *session, a *attention, period time.Duration) {
	switch {
	case period == 0:
		a.interimAt = time.Time{}
	case a.interimAt.IsZero():
		a.interimAt = now.Add(period - s.jitter(period/2))
	case a.interimAt.After(now.Add(period)):
		a.interimAt = now.Add(period) // it became shorter
	case due(now, a.interimAt):
		sh.server.records.put(s.record(now, RecordInterim))
		a.interimAt = now.Add(period)
	}
}
