package main

import (
	"log/slog"
	"maps"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/config"
)

const (
	// lookForManager is how often it is looked whether one was heard from.
	lookForManager = 2 * time.Second
	// countersEvery is how often the manager is told how much there was.
	countersEvery = time.Minute
)

// watch whether a manager is heard from, until over is closed, and tell it how
// much there was.
func (m *management) watch(over <-chan struct{}) {
	tick := time.NewTicker(lookForManager)
	defer tick.Stop()
	counted := time.Now()
	for {
		m.look(time.Now())
		select {
		case <-over:
			return
		case now := <-tick.C:
			if now.Sub(counted) >= countersEvery {
				counted = now
				m.agent.Events.Add(gcm.Event{Kind: gcm.Counters, Sums: m.gateway.sums()})
			}
		}
	}
}

// unreachable says since when no manager is within reach, if that is for longer
// than is configured.
func (m *management) unreachable(now time.Time) (since time.Time, gone bool) {
	m.gateway.mu.Lock()
	after := time.Duration(m.gateway.config.Gateway.Management.Unreachable.After)
	m.gateway.mu.Unlock()
	since = m.agent.Heard()
	if since.IsZero() {
		since = m.gateway.started
	}
	return since, after > 0 && now.Sub(since) >= after
}

// look whether newcomers are to be refused by now, or no longer.
func (m *management) look(now time.Time) {
	g := m.gateway
	since, gone := m.unreachable(now)
	g.mu.Lock()
	refuse := gone && g.config.Gateway.Management.Unreachable.Then == config.UnreachableRefuse
	same := refuse == g.refusing && gone == g.alone
	g.mu.Unlock()
	if same {
		return
	}
	err := g.shut(func() { g.refusing, g.alone = refuse, gone })
	switch {
	case err != nil:
		m.logger.Error("what holds without a manager", slog.Any("error", err))
	case gone:
		m.logger.Warn("no manager is heard from; what was pushed last holds", slog.Time("since", since), slog.Bool("refusing_newcomers", refuse))
	default:
		m.logger.Info("a manager is back")
	}
}

// sums that a manager gets: what a scrape would have, in short.
func (g *gateway) sums() map[string]uint64 {
	stats, l := g.sessions.Stats(), g.leases.Stats()
	sums := map[string]uint64{
		"sessions": uint64(stats.Established), "half_open": uint64(stats.HalfOpen),
		"handshakes": stats.EstablishedTotal, "moved": stats.Moved, "rekeyed": stats.RekeyedIKE,
		"bytes_in": stats.BytesIn, "packets_in": stats.PacketsIn, "bytes_out": stats.BytesOut, "packets_out": stats.PacketsOut,
		"leases_live": uint64(l.Live), "leases_idle": uint64(l.Assigned - l.Live),
	}
	for _, n := range g.backend.Drops() {
		sums["dropped_packets"] += n
	}
	for n := range maps.Values(stats.Refused) {
		sums["refused"] += n
	}
	return sums
}
