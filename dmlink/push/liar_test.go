package push_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// liar is a gateway with a good certificate that says whatever it likes.
type liar struct {
	name   string
	server *httptest.Server
	// asked counts requests, strange those about sections that it doesn't know.
	asked, strange atomic.Int64
	put            func(w http.ResponseWriter)
	events         func(w io.Writer)
	state          string
}

// newLiar that knows sections.
func newLiar(t *testing.T, c *tls.Certificate, name string, sections ...gcm.Section) *liar {
	t.Helper()
	l := &liar{name: name}
	knows := map[gcm.Section]gcm.SectionState{}
	for _, section := range sections {
		knows[section] = gcm.SectionState{}
	}
	state, err := json.Marshal(gcm.State{Gateway: name, Cursor: 3, Sections: knows})
	if err != nil {
		t.Fatal(err)
	}
	l.state = string(state)
	l.put = func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+gcm.PathState, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, l.state) })
	mux.HandleFunc(gcm.PathSections+"{section}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if _, ok := knows[gcm.Section(r.PathValue("section"))]; !ok {
			l.strange.Add(1)
			http.NotFound(w, r)
			return
		}
		l.put(w)
	})
	mux.HandleFunc("GET "+gcm.PathEvents, func(w http.ResponseWriter, r *http.Request) {
		if l.events != nil {
			l.events(w)
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	l.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		mux.ServeHTTP(w, r)
	}))
	l.server.TLS = &tls.Config{Certificates: []tls.Certificate{*c}, ClientAuth: tls.RequireAnyClientCert}
	l.server.EnableHTTP2 = true
	t.Cleanup(l.server.Close)
	return l
}

// gateway begins to listen.
func (l *liar) gateway() push.Gateway {
	l.server.StartTLS()
	return push.Gateway{Name: l.name, Host: l.name + ".example.org", Address: l.server.Listener.Addr().(*net.TCPAddr).AddrPort()}
}

