package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/wbxml"
)

var binary = wbxml.WBXML

// reason why a request got no answer of the protocol.
type reason int

const (
	badMethod reason = iota
	badType
	tooLarge
	badMessage
	forbidden
	noSession
	tooOften
	full
	failed
	gone // the device went away
	reasons
)

// Each reason has its status of HTTP.
var reasonTable = [reasons]struct {
	name   string
	status int
}{
	badMethod:  {"method", http.StatusMethodNotAllowed},
	badType:    {"content_type", http.StatusUnsupportedMediaType},
	tooLarge:   {"too_large", http.StatusRequestEntityTooLarge},
	badMessage: {"malformed", http.StatusBadRequest},
	forbidden:  {"forbidden", http.StatusForbidden},
	noSession:  {"no_session", http.StatusNotFound},
	tooOften:   {"too_often", http.StatusTooManyRequests},
	full:       {"full", http.StatusServiceUnavailable},
	failed:     {"failed", http.StatusServiceUnavailable},
	gone:       {"gone", http.StatusRequestTimeout},
}

func (r reason) String() string { return reasonTable[r].name }

// retryAfter is what devices are told that come while we can't serve them, in
// seconds.
const retryAfter = 60

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, why reason, device string, err error) {
	s.refused[why].Add(1)
	level := slog.LevelDebug
	h := w.Header()
	switch reasonTable[why].status {
	case http.StatusServiceUnavailable:
		// Who makes it full shouldn't fill the log as well.
		if now := time.Now().Unix(); why == failed || s.warned.Swap(now) != now {
			level = slog.LevelWarn
		}
		fallthrough
	case http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	s.cfg.Log.LogAttrs(r.Context(), level, "DM request refused",
		slog.String("reason", why.String()), slog.String("device", device), slog.String("remote", r.RemoteAddr), slog.Any("error", err))
	if why == badMethod {
		h.Set("Allow", http.MethodPost)
	}
	// What we couldn't or wouldn't read isn't waited for.
	h.Set("Connection", "close")
	http.Error(w, why.String(), reasonTable[why].status)
}

// errAtOnce: there are too many requests of a device, or of strangers.
var errAtOnce = errors.New("too many requests at once")

// ServeHTTP answers one message of a device.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.refuse(w, r, badMethod, "", nil)
		return
	}
	contentType := r.Header.Get("Content-Type")
	mediaType, params, err := mime.ParseMediaType(contentType)
	syntax, ok := syntaxOf(mediaType)
	charset := params["charset"]
	encoding := r.Header.Get("Content-Encoding")
	if err != nil || !ok || charset != "" && !strings.EqualFold(charset, "utf-8") || encoding != "" && encoding != "identity" {
		s.refuse(w, r, badType, "", err)
		return
	}
	// Before a stranger's octets are read: does the transport know him?
	device, err := s.cfg.Identify(r)
	switch {
	case errors.Is(err, ErrRefused):
		s.refuse(w, r, forbidden, "", err)
		return
	case err != nil:
		s.refuse(w, r, failed, "", err)
		return
	}
	// Who takes part in the bound on requests at once, and how much he may say.
	known, most := device, s.cfg.Session.MaxMsgSize
	if known == "" {
		if token := tokenOf(r); token != "" {
			known = s.sessions.provenToken(token)
		}
	}
	if known == "" {
		most = min(most, maxStranger)
	}
	if !s.gate.enter(known) {
		s.refuse(w, r, full, device, errAtOnce)
		return
	}
	defer s.gate.leave(known)
	control := http.NewResponseController(w)
	// An old ResponseWriter without deadlines has those of its http.Server.
	_ = control.SetReadDeadline(time.Now().Add(s.cfg.Transfer))
	octets, err := read(w, r, most)
	if err != nil {
		why := badMessage
		if tooBig := new(http.MaxBytesError); errors.As(err, &tooBig) {
			why = tooLarge
		}
		s.refuse(w, r, why, device, err)
		return
	}
	limits := syncml.Limits{Octets: most}
	doc, err := syntax.Parse(octets, limits)
	var m *syncml.Message
	if err == nil {
		m, err = syncml.Decode(doc, limits)
	}
	if err != nil {
		why := badMessage
		if errors.Is(err, syncml.ErrTooLarge) {
			why = tooLarge
		}
		s.refuse(w, r, why, device, err)
		return
	}
	e, why, err := s.open(r, device, m, sha256.Sum256(octets))
	if err != nil {
		s.refuse(w, r, why, device, err)
		return
	}
	out, why, err := s.handle(r.Context(), e, session.Input{
		Message: m, Octets: octets, Syntax: syntax, MAC: r.Header.Get(syncml.MACHeader), RespURI: s.respURI(e),
	}, mediaType)
	if err != nil {
		s.refuse(w, r, why, e.device, err)
		return
	}
	_ = control.SetWriteDeadline(time.Now().Add(s.cfg.Transfer))
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(out.Octets)))
	h.Set("Cache-Control", "no-store")
	if out.MAC != "" {
		h.Set(syncml.MACHeader, out.MAC)
	}
	if e.token != "" {
		http.SetCookie(w, &http.Cookie{Name: tokenName, Value: e.token, Path: r.URL.Path, Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	s.answered.Add(1)
	_, _ = w.Write(out.Octets) // a device that is gone asks again
}

// tokenName in RespURI and as a cookie.
const tokenName = "dmsession"

func tokenOf(r *http.Request) string {
	if t := r.URL.Query().Get(tokenName); t != "" {
		return t
	}
	if c, err := r.Cookie(tokenName); err == nil {
		return c.Value
	}
	return ""
}

func (s *Server) respURI(e *entry) string {
	if e.token == "" || s.cfg.URL == "" {
		return ""
	}
	return s.cfg.URL + "?" + url.Values{tokenName: {e.token}}.Encode()
}

// open finds the session that a message belongs to, or begins one. Only the
// first message begins one (OMA-TS-DM_Protocol-V1_2_1 section 8.2).
func (s *Server) open(r *http.Request, device string, m *syncml.Message, digest [sha256.Size]byte) (*entry, reason, error) {
	h := &m.Header
	var e *entry
	if device != "" {
		e = s.sessions.ofDevice(device, h.SessionID)
	} else if token := tokenOf(r); token != "" {
		e = s.sessions.ofToken(token, h.SessionID)
	}
	// The first message once more: the answer was lost, unless we may not repeat
	// that. The first message of another session with the same ID begins it.
	if e != nil && (h.MsgID != "1" || e.first == digest && e.answered.Load() <= 1 && !e.once.Load()) {
		return e, 0, nil
	}
	if h.MsgID != "1" {
		return nil, noSession, errors.New("no such session")
	}
	certified := device != ""
	if certified && !s.pace.begin(device, time.Now(), s.cfg.SessionsAMinute) {
		return nil, tooOften, errors.New("too many sessions in this minute")
	}
	if !certified {
		if device = h.Source.URI; device == "" {
			return nil, forbidden, errors.New("neither certificate nor Source")
		}
	}
	account, err := s.cfg.Session.Accounts.Account(r.Context(), device)
	switch {
	case errors.Is(err, session.ErrNoAccount):
		return nil, forbidden, err
	case err != nil:
		return nil, failed, err
	case !certified && account.Scheme == session.Certificate:
		account.Erase()
		return nil, forbidden, errors.New("this device needs its certificate")
	}
	e, err = s.sessions.begin(device, h.SessionID, digest, certified, origin(r.RemoteAddr), session.New(s.cfg.Session, device, account))
	if err != nil {
		return nil, full, err
	}
	return e, 0, nil
}

// handle has the session answer, one message at a time.
func (s *Server) handle(ctx context.Context, e *entry, in session.Input, mediaType string) (session.Output, reason, error) {
	if err := e.take(ctx); err != nil {
		return session.Output{}, gone, err
	}
	defer e.release()
	if e.dead.Load() {
		return session.Output{}, noSession, session.ErrOver
	}
	now := time.Now()
	s.trace(e, false, mediaType, in.Octets)
	out, err := e.session.Handle(ctx, now, in)
	e.answered.Add(1)
	e.once.Store(out.Once)
	switch {
	case err == nil:
	case errors.Is(err, session.ErrProtocol), errors.Is(err, session.ErrOver):
		s.sessions.end(e)
		return out, badMessage, err
	case errors.Is(err, session.ErrNoAccount):
		s.sessions.end(e)
		return out, forbidden, err
	default:
		s.sessions.end(e)
		return out, failed, err
	}
	s.trace(e, true, mediaType, out.Octets)
	if e.session.Authenticated() {
		s.sessions.proven(e)
		if s.cfg.Seen != nil {
			s.cfg.Seen(e.device, now)
		}
	}
	// A session that is over stays a while: its last answer may be lost.
	s.sessions.used(e, out.Done)
	return out, 0, nil
}

func (s *Server) trace(e *entry, sent bool, mediaType string, octets []byte) {
	if s.cfg.Trace != nil {
		s.cfg.Trace(Traced{Device: e.device, Proven: e.session.Authenticated(), Sent: sent, ContentType: mediaType, Octets: octets})
	}
}
