package https

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits of a listener. Zero values are not defaults: all have to be set.
type Limits struct {
	// Connections at once, all of them and those of one source.
	Connections, PerSource int
	// Requests of one source in a second, and at once.
	Rate, Burst int
	// Body of a request in octets.
	Body int64
	// Timeout for a request to arrive, for its answer to be made, and for that to
	// leave, each.
	Timeout time.Duration
}

// maxHeader of a request in octets; net/http adds 4 KiB of its own.
const maxHeader = 16 << 10

// idleTimeout of a connection between requests.
const idleTimeout = 30 * time.Second

// Config of a Server.
type Config struct {
	Handler      http.Handler
	Certificates *Certificates
	// ClientCAs that a client may show a certificate of; nil asks for none.
	ClientCAs *x509.CertPool
	// ClientAuth is what becomes of clients with and without one.
	ClientAuth tls.ClientAuthType
	// TLS takes the place of the three above, for listeners that know better who
	// may come.
	TLS    *tls.Config
	Limits Limits
	Logger *slog.Logger
}

// Server answers on one listener.
type Server struct {
	http   *http.Server
	limits atomic.Pointer[Limits]
	rate   *rate
	gate   *connections
	stats  counters
	log    *slog.Logger
}

// New makes a server that doesn't listen yet.
func New(c Config) *Server {
	s := &Server{rate: newRate(), log: c.Logger}
	s.SetLimits(c.Limits)
	s.gate = &connections{server: s, open: map[*conn]struct{}{}, bySource: map[source]int{}}
	s.http = &http.Server{
		Handler:           s.frame(c.Handler),
		TLSConfig:         c.tls(),
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: c.Limits.Timeout / 2,
		ReadTimeout:       c.Limits.Timeout,
		WriteTimeout:      3 * c.Limits.Timeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// Strangers make these lines.
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

func (c *Config) tls() *tls.Config {
	if c.TLS != nil {
		own := c.TLS.Clone()
		own.NextProtos = []string{"http/1.1"}
		return own
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: c.Certificates.get,
		ClientCAs:      c.ClientCAs,
		ClientAuth:     c.ClientAuth,
		NextProtos:     []string{"http/1.1"},
		// strongSwan's EST client reads an answer in two records at most.
		DynamicRecordSizingDisabled: true,
	}
}

// SetLimits changes all limits but Timeout, which is the server's from New on.
func (s *Server) SetLimits(l Limits) { s.limits.Store(&l) }

// Serve answers on a TCP listener until Shutdown or Close; it returns nil then.
func (s *Server) Serve(l net.Listener) error {
	s.gate.Listener = l
	if err := s.http.ServeTLS(s.gate, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown lets requests that are being answered finish.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends all connections.
func (s *Server) Close() error { return s.http.Close() }