// TestLies: what no gateway answers ends the connection; it is never taken for
// done, and never kept.
func TestLies(t *testing.T) {
	i := install(t)
	for name, c := range map[string]struct {
		lie  func(*liar)
		want string
	}{
		"has what it wasn't given": {func(l *liar) {
			l.put = func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"version":{"epoch":9,"number":9}}`) }
		}, "says it has 9.9"},
		"no answer":        {func(l *liar) { l.put = func(w http.ResponseWriter) { _, _ = io.WriteString(w, `[]`) } }, "not an answer"},
		"a long answer":    {func(l *liar) { l.put = func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 1<<20)) } }, "more than"},
		"an endless state": {func(l *liar) { l.state = strings.Repeat(" ", 1<<20) }, "more than"},
		"redirected": {func(l *liar) {
			l.put = func(w http.ResponseWriter) { w.Header().Set("Location", "/gcm/v1/state"); w.WriteHeader(307) }
		}, "not an answer"},
		"events go back":     {func(l *liar) { l.events = tell(`{"cursor":2,"kind":"counters"}`, `{"cursor":1,"kind":"counters"}`) }, "malformed"},
		"events are no JSON": {func(l *liar) { l.events = tell(`<event/>`) }, "malformed"},
		"a line without end": {func(l *liar) { l.events = tell(strings.Repeat("x", 1<<20)) }, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, j := documents(t), newJournal()
			commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1, "staff"))
			l := newLiar(t, i.certificate(t, ca.Request{Profile: ca.Agent, DNSNames: []string{"gateway-1.example.org"}}), "gateway-1", gcm.Sections...)
			if strings.Contains(name, "events") || strings.Contains(name, "line") {
				// It refuses the rest, so that nothing else ends the connection.
				l.put = refuse
			}
			c.lie(l)
			m := manage(t, i.config(t, d, j), l.gateway())
			eventually(t, "the lie is noticed", func() bool {
				s := statusOf(m, "gateway-1")
				return !s.Connected && strings.Contains(s.Err, c.want)
			})
			for _, e := range j.of("gateway-1") {
				if e.Cursor != 2 {
					t.Errorf("kept: %+v", e)
				}
			}
		})
	}
}

// refuse whatever it is.
func refuse(w http.ResponseWriter) {
	w.WriteHeader(http.StatusUnprocessableEntity)
	_, _ = io.WriteString(w, `{"code":"refused","reasons":["no"]}`)
}

// TestOlderSoftware: a gateway that doesn't know a section isn't sent it, stays
// connected, and the manager says what is missing there.
func TestOlderSoftware(t *testing.T) {
	i, d := install(t), documents(t)
	commit(t, d, gcm.Trust, gcm.Version{Epoch: 1, Number: 1}, gcm.Authority{Root: true, DER: i.issuer.Root().Raw}.Record())
	l := newLiar(t, i.certificate(t, ca.Request{Profile: ca.Agent, DNSNames: []string{"gateway-1.example.org"}}), "gateway-1", gcm.Devices, gcm.Access)
	var sent atomic.Int64
	l.put = func(w http.ResponseWriter) { sent.Add(1); refuse(w) }
	m := manage(t, i.config(t, d, newJournal()), l.gateway())
	eventually(t, "it is connected", func() bool { return statusOf(m, "gateway-1").Connected })
	since := statusOf(m, "gateway-1").Since
	for n := range 5 {
		before := sent.Load()
		commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: uint64(n) + 2}, device(n, "staff"))
		eventually(t, "it is sent what it knows", func() bool { return sent.Load() > before })
	}
	eventually(t, "its answer is heard", func() bool { return errors.Is(statusOf(m, "gateway-1").Sections[gcm.Devices].Err, gcm.ErrRefused) })
	s := statusOf(m, "gateway-1")
	if !s.Connected || s.Since != since || l.strange.Load() > 0 {
		t.Errorf("%d requests about what it doesn't know; %+v", l.strange.Load(), s)
	}
	if _, behind := s.Behind[gcm.Trust]; !behind || !errors.Is(s.Sections[gcm.Trust].Err, push.ErrSection) {
		t.Errorf("nobody is told what is missing: %+v", s)
	}
	if _, known := s.Sections[gcm.Settings]; known || len(s.Behind) != 2 {
		t.Errorf("it misses what was never committed: %+v", s)
	}
}

func tell(lines ...string) func(io.Writer) {
	return func(w io.Writer) {
		for _, line := range lines {
			fmt.Fprintln(w, line)
		}
	}
}

// TestSpeaksForItselfOnly: events are kept under the name that we have for a
// gateway, whatever it says of others. Of devices that nobody knows it may say that
// they were refused.
func TestSpeaksForItselfOnly(t *testing.T) {
	i, d, j := install(t), documents(t), newJournal()
	honest := i.gateway(t, "gateway-1", nil, false)
	l := newLiar(t, i.certificate(t, ca.Request{Profile: ca.Agent, DNSNames: []string{"gateway-2.example.org"}}), "gateway-2")
	l.events = tell(
		`{"cursor":1,"at":"2026-11-22T12:00:00Z","kind":"session_ended","device":"phone-1","session":"1f"}`,
		`{"cursor":2,"at":"2026-11-22T12:00:00Z","kind":"session_started","device":"nobody"}`,
		`{"cursor":3,"at":"2026-11-22T12:00:00Z","kind":"device_refused","device":"closed","reason":"revoked"}`,
		`{"cursor":4,"at":"2026-11-22T12:00:00Z","kind":"session_ended","device":"phone-1","gateway":"gateway-1"}`)
	honest.Events.Add(gcm.Event{Kind: gcm.SessionStarted, Device: "phone-1", Session: "1f"})
	c := i.config(t, d, j)
	c.Known = func(device string) bool { return device == "phone-1" }
	m := manage(t, c, honest.Gateway, l.gateway())
	eventually(t, "the liar is cut off", func() bool {
		s := statusOf(m, "gateway-2")
		return s.Disbelieved == 1 && !s.Connected && strings.Contains(s.Err, "malformed")
	})
	eventually(t, "the honest one is heard", func() bool { return len(j.of("gateway-1")) == 1 })
	if got := j.of("gateway-2"); len(got) != 2 || got[0].Kind != gcm.SessionEnded || got[1].Kind != gcm.DeviceRefused {
		t.Errorf("of the liar: %+v", got)
	}
}
