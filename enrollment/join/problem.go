package join

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

// Problem is how every error is told (RFC 9457), with the type about:blank: the
// status says what it is.
//
//	400  not a message of this protocol, or no common version
//	403  the request is not open for who sent this: unknown, expired, used by
//	     another key, cancelled, or a MAC that doesn't fit. Never said which
//	415  not application/json
//	422  the key is not accepted; told to who knows the password
//	429  too many tries; Retry-After says when the next one makes sense
//	503  it couldn't be decided; the same again may help
type Problem struct {
	Type   string `json:"type" example:"about:blank"`
	Title  string `json:"title" example:"Forbidden"`
	Status int    `json:"status" example:"403"`
	Detail string `json:"detail" doc:"For people"`
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// Details that don't depend on what was asked.
const (
	detailRefused     = "There is no open enrollment request for this code. It may be mistyped, used or expired."
	detailUnavailable = "The enrollment server can't decide at the moment. Try again."
	detailLimited     = "Too many tries. Try again later."
	detailNotFound    = "There is nothing here."
	detailType        = "Send application/json."
)

// retryUnavailable is how long who couldn't be served should wait.
const retryUnavailable = 5 * time.Second

// WriteProblem answers with a problem; retry is left out at 0.
func WriteProblem(w http.ResponseWriter, status int, detail string, retry time.Duration) {
	body, err := json.Marshal(Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail})
	if err != nil {
		panic(err) // strings and a number
	}
	h := w.Header()
	h.Set("Content-Type", ProblemType)
	h.Set("Cache-Control", "no-store")
	if retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	w.WriteHeader(status)
	// Whoever is gone doesn't hear it.
	_, _ = w.Write(body)
}

// WriteError answers with what an error of this package or of the enrollment
// service is to a device. It reports whether the error is one that the server's
// operator should hear about.
func WriteError(w http.ResponseWriter, err error) (internal bool) {
	var refusal *enroll.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Reason.Secret():
		WriteProblem(w, http.StatusForbidden, detailRefused, 0)
	case errors.As(err, &refusal) && refusal.Reason == enroll.Limited:
		WriteProblem(w, http.StatusTooManyRequests, detailLimited, max(refusal.RetryAfter, time.Second))
	case errors.As(err, &refusal):
		detail := "The key is not accepted."
		if refusal.Detail != "" {
			detail = refusal.Detail
		}
		WriteProblem(w, http.StatusUnprocessableEntity, detail, 0)
	case errors.Is(err, errMediaType):
		WriteProblem(w, http.StatusUnsupportedMediaType, detailType, 0)
	case errors.Is(err, ErrMessage), errors.Is(err, ErrVersion), errors.Is(err, ErrBinding),
		errors.Is(err, pkcs10.ErrFormat), errors.Is(err, pkcs10.ErrAlgorithm), errors.Is(err, pkcs10.ErrSignature):
		WriteProblem(w, http.StatusBadRequest, shortened(err.Error()), 0)
	default:
		WriteProblem(w, http.StatusServiceUnavailable, detailUnavailable, retryUnavailable)
		return true
	}
	return false
}

// shortened, because parts of the text come from the peer.
func shortened(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
