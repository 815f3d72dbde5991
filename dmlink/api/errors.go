package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/task"
)

// Problem of an operation (RFC 9457), with a hint what to do. It is what goes
// out, and what the client returns.
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty" doc:"What to do."`
	// Errors in what came in, one by one.
	Errors []ProblemPart `json:"errors,omitempty"`
}

// ProblemPart is one thing that is wrong with what came in.
type ProblemPart struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
}

func (p *Problem) Error() string {
	text := cmp.Or(p.Detail, p.Title)
	for _, e := range p.Errors {
		text += "; "
		if e.Location != "" {
			text += e.Location + ": "
		}
		text += e.Message
	}
	return text
}

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, detail, hint string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, Hint: hint}
}

var errNoNumber = errors.New("malformed cursor")

const (
	hintRead  = "Read it again, and try with what is there now."
	hintNames = "Look for it with `gatewayd device list`."
)

// kinds of errors that say something about what was asked; the first that
// matches counts.
var kinds = []struct {
	err    error
	status int
	hint   string
}{
	{store.ErrNotFound, http.StatusNotFound, hintNames},
	{store.ErrClosed, http.StatusConflict, "It was wiped or let go. It can be managed again after it has enrolled anew."},
	{store.ErrExists, http.StatusConflict, "It was placed before: look at it with `gatewayd task show`, or take another ID."},
	{store.ErrInvalid, http.StatusUnprocessableEntity, ""},
	{task.ErrInvalid, http.StatusUnprocessableEntity, "See `gatewayd task types`."},
	{schedule.ErrInvalid, http.StatusUnprocessableEntity, ""},
	{policy.ErrDocument, http.StatusUnprocessableEntity, ""},
	{policy.ErrFilter, http.StatusUnprocessableEntity, ""},
	{policy.ErrChanged, http.StatusConflict, hintRead},
	{policy.ErrNoDevice, http.StatusNotFound, hintNames},
	{policy.ErrNoVersion, http.StatusNotFound, "See `gatewayd policy history`."},
	{access.ErrNotFound, http.StatusNotFound, ""},
	{access.ErrExists, http.StatusConflict, "Names of tokens are used once: choose another one."},
	{access.ErrInvalid, http.StatusUnprocessableEntity, ""},
	{fleet.ErrNotFound, http.StatusNotFound, "See `gatewayd gateway list` and `gatewayd device list`."},
	{fleet.ErrExists, http.StatusConflict, "Remove it first with `gatewayd gateway remove`, or take another name."},
	{fleet.ErrInvalid, http.StatusUnprocessableEntity, ""},
	{push.ErrAway, http.StatusServiceUnavailable, "See `gatewayd gateway show` for why."},
	{errNoNumber, http.StatusUnprocessableEntity, "Give as after what was next on the page before."},
	{store.ErrUnavailable, http.StatusServiceUnavailable, hintLater},
	{access.ErrUnavailable, http.StatusServiceUnavailable, hintLater},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, hintLater},
	{context.Canceled, http.StatusServiceUnavailable, hintLater},
}

const hintLater = "Try again; if it stays so, look at the server's log."

// problem of an error. Those of the server tell no details.
func (s *api) problem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	for _, k := range kinds {
		if !errors.Is(err, k.err) {
			continue
		}
		if k.status == http.StatusServiceUnavailable {
			s.Log.Error("operation of an administrator", slog.Any("error", err))
			return newProblem(k.status, "the database can't be reached, or is slow", k.hint)
		}
		return newProblem(k.status, err.Error(), k.hint)
	}
	s.Log.Error("operation of an administrator", slog.Any("error", err))
	return newProblem(http.StatusInternalServerError, "internal error", "See the log of the server.")
}

// ErrName: a name that can't be part of a path.
var ErrName = errors.New("invalid name")
