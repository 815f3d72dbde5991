package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Service decides and changes.
type Service interface {
	CreateRequest(context.Context, directory.By, enroll.NewRequest) (directory.Request, otp.Code, error)
	CancelRequest(context.Context, directory.By, otp.ID) error
	CloseDevice(context.Context, directory.By, string, ca.Reason) error
	Certify(context.Context, directory.By, ca.Request) (enroll.Issued, error)
	Revoke(context.Context, directory.By, *big.Int, ca.Reason) error
	Trust(context.Context) (enroll.Trust, error)
}

// Directory is read.
type Directory interface {
	Request(context.Context, otp.ID) (directory.Request, error)
	Requests(context.Context, directory.RequestFilter) ([]directory.Request, error)
	Device(context.Context, string) (directory.Device, error)
	Devices(context.Context, directory.DeviceFilter) ([]directory.Device, error)
	Certificate(context.Context, string) (directory.Certificate, error)
	Certificates(context.Context, directory.CertificateFilter) ([]directory.Certificate, error)
	Users(context.Context, string, int) ([]directory.User, error)
	Groups(context.Context, string, int) ([]string, error)
	Audit(context.Context, int64, int) ([]directory.Entry, error)
	Outbox(context.Context, int64, int) ([]directory.Event, error)
}

// ErrForbidden is what Authorize returns for somebody who may not.
var ErrForbidden = errors.New("not allowed")

// Authorize says who asks, and that they may: operation is the operationId of
// the API, such as "create-request". ErrForbidden is for those who may not; any
// other error is one of the server.
type Authorize func(r *http.Request, operation string) (name string, err error)

// Call of an operation, for Audit.
type Call struct {
	At        time.Time
	Name      string
	Source    netip.Addr
	Operation string
	Path      string
	Status    int
	Took      time.Duration
}

// Options of New.
type Options struct {
	Service   Service
	Directory Directory
	Authorize Authorize
	// Audit hears of each call, refused ones too. What was changed is in the
	// directory's own record as well.
	Audit func(Call)
	// Describe the server; Root and RootSHA256 are filled in.
	Describe Server
	// PageURL of a request, for its user.
	PageURL func(otp.ID) string
	Now     func() time.Time
	Log     *slog.Logger
}

type server struct{ Options }

// New makes the handler of the API.
func New(o Options) http.Handler {
	s := &server{o}
	config := huma.DefaultConfig("Roamgate enrollment", o.Describe.Version)
	config.Info.Description = "Requests, devices and certificates of one installation. Mutual TLS."
	// No documentation from elsewhere, no links to schemas in answers.
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.RejectUnknownQueryParameters = true
	mux := http.NewServeMux()
	api := humago.New(mux, config)
	api.UseMiddleware(s.guard)
	s.requests(api)
	s.devices(api)
	s.certificates(api)
	s.records(api)
	// A browser that has an administrator's certificate shows it to whoever asks.
	return http.NewCrossOriginProtection().Handler(mux)
}

type callerKey struct{}

// guard asks Authorize before an operation and tells Audit after it.
func (s *server) guard(c huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(c)
	call := Call{At: s.Now(), Operation: c.Operation().OperationID, Path: r.URL.Path, Source: source(r)}
	name, err := s.Authorize(r, call.Operation)
	call.Name = name
	switch {
	case errors.Is(err, ErrForbidden):
		s.refuse(c, http.StatusForbidden, err.Error())
	case err != nil:
		s.Log.Error("authorization of an administrator", slog.Any("error", err))
		s.refuse(c, http.StatusServiceUnavailable, "who may do this can't be told at the moment")
	default:
		next(huma.WithValue(c, callerKey{}, directory.By{Name: name, Source: call.Source}))
	}
	call.Status, call.Took = c.Status(), s.Now().Sub(call.At)
	s.Audit(call)
}

func (s *server) refuse(c huma.Context, status int, detail string) {
	c.SetHeader("Content-Type", "application/problem+json")
	c.SetStatus(status)
	if err := json.NewEncoder(c.BodyWriter()).Encode(huma.NewError(status, detail)); err != nil {
		s.Log.Debug("answer", slog.Any("error", err))
	}
}

func source(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// by is who calls an operation.
func by(ctx context.Context) directory.By {
	b, _ := ctx.Value(callerKey{}).(directory.By)
	return b
}

// operation of the API.
func operation(method, path, id, summary, tag string) huma.Operation {
	return huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, Tags: []string{tag},
		MaxBodyBytes: 64 << 10,
	}
}
