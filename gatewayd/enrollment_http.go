package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roamgate/roamgate/gatewayd/https"
	"github.com/roamgate/roamgate/gatewayd/metrics"
)

// plain is a server for machines inside.
func plain(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// monitoring serves /metrics, /healthz and /readyz.
func (s *enrollmentServer) monitoring() http.Handler {
	return s.servers.monitoring(metrics.EnrollmentCollector(s.snapshot))
}

// monitoring of a role with a database. Healthy is who answers.
func (s *servers) monitoring(collector prometheus.Collector) http.Handler {
	registry := metrics.Registry(collector, version, revision())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelError), MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		defer cancel()
		if state := s.state(ctx); state != "ready" {
			http.Error(w, state, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// state is "ready" where all roles listen and reach the database, or says what is
// wrong.
func (s *servers) state(ctx context.Context) string {
	if !s.up.Load() {
		return "starting"
	}
	if err := s.db.PingContext(ctx); err != nil {
		s.logger.Warn("not ready", slog.Any("error", err))
		return "the database can't be reached"
	}
	return "ready"
}

func (s *enrollmentServer) snapshot() metrics.Enrollment {
	m := s.service.Metrics()
	out := metrics.Enrollment{
		Requests: m.Requests, Enrolled: m.Enrolled, Again: m.Again, Renewed: m.Renewed, Certified: m.Certified, Revoked: m.Revoked,
		Closed: m.Closed, Expired: m.Expired, Failed: m.Failed, Unrecorded: m.Unrecorded, Refused: map[string]uint64{},
		Server: s.serverSnapshot(map[string]*https.Server{"devices": s.devices, "admins": s.admins}),
	}
	for reason, n := range m.Refused {
		out.Refused[string(reason)] = n
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	if t, err := s.service.Trust(ctx); err == nil {
		out.ListNumber, out.ListUntil = t.Number, float64(t.Until.Unix())
	}
	return out
}

// serverSnapshot is what all roles with a database and listeners have.
func (s *servers) serverSnapshot(of map[string]*https.Server) metrics.Server {
	d := s.db.Stats()
	out := metrics.Server{
		Listeners: map[string]metrics.Listener{}, Connections: d.OpenConnections, ConnectionWaits: uint64(d.WaitCount), ConnectionWaited: d.WaitDuration.Seconds(),
	}
	for name, l := range of {
		out.Listeners[name] = listener(l)
	}
	loaded, failed, _ := s.configuration()
	out.ConfigLoaded, out.ReloadsFailed = float64(loaded.Unix()), failed
	return out
}

func listener(s *https.Server) metrics.Listener {
	st := s.Stats()
	return metrics.Listener{
		Open: st.Open, Accepted: st.Accepted, Refused: st.Refused, Evicted: st.Evicted, Limited: st.Limited, TooLarge: st.TooLarge,
		Requests: map[string]uint64{"2xx": st.Requests[2], "3xx": st.Requests[3], "4xx": st.Requests[4], "5xx": st.Requests[5]},
	}
}
