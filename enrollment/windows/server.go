package windows

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/enroll"
)

// Root of all paths. Windows, and people, write it in any case.
const Root = "/EnrollmentServer/"

// Enroller decides; it is an *enroll.Service.
type Enroller interface {
	Enroll(context.Context, enroll.Application) (enroll.Issued, error)
	Renew(context.Context, enroll.Renewal) (enroll.Issued, error)
}

// Options of a server. All but Legacy are needed.
type Options struct {
	Enroller Enroller
	// URL of the server as devices reach it, such as https://enroll.example.com.
	URL *url.URL
	// Account that a device gets for device management.
	Account func(context.Context, enroll.Issued) (Account, error)
	// Lifetime of certificates, and how long before their end they are renewed,
	// as the policy tells.
	Lifetime, RenewBefore time.Duration
	// Legacy allows renewals that are signed with SHA-1.
	Legacy bool
	Now    func() time.Time
	Log    *slog.Logger
}

type server struct{ Options }

// New makes a handler of all paths below Root. It has to be reached by TLS with
// client certificates asked for, but neither demanded nor verified.
func New(o Options) http.Handler { return &server{o} }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var handle func(*http.Request, *envelope) (string, answer, error)
	switch path := strings.ToLower(r.URL.Path); path {
	case strings.ToLower(Root) + "discovery.svc":
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			hello(w)
			return
		}
		handle = s.discover
	case strings.ToLower(Root) + "policy.svc":
		handle = s.policies
	case strings.ToLower(Root) + "enrollment.svc":
		handle = s.token
	default:
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "messages are sent by POST", http.StatusMethodNotAllowed)
		return
	}
	message, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	e, err := parseEnvelope(message)
	if err != nil {
		s.fault(w, r, &envelope{}, badFormat("the message can't be read", err))
		return
	}
	name, a, err := handle(r, e)
	if err != nil {
		s.fault(w, r, e, err)
		return
	}
	a.RelatesTo = e.messageID
	if err := send(w, http.StatusOK, name, a); err != nil {
		s.fault(w, r, e, err)
	}
}

// hello says that this is a discovery service, MS-MDE2 section 1.3.
func hello(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", "0")
	w.Header().Set("Cache-Control", "no-cache")
}

// fault ends a request. Its status is that of all faults which aren't the
// sender's (SOAP 1.2 part 2 section 7.5.2.2), as MS-MDE2 has them all.
func (s *server) fault(w http.ResponseWriter, r *http.Request, e *envelope, err error) {
	f := (*fault)(nil)
	if !errors.As(err, &f) {
		f = explain(err)
	}
	f.Trace = newID()
	refusal := (*enroll.Refusal)(nil)
	if decided := errors.As(err, &refusal); decided && refusal.Reason == enroll.Limited {
		seconds := int64((refusal.RetryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
	}
	level := slog.LevelInfo
	if f.Type == "EnrollmentServer" && r.Context().Err() == nil {
		level = slog.LevelError
	}
	s.Log.LogAttrs(r.Context(), level, "fault", slog.String("skin", "windows"), slog.Any("source", source(r)),
		slog.String("type", f.Type), slog.String("trace", f.Trace), slog.Any("error", err))
	if err := send(w, http.StatusInternalServerError, "fault", answer{Action: actionTokenReply, RelatesTo: e.messageID, Body: f}); err != nil {
		http.Error(w, "the server is broken", http.StatusInternalServerError)
	}
}

func source(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap()
}

// peer is the client certificate of TLS, or nil.
func peer(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}
