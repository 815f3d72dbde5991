package session

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
)

// up: the IKE SA is established. The session before it goes. One without a lease
// can carry nothing and isn't bounded by anything, so it is not kept.
func (sh *shard) up(now time.Time, sa *sa, summary ike.Summary) {
	s, server := sa.session, sh.server
	summary.Group = s.group // a reload may have changed it since
	s.card, s.until, s.device = newCard(s.id, now, &summary), summary.Until, summary.Device
	if slices.Equal(s.card.virtualIPs, s.addresses) {
		s.card.virtualIPs = s.addresses
	}
	s.account = server.meter.open(s.id)
	s.lookAt = now
	sh.initOver(sa)
	sh.uncount(sa)
	if summary.Inbound != 0 {
		sh.childUp(s, Child{
			Inbound: summary.Inbound, Outbound: summary.Outbound, ESP: summary.ESP,
			LocalTS: summary.LocalTS, RemoteTS: summary.RemoteTS,
		})
	}
	sh.tell(s)
	server.stats.established(now.Sub(s.began), summary.Legacy)
	if summary.Resumed {
		server.tickets.count(TicketResumed)
	}
	if ctx := context.Background(); server.log.Enabled(ctx, slog.LevelInfo) {
		server.log.LogAttrs(ctx, slog.LevelInfo, "session established",
			slog.String("device", summary.Device), slog.Any("virtual_ips", summary.VirtualIPs),
			slog.String("remote", summary.Remote.String()),
			slog.String("ike", summary.IKE), slog.String("esp", summary.ESP), slog.String("auth", summary.Auth),
			slog.Bool("resumed", summary.Resumed))
	}
	if len(summary.Legacy) > 0 {
		server.log.Warn("session uses legacy algorithms",
			slog.String("device", summary.Device), slog.Any("legacy", summary.Legacy), slog.String("client", summary.Client))
	}
	server.records.put(s.record(now, RecordStart))
	if s.displaced != 0 {
		gone := s.standing.presented != nil && s.standing.presented.session == s.displaced
		server.order(closeOrder{id: s.displaced, reason: ike.CloseReplaced, gone: gone})
		s.displaced = 0
	}
	if newest := server.settings.Load().IKE; newest != s.settings.IKE { // there was a reload meanwhile
		sh.mail.put(answer{sa.spi, ike.Reconfigure{Config: newest}})
	}
	if !s.holds {
		sh.mail.put(closeOrder{id: s.id, reason: ike.CloseNoAddress})
	}
}

// maxParted is how many IKE SAs of sessions that were established linger in a
// shard at once.
const maxParted = 4096

// closed: an IKE SA is no more, and its session if it carried it. While it
// lingers it is counted, so that their number is bounded: one that was never
// established like those that are half-open, others by themselves, for many may
// leave one network at once and come back. Where there is no room it is
// forgotten at once.
func (sh *shard) closed(now time.Time, s *sa, c ike.Closed) {
	s.closed = true
	sh.initOver(s)
	if s.carries() {
		sh.over(now, s.session, c)
	} else {
		sh.server.stats.closed(ike.CloseRekeyed)
	}
	if !c.Linger {
		sh.forget(s)
		return
	}
	switch {
	case s.counted:
	case s.session.established():
		if sh.parted == maxParted {
			sh.forget(s)
			return
		}
		sh.parted++
		s.parted = true
	case sh.server.gate.Open(s.source) != gate.ReasonNone:
		sh.forget(s)
	default:
		s.counted = true
	}
}

// over: the session has ended. IKE SAs that were to take over end too.
func (sh *shard) over(now time.Time, s *session, c ike.Closed) {
	sh.logClosed(now, s, c)
	sh.server.stats.closed(c.Reason)
	for s.established() && len(s.card.children) > 0 {
		sh.childDown(s, s.card.children[0].inbound)
	}
	s.over = true
	sh.server.infos.remove(s.id)
	delete(sh.sessions, s.id)
	sh.index.remove(s)
	if s.established() {
		record := s.record(now, RecordStop)
		record.Reason, record.Detail = c.Reason, c.Detail
		sh.server.data.tasks.put(task{stop: &stopped{record: record, account: s.account}})
		s.account = nil // it is the applier's
	}
	sh.letGo(s)
	s.evidence.erase()
	for _, bare := range s.machines {
		if bare != s.current {
			sh.mail.put(closeSA{bare.spi, ike.Close{Reason: c.Reason}})
		}
	}
}

// forget an IKE SA that is closed. Whoever is at it may look at it until release.
func (sh *shard) forget(s *sa) {
	if sh.machines[s.spi] != s {
		return // twice
	}
	if s.carries() && !s.session.over {
		return // its session would point to a place that somebody else gets
	}
	sh.uncount(s)
	sh.initOver(s)
	delete(sh.machines, s.spi)
	s.session.remove(s)
	sh.timers.set(s, time.Time{})
	sh.gone = append(sh.gone, s)
}

// release gives back the places of what was forgotten, and of sessions that have
// ended with it: nothing may point to them but what is on its way, by its ID.
func (sh *shard) release() {
	for i, s := range sh.gone {
		session := s.session
		s.lift()
		s.home.Put(s)
		sh.gone[i] = nil
		if len(session.machines) == 0 && session.over { // which Put erases
			session.home.Put(session)
		} else if len(session.machines) == 1 {
			sh.lay(session.machines[0])
		}
	}
	sh.gone = sh.gone[:0]
}

// initOver: no IKE_SA_INIT is for this machine any more.
func (sh *shard) initOver(s *sa) {
	if s.init != nil {
		if sh.halfOpen[*s.init] == s { // not one that was begun since
			delete(sh.halfOpen, *s.init)
		}
		sh.newcomers.over(*s.init)
		sh.fresh.remove(s)
		sh.shownNo(s)
		s.init = nil
	}
}

func (sh *shard) uncount(s *sa) {
	if s.counted {
		sh.server.gate.Close(s.source)
		s.counted = false
	}
	if s.parted {
		sh.parted--
		s.parted = false
	}
}

// logClosed writes a line for each session that was up, and for strangers as
// many as the log can bear. What goes wrong in every negotiation, and what
// anybody can cause without keys, is for debugging.
func (sh *shard) logClosed(now time.Time, s *session, c ike.Closed) {
	log := sh.server.log
	if !log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	attrs := []any{
		slog.String("device", s.device), slog.String("remote", s.remote.String()),
		slog.String("reason", string(c.Reason)), slog.String("detail", c.Detail),
	}
	switch {
	case s.established():
		log.Info("session closed", append(attrs,
			slog.Any("virtual_ips", s.card.virtualIPs), slog.Duration("lasted", now.Sub(s.card.established)))...)
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

// tellEmpty: machines that linger don't count, nobody needs them to end well.
func (sh *shard) tellEmpty() {
	if sh.emptied != nil && len(sh.sessions) == 0 {
		close(sh.emptied)
		sh.emptied = nil
	}
}

// abandon ends the sessions whose peers didn't answer in time.
func (sh *shard) abandon(now time.Time) {
	for _, s := range sh.sessions {
		sh.closed(now, s.current, ike.Closed{Reason: ike.CloseShutdown, Detail: "the peer did not answer"})
	}
}
