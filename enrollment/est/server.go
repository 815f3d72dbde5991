package est

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

// Root of all paths.
const Root = "/.well-known/est/"

// Enroller decides; it is an *enroll.Service.
type Enroller interface {
	Enroll(context.Context, enroll.Application) (enroll.Issued, error)
	Renew(context.Context, enroll.Renewal) (enroll.Issued, error)
}

// Options of a server. All are needed.
type Options struct {
	Enroller Enroller
	// Chain from the issuing CA to the root, both included.
	Chain func() []*x509.Certificate
	Log   *slog.Logger
}

type server struct{ Options }

// New makes a handler of all paths below Root. It has to be reached by TLS with
// client certificates asked for, but neither demanded nor verified: that is
// done by the Enroller. The TLS listener must not cut answers into small
// records (tls.Config.DynamicRecordSizingDisabled): strongSwan's client reads
// two at most.
func New(o Options) http.Handler { return &server{o} }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation, ok := operation(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	method, handle := http.MethodGet, s.cacerts
	switch operation {
	case "cacerts":
	case "csrattrs":
		handle = s.csrattrs
	case "simpleenroll":
		method, handle = http.MethodPost, s.simpleenroll
	case "simplereenroll":
		method, handle = http.MethodPost, s.simplereenroll
	default:
		http.NotFound(w, r)
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		fail(w, http.StatusMethodNotAllowed, "this operation is done by "+method)
		return
	}
	handle(w, r)
}

// operation is the last word of a path, after at most one label.
func operation(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, Root)
	if !ok {
		return "", false
	}
	label, operation, labelled := strings.Cut(rest, "/")
	if !labelled {
		return label, true
	}
	return operation, label != "" && !strings.Contains(operation, "/")
}

func (s *server) cacerts(w http.ResponseWriter, r *http.Request) {
	bundle, err := cms.Certificates(s.Chain())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	reply(w, "application/pkcs7-mime", bundle)
}

func (s *server) csrattrs(w http.ResponseWriter, r *http.Request) {
	reply(w, "application/csrattrs", attributes)
}

func (s *server) simpleenroll(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok {
		unauthorized(w)
		return
	}
	request, ok := readRequest(w, r)
	if !ok {
		return
	}
	login, err := otp.ParseLogin(user, password)
	if err != nil {
		// As a wrong password: a stranger learns the form of ours elsewhere.
		s.Log.Info("not a login", slog.String("skin", "est"), slog.Any("source", source(r)), slog.Any("reason", err))
		unauthorized(w)
		return
	}
	defer login.Password.Erase()
	issued, err := s.Enroller.Enroll(r.Context(), enroll.Application{
		Skin: "est", Source: source(r), ID: login.ID, User: login.User,
		Proof: enroll.Proof{Password: &login.Password}, Key: request.Key,
	})
	s.answer(w, r, issued, err)
}

func (s *server) simplereenroll(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		fail(w, http.StatusForbidden, "renewing needs the present certificate as TLS client certificate")
		return
	}
	request, ok := readRequest(w, r)
	if !ok {
		return
	}
	issued, err := s.Enroller.Renew(r.Context(), enroll.Renewal{
		Skin: "est", Source: source(r), Certificate: r.TLS.PeerCertificates[0], Key: request.Key,
	})
	s.answer(w, r, issued, err)
}

// readRequest answers itself where it fails.
func readRequest(w http.ResponseWriter, r *http.Request) (*pkcs10.Request, bool) {
	if mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(mediaType), "application/pkcs10") {
		fail(w, http.StatusUnsupportedMediaType, "a request is application/pkcs10")
		return nil, false
	}
	der, err := readBody(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		fail(w, status, err.Error())
		return nil, false
	}
	request, err := pkcs10.Parse(der)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return nil, false
	}
	return request, true
}

// answer is the new certificate alone, RFC 7030 section 4.2.3.
func (s *server) answer(w http.ResponseWriter, r *http.Request, issued enroll.Issued, err error) {
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	bundle, err := cms.Certificates([]*x509.Certificate{issued.Certificate})
	if err != nil {
		s.broken(w, r, err)
		return
	}
	reply(w, "application/pkcs7-mime; smime-type=certs-only", bundle)
}

func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refusal := (*enroll.Refusal)(nil)
	if !errors.As(err, &refusal) {
		s.broken(w, r, err)
		return
	}
	switch refusal.Reason {
	case enroll.Limited:
		retryAfter(w, refusal.RetryAfter)
		fail(w, http.StatusTooManyRequests, "too many tries; try again later")
	case enroll.KeyRefused:
		text := "this key is not accepted"
		if refusal.Detail != "" {
			text += ": " + refusal.Detail
		}
		fail(w, http.StatusBadRequest, text)
	case enroll.NotRenewable:
		text := "this certificate can't be renewed"
		if refusal.Detail != "" {
			text += ": " + refusal.Detail
		}
		fail(w, http.StatusForbidden, text)
	default:
		unauthorized(w)
	}
}

// broken is for what isn't the client's fault.
func (s *server) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.Log.Error("enrollment undecided", slog.String("skin", "est"), slog.Any("source", source(r)), slog.Any("error", err))
	}
	retryAfter(w, time.Minute)
	fail(w, http.StatusServiceUnavailable, "the server can't decide now; try again later")
}

func source(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap()
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="enrollment", charset="UTF-8"`)
	fail(w, http.StatusUnauthorized, "user name (request ID or e-mail address) or one-time password is wrong, used or expired")
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	seconds := int64((d + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}
