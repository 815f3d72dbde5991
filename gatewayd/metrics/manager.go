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
	// Gateways by name, those that this manager dials.
	Gateways map[string]Gateway
	// Alerts are devices now: for which one waits, that aren't connected, that
	// didn't come in spite of it. AlertsSent and AlertsFailed count notifications.
	AlertsWaiting, AlertsAway, AlertsSilent int
	AlertsSent, AlertsFailed                uint64
	Server
}

// Gateway as its manager sees it. Events and Disbelieved are counters.
type Gateway struct {
	Connected bool
	// Behind are sections that it doesn't have as they were committed; BehindFor
	// how long the oldest of them hasn't, in seconds.
	Behind    int
	BehindFor float64
	// Push is how long the last document took from its commit to being on the
	// gateway's disk, in seconds.
	Push float64
	// Sessions that it told of last.
	Sessions int
	// EventsBehind are those that weren't read yet when it was asked last.
	EventsBehind, Events, Disbelieved uint64
	// CertificateEnds is Unix time in seconds, 0 for none.
	CertificateEnds float64
}

var (
	dmSessions     = desc("dm_sessions", "Sessions of device management, proven and unproven.", "state")
	dmAnswered     = desc("dm_messages_total", "Messages of devices that were answered.")
	dmRefused      = desc("dm_refused_total", "Requests of devices that got no answer of the protocol, by reason.", "reason")
	dmCertificates = desc("dm_certificates_refused_total", "Client certificates that are no device's, by reason.", "reason")
	dmDropped      = desc("dm_unrecorded_total", "Last visits and messages that are missing in the record for want of room or of a database.")
	dmFollowed     = desc("dm_followed_event", "Number of the last event of enrollment that was taken.")
)

var (
	fleetConnected   = desc("fleet_connected", "Whether a gateway is connected to this manager.", "gateway")
	fleetBehind      = desc("fleet_sections_behind", "Sections of what is pushed that a gateway doesn't have, or not in force, as they were committed.", "gateway")
	fleetBehindFor   = desc("fleet_behind_seconds", "Since when a gateway isn't as it was committed, as far back as this process knows.", "gateway")
	fleetPush        = desc("fleet_push_seconds", "How long the last document took from its commit to a gateway's disk.", "gateway")
	fleetSessions    = desc("fleet_sessions", "Sessions with devices at a gateway.", "gateway")
	fleetEvents      = desc("fleet_events_behind", "Events of a gateway that weren't read yet when it was asked last.", "gateway")
	fleetKept        = desc("fleet_events_total", "Events of a gateway, by what became of them.", "gateway", "result")
	fleetCertificate = desc("fleet_certificate_end_timestamp_seconds", "End of a gateway's certificate on its management port.", "gateway")
	fleetAlerts      = desc("fleet_alerts", "Devices for which an alert waits, by what it waits for.", "state")
	fleetAlerted     = desc("fleet_alerts_total", "Alerts handed to gateways, by result.", "result")
)

var allManager = append([]*prometheus.Desc{
	dmSessions, dmAnswered, dmRefused, dmCertificates, dmDropped, dmFollowed,
	fleetConnected, fleetBehind, fleetBehindFor, fleetPush, fleetSessions, fleetEvents, fleetKept, fleetCertificate, fleetAlerts, fleetAlerted,
}, allServer...)

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
	for name, g := range m.Gateways {
		connected := 0.0
		if g.Connected {
			connected = 1
		}
		send(fleetConnected, prometheus.GaugeValue, connected, name)
		send(fleetBehind, prometheus.GaugeValue, float64(g.Behind), name)
		send(fleetBehindFor, prometheus.GaugeValue, g.BehindFor, name)
		send(fleetPush, prometheus.GaugeValue, g.Push, name)
		send(fleetSessions, prometheus.GaugeValue, float64(g.Sessions), name)
		send(fleetEvents, prometheus.GaugeValue, float64(g.EventsBehind), name)
		send(fleetKept, prometheus.CounterValue, float64(g.Events), name, "kept")
		send(fleetKept, prometheus.CounterValue, float64(g.Disbelieved), name, "disbelieved")
		if g.CertificateEnds > 0 {
			send(fleetCertificate, prometheus.GaugeValue, g.CertificateEnds, name)
		}
	}
	send(fleetAlerts, prometheus.GaugeValue, float64(m.AlertsWaiting), "next_try")
	send(fleetAlerts, prometheus.GaugeValue, float64(m.AlertsAway), "connection")
	send(fleetAlerts, prometheus.GaugeValue, float64(m.AlertsSilent), "session")
	send(fleetAlerted, prometheus.CounterValue, float64(m.AlertsSent), "sent")
	send(fleetAlerted, prometheus.CounterValue, float64(m.AlertsFailed), "failed")
	m.Server.collect(send)
}
