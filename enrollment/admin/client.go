package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Problem of an operation (RFC 9457).
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		text += fmt.Sprintf("; %s: %s", strings.TrimPrefix(e.Location, "body."), e.Message)
	}
	return text
}

// maxAnswer of a server in octets.
const maxAnswer = 64 << 20

// Client of the API.
type Client struct {
	server string
	http   *http.Client
}

// NewClient talks to a server such as https://127.0.0.1:8445 that roots vouch
// for, as the administrator whose certificate it is.
func NewClient(server string, own tls.Certificate, roots *x509.CertPool) *Client {
	return &Client{strings.TrimSuffix(server, "/"), &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}, RootCAs: roots,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	data, err := c.raw(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("answer of %s: %w", c.server, err)
	}
	return nil
}

func (c *Client) raw(ctx context.Context, method, path string, query url.Values, in any) ([]byte, error) {
	where := c.server + path
	if len(query) > 0 {
		where += "?" + query.Encode()
	}
	var content io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, where, content)
	if err != nil {
		return nil, err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
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
	case answer.StatusCode/100 == 2:
		return data, nil
	}
	p := &Problem{Status: answer.StatusCode, Title: answer.Status}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, &Problem{Status: answer.StatusCode, Title: answer.Status}
	}
	return nil, p
}

// all pages of a list, at most max items.
func all[T any](ctx context.Context, c *Client, path string, query url.Values, max int) ([]T, error) {
	list := []T{}
	for {
		query.Set("limit", strconv.Itoa(min(max-len(list), 500)))
		var p Page[T]
		if err := c.do(ctx, http.MethodGet, path, query, nil, &p); err != nil {
			return nil, err
		}
		list = append(list, p.Items...)
		if p.Next == "" || len(list) >= max {
			return list, nil
		}
		query.Set("after", p.Next)
	}
}

// values are those that aren't empty.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// Server describes itself.
func (c *Client) Server(ctx context.Context) (s Server, err error) {
	return s, c.do(ctx, http.MethodGet, "/v1/server", nil, nil, &s)
}

// CreateRequest makes a request and its one-time password.
func (c *Client) CreateRequest(ctx context.Context, n NewRequest) (r CreatedRequest, err error) {
	return r, c.do(ctx, http.MethodPost, "/v1/requests", nil, n, &r)
}

// Requests by state, user and device, where they aren't empty; at most max.
func (c *Client) Requests(ctx context.Context, state, user, device string, max int) ([]Request, error) {
	return all[Request](ctx, c, "/v1/requests", values("state", state, "user", user, "device", device), max)
}

// Request by its ID.
func (c *Client) Request(ctx context.Context, id string) (r Request, err error) {
	return r, c.do(ctx, http.MethodGet, "/v1/requests/"+url.PathEscape(id), nil, nil, &r)
}

// CancelRequest closes an open one.
func (c *Client) CancelRequest(ctx context.Context, id string) (r Request, err error) {
	return r, c.do(ctx, http.MethodPost, "/v1/requests/"+url.PathEscape(id)+"/cancel", nil, nil, &r)
}

// Devices by user and group, where they aren't empty; at most max.
func (c *Client) Devices(ctx context.Context, user, group string, max int) ([]Device, error) {
	return all[Device](ctx, c, "/v1/devices", values("user", user, "group", group), max)
}

// Device by its name.
func (c *Client) Device(ctx context.Context, name string) (d Device, err error) {
	return d, c.do(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(name), nil, nil, &d)
}

// CloseDevice revokes what it has; it needs a new request to come again.
func (c *Client) CloseDevice(ctx context.Context, name, reason string) (d Device, err error) {
	return d, c.do(ctx, http.MethodPost, "/v1/devices/"+url.PathEscape(name)+"/close", nil, Revocation{reason}, &d)
}

// CertificateFilter of Certificates; empty fields mean all.
type CertificateFilter struct {
	Device, Name, Profile string
	// Valid leaves out what was revoked or is over.
	Valid bool
}

// Certificates that were issued, at most max.
func (c *Client) Certificates(ctx context.Context, f CertificateFilter, max int) ([]Certificate, error) {
	query := values("device", f.Device, "name", f.Name, "profile", f.Profile)
	if f.Valid {
		query.Set("valid", "true")
	}
	return all[Certificate](ctx, c, "/v1/certificates", query, max)
}

// Certificate by its serial number.
func (c *Client) Certificate(ctx context.Context, serial string) (v Certificate, err error) {
	return v, c.do(ctx, http.MethodGet, "/v1/certificates/"+url.PathEscape(serial), nil, nil, &v)
}

// Issue a certificate that isn't a device's.
func (c *Client) Issue(ctx context.Context, n NewCertificate) (v IssuedCertificate, err error) {
	return v, c.do(ctx, http.MethodPost, "/v1/certificates", nil, n, &v)
}

// Revoke a certificate.
func (c *Client) Revoke(ctx context.Context, serial, reason string) (v Certificate, err error) {
	return v, c.do(ctx, http.MethodPost, "/v1/certificates/"+url.PathEscape(serial)+"/revoke", nil, Revocation{reason}, &v)
}

// Audit entries after one that was seen, at most max.
func (c *Client) Audit(ctx context.Context, after int64, max int) ([]Entry, error) {
	return all[Entry](ctx, c, "/v1/audit", url.Values{"after": {strconv.FormatInt(after, 10)}}, max)
}

// Outbox events after one that was seen, at most max.
func (c *Client) Outbox(ctx context.Context, after int64, max int) ([]Event, error) {
	return all[Event](ctx, c, "/v1/outbox", url.Values{"after": {strconv.FormatInt(after, 10)}}, max)
}

// CRL in DER: the complete list, or the delta to it.
func (c *Client) CRL(ctx context.Context, delta bool) ([]byte, error) {
	path := "/v1/crl"
	if delta {
		path += "/delta"
	}
	return c.raw(ctx, http.MethodGet, path, nil, nil)
}
