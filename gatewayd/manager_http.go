package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/https"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/metrics"
)

// monitoring serves /metrics, /healthz and /readyz.
func (m *managerServer) monitoring() http.Handler {
	return m.servers.monitoring(metrics.ManagerCollector(m.snapshot))
}

func (m *managerServer) snapshot() metrics.Manager {
	st, alerts := m.dm.Stats(), m.alerter.Stats()
	out := metrics.Manager{
		Sessions: st.Sessions, Unproven: st.Unproven, Answered: st.Answered, Refused: st.Refused,
		Certificates: m.identity.Refused(), Dropped: m.batch.Dropped(), Followed: m.accounts.Followed(),
		Gateways:      fleetFigures(m.fleet.Links(), time.Now()),
		AlertsWaiting: alerts.Waiting, AlertsAway: alerts.Away, AlertsSilent: alerts.Silent,
		AlertsSent: alerts.Sent, AlertsFailed: alerts.Failed,
		Server: m.serverSnapshot(map[string]*https.Server{"dm": m.devices, "dm_admins": m.admins}),
	}
	return out
}

// fleetFigures of gateways for a scrape.
func fleetFigures(links []push.Status, now time.Time) map[string]metrics.Gateway {
	all := make(map[string]metrics.Gateway, len(links))
	for _, s := range links {
		g := metrics.Gateway{
			Connected: s.Connected, Behind: len(s.Behind), Push: s.Latency.Seconds(), Events: s.Events, Disbelieved: s.Disbelieved,
		}
		if s.Connected {
			g.Sessions = s.State.Sessions
		}
		if s.State.Cursor > s.Cursor {
			g.EventsBehind = s.State.Cursor - s.Cursor
		}
		if end := s.State.CertificateEnds; !end.IsZero() {
			g.CertificateEnds = float64(end.Unix())
		}
		for _, since := range s.Behind {
			g.BehindFor = max(g.BehindFor, now.Sub(since).Seconds())
		}
		all[s.Gateway.Name] = g
	}
	return all
}

// listenLocal serves commands of this host.
func (m *managerServer) listenLocal() error {
	dir := filepath.Dir(m.config.ManagerSocket())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := lockInstance(dir, "manager")
	if err != nil {
		return err
	}
	m.lock = lock
	access, err := localAccess(m.config)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", m.api)
	mux.HandleFunc("GET "+local.PathServerStatus, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(m.status(r.Context()))
	})
	if m.config.Debug.PProf {
		local.Profiles(mux)
	}
	m.socket, err = local.Serve(m.config.ManagerSocket(), access, mux, m.logger)
	return err
}

// status for `gatewayd status`.
func (m *managerServer) status(ctx context.Context) local.ServerStatus {
	c := &m.config.Manager
	st := m.dm.Stats()
	loaded, _, needRestart := m.configuration()
	out := local.ServerStatus{
		Version: version, PID: os.Getpid(), Started: m.started, Roles: m.names, Name: c.Name,
		Config: m.config.Name(), Loaded: loaded, NeedRestart: needRestart, URL: c.URL, Listen: c.Listen.AddrPort, Admin: c.Admin.Listen.AddrPort,
		Database: string(m.db.Engine), Sessions: st.Sessions, Unproven: st.Unproven, MaxSessions: c.Sessions.Max,
		Answered: st.Answered, Refused: st.Refused, Followed: m.accounts.Followed(),
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	out.State = m.state(ctx)
	return out
}
