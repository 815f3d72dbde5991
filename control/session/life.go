package session

import (
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// up: the IKE SA and its Child SA are established. The session before it goes.
func (sh *shard) up(now time.Time, s *session, summary ike.Summary) {
	s.established, s.summary, s.until = now, summary, summary.Until
	s.device = summary.Device
	sh.children[summary.Inbound] = s
	delete(sh.halfOpen, s.init)
	sh.uncount(s)
	server := sh.server
	server.stats.established(now.Sub(s.began))
	server.infos.set(Info{ID: lease.SessionID(s.spi), Summary: summary, Established: now})
	server.log.Info("session established",
		slog.String("device", summary.Device), slog.Any("virtual_ips", summary.VirtualIPs),
		slog.String("remote", summary.Remote.String()),
		slog.String("ike", summary.IKE), slog.String("esp", summary.ESP), slog.String("auth", summary.Auth))
	if s.displaced != 0 {
		server.order(closeOrder{spi: uint64(s.displaced), reason: ike.CloseReplaced})
		s.displaced = 0
	}
}

// over: the IKE SA is no more. While it lingers it is counted like a half-open
// one, so that their number is bounded; where there is no room it is forgotten
// at once.
func (sh *shard) over(now time.Time, s *session, c ike.Closed) {
	s.closed = true
	sh.live--
	sh.logClosed(now, s, c)
	sh.server.stats.closed(c.Reason)
	sh.server.infos.remove(lease.SessionID(s.spi))
	delete(sh.halfOpen, s.init)
	if sh.children[s.summary.Inbound] == s {
		delete(sh.children, s.summary.Inbound)
	}
	sh.letGo(s)
	s.evidence = nil
	if !c.Linger {
		sh.forget(s)
		return
	}
	if !s.counted {
		if sh.server.gate.Open(s.source) != gate.ReasonNone {
			sh.forget(s)
			return
		}
		s.counted = true
	}
}

func (sh *shard) forget(s *session) {
	sh.uncount(s)
	delete(sh.sessions, s.spi)
	sh.timers.set(s, time.Time{})
}

func (sh *shard) uncount(s *session) {
	if s.counted {
		sh.server.gate.Close(s.source)
		s.counted = false
	}
}

// logClosed writes a line for each session that was up, and for strangers as
// many as the log can bear. What goes wrong in every negotiation, and what
// anybody can cause without keys, is for debugging.
func (sh *shard) logClosed(now time.Time, s *session, c ike.Closed) {
	attrs := []any{
		slog.String("device", s.device), slog.String("remote", s.remote.String()),
		slog.String("reason", string(c.Reason)), slog.String("detail", c.Detail),
	}
	log := sh.server.log
	switch {
	case !s.established.IsZero():
		log.Info("session closed", append(attrs,
			slog.Any("virtual_ips", s.summary.VirtualIPs), slog.Duration("lasted", now.Sub(s.established)))...)
	case c.Reason == ike.CloseInvalidKE || c.Reason == ike.CloseMalformed || c.Reason == ike.CloseHalfOpenTimeout:
		log.Debug("session not established", attrs...)
	case sh.server.logRate.Allow(now):
		log.Info("session refused", attrs...)
	}
}

// closeAll closes every session and tells emptied when none is left.
type closeAll struct {
	emptied chan<- struct{}
}

func (c closeAll) deliver(sh *shard, now time.Time) {
	sh.emptied = c.emptied
	for _, s := range sh.sessions {
		sh.close(now, s, ike.CloseShutdown)
	}
}

// tellEmpty: lingering sessions don't count, nobody needs them to end well.
func (sh *shard) tellEmpty() {
	if sh.emptied != nil && sh.live == 0 {
		close(sh.emptied)
		sh.emptied = nil
	}
}

// abandon ends the sessions whose peers didn't answer in time.
func (sh *shard) abandon(now time.Time) {
	for _, s := range sh.sessions {
		if !s.closed {
			sh.over(now, s, ike.Closed{Reason: ike.CloseShutdown, Detail: "the peer did not answer"})
		}
	}
}
