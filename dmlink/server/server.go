package server

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// ErrRefused by Identify: the certificate belongs to nobody who may come in.
var ErrRefused = errors.New("refused")

// Config of a Server. Zero numbers mean the default.
type Config struct {
	Session session.Config
	// Identify maps what the transport knows to a device. "" means that the
	// transport knows nobody and the device has to name itself; nil means always.
	// ErrRefused refuses the request; any other error is ours.
	Identify func(*http.Request) (device string, err error)
	// URL of this handler as devices reach it, for RespURI. Without it only the
	// cookie carries tokens.
	URL string
	// MaxSessions at a time, and of them those that proved nothing yet: 20,000
	// and 1,000. One of these too many ends another, of those from where most
	// come.
	MaxSessions, MaxUnproven int
	// SessionsAMinute that a device with a certificate may begin: 120.
	SessionsAMinute int
	// Idle is how long a session waits for the next message: 2 minutes; half a
	// minute if it proved nothing yet.
	Idle time.Duration
	// Lifetime of a session: 1 hour.
	Lifetime time.Duration
	// Transfer is how long reading a message and writing an answer may each
	// take: 30 s.
	Transfer time.Duration
	// Log gets sessions that were refused or broke; nil for none.
	Log *slog.Logger
	// Trace gets each message of a session, before it is looked at and after it
	// was made; nil for none. It must not keep or change octets.
	Trace func(Traced)
	// Seen is told of devices that have authenticated, once a message.
	Seen func(device string, now time.Time)
}

// Traced is one message.
type Traced struct {
	// Device that it came from, or is for. Proven: it has authenticated.
	Device string
	Proven bool
	// Sent by us, otherwise received.
	Sent bool
	// ContentType of the octets.
	ContentType string
	Octets      []byte
}

func (c Config) withDefaults() Config {
	for _, f := range []struct {
		field   *int
		standby int
	}{{&c.MaxSessions, 20_000}, {&c.MaxUnproven, 1_000}, {&c.SessionsAMinute, 120}, {&c.Session.MaxMsgSize, 512 << 10}} {
		if *f.field <= 0 {
			*f.field = f.standby
		}
	}
	for _, f := range []struct {
		field   *time.Duration
		standby time.Duration
	}{{&c.Idle, 2 * time.Minute}, {&c.Lifetime, time.Hour}, {&c.Transfer, 30 * time.Second}} {
		if *f.field <= 0 {
			*f.field = f.standby
		}
	}
	if c.Identify == nil {
		c.Identify = func(*http.Request) (string, error) { return "", nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Server is an http.Handler. Close ends its sessions.
type Server struct {
	cfg      Config
	sessions *table
	gate     *gate
	pace     pace
	refused  [reasons]atomic.Uint64
	answered atomic.Uint64
	// warned in this second that it is full.
	warned atomic.Int64
}

// New server.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	return &Server{cfg: cfg, sessions: newTable(cfg), gate: newGate(cfg.MaxUnproven)}
}

// Close ends all sessions; messages that are being handled come to their end.
func (s *Server) Close() { s.sessions.close() }

// Stats of a server since its start.
type Stats struct {
	// Sessions now, and of them those that proved nothing yet.
	Sessions, Unproven int
	// Answered messages.
	Answered uint64
	// Refused requests by reason.
	Refused map[string]uint64
}

// Stats counts.
func (s *Server) Stats() Stats {
	st := Stats{Answered: s.answered.Load(), Refused: map[string]uint64{}}
	st.Sessions, st.Unproven = s.sessions.len()
	for r := range reasons {
		st.Refused[r.String()] = s.refused[r].Load()
	}
	return st
}

// syntaxOf a content type (OMA-TS-DM_HTTPBinding, and as older clients say it).
func syntaxOf(mediaType string) (syncml.Syntax, bool) {
	switch mediaType {
	case "application/vnd.syncml.dm+xml", "application/vnd.syncml+xml":
		return syncml.XML, true
	case "application/vnd.syncml.dm+wbxml", "application/vnd.syncml+wbxml":
		return binary, true
	}
	return nil, false
}

// read a whole body of at most max octets.
func read(w http.ResponseWriter, r *http.Request, most int) ([]byte, error) {
	if r.ContentLength > int64(most) {
		return nil, &http.MaxBytesError{Limit: int64(most)}
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
}
