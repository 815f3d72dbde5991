package join

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

// Enroller is what the handler needs of the enrollment service.
type Enroller interface {
	Prover
	// Enroll decides; see package enroll.
	Enroll(ctx context.Context, a enroll.Application) (enroll.Issued, error)
}

// Prover lends the key of a request.
type Prover interface {
	// Prove calls use with the key of a request that is open; for any other ID
	// with a key that is always the same one for that ID and that nobody knows.
	// use keeps no reference. Who asks too often is refused with enroll.Limited,
	// whichever ID it was.
	Prove(ctx context.Context, id otp.ID, source netip.Addr, use func(key []byte)) error
}

// Finder asks all instances for a request.
type Finder interface {
	// Find returns the answers of those that verified the inquiry. None and no
	// error means that all were asked and none did.
	Find(ctx context.Context, q *Inquiry, source netip.Addr) ([]Server, error)
}

// Options of a handler. All but Log have to be there.
type Options struct {
	Enroller Enroller
	// Finder for DiscoverPath.
	Finder Finder
	// Trust is asked for each message, so that it may change.
	Trust func() Trust
	// Configuration for a device that gets a certificate: a JSON document of at
	// most 64 KiB.
	Configuration func(enroll.Issued) ([]byte, error)
	Log           *slog.Logger
}

// Bounds in time of one message.
const (
	readTimeout   = 10 * time.Second
	decideTimeout = 20 * time.Second
)

// handler has no state but the key of its nonces.
type handler struct {
	Options
	nonces [sha256.Size]byte
}

// New handler for the paths below /join/. The connection has to be TLS 1.3 that
// ends in this process.
func New(o Options) http.Handler {
	h := &handler{Options: o}
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	rand.Read(h.nonces[:])
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+DiscoverPath, answer(h, MaxRequest, h.discover))
	mux.HandleFunc("POST "+TrustPath, answer(h, MaxRequest, h.trust))
	mux.HandleFunc("POST "+CertificatePath, answer(h, MaxRequest, h.certificate))
	mux.HandleFunc("GET "+OpenAPIPath, serveOpenAPI)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		WriteProblem(w, http.StatusNotFound, detailNotFound, 0)
	})
	return mux
}

// peer of a message.
type peer struct {
	binding []byte
	source  netip.Addr
}

// incoming is a message as a pointer.
type incoming[M any] interface {
	*M
	Message
}

// answer makes a handler of a function from message to message.
func answer[M any, P incoming[M]](h *handler, limit int64, f func(context.Context, peer, P) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := receive[M, P](w, r, limit, f)
		if err != nil {
			if WriteError(w, err) {
				h.Log.Error("enrollment can't answer",
					slog.String("path", r.URL.Path), slog.String("source", r.RemoteAddr), slog.Any("error", err))
			}
			return
		}
		body, err := json.Marshal(out)
		if err != nil {
			panic(err) // strings, numbers and octets
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body)
	}
}

var errMediaType = errors.New("not application/json")

func receive[M any, P incoming[M]](w http.ResponseWriter, r *http.Request, limit int64, f func(context.Context, peer, P) (any, error)) (any, error) {
	binding, err := Binding(r.TLS)
	if err != nil {
		return nil, err
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, errMediaType
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, err
	}
	// Where deadlines can't be set the server's own hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	m := P(new(M))
	if err := Decode(r.Body, limit, m); err != nil {
		return nil, err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), decideTimeout)
	defer cancel()
	return f(ctx, peer{binding, from.Addr().Unmap()}, m)
}

func (h *handler) discover(ctx context.Context, p peer, m *DiscoverRequest) (any, error) {
	if _, err := m.Choose(); err != nil {
		return nil, err
	}
	found, err := h.Finder.Find(ctx, &Inquiry{Binding: p.binding, DiscoverRequest: *m}, p.source)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, &enroll.Refusal{Reason: enroll.Unknown}
	}
	return DiscoverResponse{Servers: found[:min(len(found), maxServers)]}, nil
}

// begin the conversation: the same for the second message and the third.
func (h *handler) begin(p peer, m *Hello) (*Conversation, TrustResponse, error) {
	version, err := m.Choose()
	if err != nil {
		return nil, TrustResponse{}, err
	}
	r := TrustResponse{Version: version, Trust: h.Trust()}
	id := m.ID()
	nonce := hmac.New(sha256.New, h.nonces[:])
	nonce.Write(transcript(nil).hello(p.binding, m, id))
	r.Nonce = nonce.Sum(nil)
	return Begin(p.binding, m, version, r.Nonce, &r.Trust), r, nil
}

func (h *handler) trust(ctx context.Context, p peer, m *TrustRequest) (any, error) {
	c, r, err := h.begin(p, &m.Hello)
	if err != nil {
		return nil, err
	}
	err = h.Enroller.Prove(ctx, m.ID(), p.source, func(key []byte) { r.MAC = c.TrustMAC(key) })
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (h *handler) certificate(ctx context.Context, p peer, m *CertificateRequest) (any, error) {
	c, _, err := h.begin(p, &m.Hello)
	if err != nil {
		return nil, err
	}
	csr, err := pkcs10.Parse(m.CSR)
	if err != nil {
		return nil, err
	}
	c.Request(m.CSR)
	issued, err := h.Enroller.Enroll(ctx, enroll.Application{
		Skin: "join", Source: p.source, ID: m.ID(), Key: csr.Key,
		Proof: enroll.Proof{Verify: func(bound []byte) bool { return c.VerifyRequest(bound, m.MAC) }},
	})
	if err != nil {
		return nil, err
	}
	defer clear(issued.Key)
	r := &CertificateResponse{
		Certificate: issued.Certificate.Raw, Chain: rawOf(issued.Chain), RenewFrom: issued.RenewFrom.Unix(),
	}
	if r.Configuration, err = h.Configuration(issued); err != nil {
		return nil, err
	}
	c.Answer(r)
	r.MAC = c.AnswerMAC(issued.Key)
	return r, nil
}

func rawOf(certificates []*x509.Certificate) [][]byte {
	out := make([][]byte, len(certificates))
	for i, c := range certificates {
		out[i] = c.Raw
	}
	return out
}

// TrustOf an issuer, under names for people and devices.
func TrustOf(i *ca.Issuer, instance, server string) Trust {
	return Trust{
		Instance: instance, InstanceOID: i.InstanceOID().String(), Server: server,
		Root: i.Root().Raw, Chain: rawOf(i.Chain()),
	}
}
