package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

// Client talks to a Server. The zero value does not work; use Dial.
type Client struct {
	path string
	http *http.Client
}

// Dial makes a client; connecting happens with each call.
func Dial(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Errors of all calls: ErrNotRunning, ErrForbidden, ErrNotFound, ErrConflict
// and *Refused.

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// ServerStatus asks how a manager is, and what runs in its process.
func (c *Client) ServerStatus(ctx context.Context) (s ServerStatus, err error) {
	return s, c.call(ctx, http.MethodGet, PathServerStatus, nil, &s)
}

// Sessions lists what is established.
func (c *Client) Sessions(ctx context.Context) (s []Session, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/sessions", nil, &s)
}

// Kill deletes sessions.
func (c *Client) Kill(ctx context.Context, k Kill) (killed Killed, err error) {
	return killed, c.call(ctx, http.MethodPost, "/v1/sessions/kill", k, &killed)
}

// Redirect sends devices to another gateway.
func (c *Client) Redirect(ctx context.Context, r Redirect) (redirected Redirected, err error) {
	return redirected, c.call(ctx, http.MethodPost, "/v1/sessions/redirect", r, &redirected)
}

// Leases lists them by address.
func (c *Client) Leases(ctx context.Context) (l []Lease, err error) {
	return l, c.call(ctx, http.MethodGet, "/v1/leases", nil, &l)
}

// Release forgets the leases of a device.
func (c *Client) Release(ctx context.Context, device string) error {
	return c.call(ctx, http.MethodDelete, "/v1/leases/"+url.PathEscape(device), nil, nil)
}

// Drops counts by layer and reason.
func (c *Client) Drops(ctx context.Context) (d []Drop, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/drops", nil, &d)
}

// WatchDrops calls tell with a sample of dropped packets until ctx ends, which
// is no error, or the gateway does.
func (c *Client) WatchDrops(ctx context.Context, tell func(DroppedPacket) error) error {
	response, err := c.send(ctx, http.MethodGet, "/v1/drops/watch", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var p DroppedPacket
		err := decoder.Decode(&p)
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("answer of the gateway: %w", err)
		}
		if err := tell(p); err != nil {
			return err
		}
	}
}

// Reload has the gateway read its configuration again.
func (c *Client) Reload(ctx context.Context) (r Reloaded, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", nil, &r)
}

// ForgetVersions has the gateway take what the next manager says for newer than
// what was pushed to it.
func (c *Client) ForgetVersions(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/forget-versions", nil, nil)
}

// Stop ends the gateway and calls tell with each step, the last one Done.
func (c *Client) Stop(ctx context.Context, how Stop, tell func(Progress)) error {
	response, err := c.send(ctx, http.MethodPost, "/v1/stop", how)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var p Progress
		if err := decoder.Decode(&p); err != nil {
			return fmt.Errorf("the gateway went away before it was done: %w", err)
		}
		tell(p)
		if p.Done {
			return nil
		}
	}
}

// callTimeout is how long a gateway may take for anything but its end.
const callTimeout = 30 * time.Second

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("answer of the gateway: %w", err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var reader io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, reader)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, c.path)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: this user may not connect to %s; be root, the gateway's own user or in the group that admin.group names", ErrForbidden, c.path)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	return nil, refusal(response)
}

func refusal(response *http.Response) error {
	var f failure
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&f); err != nil || len(f.Errors) == 0 {
		f.Errors = []string{"the gateway answered " + response.Status}
	}
	return &Refused{Status: response.StatusCode, Errors: f.Errors}
}
