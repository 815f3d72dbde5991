package client_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/jointest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Who can change nothing can still say no. What it says is shown, so it must
// not move the cursor, and it isn't believed beyond that.
func TestRefusalsOfAnybody(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		want   error
	}{
		"forbidden":      {403, map[string]string{"Content-Type": join.ProblemType}, `{"detail":"no\u001b[2J\r\nroot:"}`, client.ErrRefused},
		"not ours":       {403, map[string]string{"Content-Type": "text/html"}, `<html>`, client.ErrProtocol},
		"redirect":       {302, map[string]string{"Location": "https://evil.example/"}, ``, client.ErrProtocol},
		"broken":         {503, nil, ``, client.ErrUnreachable},
		"endless":        {200, nil, strings.Repeat(" ", join.MaxResponse+1), client.ErrProtocol},
		"something else": {200, nil, `{"version":1}`, client.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			t.Cleanup(server.Close)
			_, err := client.Join(t.Context(), client.Options{Code: otp.New(), Server: server.Listener.Addr().String()})
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\x1b\r") {
				t.Errorf("%q goes to a terminal", err)
			}
		})
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "99999999999999")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(server.Close)
	_, err := client.Join(t.Context(), client.Options{Code: otp.New(), Server: server.Listener.Addr().String()})
	var limited *client.LimitedError
	if !errors.As(err, &limited) || limited.RetryAfter > 24*time.Hour {
		t.Errorf("%v", err)
	}
}

// TLS 1.2 has no binding that would do.
func TestOldTLS(t *testing.T) {
	i := jointest.New(t, jointest.Options{})
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	old.StartTLS()
	t.Cleanup(old.Close)
	o := options(i, i.Request())
	o.Dial = jointest.NewDial(map[string]string{"enroll.example:443": old.Listener.Addr().String()}).Context
	if _, err := client.Join(t.Context(), o); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}
