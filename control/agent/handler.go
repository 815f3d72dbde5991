package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

const (
	// Bodies that are read at once. Snapshots may need much memory; deltas may
	// not wait for one that somebody sends slowly.
	maxDeltas    = 4
	maxSnapshots = 2
	maxStreams   = 4
	// A body has bodyGrace in all, and a second for each bodyRate octets that
	// came.
	bodyGrace = 15 * time.Second
	bodyRate  = 64 << 10
	// streamTimeout is how long a manager may leave events lying.
	streamTimeout = 30 * time.Second
	// trustTime is how often it is looked whether who reads events is still trusted.
	trustTime = 10 * time.Second
	// streamBatch is how many events are written at once.
	streamBatch = 256
)

// Handler of the management port. It stands behind TLS: who gets here is a
// manager.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+gcm.PathState, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, a.State())
	})
	mux.HandleFunc("PUT "+gcm.PathSections+"{section}", a.serveSnapshot)
	mux.HandleFunc("PATCH "+gcm.PathSections+"{section}", a.serveDelta)
	mux.HandleFunc("GET "+gcm.PathEvents, a.serveEvents)
	mux.HandleFunc("GET "+gcm.PathIdentity, func(w http.ResponseWriter, _ *http.Request) {
		der, err := a.Request()
		if err != nil {
			a.config.Log.Error("no request for a certificate", slog.Any("error", err))
			http.Error(w, "the key can't be used", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/pkcs10")
		_, _ = w.Write(der)
	})
	mux.HandleFunc("PUT "+gcm.PathIdentity, a.serveIdentity)
	a.serveHost(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "mutual TLS is needed", http.StatusForbidden)
			return
		}
		if err := a.trusted(*r.TLS); err != nil {
			a.config.Log.Warn("a manager isn't trusted any more", slog.String("manager", managerOf(r)), slog.Any("error", err))
			w.Header().Set("Connection", "close")
			http.Error(w, "this certificate isn't trusted any more", http.StatusForbidden)
			return
		}
		a.hear(time.Now())
		mux.ServeHTTP(w, r)
	})
}

func (a *Agent) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	a.serveSection(w, r, a.snapshots, gcm.SnapshotType, gcm.MaxSnapshot, func(name gcm.Section, r io.Reader) (gcm.SectionState, error) {
		set, err := gcm.ReadSnapshot(r)
		if err != nil {
			return gcm.SectionState{}, err
		}
		if set.Section() != name {
			return gcm.SectionState{}, otherSection(set.Section(), name)
		}
		return a.Replace(set)
	})
}

func (a *Agent) serveDelta(w http.ResponseWriter, r *http.Request) {
	a.serveSection(w, r, a.deltas, gcm.DeltaType, gcm.MaxDelta, func(name gcm.Section, r io.Reader) (gcm.SectionState, error) {
		d, err := gcm.ReadDelta(r)
		if err != nil {
			return gcm.SectionState{}, err
		}
		if d.Section != name {
			return gcm.SectionState{}, otherSection(d.Section, name)
		}
		return a.Patch(d)
	})
}

func otherSection(got, want gcm.Section) error {
	return fmt.Errorf("%w: a document of %q for %q", gcm.ErrMalformed, got, want)
}

func (a *Agent) serveSection(w http.ResponseWriter, r *http.Request, slots chan struct{}, kind string, most int64, take func(gcm.Section, io.Reader) (gcm.SectionState, error)) {
	name := gcm.Section(r.PathValue("section"))
	s, ok := a.sections[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	var state gcm.SectionState
	err := gcm.ErrBusy
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
		err = fmt.Errorf("%w: want %s", gcm.ErrMalformed, kind)
		if r.Header.Get("Content-Type") == kind {
			state, err = take(name, body(w, r, most))
		}
	default:
	}
	if err == nil {
		writeJSON(w, http.StatusOK, state)
		return
	}
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		err = fmt.Errorf("%w: more than %d octets", gcm.ErrTooLarge, tooLong.Limit)
	}
	a.config.Log.Warn("pushed configuration is refused", slog.String("section", string(name)), slog.String("manager", managerOf(r)), slog.Any("error", err))
	var reasons []error
	if refused := new(Refused); errors.As(err, &refused) {
		reasons = refused.Reasons
	}
	writeJSON(w, statusOf(err), gcm.Refuse(err, reasons, *s.state.Load()))
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, gcm.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, gcm.ErrStale), errors.Is(err, gcm.ErrEpoch), errors.Is(err, gcm.ErrBase):
		return http.StatusConflict
	case errors.Is(err, gcm.ErrHash), errors.Is(err, gcm.ErrRecord), errors.Is(err, gcm.ErrRefused):
		return http.StatusUnprocessableEntity
	case errors.Is(err, gcm.ErrBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, gcm.ErrStorage):
		return http.StatusInsufficientStorage
	}
	return http.StatusBadRequest
}

