package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

const (
	// answerTime is how long an answer may take that isn't a stream, and
	// slowest the octets a second that a body may take besides.
	answerTime = 30 * time.Second
	slowest    = 64 << 10
	maxAnswer  = 256 << 10
)

// client speaks to one gateway over one connection.
type client struct {
	gateway   Gateway
	base      url.URL
	transport *http.Transport
	http      http.Client
	// verify who answers, each time: a certificate may be revoked meanwhile.
	verify func(tls.ConnectionState) error
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func newClient(g Gateway, config *tls.Config, dial dialer) *client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	c := &client{gateway: g, verify: config.VerifyConnection, base: url.URL{Scheme: "https", Host: g.Address.String()}, transport: &http.Transport{
		TLSClientConfig: config, Protocols: protocols, DisableCompression: true,
		DialContext:            dial,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 16 << 10,
		// A gateway that is gone is noticed by that.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}}
	c.http = http.Client{Transport: c.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

func (c *client) close() { c.transport.CloseIdleConnections() }

func (c *client) do(ctx context.Context, method, path, kind string, body []byte) (*http.Response, error) {
	u := c.base
	// Behind a question mark is what the path is about.
	u.Path, u.RawQuery, _ = strings.Cut(path, "?")
	return c.send(ctx, method, u, kind, body)
}

func (c *client) send(ctx context.Context, method string, u url.URL, kind string, body []byte) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), reader)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if err := c.verify(*response.TLS); err != nil {
		return nil, errors.Join(err, response.Body.Close())
	}
	return response, nil
}

// ask sends a body and reads the whole answer, which is short.
func (c *client) ask(ctx context.Context, method, path, kind string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime+time.Duration(len(body)/slowest)*time.Second)
	defer cancel()
	response, err := c.do(ctx, method, path, kind, body)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, err
	}
	if len(answer) > maxAnswer {
		return 0, nil, fmt.Errorf("%w: more than %d octets", ErrAnswer, maxAnswer)
	}
	return response.StatusCode, answer, nil
}

func (c *client) state(ctx context.Context) (gcm.State, error) {
	status, body, err := c.ask(ctx, http.MethodGet, gcm.PathState, "", nil)
	if err != nil {
		return gcm.State{}, err
	}
	var s gcm.State
	if err := decode(status, http.StatusOK, body, &s); err != nil {
		return gcm.State{}, err
	}
	if s.Gateway != c.gateway.Name {
		return gcm.State{}, fmt.Errorf("%w: it says that it is %q, not %q", ErrGateway, s.Gateway, c.gateway.Name)
	}
	return s, nil
}

// put a document of a section. A refusal is an error of package gcm, and comes
// with what the gateway has.
func (c *client) put(ctx context.Context, method string, section gcm.Section, kind string, e encoded) (gcm.SectionState, error) {
	status, body, err := c.ask(ctx, method, gcm.PathSections+string(section), kind, e.octets)
	if err != nil {
		return gcm.SectionState{}, err
	}
	if status != http.StatusOK {
		var r gcm.Refusal
		if err := decode(status, status, body, &r); err != nil {
			return gcm.SectionState{}, err
		}
		return r.State, &refusal{r.Err()}
	}
	var s gcm.SectionState
	if err := decode(status, http.StatusOK, body, &s); err != nil {
		return gcm.SectionState{}, err
	}
	if s.Version != e.version || s.Hash != e.hash {
		return gcm.SectionState{}, fmt.Errorf("%w: it was given %s %v and says it has %v", ErrAnswer, section, e.version, s.Version)
	}
	return s, nil
}

// refusal is what a gateway answered, in contrast to what went wrong on the way.
type refusal struct{ error }

// Unwrap is the error of package gcm.
func (r *refusal) Unwrap() error { return r.error }

func decode(status, want int, body []byte, v any) error {
	if status != want {
		return fmt.Errorf("%w: status %d", ErrAnswer, status)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: status %d: %w", ErrAnswer, status, err)
	}
	return nil
}

// events after a cursor, until ctx ends or the gateway does.
func (c *client) events(ctx context.Context, after uint64, each func(gcm.Event) error) error {
	u := c.base
	u.Path = gcm.PathEvents
	u.RawQuery = "after=" + strconv.FormatUint(after, 10)
	response, err := c.send(ctx, http.MethodGet, u, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: status %d for events", ErrAnswer, response.StatusCode)
	}
	r := gcm.NewEventReader(response.Body, after)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
