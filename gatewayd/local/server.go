package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"
)

// Source is the gateway as the server sees it. All methods may be called from
// any goroutine.
type Source interface {
	Status() Status
	Sessions() []Session
	// Kill deletes sessions, the peers are told; ErrNotFound if there is none.
	Kill(Kill) (Killed, error)
	// Redirect sends devices to another gateway; ErrNotFound if there is none.
	Redirect(Redirect) (Redirected, error)
	Leases() []Lease
	// Release forgets a device's leases: ErrNotFound, ErrConflict.
	Release(device string) error
	Drops() []Drop
	// WatchDrops shows a sample of dropped packets until ctx ends, then it closes
	// the channel: ErrConflict if nobody takes samples.
	WatchDrops(ctx context.Context) (<-chan DroppedPacket, error)
	// Reload reads the configuration again. The error may wrap many.
	Reload() (Reloaded, error)
	// ForgetVersions of what was pushed: ErrConflict for a gateway without a
	// manager.
	ForgetVersions() error
	// Stop begins an orderly end, or joins one, and returns its progress. The
	// channel is closed after the value with Done. ErrConflict if it is to be
	// drained and is ending already.
	Stop(Stop) (<-chan Progress, error)
}

// Config of a Server.
type Config struct {
	// Path of the socket. What lies there from a former run is replaced: the
	// caller holds the lock on the folder.
	Path   string
	Access Access
	// PProf adds /debug/pprof/.
	PProf  bool
	Source Source
	Logger *slog.Logger
}

// maxPath of a socket: sun_path is 108 octets with its NUL.
const maxPath = 107

// Bodies of requests in octets: of a gateway's commands, and of other handlers,
// which may have bounds of their own.
const (
	maxCommand = 64 << 10
	maxBody    = 16 << 20
)

func (s *Server) maxBody() int64 {
	if s.config.Source != nil {
		return maxCommand
	}
	return maxBody
}

// Server answers commands. Close ends it.
type Server struct {
	config   Config
	listener *net.UnixListener
	http     *http.Server
}

// Listen binds the socket of a gateway and begins to serve.
func Listen(c Config) (*Server, error) {
	mux := http.NewServeMux()
	s := &Server{config: c}
	s.handle(mux)
	if c.PProf {
		Profiles(mux)
	}
	if err := s.serve(mux); err != nil {
		return nil, err
	}
	return s, nil
}

// Serve binds a socket for a handler of another role. It is asked by those only
// whom access lets in, see User.
func Serve(path string, access Access, h http.Handler, logger *slog.Logger) (*Server, error) {
	s := &Server{config: Config{Path: path, Access: access, Logger: logger}}
	if err := s.serve(h); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) serve(h http.Handler) error {
	c := &s.config
	if len(c.Path) > maxPath {
		return fmt.Errorf("local socket %s: got a path of %d bytes, expected at most %d (unix(7)); choose a shorter runtime_dir", c.Path, len(c.Path), maxPath)
	}
	if err := os.Remove(c.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("local socket %s: %w", c.Path, err)
	}
	// The file goes when Remove says so: a successor may own the path by the
	// time the listener is closed.
	listener.SetUnlinkOnClose(false)
	if err := c.Access.permit(c.Path); err != nil {
		listener.Close()
		os.Remove(c.Path)
		return fmt.Errorf("local socket: %w", err)
	}
	s.listener = listener
	s.http = &http.Server{
		Handler:           s.guard(h),
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.Logger.Error("local socket failed", slog.String("path", c.Path), slog.Any("error", err))
		}
	}()
	return nil
}

// permit lets the kernel refuse those whom check would refuse.
func (a Access) permit(path string) error {
	if a.Group == "" {
		return os.Chmod(path, 0o600)
	}
	if err := os.Chown(path, -1, int(a.GID)); err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}

// Remove takes the socket out of the file system; those who are connected
// stay.
func (s *Server) Remove() { os.Remove(s.config.Path) }