func managerOf(r *http.Request) string { return r.TLS.PeerCertificates[0].Subject.CommonName }

// progress reads a body that has to keep coming.
type progress struct {
	body    io.Reader
	control *http.ResponseController
	start   time.Time
	read    int64
}

// Read sets the deadline first.
func (p *progress) Read(b []byte) (int, error) {
	if err := p.control.SetReadDeadline(p.start.Add(bodyGrace + time.Duration(p.read/bodyRate)*time.Second)); err != nil {
		return 0, err
	}
	n, err := p.body.Read(b)
	p.read += int64(n)
	return n, err
}

func (a *Agent) serveIdentity(w http.ResponseWriter, r *http.Request) {
	chain, err := io.ReadAll(body(w, r, maxChainOctets))
	if err == nil {
		err = a.SetCertificate(chain)
	}
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrIdentity):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	default:
		a.config.Log.Warn("pushed certificate isn't taken", slog.String("manager", managerOf(r)), slog.Any("error", err))
		http.Error(w, "not read, or not kept", http.StatusBadRequest)
	}
}

func (a *Agent) serveEvents(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		http.Error(w, "want ?after=CURSOR", http.StatusBadRequest)
		return
	}
	select {
	case a.streams <- struct{}{}:
		defer func() { <-a.streams }()
	default:
		http.Error(w, "too many streams of events", http.StatusServiceUnavailable)
		return
	}
	control := http.NewResponseController(w)
	var events []gcm.Event
	var lines []byte
	look := time.NewTicker(trustTime)
	defer look.Stop()
	for first := true; ; first = false {
		var more <-chan struct{}
		var ok bool
		events, more, ok = a.Events.after(events[:0], after, streamBatch)
		if first {
			if !ok {
				http.Error(w, "the cursor is still to come", http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/jsonl")
		}
		lines = lines[:0]
		for _, e := range events {
			lines = a.line(lines, e)
			after = e.Cursor
		}
		if err := control.SetWriteDeadline(time.Now().Add(streamTimeout)); err != nil {
			return
		}
		if _, err := w.Write(lines); err != nil || control.Flush() != nil {
			return
		}
		a.hear(time.Now())
		if len(events) > 0 {
			select {
			case <-look.C:
				if a.trusted(*r.TLS) != nil {
					return
				}
			default:
			}
			continue
		}
		// While nothing happens nothing can be late.
		if err := control.SetWriteDeadline(time.Time{}); err != nil {
			return
		}
		for waits := true; waits; {
			select {
			case <-more:
				waits = false
			case <-look.C:
				if a.trusted(*r.TLS) != nil {
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	}
}

// line of an event. One that a manager wouldn't read would stop all behind it.
func (a *Agent) line(b []byte, e gcm.Event) []byte {
	err := e.Check()
	if err == nil {
		var lines []byte
		if lines, err = e.Append(b); err == nil {
			return lines
		}
	}
	a.config.Log.Error("an event can't be told", slog.String("kind", string(e.Kind)), slog.Any("error", err))
	lines, err := gcm.Event{Cursor: e.Cursor, At: e.At, Kind: gcm.Dropped, Count: 1, After: e.Cursor - 1, Reason: "invalid"}.Append(b)
	if err != nil {
		return b
	}
	return lines
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
