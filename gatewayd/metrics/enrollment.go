package metrics

import "github.com/prometheus/client_golang/prometheus"

// Enrollment is a snapshot of an enrollment server. All but Connections and what
// is called Number, Until or Loaded are counters.
type Enrollment struct {
	Requests, Enrolled, Again, Renewed, Certified, Revoked, Closed, Expired, Failed, Unrecorded uint64
	// Refused by reason.
	Refused map[string]uint64
	// ListNumber of the newest revocation list, ListUntil its nextUpdate in Unix
	// time.
	ListNumber int64
	ListUntil  float64
	Server
}

// Server is what all roles with a database and listeners have.
type Server struct {
	// Listeners by name.
	Listeners map[string]Listener
	// Connections to the database, how often one was waited for, and for how many
	// seconds in all.
	Connections      int
	ConnectionWaits  uint64
	ConnectionWaited float64
	// ConfigLoaded is the Unix time of the configuration that is in use.
	ConfigLoaded  float64
	ReloadsFailed uint64
}

// Listener of HTTPS.
type Listener struct {
	Open                       uint64
	Accepted, Refused, Evicted uint64
	Limited, TooLarge          uint64
	Requests                   map[string]uint64
}

var (
	enrollActs        = desc("enrollment_total", "What was decided: requests made, devices enrolled (again: the same certificate once more), renewals, other certificates, revocations, devices closed, requests expired.", "act")
	enrollRefused     = desc("enrollment_refused_total", "Applications and renewals that were refused, by reason.", "reason")
	enrollFailed      = desc("enrollment_failed_total", "Applications and renewals that could not be decided.")
	enrollUnrecorded  = desc("enrollment_unrecorded_total", "Refusals that are missing in the audit record because too many came at once.")
	listenOpen        = desc("listener_connections", "Open connections.", "listener")
	listenConnections = desc("listener_connections_total", "Connections by what became of them.", "listener", "result")
	listenRequests    = desc("listener_requests_total", "Requests by the class of their status; limited and too_large were not handled.", "listener", "result")
	dbConnections     = desc("database_connections", "Open connections to the database.")
	dbWaits           = desc("database_waits_total", "How often a connection was waited for.")
	dbWaited          = desc("database_wait_seconds_total", "How long connections were waited for.")
	listNumber        = desc("crl_number", "Number of the newest revocation list.")
)

var allServer = []*prometheus.Desc{
	listenOpen, listenConnections, listenRequests, dbConnections, dbWaits, dbWaited, configLoaded, reloadsFailed,
}

var allEnrollment = append([]*prometheus.Desc{
	enrollActs, enrollRefused, enrollFailed, enrollUnrecorded, listNumber, crlExpires,
}, allServer...)

// EnrollmentCollector takes a snapshot for each scrape.
type EnrollmentCollector func() Enrollment

var _ prometheus.Collector = EnrollmentCollector(nil)

// Describe sends the metrics there are.
func (EnrollmentCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allEnrollment {
		ch <- d
	}
}

// Collect sends their values.
func (c EnrollmentCollector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		send(d, prometheus.CounterValue, float64(v), labels...)
	}
	for act, n := range map[string]uint64{
		"request": s.Requests, "enroll": s.Enrolled, "again": s.Again, "renew": s.Renewed, "certify": s.Certified,
		"revoke": s.Revoked, "close": s.Closed, "expire": s.Expired,
	} {
		counter(enrollActs, n, act)
	}
	for reason, n := range s.Refused {
		counter(enrollRefused, n, reason)
	}
	counter(enrollFailed, s.Failed)
	counter(enrollUnrecorded, s.Unrecorded)
	s.Server.collect(send)
	send(listNumber, prometheus.GaugeValue, float64(s.ListNumber))
	if s.ListUntil != 0 {
		send(crlExpires, prometheus.GaugeValue, s.ListUntil)
	}
}

// collect sends the values.
func (s *Server) collect(send func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		send(d, prometheus.CounterValue, float64(v), labels...)
	}
	for name, l := range s.Listeners {
		send(listenOpen, prometheus.GaugeValue, float64(l.Open), name)
		for result, n := range map[string]uint64{"accepted": l.Accepted, "refused": l.Refused, "evicted": l.Evicted} {
			counter(listenConnections, n, name, result)
		}
		for result, n := range l.Requests {
			counter(listenRequests, n, name, result)
		}
		counter(listenRequests, l.Limited, name, "limited")
		counter(listenRequests, l.TooLarge, name, "too_large")
	}
	send(dbConnections, prometheus.GaugeValue, float64(s.Connections))
	counter(dbWaits, s.ConnectionWaits)
	send(dbWaited, prometheus.CounterValue, s.ConnectionWaited)
	send(configLoaded, prometheus.GaugeValue, s.ConfigLoaded)
	counter(reloadsFailed, s.ReloadsFailed)
}
