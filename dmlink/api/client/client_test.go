package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
)

func dial(t *testing.T, s *httptest.Server, token string) *client.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c, err := client.New(client.Config{Server: s.URL + "/", Roots: roots, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A token goes to the server that it was meant for, whatever that says.
func TestTokenStays(t *testing.T) {
	var heard []string
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		heard = append(heard, r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	s := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(s.Close)
	_, err := client.Call(t.Context(), dial(t, s, "rgm_x"), api.RoleWhoami, &api.None{})
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != http.StatusTemporaryRedirect || len(heard) > 0 {
		t.Errorf("%v; elsewhere was told %q", err, heard)
	}
}

// What a server that isn't a manager says is an error, however it says it.
func TestStrangeAnswers(t *testing.T) {
	for name, v := range map[string]struct {
		status     int
		body, want string
	}{
		"no JSON":              {http.StatusOK, "<html>", "answer of"},
		"other JSON":           {http.StatusOK, `{"subject":7}`, "answer of"},
		"no problem":           {http.StatusBadGateway, "<html>", "502"},
		"problem that differs": {http.StatusBadGateway, `{"status":200,"title":"all is well"}`, "502"},
		"problem":              {http.StatusConflict, `{"status":409,"title":"Conflict","detail":"taken","errors":[{"message":"short","location":"body.name"}]}`, "taken; body.name: short"},
		"nothing":              {http.StatusNoContent, "", "204"},
	} {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(v.status)
			_, _ = w.Write([]byte(v.body))
		}))
		_, err := client.Call(t.Context(), dial(t, s, "rgm_x"), api.RoleWhoami, &api.None{})
		if err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}

// A client that would tell its token to anybody isn't made.
func TestConfig(t *testing.T) {
	for _, c := range []client.Config{
		{Token: "x"}, {Server: "http://dm.example", Token: "x"}, {Server: "https://", Token: "x"}, {Server: "https://dm.example/path", Token: "x"},
		{Server: "https://user@dm.example", Token: "x"}, {Server: "https://dm.example?a=b", Token: "x"}, {Server: "https://dm.example"},
		{Server: "https://dm.example", Token: "a\r\nX-Other: b"}, {Server: "https://dm.example", Token: "x", Certificate: &tls.Certificate{}},
	} {
		if _, err := client.New(c); !errors.Is(err, client.ErrConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	c := client.Local(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := client.Call(t.Context(), c, api.RoleWhoami, &api.None{}); err == nil {
		t.Error("nobody answered")
	}
	if _, err := client.Call(t.Context(), c, api.DeviceShow, &api.OneDevice{Device: ".."}); !errors.Is(err, api.ErrName) {
		t.Errorf("a path: %v", err)
	}
}
