package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roamgate/roamgate/dataplane"
)

// healthTimeout is how long the loops have to answer.
const healthTimeout = 2 * time.Second

// health asks loops whether they live. One question is open at a time, so
// that a stuck loop doesn't collect goroutines.
type health struct {
	check func()

	mu   sync.Mutex
	open chan struct{} // closed by the answer; nil if nothing is asked
}

// loops asks the packet loop, by a call that goes through it.
func (g *gateway) loops() {
	g.backend.Counters(func(dataplane.ChildCounters) bool { return false })
}

// ask is nil if all answered in time.
func (h *health) ask(timeout time.Duration) error {
	h.mu.Lock()
	if h.open == nil {
		h.open = make(chan struct{})
		go h.answer()
	}
	answered := h.open
	h.mu.Unlock()
	select {
	case <-answered:
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("a loop did not answer within %v", timeout)
	}
}

func (h *health) answer() {
	h.check()
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.open)
	h.open = nil
}

// monitoring serves /metrics, /healthz and /readyz. They are for machines
// inside: no single device is named.
func (g *gateway) monitoring(registry *prometheus.Registry) http.Handler {
	h := &health{check: g.loops}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(g.logger.Handler(), slog.LevelError),
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.ask(healthTimeout); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := g.state(); s != "ready" {
			http.Error(w, s, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// serveMonitoring begins to serve on l until the server is closed.
func (g *gateway) serveMonitoring(l net.Listener, registry *prometheus.Registry) *http.Server {
	server := &http.Server{
		Handler:           g.monitoring(registry),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(g.logger.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			g.logger.Error("metrics listener failed", slog.String("address", l.Addr().String()), slog.Any("error", err))
		}
	}()
	return server
}
