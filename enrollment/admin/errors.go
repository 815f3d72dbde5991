package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// statuses of errors that say something about what was asked; the first that
// matches counts.
var statuses = []struct {
	err    error
	status int
}{
	{directory.ErrNotFound, http.StatusNotFound},
	{directory.ErrExists, http.StatusConflict},
	{directory.ErrNotOpen, http.StatusConflict},
	{directory.ErrClosed, http.StatusConflict},
	{directory.ErrKeyTaken, http.StatusConflict},
	{directory.ErrOwner, http.StatusConflict},
	{directory.ErrRevoked, http.StatusConflict},
	{directory.ErrTooMany, http.StatusConflict},
	{enroll.ErrInvalid, http.StatusUnprocessableEntity},
	{ca.ErrRequest, http.StatusUnprocessableEntity},
	{ca.ErrKey, http.StatusUnprocessableEntity},
	{otp.ErrFormat, http.StatusUnprocessableEntity},
	{directory.ErrUnavailable, http.StatusServiceUnavailable},
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
}

// problem of an error. Those of the server tell no details.
func (s *server) problem(err error) error {
	for _, k := range statuses {
		if !errors.Is(err, k.err) {
			continue
		}
		if k.status == http.StatusServiceUnavailable {
			s.Log.Error("operation", slog.Any("error", err))
			return huma.NewError(k.status, "the database can't be reached; try again")
		}
		return huma.NewError(k.status, err.Error())
	}
	s.Log.Error("operation", slog.Any("error", err))
	return huma.NewError(http.StatusInternalServerError, "internal error; see the log of the server")
}
