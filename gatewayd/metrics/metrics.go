// Package metrics turns snapshots of a gateway into Prometheus metrics.
//
// A scrape takes one [Snapshot]; nothing is counted here, and no metric has a
// label for a device, so that their number stays what it is.
//
// What lives here: names, help texts and labels. What doesn't: who counts.
package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Snapshot of all figures at one moment. Those named counters only grow.
type Snapshot struct {
	Sessions, HalfOpen, MaxSessions int
	// Counters of handshakes.
	HandshakesStarted, HandshakesDone uint64
	// Counters by reason or name.
	Closed, Refused, Notes map[string]uint64
	// Events of the data plane by name; counters.
	Events map[string]uint64
	// Access counts packets by direction ("in": from devices), then verdict.
	Access map[string]map[string]uint64
	// Drops by layer, then reason; counters.
	Drops map[string]map[string]uint64
	// Guard counts packets by verdict; nil without a guard.
	Guard map[string]uint64
	// Kernel says what the kernel that forwards can do, by name, and Offloads
	// counts its SAs by where they were made; nil where it doesn't forward.
	Kernel   map[string]bool
	Offloads map[string]uint64
	// RekeyedIKE and Moved count IKE SAs that another took over from, and changes
	// of a session's path.
	RekeyedIKE, Moved uint64
	// Tickets by what became of them, and Work of the handshakes' workers by kind;
	// counters.
	Tickets, Work map[string]uint64
	// Legacy counts sessions by legacy algorithm.
	Legacy map[string]uint64
	// Counters of inner packets: in from devices, out to them.
	BytesIn, PacketsIn, BytesOut, PacketsOut uint64
	// Leases by state, and how many addresses there are.
	LeasesLive, LeasesIdle               int
	LeaseCapacityIPv4, LeaseCapacityIPv6 uint64
	// Counters of the lease registry.
	LeaseExhausted, LeaseReassigned, LeaseWriteErrors uint64
	// DHCPAnswers is a counter of DHCPINFORM that were answered.
	DHCPAnswers uint64
	// Host routes that are wanted and those that wait for the kernel; a counter of
	// its refusals.
	HostRoutes, HostRoutesWaiting int
	HostRouteErrors               uint64
	// Counters of session records, in lines, and of what kept them from the disk.
	RecordsWritten, RecordErrors uint64
	// Handshake durations.
	Handshake Histogram
	// ConfigLoaded is the Unix time of the last configuration that was taken,
	// ReloadsFailed a counter.
	ConfigLoaded  float64
	ReloadsFailed uint64
	// RevocationExpires is the Unix time of the first nextUpdate; 0 without
	// lists.
	RevocationExpires float64
}

// Histogram with cumulative counts by upper bound in seconds.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("gatewayd_"+name, help, labels, nil)
}

var (
	sessions          = desc("sessions", "Established IKE SAs.")
	sessionsMax       = desc("sessions_max", "Established IKE SAs that are allowed at once.")
	halfOpen          = desc("half_open", "IKE SAs on their way to be established.")
	handshakesStarted = desc("handshakes_started_total", "IKE SAs that were begun.")
	handshakes        = desc("handshakes_total", "IKE SAs that were established.")
	handshakeSeconds  = desc("handshake_duration_seconds", "From the first message to the established IKE SA.")
	closed            = desc("closed_total", "IKE SAs that ended, by reason.", "reason")
	refused           = desc("refused_total", "Devices that were not admitted, by reason.", "reason")
	rekeyedIKE        = desc("ike_rekeyed_total", "IKE SAs that another one took over from.")
	moved             = desc("session_moves_total", "Sessions that went on from another address.")
	legacy            = desc("legacy_total", "Sessions that used a legacy algorithm, by algorithm.", "algorithm")
	tickets           = desc("tickets_total", "Resumption tickets that were given or shown, by result.", "result")
	work              = desc("public_key_work_total", "Computations by public keys, by kind.", "kind")
	notes             = desc("ike_notes_total", "Events of IKE SAs that didn't end them.", "note")
	events            = desc("dataplane_events_total", "Events that the data plane told.", "event")
	accessPackets     = desc("access_packets_total", "Inner packets that access lists judged, by direction and verdict.", "direction", "verdict")
	drops             = desc("drops_total", "Packets and messages that were dropped, by layer and reason.", "layer", "reason")
	guardPackets      = desc("guard_packets_total", "Packets that the guard saw, by verdict.", "verdict")
	kernelAbility     = desc("kernel_ability", "Whether the kernel that forwards can do what not every kernel can, by name.", "ability")
	offloads          = desc("offload_sas_total", "SAs of the kernel by who does their cryptography: taken by the hardware, refused by it, or others.", "result")
	bytesTotal        = desc("bytes_total", "Bytes of inner packets; in: from devices.", "direction")
	packetsTotal      = desc("packets_total", "Inner packets; in: from devices.", "direction")
	leases            = desc("leases", "Leases by state.", "state")
	leaseCapacity     = desc("lease_capacity", "Addresses in the pools by family.", "family")
	leaseExhausted    = desc("lease_exhausted_total", "Requests for an address that found none free.")
	leaseReassigned   = desc("lease_reassigned_total", "Addresses that were taken from an idle device for another.")
	leaseWriteErrors  = desc("lease_write_errors_total", "Failed transactions of the lease file.")
	hostRoutes        = desc("host_routes", "Host routes of connected devices, by state.", "state")
	hostRouteErrors   = desc("host_route_errors_total", "Changes of host routes that the kernel refused; they are tried again.")
	recordsWritten    = desc("session_records_total", "Session records that were written.")
	recordErrors      = desc("session_record_errors_total", "Failed writes and syncs of session records.")
	dhcpAnswers       = desc("dhcp_answers_total", "DHCPINFORM of devices that were answered.")
	configLoaded      = desc("config_loaded_timestamp_seconds", "When the running configuration was read.")
	reloadsFailed     = desc("config_reload_failures_total", "Reloads that were refused.")
	crlExpires        = desc("crl_next_update_timestamp_seconds", "When the first revocation list or OCSP response is due for renewal.")
)

