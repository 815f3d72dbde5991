package page

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"html/template"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// Service decides.
type Service interface {
	Check(ctx context.Context, id otp.ID, user string, password *otp.Password, source netip.Addr) (directory.Request, error)
	Enroll(context.Context, enroll.Application) (enroll.Issued, error)
}

// Options of New.
type Options struct {
	Service Service
	// Key of 32 octets, which all nodes of one installation share.
	Key []byte
	// Title of the installation.
	Title string
	// Instance OID of it.
	Instance string
	// Profile of every device, without what is the device's own.
	Profile profile.Profile
	// Signer of profiles for Apple; nil leaves them unsigned.
	Signer *profile.Signer
	Now    func() time.Time
	Log    *slog.Logger
}

//go:embed pages
var files embed.FS

type handler struct {
	Options
	sealer *sealer
	pages  *template.Template
	policy string
}

// maxForm of a page in octets.
const maxForm = 32 << 10

// New makes the handler of the page's paths: /, /start, /consent, /files,
// /file/NAME and /leave. It has to be reached by TLS.
func New(o Options) (http.Handler, error) {
	h := &handler{Options: o}
	var err error
	if h.sealer, err = newSealer(o.Key); err != nil {
		return nil, err
	}
	style, err := files.ReadFile("pages/style.css")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	h.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	h.pages, err = template.New("").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) },
	}).ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.login)
	mux.HandleFunc("POST /start", h.start)
	mux.HandleFunc("GET /consent", h.within(h.consent))
	mux.HandleFunc("POST /consent", h.within(h.agree))
	mux.HandleFunc("GET /files", h.within(h.list))
	mux.HandleFunc("GET /file/{name}", h.within(h.file))
	mux.HandleFunc("POST /leave", h.leave)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		h.show(w, http.StatusNotFound, "message", view{Heading: "There is no such page", Text: "Begin with the link that you were given."})
	})
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.show(w, http.StatusForbidden, "message", view{Heading: "Not from here", Text: "This form was sent by another site. Begin with the link that you were given."})
	}))
	return guard.Handler(mux), nil
}

// view is what pages show.
type view struct {
	Title   string
	Heading string
	Text    string
	// Error about what was entered, empty if there is none.
	Error   string
	Request string
	Session *session
	Until   string
	Kinds   []kind
	Kind    string
	CSR     string
	Result  result
	// Made: the server made the key.
	Made bool
}

func (h *handler) show(w http.ResponseWriter, status int, name string, v view) {
	v.Title = h.Title
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if err := h.pages.ExecuteTemplate(w, name+".html", v); err != nil {
		h.Log.Error("page", slog.String("name", name), slog.Any("error", err))
	}
}

func (h *handler) login(w http.ResponseWriter, r *http.Request) {
	request := r.URL.Query().Get("request")
	if id, err := otp.ParseID(request); err == nil {
		request = id.String()
	} else {
		request = ""
	}
	h.show(w, http.StatusOK, "login", view{Request: request})
}

const wrong = "That is not right, or its time is over. Check the request and the one-time password; ask your administrator for a new one if it doesn't help."

func (h *handler) start(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	request := r.PostFormValue("request")
	code, err := credentials(request, r.PostFormValue("password"))
	if err != nil {
		h.show(w, http.StatusUnprocessableEntity, "login", view{Request: request[:min(len(request), 40)],
			Error: "The request has 8 characters, the one-time password 16. Hyphens and case don't matter."})
		return
	}
	defer code.Password.Erase()
	q, err := h.Service.Check(r.Context(), code.ID, "", &code.Password, source(r))
	if err != nil {
		h.refused(w, "login", view{Request: code.ID.String()}, err)
		return
	}
	v := &session{
		ID: code.ID, Password: code.Password, Device: q.Device, User: q.User,
		Ends: h.Now().Add(sessionTime).Unix(), Until: q.Expires.Unix(),
	}
	defer v.erase()
	// Here and not with the consent: an answer that uses up the request may get
	// lost, or come to a form that was sent twice, and a key only in there too.
	v.makeKey()
	h.next(w, r, v, "/consent")
}

// credentials from two fields; the second one may hold the whole code.
func credentials(request, password string) (otp.Code, error) {
	if code, err := otp.ParseCode(password); err == nil {
		return code, nil
	}
	id, err := otp.ParseID(request)
	if err != nil {
		return otp.Code{}, err
	}
	secret, err := otp.ParsePassword(password)
	return otp.Code{ID: id, Password: secret}, err
}

