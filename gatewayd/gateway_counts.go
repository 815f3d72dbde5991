package main

import (
	"maps"
	"slices"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/dhcp"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/metrics"
)

// Drops lists every reason of every layer, also those that never happened.
func (g *gateway) Drops() []local.Drop {
	stats := g.sessions.Stats()
	list := []local.Drop{}
	for r, n := range g.backend.Drops() {
		list = append(list, local.Drop{Layer: "dataplane", Reason: dataplane.Reason(r).String(), Count: n})
	}
	for d, verdicts := range g.lists.counters() {
		for v, n := range verdicts {
			if v != int(acl.VerdictPass) {
				list = append(list, local.Drop{Layer: "access", Reason: acl.Verdict(v).String() + "_" + acl.Direction(d).String(), Count: n.Packets})
			}
		}
	}
	for _, layer := range []struct {
		name   string
		counts map[string]uint64
	}{{"guard", g.guard.drops()}, {"ike", stats.Drops}, {"dhcp", unanswered(g.inform.stats())}, {"admit", stats.Refused}, {"ticket", refusedTickets(stats.Tickets)}, {"close", named(stats.Closed)}} {
		for _, reason := range slices.Sorted(maps.Keys(layer.counts)) {
			list = append(list, local.Drop{Layer: layer.name, Reason: reason, Count: layer.counts[reason]})
		}
	}
	return list
}

// refusedTickets leaves out what is no refusal.
func refusedTickets(counts map[string]uint64) map[string]uint64 {
	out := maps.Clone(counts)
	for r := range session.TicketMalformed {
		delete(out, r.String())
	}
	return out
}

func named[K ~string](counts map[K]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for k, n := range counts {
		out[string(k)] = n
	}
	return out
}

// snapshot for a scrape.
func (g *gateway) snapshot() metrics.Snapshot {
	stats, l, r, dhcp := g.sessions.Stats(), g.leases.Stats(), g.records.Stats(), g.inform.stats()
	packets := make(map[string]uint64, dataplane.NumReasons)
	for r, n := range g.backend.Drops() {
		packets[dataplane.Reason(r).String()] = n
	}
	s := metrics.Snapshot{
		Sessions: stats.Established, HalfOpen: stats.HalfOpen,
		HandshakesStarted: stats.Initiated, HandshakesDone: stats.EstablishedTotal,
		Closed: named(stats.Closed), Refused: stats.Refused, Notes: named(stats.Notes), Events: stats.Events,
		Access: accessCounts(g.lists.counters()), Guard: g.guard.verdicts(),
		Drops: map[string]map[string]uint64{"dataplane": packets, "ike": stats.Drops, "dhcp": unanswered(dhcp)}, DHCPAnswers: dhcp.Answered,
		Tickets: stats.Tickets, Work: stats.Work,
		RekeyedIKE: stats.RekeyedIKE, Moved: stats.Moved, Legacy: legacyCounts(stats.Legacy),
		BytesIn: stats.BytesIn, PacketsIn: stats.PacketsIn, BytesOut: stats.BytesOut, PacketsOut: stats.PacketsOut,
		LeasesLive: l.Live, LeasesIdle: l.Assigned - l.Live,
		LeaseCapacityIPv4: l.Capacity[lease.IPv4], LeaseCapacityIPv6: l.Capacity[lease.IPv6],
		LeaseExhausted: l.Exhausted, LeaseReassigned: l.Reassigned, LeaseWriteErrors: l.WriteErrors,
		RecordsWritten: r.Written, RecordErrors: r.Errors,
		Handshake: cumulative(stats.Handshake),
	}
	s.Kernel, s.Offloads = g.forward.abilities()
	if g.hostRoutes != nil {
		r := g.hostRoutes.Stats()
		s.HostRoutes, s.HostRoutesWaiting, s.HostRouteErrors = r.Routes, r.Waiting, r.Refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.MaxSessions = g.config.Gateway.Limits.Sessions
	s.ConfigLoaded, s.ReloadsFailed = float64(g.loaded.Unix()), g.reloadsFailed
	if end, ok := g.built.Admit.RevocationExpires(); ok {
		s.RevocationExpires = float64(end.Unix())
	}
	if g.management != nil {
		s.Management = g.management.figures(g.door)
	}
	return s
}

// accessCounts by direction and verdict.
func accessCounts(c acl.Counters) map[string]map[string]uint64 {
	out := make(map[string]map[string]uint64, acl.NumDirections)
	for d, verdicts := range c {
		counts := make(map[string]uint64, acl.NumVerdicts)
		for v, n := range verdicts {
			counts[acl.Verdict(v).String()] = n.Packets
		}
		out[acl.Direction(d).String()] = counts
	}
	return out
}

// legacyCounts has all names, so that an alert on one doesn't wait for the first.
func legacyCounts(counts map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for _, name := range (ikecrypto.Legacy{SHA1Signatures: true, HMACSHA1: true, MODP1024: true, TripleDES: true}).Names() {
		out[name] = counts[name]
	}
	return out
}

// cumulative is Prometheus's form of a histogram.
func cumulative(h session.Histogram) metrics.Histogram {
	out := metrics.Histogram{Sum: h.Sum, Buckets: make(map[float64]uint64, len(h.Bounds))}
	for i, n := range h.Counts {
		out.Count += n
		if i < len(h.Bounds) {
			out.Buckets[h.Bounds[i]] = out.Count
		}
	}
	return out
}

// unanswered are the DHCP messages without an answer, by reason.
func unanswered(s dhcp.Stats) map[string]uint64 {
	out := make(map[string]uint64, dhcp.NumReasons)
	for r := dhcp.ReasonNone + 1; int(r) < dhcp.NumReasons; r++ {
		out[r.String()] = s.Drops[r]
	}
	return out
}
