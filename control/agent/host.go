package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// Host is the gateway that an agent speaks for. Its methods are called by
// several goroutines at once.
type Host interface {
	// Tell completes a State by what the agent doesn't know.
	Tell(*gcm.State)
	// Sessions that are up, those of a device or, with an empty name, all.
	Sessions(device string, yield func(gcm.Session) bool)
	// End a device's sessions; with an ID that one only. False if there is none.
	End(device, session string) bool
	// Alert a device by some octets; the result is an event. Errors:
	// ErrNoSession, gcm.ErrBusy, ErrAlert, ErrNoAlerts.
	Alert(device, alert string, octets []byte) error
	// Drain, or stop that. Errors: ErrStopping; others say what is wrong with it.
	Drain(gcm.Drain) error
	// Reload the gateway's own configuration; false with Problems: nothing has
	// changed.
	Reload() (gcm.Reloaded, bool)
}

// Errors of a Host.
var (
	// ErrNoSession: the device isn't connected here.
	ErrNoSession = errors.New("the device has no session here")
	// ErrAlert: octets that are none, or too many.
	ErrAlert = errors.New("not an alert")
	// ErrNoAlerts: this gateway can't send any.
	ErrNoAlerts = errors.New("this gateway sends no alerts")
	// ErrStopping: the gateway ends.
	ErrStopping = errors.New("the gateway is stopping")
)

const (
	// maxAlert and maxOrder of a body in octets.
	maxAlert = 1024
	maxOrder = 4096
	// sessionBatch is how many octets of sessions are written at once.
	sessionBatch = 32 << 10
)

// serveHost adds the handlers that only ask the host.
func (a *Agent) serveHost(mux *http.ServeMux) {
	mux.HandleFunc("GET "+gcm.PathSessions+"{$}", a.serveSessions)
	mux.HandleFunc("DELETE "+gcm.PathSessions+"{device}", func(w http.ResponseWriter, r *http.Request) {
		if !a.config.Host.End(r.PathValue("device"), r.URL.Query().Get("session")) {
			http.Error(w, "no session", http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST "+gcm.PathAlerts+"{device}", a.serveAlert)
	mux.HandleFunc("POST "+gcm.PathDrain, a.serveDrain)
	mux.HandleFunc("POST "+gcm.PathReload, func(w http.ResponseWriter, r *http.Request) {
		a.config.Log.Info("a manager asks for a reload", slog.String("manager", managerOf(r)))
		status := http.StatusOK
		reloaded, ok := a.config.Host.Reload()
		if !ok {
			status = http.StatusUnprocessableEntity
		}
		writeJSON(w, status, reloaded)
	})
}

// body of a request, which has to keep coming.
func body(w http.ResponseWriter, r *http.Request, most int64) io.Reader {
	return &progress{body: http.MaxBytesReader(w, r.Body, most), control: http.NewResponseController(w), start: time.Now()}
}

// serveSessions a batch at a time, so that a list of many costs no memory here.
// It takes one of the streams.
func (a *Agent) serveSessions(w http.ResponseWriter, r *http.Request) {
	select {
	case a.streams <- struct{}{}:
		defer func() { <-a.streams }()
	default:
		http.Error(w, "too many streams", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	control := http.NewResponseController(w)
	lines := make([]byte, 0, sessionBatch+gcm.MaxLine)
	flush := func() bool {
		if control.SetWriteDeadline(time.Now().Add(streamTimeout)) != nil {
			return false
		}
		_, err := w.Write(lines)
		lines = lines[:0]
		return err == nil
	}
	whole := true
	a.config.Host.Sessions(r.URL.Query().Get("device"), func(s gcm.Session) bool {
		next, err := s.Append(lines)
		if err == nil {
			err = s.Check()
		}
		if err != nil {
			a.config.Log.Error("a session can't be told", slog.String("session", s.ID), slog.Any("error", err))
			return true
		}
		lines = next
		whole = len(lines) < sessionBatch || flush()
		return whole
	})
	if !whole || !flush() {
		// A list that ends early isn't to be taken for all.
		panic(http.ErrAbortHandler)
	}
}

func (a *Agent) serveAlert(w http.ResponseWriter, r *http.Request) {
	octets, err := io.ReadAll(body(w, r, maxAlert))
	if err != nil {
		http.Error(w, "not read", http.StatusBadRequest)
		return
	}
	err = a.config.Host.Alert(r.PathValue("device"), r.URL.Query().Get("alert"), octets)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case errors.Is(err, ErrNoSession):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, gcm.ErrBusy):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case errors.Is(err, ErrNoAlerts):
		http.Error(w, err.Error(), http.StatusNotImplemented)
	default:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (a *Agent) serveDrain(w http.ResponseWriter, r *http.Request) {
	d, err := gcm.ReadDrain(body(w, r, maxOrder))
	if err == nil {
		err = a.config.Host.Drain(d)
	}
	switch {
	case err == nil:
		a.config.Log.Info("a manager drains", slog.String("manager", managerOf(r)), slog.String("drain", fmt.Sprintf("%+v", d)))
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrStopping):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}
