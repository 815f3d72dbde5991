package metrics

import "github.com/prometheus/client_golang/prometheus"

// Manager is a snapshot of a manager. Sessions, Unproven and Followed are gauges,
// all else are counters.
type Manager struct {
	// Sessions with devices, and those of them that have proven nothing yet.
	Sessions, Unproven int
	// Answered messages of devices; Refused requests, and Certificates that are no
	// device's, by reason.
	Answered              uint64
	Refused, Certificates map[string]uint64
	// Dropped last visits and logged messages.
	Dropped uint64
	// Followed is the number of enrollment's last event that was taken.
	Followed int64
	Server
}

var (
	dmSessions     = desc("dm_sessions", "Sessions of device management, proven and unproven.", "state")
	dmAnswered     = desc("dm_messages_total", "Messages of devices that were answered.")
	dmRefused      = desc("dm_refused_total", "Requests of devices that got no answer of the protocol, by reason.", "reason")
	dmCertificates = desc("dm_certificates_refused_total", "Client certificates that are no device's, by reason.", "reason")
	dmDropped      = desc("dm_unrecorded_total", "Last visits and messages that are missing in the record for want of room or of a database.")
	dmFollowed     = desc("dm_followed_event", "Number of the last event of enrollment that was taken.")
)

var allManager = append([]*prometheus.Desc{dmSessions, dmAnswered, dmRefused, dmCertificates, dmDropped, dmFollowed}, allServer...)

// ManagerCollector takes a snapshot for each scrape.
type ManagerCollector func() Manager

var _ prometheus.Collector = ManagerCollector(nil)

// Describe sends the metrics there are.
func (ManagerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allManager {
		ch <- d
	}
}

// Collect sends their values.
func (c ManagerCollector) Collect(ch chan<- prometheus.Metric) {
	m := c()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	send(dmSessions, prometheus.GaugeValue, float64(m.Sessions-m.Unproven), "proven")
	send(dmSessions, prometheus.GaugeValue, float64(m.Unproven), "unproven")
	send(dmAnswered, prometheus.CounterValue, float64(m.Answered))
	for reason, n := range m.Refused {
		send(dmRefused, prometheus.CounterValue, float64(n), reason)
	}
	for reason, n := range m.Certificates {
		send(dmCertificates, prometheus.CounterValue, float64(n), reason)
	}
	send(dmDropped, prometheus.CounterValue, float64(m.Dropped))
	send(dmFollowed, prometheus.GaugeValue, float64(m.Followed))
	m.Server.collect(send)
}
