package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/roamgate/roamgate/enrollment/join"
)

// FindPath of the listener for other instances.
const FindPath = "/instance/find"

const (
	maxFind     = 4 << 10
	readTimeout = 5 * time.Second
)

// findRequest is what one instance asks another.
type findRequest struct {
	join.Inquiry
	// Source of the device, for limits.
	Source netip.Addr `json:"source"`
}

// Check the bounds of each field.
func (r *findRequest) Check() error {
	if !r.Source.IsValid() || r.Source.Zone() != "" {
		return fmt.Errorf("%w: source", join.ErrMessage)
	}
	return r.Inquiry.Check()
}

// findResponse has no server if the inquiry isn't under the key of a request.
type findResponse struct {
	Server *join.Server `json:"server,omitempty"`
}

// Check the bounds of each field.
func (r *findResponse) Check() error {
	if r.Server == nil {
		return nil
	}
	return r.Server.Check()
}

// remote is another instance that can be asked.
type remote struct {
	Instance
	url    string
	client *http.Client
}

func newRemote(i Instance, own Identity) (*remote, error) {
	u, err := url.Parse(i.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("URL %q, want https://HOST:PORT", i.URL)
	}
	if i.Name == "" || i.Roots == nil {
		return nil, errors.New("needs a name and a root")
	}
	return &remote{Instance: i, url: u.JoinPath(FindPath).String(), client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: i.clientConfig(own), ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 8, MaxConnsPerHost: 64, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Find asks it.
func (r *remote) Find(ctx context.Context, q *join.Inquiry, source netip.Addr) ([]join.Server, error) {
	body, err := json.Marshal(findRequest{*q, source})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answers with %s", response.Status)
	}
	var answer findResponse
	if err := join.Decode(response.Body, maxFind, &answer); err != nil {
		return nil, err
	}
	if answer.Server == nil {
		return nil, nil
	}
	return []join.Server{*answer.Server}, nil
}

// Handler for other instances. It has to stand behind ServerConfig with the
// same others: who gets here is one of them.
func Handler(local Local, others []Instance, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+FindPath, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			join.WriteProblem(w, http.StatusForbidden, "Mutual TLS is needed.", 0)
			return
		}
		from, err := among(others, r.TLS.PeerCertificates)
		if err != nil {
			join.WriteProblem(w, http.StatusForbidden, "Not a known instance.", 0)
			return
		}
		answer, err := find(w, r, local)
		if err != nil {
			if join.WriteError(w, err) {
				log.Error("another instance can't be answered", slog.String("instance", from.Name), slog.Any("error", err))
			}
			return
		}
		body, err := json.Marshal(answer)
		if err != nil {
			panic(err) // strings and octets
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	return mux
}

func find(w http.ResponseWriter, r *http.Request, local Local) (answer findResponse, err error) {
	// Where deadlines can't be set the server's own hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	var q findRequest
	if err := join.Decode(r.Body, maxFind, &q); err != nil {
		return answer, err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	found, err := local.Find(ctx, &q.Inquiry, q.Source)
	if len(found) == 1 {
		answer.Server = &found[0]
	}
	return answer, err
}
