package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/join"
)

// Bounds in time.
const (
	connectTimeout  = 10 * time.Second
	exchangeTimeout = 30 * time.Second
	maxRetryAfter   = 24 * time.Hour
)

// Dial opens a TCP connection; (*net.Dialer).DialContext is one.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// connection is one TLS connection, never more: all that is said on it is bound
// to it.
type connection struct {
	server  string // HOST:PORT
	binding []byte
	http    *http.Client
	tls     *tls.Conn
}

// errMore is what the HTTP client gets instead of a second connection.
var errMore = errors.New("the server closed the connection")

func connect(ctx context.Context, dial Dial, server string) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	raw, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	t := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: host,
		// Who the server is, is shown by its first MAC, which covers this
		// connection. No certificate could show it: the device trusts none yet.
		InsecureSkipVerify: true,
	})
	if err := t.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	state := t.ConnectionState()
	c := &connection{server: server, tls: t}
	if c.binding, err = join.Binding(&state); err != nil {
		t.Close()
		return nil, err
	}
	first := make(chan net.Conn, 1)
	first <- t
	c.http = &http.Client{
		Transport: &http.Transport{
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				select {
				case conn := <-first:
					return conn, nil
				default:
					return nil, errMore
				}
			},
			MaxConnsPerHost: 1, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func (c *connection) close() {
	c.http.CloseIdleConnections()
	c.tls.Close()
}

// transportError is a failure to ask or to be answered: the same again may help.
type transportError struct{ error }

func (e transportError) Unwrap() error { return e.error }

// exchange a message for its answer.
func (c *connection) exchange(ctx context.Context, path string, question any, answer join.Message) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, "+join.ProblemType)
	response, err := c.http.Do(request)
	if err != nil {
		return transportError{err}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return problem(response)
	}
	// Not json.Decoder on the connection: an answer that breaks off is a
	// failure of the network, one that is whole and wrong isn't.
	octets, err := io.ReadAll(io.LimitReader(response.Body, join.MaxResponse+1))
	switch {
	case err != nil:
		return transportError{err}
	case len(octets) > join.MaxResponse:
		return fmt.Errorf("%w: an answer of more than %d octets", ErrProtocol, join.MaxResponse)
	}
	if err := join.DecodeBytes(octets, answer); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

// maxDetail of a problem that is shown to people.
const maxDetail = 300

// problem turns an answer that isn't 200 into an error.
func problem(r *http.Response) error {
	var p join.Problem
	detail := r.Status
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media == join.ProblemType {
		if json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&p) == nil && p.Detail != "" {
			detail = printable(p.Detail)
		}
	}
	switch r.StatusCode {
	case http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusBadRequest:
		if media == join.ProblemType {
			return fmt.Errorf("%w: %s", ErrRefused, detail)
		}
	case http.StatusTooManyRequests:
		return &LimitedError{RetryAfter: retryAfter(r.Header)}
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return transportError{errors.New(detail)}
	}
	return fmt.Errorf("%w: it answers with %s", ErrProtocol, detail)
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 1 {
		seconds = 1
	}
	return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
}

// printable, because it comes from whoever answered and goes to a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "..."
	}
	return s
}