// next keeps the session and goes on.
func (h *handler) next(w http.ResponseWriter, r *http.Request, v *session, to string) {
	if err := h.sealer.put(w, v); err != nil {
		h.failed(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// within a session.
func (h *handler) within(next func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := h.sealer.get(r, h.Now())
		if err != nil {
			h.show(w, http.StatusForbidden, "message", view{Heading: "Please begin again", Text: "Your session has ended. If your device was not set up yet, log in again with the same one-time password; otherwise ask your administrator for a new one."})
			return
		}
		defer v.erase()
		next(w, r, v)
	}
}

func (h *handler) consentView(r *http.Request, v *session) view {
	chosen := v.Kind
	if chosen == "" {
		chosen = guess(r.UserAgent())
	}
	return view{Session: v, Kinds: kinds, Kind: chosen, Until: time.Unix(v.Until, 0).UTC().Format("2 January 2006, 15:04 UTC")}
}

func (h *handler) consent(w http.ResponseWriter, r *http.Request, v *session) {
	h.show(w, http.StatusOK, "consent", h.consentView(r, v))
}

func (h *handler) agree(w http.ResponseWriter, r *http.Request, v *session) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	again := h.consentView(r, v)
	k, ok := kindOf(r.PostFormValue("kind"))
	again.Kind, again.CSR = k.Name, r.PostFormValue("csr")
	switch {
	case !ok:
		again.Error = "Choose what kind of device it is."
	case r.PostFormValue("agree") != "yes":
		again.Error = "Without your consent nothing happens: tick the box at the end."
	}
	if again.Error == "" {
		// Asked before the request is used up.
		if err := h.possible(v, k); err != nil {
			h.Log.Error("no profile for a kind of device", slog.String("kind", k.Name), slog.String("device", v.Device), slog.Any("error", err))
			again.Error = "This server has no file for that kind of device. Choose another one, or ask your administrator."
		}
	}
	if again.Error == "" && k.Own {
		public, err := publicKey(again.CSR)
		if err != nil {
			again.Error = "That is no certificate request (PKCS#10 in PEM) with a good signature."
		}
		v.Public = public
	}
	if again.Error != "" {
		h.show(w, http.StatusUnprocessableEntity, "consent", again)
		return
	}
	if !k.Own {
		v.Public = nil
	}
	v.Kind = k.Name
	if _, err := h.enroll(r, v); err != nil {
		h.refused(w, "consent", again, err)
		return
	}
	h.next(w, r, v, "/files")
}

// publicKey of a request whose signature proves possession.
func publicKey(text string) ([]byte, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	csr, err := pkcs10.Parse(block.Bytes)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(csr.Key)
}

func (h *handler) enroll(r *http.Request, v *session) (enroll.Issued, error) {
	var key crypto.PublicKey
	if v.Public != nil {
		parsed, err := x509.ParsePKIXPublicKey(v.Public)
		if err != nil {
			return enroll.Issued{}, err
		}
		key = parsed
	} else {
		private, err := v.private()
		if err != nil {
			return enroll.Issued{}, err
		}
		key = private.Public()
	}
	password := otp.Password(v.Password)
	defer password.Erase()
	return h.Service.Enroll(r.Context(), enroll.Application{
		Skin: "page", Source: source(r), ID: v.ID, Proof: enroll.Proof{Password: &password}, Key: key,
	})
}

// made is what an agreed session has; false if an answer was given instead.
func (h *handler) made(w http.ResponseWriter, r *http.Request, v *session) (result, kind, bool) {
	k, ok := kindOf(v.Kind)
	if !ok {
		http.Redirect(w, r, "/consent", http.StatusSeeOther)
		return result{}, k, false
	}
	issued, err := h.enroll(r, v)
	if err != nil {
		h.refused(w, "consent", h.consentView(r, v), err)
		return result{}, k, false
	}
	made, err := h.build(v, k, issued)
	if err != nil {
		h.failed(w, err)
		return made, k, false
	}
	return made, k, true
}

func (h *handler) list(w http.ResponseWriter, r *http.Request, v *session) {
	if made, k, ok := h.made(w, r, v); ok {
		h.show(w, http.StatusOK, "files", view{Session: v, Result: made, Made: !k.Own, Kind: k.Name})
		made.erase()
	}
}

func (h *handler) file(w http.ResponseWriter, r *http.Request, v *session) {
	made, _, ok := h.made(w, r, v)
	if !ok {
		return
	}
	defer made.erase()
	for _, f := range made.Files {
		if f.Name == r.PathValue("name") {
			header := w.Header()
			header.Set("Content-Type", f.Type)
			header.Set("Content-Disposition", `attachment; filename="`+f.Name+`"`)
			header.Set("Cache-Control", "no-store")
			_, _ = w.Write(f.Data)
			return
		}
	}
	h.show(w, http.StatusNotFound, "message", view{Heading: "There is no such file", Text: "Go back to the list of files."})
}

// erase files, which may hold keys.
func (r *result) erase() {
	for _, f := range r.Files {
		clear(f.Data)
	}
}

func (h *handler) leave(w http.ResponseWriter, _ *http.Request) {
	http.SetCookie(w, cookie("", -1))
	h.show(w, http.StatusOK, "message", view{Heading: "You are logged out", Text: "You can close this window."})
}

// refused shows a form again with what can be said about a refusal.
func (h *handler) refused(w http.ResponseWriter, form string, v view, err error) {
	var r *enroll.Refusal
	status := http.StatusForbidden
	switch {
	case !errors.As(err, &r):
		h.failed(w, err)
		return
	case r.Reason == enroll.Limited:
		status = http.StatusTooManyRequests
		seconds := int(math.Ceil(r.RetryAfter.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(max(seconds, 1)))
		v.Error = "Too many tries from your network. Wait a moment, then try again."
	case r.Reason.Secret():
		v.Error = wrong
	default:
		status = http.StatusUnprocessableEntity
		v.Error = "The key of this device was refused."
		if r.Detail != "" {
			v.Error += " " + r.Detail
		}
	}
	h.show(w, status, form, v)
}

func (h *handler) failed(w http.ResponseWriter, err error) {
	h.Log.Error("page", slog.Any("error", err))
	h.show(w, http.StatusServiceUnavailable, "message", view{
		Heading: "That didn't work", Text: "The server can't do it at the moment. Nothing is lost: reload this page in a minute.",
	})
}

func source(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}
