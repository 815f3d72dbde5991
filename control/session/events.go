package session

import (
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// Liveness is looked at a few times in an idle period, but not all the time.
const (
	livenessParts = 4
	livenessMin   = time.Second
	livenessMax   = 30 * time.Second
)

// watch takes the data plane's events and looks for silent peers.
func (s *Server) watch(quit <-chan struct{}) {
	timer := time.NewTimer(s.livenessPeriod())
	defer timer.Stop()
	events := s.events
	for {
		select {
		case <-quit:
			return
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			s.event(time.Now(), e)
		case <-timer.C:
			s.checkLiveness()
			timer.Reset(s.livenessPeriod())
		}
	}
}

func (s *Server) event(now time.Time, e dataplane.Event) {
	switch e := e.(type) {
	case dataplane.AddressChanged:
		s.stats.event("address_changed")
	case dataplane.UnknownSPI:
		s.stats.event("unknown_spi")
		s.unknownSPI(now, e)
	case dataplane.LimitReached:
		if !e.Hard {
			s.stats.event("soft_limit")
			return
		}
		s.stats.event("hard_limit")
		s.broadcast(closeChild{e.Inbound})
	case dataplane.Expired:
		s.stats.event("expired")
		s.broadcast(closeChild{e.Inbound})
	}
}

// unknownSPI tells a peer that we don't know its Child SA, a restart of ours
// being the usual reason (RFC 7296 section 1.5). Unprotected, so it is a hint
// at best; ESP without UDP is not answered, its peers find out by themselves.
func (s *Server) unknownSPI(now time.Time, e dataplane.UnknownSPI) {
	if e.Encapsulation != dataplane.EncapsulationUDP || s.draining.Load() || !s.gate.AllowAnswer(now) {
		s.stats.drop(ReasonESPUnanswered)
		return
	}
	s.sendUnprotected(dataplane.Datagram{
		Data:  gate.AppendInvalidSPI(make([]byte, 0, answerBuffer), uint32(e.SPI)),
		Local: e.Local, Remote: e.Remote, Marker: true,
	})
}

// closeChild closes the session whose Child SA carries nothing any more.
type closeChild struct{ inbound dataplane.SPI }

func (c closeChild) deliver(sh *shard, now time.Time) {
	if s := sh.children[c.inbound]; s != nil {
		sh.close(now, s, ike.CloseExpired)
	}
}

// livenessPeriod: without liveness checks the settings are looked at again
// after a while, they may have been replaced.
func (s *Server) livenessPeriod() time.Duration {
	idle := s.settings.Load().Liveness.Idle
	if idle == 0 {
		return livenessMax
	}
	return min(max(idle/livenessParts, livenessMin), livenessMax)
}

// checkLiveness reads the counters once for all shards.
func (s *Server) checkLiveness() {
	idle := s.settings.Load().Liveness.Idle
	if idle == 0 {
		return
	}
	lastIn := make(map[dataplane.SPI]time.Time)
	s.backend.Counters(func(c dataplane.ChildCounters) bool {
		lastIn[c.Inbound] = c.LastIn
		return true
	})
	s.broadcast(probeSilent{idle: idle, lastIn: lastIn})
}

// probeSilent has machines ask peers that nothing came from. A peer that
// doesn't answer is given up by its machine. The map is shared and not changed.
type probeSilent struct {
	idle   time.Duration
	lastIn map[dataplane.SPI]time.Time
}

func (p probeSilent) deliver(sh *shard, now time.Time) {
	for _, s := range sh.sessions {
		if s.established.IsZero() || s.closing || s.closed {
			continue
		}
		last := latest(s.established, s.lastIn, s.probed, p.lastIn[s.summary.Inbound])
		if now.Sub(last) >= p.idle {
			s.probed = now
			sh.step(now, s, ike.Probe{})
		}
	}
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
