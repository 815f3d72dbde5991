package scep

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enroll"
)

// Enroller decides; it is an *enroll.Service.
type Enroller interface {
	Enroll(context.Context, enroll.Application) (enroll.Issued, error)
	Renew(context.Context, enroll.Renewal) (enroll.Issued, error)
}

// Authority is the registration authority: an RSA certificate of the issuing CA
// with the usages digitalSignature and keyEncipherment, and its key.
type Authority struct {
	Certificate *x509.Certificate
	Key         interface {
		crypto.Signer
		crypto.Decrypter
	}
}

// Options of a server. All but Legacy are needed.
type Options struct {
	Enroller Enroller
	// Authority of now: it may be replaced while the server runs.
	Authority func() Authority
	// Chain from the issuing CA to the root, both included.
	Chain func() []*x509.Certificate
	// Legacy allows DES, triple DES and SHA-1: for servers that are reached by
	// TLS only.
	Legacy bool
	Log    *slog.Logger
}

type server struct{ Options }

// New makes a handler that answers at any path.
func New(o Options) http.Handler { return &server{o} }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	post := r.Method == http.MethodPost
	if !post && r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET, POST")
		fail(w, http.StatusMethodNotAllowed, "SCEP is done by GET and POST")
		return
	}
	operation := r.URL.Query().Get("operation")
	switch {
	case operation == "PKIOperation":
		s.pkiOperation(w, r)
	case post:
		fail(w, http.StatusBadRequest, "only PKIOperation is done by POST")
	case operation == "GetCACaps":
		reply(w, "text/plain", []byte(s.capabilities()))
	case operation == "GetCACert":
		s.getCACert(w, r)
	default:
		fail(w, http.StatusBadRequest, "operation is GetCACaps, GetCACert or PKIOperation")
	}
}

// capabilities, RFC 8894 section 3.5.2. SHA-384 isn't registered there, but true,
// and by it strongSwan before 5.9.11, which mixes up its flags, believes in
// SHA-256, AES and Renewal.
func (s *server) capabilities() string {
	all := []string{"AES", "POSTPKIOperation", "Renewal", "SCEPStandard", "SHA-256", "SHA-384", "SHA-512"}
	if s.Legacy {
		all = append(all, "DES3", "SHA-1")
	}
	return strings.Join(all, "\n") + "\n"
}

// getCACert, RFC 8894 section 4.2.1.2: the authority's certificate first.
func (s *server) getCACert(w http.ResponseWriter, r *http.Request) {
	bundle, err := cms.Certificates(append([]*x509.Certificate{s.Authority().Certificate}, s.Chain()...))
	if err != nil {
		s.broken(w, r, err)
		return
	}
	reply(w, "application/x-x509-ca-ra-cert", bundle)
}

func (s *server) pkiOperation(w http.ResponseWriter, r *http.Request) {
	data, err := readMessage(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		fail(w, status, err.Error())
		return
	}
	m, err := parseMessage(data, s.Legacy)
	if err != nil {
		s.Log.Info("message refused", slog.String("skin", "scep"), slog.Any("source", source(r)), slog.Any("error", err))
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	answer, err := s.answer(r.Context(), m, source(r))
	if limited := (*enroll.Refusal)(nil); errors.As(err, &limited) {
		retryAfter(w, limited.RetryAfter)
		fail(w, http.StatusTooManyRequests, "too many tries; try again later")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	reply(w, "application/x-pki-message", answer)
}

// readMessage from a body as it is, or from a parameter in base64, RFC 8894
// section 4.1.
func readMessage(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method == http.MethodPost {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, cms.MaxSize))
	}
	// Some clients don't escape '+', which then is a space.
	text := strings.ReplaceAll(r.URL.Query().Get("message"), " ", "+")
	return base64.StdEncoding.DecodeString(text)
}

// broken is for what isn't the client's fault.
func (s *server) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.Log.Error("enrollment undecided", slog.String("skin", "scep"), slog.Any("source", source(r)), slog.Any("error", err))
	}
	retryAfter(w, time.Minute)
	fail(w, http.StatusServiceUnavailable, "the server can't decide now; try again later")
}

func source(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap()
}

func reply(w http.ResponseWriter, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // who doesn't get it asks again
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	seconds := int64((d + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}
