// Package client talks to the administrators' API of a manager: over HTTPS with a
// token or a certificate, or over the unix socket of the server's own host.
//
// What can be asked for are the rows of package api: each has its types, so there
// is one function here for all of them.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/api"
)

// maxAnswer of a server in octets.
const maxAnswer = 64 << 20

// timeout of a call; a schedule or a policy for a large fleet takes its time.
const timeout = 6 * time.Minute

// Client of a manager. Close lets go of its connections.
type Client struct {
	server string
	token  string
	http   *http.Client
}

// Config of New.
type Config struct {
	// Server such as https://dm.example.com:8446.
	Server string
	// Roots that vouch for the server; nil means those of the system.
	Roots *x509.CertPool
	// Token or Certificate, one of them.
	Token       string
	Certificate *tls.Certificate
}

// ErrConfig: a client that can't be; the text says why.
var ErrConfig = errors.New("configuration of the client")

// New client over HTTPS.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return nil, fmt.Errorf("%w: server %q: want https://HOST:PORT", ErrConfig, c.Server)
	case (c.Token == "") == (c.Certificate == nil):
		return nil, fmt.Errorf("%w: want a token or a certificate, one of them", ErrConfig)
	case strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fmt.Errorf("%w: the token has characters that no token has", ErrConfig)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots}
	if c.Certificate != nil {
		t.Certificates = []tls.Certificate{*c.Certificate}
	}
	return &Client{"https://" + u.Host, c.Token, newHTTP(&http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment})}, nil
}

// Local client over a unix socket.
func Local(path string) *Client {
	return &Client{"http://manager", "", newHTTP(&http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	})}
}

func newHTTP(t *http.Transport) *http.Client {
	return &http.Client{
		Timeout: timeout, Transport: t,
		// A token goes where it was meant to go and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call an operation. What the server says against it is an *api.Problem.
func Call[In, Out any](ctx context.Context, c *Client, row api.Row[In, Out], in *In) (out Out, err error) {
	method, path, body, err := row.Request(in)
	if err != nil {
		return out, err
	}
	data, err := c.send(ctx, method, path, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("answer of %s to %s: %w", c.server, row.ID, err)
	}
	return out, nil
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.server+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxAnswer:
		return nil, errors.New("the answer is too large")
	case answer.StatusCode == http.StatusOK:
		return data, nil
	}
	p := &api.Problem{}
	if err := json.Unmarshal(data, p); err != nil || p.Status != answer.StatusCode {
		p = &api.Problem{Status: answer.StatusCode, Title: answer.Status}
	}
	return nil, p
}

// Pages of a list until it ends or there are max items. Paging is that in in.
func Pages[In, T any](ctx context.Context, c *Client, row api.Row[In, api.Page[T]], in *In, paging *api.Paging, max int) ([]T, error) {
	list := []T{}
	for len(list) < max {
		paging.Limit = min(max-len(list), api.MaxPage)
		p, err := Call(ctx, c, row, in)
		if err != nil {
			return nil, err
		}
		list = append(list, p.Items...)
		if p.Next == "" {
			break
		}
		paging.After = p.Next
	}
	return list, nil
}