// Close waits for running requests until ctx ends, then cuts them off.
func (s *Server) Close(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

func (s *Server) handle(mux *http.ServeMux) {
	src := s.config.Source
	mux.HandleFunc("GET /v1/status", answer(func(*http.Request) (Status, error) { return src.Status(), nil }))
	mux.HandleFunc("GET /v1/sessions", answer(func(*http.Request) ([]Session, error) { return src.Sessions(), nil }))
	mux.HandleFunc("POST /v1/sessions/kill", answer(func(r *http.Request) (Killed, error) {
		k, err := body[Kill](r)
		if err != nil {
			return Killed{}, err
		}
		return src.Kill(k)
	}))
	mux.HandleFunc("POST /v1/sessions/redirect", answer(func(r *http.Request) (Redirected, error) {
		to, err := body[Redirect](r)
		if err != nil {
			return Redirected{}, err
		}
		return src.Redirect(to)
	}))
	mux.HandleFunc("GET /v1/leases", answer(func(*http.Request) ([]Lease, error) { return src.Leases(), nil }))
	mux.HandleFunc("DELETE /v1/leases/{device}", answer(func(r *http.Request) (struct{}, error) {
		return struct{}{}, src.Release(r.PathValue("device"))
	}))
	mux.HandleFunc("GET /v1/drops", answer(func(*http.Request) ([]Drop, error) { return src.Drops(), nil }))
	mux.HandleFunc("GET /v1/drops/watch", s.watchDrops)
	mux.HandleFunc("POST /v1/reload", answer(func(*http.Request) (Reloaded, error) { return src.Reload() }))
	mux.HandleFunc("POST /v1/forget-versions", answer(func(*http.Request) (struct{}, error) { return struct{}{}, src.ForgetVersions() }))
	mux.HandleFunc("POST /v1/stop", s.stop)
}

// Profiles adds /debug/pprof/.
func Profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// guard lets in whom access lets in.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := peerOf(r)
		if err := s.config.Access.check(p); err != nil {
			s.config.Logger.Warn("local socket: refused", slog.Any("uid", p.uid), slog.Any("pid", p.pid), slog.String("path", r.URL.Path))
			fail(w, err)
			return
		}
		if r.Method != http.MethodGet {
			s.config.Logger.Info("local command", slog.Any("uid", p.uid), slog.Any("pid", p.pid), slog.String("command", r.Method+" "+r.URL.Path))
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.maxBody())
		next.ServeHTTP(w, r)
	})
}

// answer makes a handler of a function.
func answer[T any](f func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// What can't be written has nobody to read it.
		_ = json.NewEncoder(w).Encode(v)
	}
}

var errBody = errors.New("malformed request")

func body[T any](r *http.Request) (v T, err error) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("%w: %w", errBody, err)
	}
	return v, nil
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, ErrForbidden):
		status = http.StatusForbidden
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, errBody):
		status = http.StatusBadRequest
	}
	f := failure{Errors: []string{err.Error()}}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		f.Errors = nil
		for _, e := range many.Unwrap() {
			f.Errors = append(f.Errors, e.Error())
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(f)
}

// watchDrops streams until the client goes away.
func (s *Server) watchDrops(w http.ResponseWriter, r *http.Request) {
	drops, err := s.config.Source.WatchDrops(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	flusher := http.NewResponseController(w)
	_ = flusher.Flush() // so that the client knows that it watches
	encoder := json.NewEncoder(w)
	for d := range drops {
		if encoder.Encode(d) == nil {
			_ = flusher.Flush()
		}
	}
}

// stop streams progress until the gateway has put everything back. A client
// that goes away doesn't stop the stop.
func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	how, err := body[Stop](r)
	if err != nil {
		fail(w, err)
		return
	}
	progress, err := s.config.Source.Stop(how)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	flusher := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	for p := range progress {
		if encoder.Encode(p) == nil {
			_ = flusher.Flush()
		}
	}
}
