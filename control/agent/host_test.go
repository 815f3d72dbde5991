package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// TestOrders of a manager reach the host as they were meant, and its answers
// the manager.
func TestOrders(t *testing.T) {
	i, g := install(t), new(gateway)
	a := open(t, g.config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
	address, _ := serve(t, a)
	c := client(t, i.manager(t))
	for _, o := range []struct {
		method, path, body string
		status             int
		heard              string
	}{
		{"POST", gcm.PathReload, "", 200, "reload"},
		{"POST", gcm.PathReload, "", 422, "reload"},
		{"DELETE", gcm.PathSessions + "phone-1", "", 204, "phone-1 "},
		{"DELETE", gcm.PathSessions + "phone-1?session=1f", "", 204, "phone-1 1f"},
		{"DELETE", gcm.PathSessions + "phone-1?session=20", "", 404, "phone-1 20"},
		{"DELETE", gcm.PathSessions, "", 405, ""},
		{"POST", gcm.PathAlerts + "phone-1?alert=a7", "\x01\x02", 202, "alert phone-1 a7 0102"},
		{"POST", gcm.PathAlerts + "gone", "x", 404, "alert gone  78"},
		{"POST", gcm.PathAlerts + "busy", "x", 503, "alert busy  78"},
		{"POST", gcm.PathAlerts + "none", "x", 501, "alert none  78"},
		{"POST", gcm.PathAlerts + "bad", "", 400, "alert bad  "},
		{"POST", gcm.PathAlerts + "phone-1", strings.Repeat("x", 1025), 400, ""},
		{"POST", gcm.PathDrain, `{"on":true,"to":"gw2.example.org","within":60}`, 204, "drain {On:true To:gw2.example.org Within:60}"},
		{"POST", gcm.PathDrain, `{"on":false}`, 204, "drain {On:false To: Within:0}"},
		{"POST", gcm.PathDrain, `{"on":true,"to":"nowhere"}`, 400, "drain {On:true To:nowhere Within:0}"},
		{"POST", gcm.PathDrain, `{"on":true,"to":"stopping"}`, 409, "drain {On:true To:stopping Within:0}"},
		{"POST", gcm.PathDrain, `{"on":true,"within":86401}`, 400, ""},
		{"POST", gcm.PathDrain, `{"on":true,"until":1}`, 400, ""},
		{"POST", gcm.PathDrain, `{} {}`, 400, ""},
		{"POST", gcm.PathDrain, ``, 400, ""},
	} {
		g.mu.Lock()
		heard := len(g.ended)
		g.mu.Unlock()
		status, _ := ask(t, c, o.method, "https://"+address+o.path, "", strings.NewReader(o.body))
		g.mu.Lock()
		got := strings.Join(g.ended[heard:], ", ")
		g.mu.Unlock()
		if status != o.status || got != o.heard {
			t.Errorf("%s %s %.60s: %d, %q; want %d, %q", o.method, o.path, o.body, status, got, o.status, o.heard)
		}
	}
}

// TestSessions: a list of many comes whole, that of one device is short.
func TestSessions(t *testing.T) {
	i, g := install(t), &gateway{sessions: 3000}
	a := open(t, g.config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
	address, _ := serve(t, a)
	c := client(t, i.manager(t))
	list := func(query string) (names []string) {
		t.Helper()
		status, body := ask(t, c, http.MethodGet, "https://"+address+gcm.PathSessions+query, "", nil)
		if status != http.StatusOK {
			t.Fatal(status)
		}
		r := gcm.NewSessionReader(bytes.NewReader(body))
		for {
			s, err := r.Next()
			if errors.Is(err, io.EOF) {
				return names
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, s.Device)
		}
	}
	all := list("")
	if len(all) != 3000 || all[2999] != "phone-2999" {
		t.Errorf("%d sessions", len(all))
	}
	if one := list("?device=phone-7"); !slices.Equal(one, []string{"phone-7"}) {
		t.Errorf("%v", one)
	}
}

// TestHeard: when a manager spoke is known after a restart, and a clock that
// went back makes no future of it.
func TestHeard(t *testing.T) {
	i, g := install(t), new(gateway)
	config := g.config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t))
	a := open(t, config)
	if !a.Heard().IsZero() {
		t.Errorf("heard at %v of nobody", a.Heard())
	}
	address, stop := serve(t, a)
	before := time.Now()
	if status, _ := ask(t, client(t, i.manager(t)), http.MethodGet, "https://"+address+gcm.PathState, "", nil); status != 200 {
		t.Fatal(status)
	}
	heard := a.Heard()
	if heard.Before(before) {
		t.Errorf("heard at %v, asked at %v", heard, before)
	}
	stop()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, config)
	if !a.Heard().Equal(heard) {
		t.Errorf("after a restart: heard at %v, want %v", a.Heard(), heard)
	}
	if err := a.store.setHeard(time.Now().Add(time.Hour).UnixNano()); err != nil {
		t.Fatal(err)
	}
	a.keptHeard.Store(a.heard.Load())
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, config)
	defer a.Close()
	if a.Heard().After(time.Now()) {
		t.Error(fmt.Sprint("heard in the future: ", a.Heard()))
	}
}
