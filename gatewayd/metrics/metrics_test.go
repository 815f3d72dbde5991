package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func snapshot() Snapshot {
	return Snapshot{
		Sessions: 3, HalfOpen: 1, MaxSessions: 20000,
		HandshakesStarted: 9, HandshakesDone: 5,
		Closed:     map[string]uint64{"killed": 2},
		Refused:    map[string]uint64{"revoked": 4},
		Notes:      map[string]uint64{"retransmission_answered": 6},
		Events:     map[string]uint64{"unknown_spi": 12},
		Access:     map[string]map[string]uint64{"in": {"denied": 18}, "out": {"pass": 19}},
		Drops:      map[string]map[string]uint64{"dataplane": {"replay": 7}, "ike": {"cookie_required": 8}},
		Guard:      map[string]uint64{"esp": 18, "cookie_sent": 19},
		RekeyedIKE: 13, Moved: 14, Legacy: map[string]uint64{"modp_1024": 15, "3des": 0},
		RecordsWritten: 16, RecordErrors: 17,
		BytesIn: 100, PacketsIn: 1, BytesOut: 200, PacketsOut: 2,
		LeasesLive: 3, LeasesIdle: 10, LeaseCapacityIPv4: 65534, LeaseCapacityIPv6: 1 << 20, LeaseExhausted: 11,
		Handshake:    Histogram{Count: 5, Sum: 0.25, Buckets: map[float64]uint64{0.05: 3, 0.1: 5}},
		ConfigLoaded: 1700000000,
	}
}

// The names are an interface: dashboards and alerts are built on them.
func TestNamesAndValues(t *testing.T) {
	want := `
# HELP gatewayd_sessions Established IKE SAs.
# TYPE gatewayd_sessions gauge
gatewayd_sessions 3
# HELP gatewayd_half_open IKE SAs on their way to be established.
# TYPE gatewayd_half_open gauge
gatewayd_half_open 1
# HELP gatewayd_handshakes_total IKE SAs that were established.
# TYPE gatewayd_handshakes_total counter
gatewayd_handshakes_total 5
# HELP gatewayd_closed_total IKE SAs that ended, by reason.
# TYPE gatewayd_closed_total counter
gatewayd_closed_total{reason="killed"} 2
# HELP gatewayd_refused_total Devices that were not admitted, by reason.
# TYPE gatewayd_refused_total counter
gatewayd_refused_total{reason="revoked"} 4
# HELP gatewayd_drops_total Packets and messages that were dropped, by layer and reason.
# TYPE gatewayd_drops_total counter
gatewayd_drops_total{layer="dataplane",reason="replay"} 7
gatewayd_drops_total{layer="ike",reason="cookie_required"} 8
# HELP gatewayd_guard_packets_total Packets that the guard saw, by verdict.
# TYPE gatewayd_guard_packets_total counter
gatewayd_guard_packets_total{verdict="cookie_sent"} 19
gatewayd_guard_packets_total{verdict="esp"} 18
# HELP gatewayd_ike_rekeyed_total IKE SAs that another one took over from.
# TYPE gatewayd_ike_rekeyed_total counter
gatewayd_ike_rekeyed_total 13
# HELP gatewayd_session_moves_total Sessions that went on from another address.
# TYPE gatewayd_session_moves_total counter
gatewayd_session_moves_total 14
# HELP gatewayd_legacy_total Sessions that used a legacy algorithm, by algorithm.
# TYPE gatewayd_legacy_total counter
gatewayd_legacy_total{algorithm="3des"} 0
gatewayd_legacy_total{algorithm="modp_1024"} 15
# HELP gatewayd_session_records_total Session records that were written.
# TYPE gatewayd_session_records_total counter
gatewayd_session_records_total 16
# HELP gatewayd_session_record_errors_total Failed writes and syncs of session records.
# TYPE gatewayd_session_record_errors_total counter
gatewayd_session_record_errors_total 17
# HELP gatewayd_lease_capacity Addresses in the pools by family.
# TYPE gatewayd_lease_capacity gauge
gatewayd_lease_capacity{family="ipv4"} 65534
gatewayd_lease_capacity{family="ipv6"} 1.048576e+06
# HELP gatewayd_dataplane_events_total Events that the data plane told.
# TYPE gatewayd_dataplane_events_total counter
gatewayd_dataplane_events_total{event="unknown_spi"} 12
# HELP gatewayd_access_packets_total Inner packets that access lists judged, by direction and verdict.
# TYPE gatewayd_access_packets_total counter
gatewayd_access_packets_total{direction="in",verdict="denied"} 18
gatewayd_access_packets_total{direction="out",verdict="pass"} 19
# HELP gatewayd_bytes_total Bytes of inner packets; in: from devices.
# TYPE gatewayd_bytes_total counter
gatewayd_bytes_total{direction="in"} 100
gatewayd_bytes_total{direction="out"} 200
# HELP gatewayd_packets_total Inner packets; in: from devices.
# TYPE gatewayd_packets_total counter
gatewayd_packets_total{direction="in"} 1
gatewayd_packets_total{direction="out"} 2
# HELP gatewayd_leases Leases by state.
# TYPE gatewayd_leases gauge
gatewayd_leases{state="idle"} 10
gatewayd_leases{state="live"} 3
# HELP gatewayd_lease_exhausted_total Requests for an address that found none free.
# TYPE gatewayd_lease_exhausted_total counter
gatewayd_lease_exhausted_total 11
# HELP gatewayd_handshake_duration_seconds From the first message to the established IKE SA.
# TYPE gatewayd_handshake_duration_seconds histogram
gatewayd_handshake_duration_seconds_bucket{le="0.05"} 3
gatewayd_handshake_duration_seconds_bucket{le="0.1"} 5
gatewayd_handshake_duration_seconds_bucket{le="+Inf"} 5
gatewayd_handshake_duration_seconds_sum 0.25
gatewayd_handshake_duration_seconds_count 5
`
	err := testutil.CollectAndCompare(Collector(snapshot), strings.NewReader(want),
		"gatewayd_sessions", "gatewayd_half_open", "gatewayd_handshakes_total", "gatewayd_closed_total", "gatewayd_refused_total",
		"gatewayd_drops_total", "gatewayd_access_packets_total", "gatewayd_dataplane_events_total", "gatewayd_bytes_total", "gatewayd_packets_total", "gatewayd_leases", "gatewayd_lease_capacity",
		"gatewayd_ike_rekeyed_total", "gatewayd_session_moves_total", "gatewayd_legacy_total", "gatewayd_session_records_total", "gatewayd_session_record_errors_total", "gatewayd_lease_exhausted_total",
		"gatewayd_handshake_duration_seconds")
	if err != nil {
		t.Error(err)
	}
}

// A pedantic registry finds metrics that weren't described or come twice, and
// the linter names that aren't in the manner of Prometheus.
func TestRegistry(t *testing.T) {
	r := Registry(Collector(snapshot), "1.2.3", "abcdef")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetName(), "device") {
					t.Errorf("%s has a label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for _, name := range []string{"gatewayd_build_info", "go_goroutines", "process_open_fds"} {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
	problems, err := testutil.CollectAndLint(Collector(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
