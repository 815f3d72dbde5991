package session

import (
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// Events of the data plane, and what became of hints, as they are counted.
const (
	eventAddressChanged = "address_changed"
	eventHint           = "address_hint"
	eventHintConfirmed  = "address_hint_confirmed"
	eventUnknownSPI     = "unknown_spi"
	eventSoftLimit      = "soft_limit"
	eventHardLimit      = "hard_limit"
	eventExpired        = "expired"
)

// hintPeriod is how often a session may be given an address hint, each of which
// costs a request. The data plane goes on telling while packets come from
// there.
const hintPeriod = 5 * time.Second

// watch takes the data plane's events and reads its counters.
func (s *Server) watch(quit <-chan struct{}) {
	ticker := time.NewTicker(meterPeriod)
	defer ticker.Stop()
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
		case <-ticker.C:
			s.meter.read()
		}
	}
}

func (s *Server) event(now time.Time, e dataplane.Event) {
	switch e := e.(type) {
	case dataplane.AddressChanged:
		s.stats.event(eventAddressChanged)
		s.broadcast(addressChanged(e))
	case dataplane.UnknownSPI:
		s.stats.event(eventUnknownSPI)
		s.unknownSPI(now, e)
	case dataplane.LimitReached:
		if !e.Hard {
			s.stats.event(eventSoftLimit)
			s.broadcast(rekeyChild{e.Inbound})
			return
		}
		s.stats.event(eventHardLimit)
		s.broadcast(endChild{e.Inbound})
	case dataplane.Expired:
		s.stats.event(eventExpired)
		s.broadcast(endChild{e.Inbound})
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

// rekeyChild: a Child SA carried nearly as much as it may.
type rekeyChild struct{ inbound dataplane.SPI }

func (r rekeyChild) deliver(sh *shard, now time.Time) {
	if s := sh.children[r.inbound]; s != nil && s.closing == "" {
		sh.step(now, s.current, ike.Rekey{Inbound: r.inbound})
	}
}

// endChild: a Child SA carries nothing any more. If it was the only one its
// session ends; otherwise it is replaced, if it isn't yet.
type endChild struct{ inbound dataplane.SPI }

func (e endChild) deliver(sh *shard, now time.Time) {
	s := sh.children[e.inbound]
	switch {
	case s == nil:
	case len(s.card.children) == 1:
		sh.close(now, s, ike.CloseExpired)
	default:
		rekeyChild(e).deliver(sh, now)
	}
}

// addressChanged: the device may have moved; its IKE SA asks there.
type addressChanged dataplane.AddressChanged

func (a addressChanged) deliver(sh *shard, now time.Time) {
	s := sh.children[a.Inbound]
	if s == nil || s.closing != "" {
		return
	}
	if s.hint != nil && now.Sub(s.hint.at) < hintPeriod {
		sh.server.stats.drop(ReasonHintRate)
		return
	}
	s.hint = &hint{now, a.Remote}
	sh.server.stats.event(eventHint)
	sh.step(now, s.current, ike.AddressHint(a))
}
