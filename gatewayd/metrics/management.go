package metrics

import "github.com/prometheus/client_golang/prometheus"

// Management of a gateway by a manager.
type Management struct {
	// Heard is the Unix time when a manager was, CertificateEnds the end of the
	// certificate on the management port; 0 for never and for none.
	Heard, CertificateEnds    float64
	Alone, Refusing, Draining bool
	// Sections by name.
	Sections map[string]Section
	// Alerts that are under way; counters of datagrams.
	AlertsPending           int
	AlertsSent, AlertErrors uint64
}

// Section of what was pushed.
type Section struct {
	Records       int
	Applied       bool
	Epoch, Number uint64
}

var (
	managerHeard    = desc("manager_heard_timestamp_seconds", "When a manager was heard from last; 0 for never.")
	managementEnds  = desc("management_certificate_end_timestamp_seconds", "When the certificate on the management port ends.")
	managementState = desc("management_state", "Whether the gateway is without a manager for too long (alone), refuses newcomers for that, or is drained.", "state")
	sectionRecords  = desc("pushed_records", "Records that a manager pushed, by section.", "section")
	sectionApplied  = desc("pushed_applied", "Whether what was pushed is in force, by section.", "section")
	sectionEpoch    = desc("pushed_epoch", "Epoch of what was pushed, by section.", "section")
	sectionNumber   = desc("pushed_version", "Number of what was pushed within its epoch, by section.", "section")
	alertsPending   = desc("alerts_pending", "Alerts to devices that are under way.")
	alertsSent      = desc("alert_datagrams_total", "Datagrams of alerts that were sent into tunnels.")
	alertErrors     = desc("alert_errors_total", "Datagrams of alerts that could not be sent.")
	ofManagement    = []*prometheus.Desc{managerHeard, managementEnds, managementState, sectionRecords, sectionApplied, sectionEpoch, sectionNumber, alertsPending, alertsSent, alertErrors}
)

func (m *Management) collect(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	if m == nil {
		return
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge(managerHeard, m.Heard)
	if m.CertificateEnds != 0 {
		gauge(managementEnds, m.CertificateEnds)
	}
	gauge(managementState, yes(m.Alone), "alone")
	gauge(managementState, yes(m.Refusing), "refusing")
	gauge(managementState, yes(m.Draining), "draining")
	for name, s := range m.Sections {
		gauge(sectionRecords, float64(s.Records), name)
		gauge(sectionApplied, yes(s.Applied), name)
		gauge(sectionEpoch, float64(s.Epoch), name)
		gauge(sectionNumber, float64(s.Number), name)
	}
	gauge(alertsPending, float64(m.AlertsPending))
	counter(alertsSent, m.AlertsSent)
	counter(alertErrors, m.AlertErrors)
}