var all = []*prometheus.Desc{
	sessions, sessionsMax, halfOpen, handshakesStarted, handshakes, handshakeSeconds, closed, refused, notes, events, accessPackets, drops, guardPackets, kernelAbility, offloads,
	bytesTotal, packetsTotal, leases, leaseCapacity, leaseExhausted, leaseReassigned, leaseWriteErrors,
	hostRoutes, hostRouteErrors, rekeyedIKE, moved, legacy, tickets, work, recordsWritten, recordErrors, dhcpAnswers, configLoaded, reloadsFailed, crlExpires,
}

// Collector takes a snapshot for each scrape. The function may be called from
// several goroutines.
type Collector func() Snapshot

var _ prometheus.Collector = Collector(nil)

// Describe sends the metrics there are.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// Collect sends their values.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(sessions, float64(s.Sessions))
	gauge(sessionsMax, float64(s.MaxSessions))
	gauge(halfOpen, float64(s.HalfOpen))
	counter(handshakesStarted, s.HandshakesStarted)
	counter(handshakes, s.HandshakesDone)
	ch <- prometheus.MustNewConstHistogram(handshakeSeconds, s.Handshake.Count, s.Handshake.Sum, s.Handshake.Buckets)
	for _, by := range []struct {
		desc   *prometheus.Desc
		counts map[string]uint64
	}{{closed, s.Closed}, {refused, s.Refused}, {notes, s.Notes}, {events, s.Events}, {legacy, s.Legacy}, {tickets, s.Tickets}, {work, s.Work}, {guardPackets, s.Guard}, {offloads, s.Offloads}} {
		for name, n := range by.counts {
			counter(by.desc, n, name)
		}
	}
	for name, able := range s.Kernel {
		v := 0.0
		if able {
			v = 1
		}
		gauge(kernelAbility, v, name)
	}
	for direction, verdicts := range s.Access {
		for verdict, n := range verdicts {
			counter(accessPackets, n, direction, verdict)
		}
	}
	for layer, reasons := range s.Drops {
		for reason, n := range reasons {
			counter(drops, n, layer, reason)
		}
	}
	counter(bytesTotal, s.BytesIn, "in")
	counter(bytesTotal, s.BytesOut, "out")
	counter(packetsTotal, s.PacketsIn, "in")
	counter(packetsTotal, s.PacketsOut, "out")
	gauge(leases, float64(s.LeasesLive), "live")
	gauge(leases, float64(s.LeasesIdle), "idle")
	gauge(leaseCapacity, float64(s.LeaseCapacityIPv4), "ipv4")
	gauge(leaseCapacity, float64(s.LeaseCapacityIPv6), "ipv6")
	counter(leaseExhausted, s.LeaseExhausted)
	counter(leaseReassigned, s.LeaseReassigned)
	counter(leaseWriteErrors, s.LeaseWriteErrors)
	gauge(hostRoutes, float64(s.HostRoutes), "wanted")
	gauge(hostRoutes, float64(s.HostRoutesWaiting), "waiting")
	counter(hostRouteErrors, s.HostRouteErrors)
	counter(rekeyedIKE, s.RekeyedIKE)
	counter(moved, s.Moved)
	counter(recordsWritten, s.RecordsWritten)
	counter(recordErrors, s.RecordErrors)
	counter(dhcpAnswers, s.DHCPAnswers)
	gauge(configLoaded, s.ConfigLoaded)
	counter(reloadsFailed, s.ReloadsFailed)
	if s.RevocationExpires != 0 {
		gauge(crlExpires, s.RevocationExpires)
	}
}

// Registry with the collector, those of the Go runtime and the process, and
// what was built.
func Registry(c prometheus.Collector, version, revision string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "gatewayd_build_info",
		Help:        "Always 1; the labels say what was built.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(c, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
