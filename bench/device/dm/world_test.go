package dm

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
	"github.com/roamgate/roamgate/dmlink/wbxml"
)

// world is a server and what lies behind it.
type world struct {
	*sessiontest.Memory
	server *server.Server
	http   *httptest.Server
}

// certHeader stands for the client certificate of a device, which the transport
// would have checked.
const certHeader = "X-Test-Certificate"

func newWorld(t *testing.T, change func(*server.Config)) *world {
	t.Helper()
	w := &world{Memory: sessiontest.NewMemory()}
	w.http = httptest.NewUnstartedServer(nil)
	cfg := server.Config{
		Session:  session.Config{Queue: w, Accounts: w, Rand: rand.Reader},
		Identify: func(r *http.Request) (string, error) { return r.Header.Get(certHeader), nil },
		Log:      slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		URL:      "http://" + w.http.Listener.Addr().String() + "/dm",
	}
	if change != nil {
		change(&cfg)
	}
	w.server = server.New(cfg)
	w.http.Config.Handler = w.server
	w.http.Start()
	t.Cleanup(func() {
		w.http.Close()
		w.server.Close()
	})
	return w
}

// withCertificate puts the device's name where the transport would.
type withCertificate struct{ device string }

func (c withCertificate) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.device != "" {
		r.Header.Set(certHeader, c.device)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// device that w knows, with the tree of a small phone.
func (w *world) device(t *testing.T, name string, change func(*Config)) (*Client, *Config) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := OpenJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	cfg := &Config{
		URL: w.http.URL + "/dm", Device: name, Server: "roamgate", Syntax: syncml.XML,
		Client:  &http.Client{Transport: withCertificate{name}, Jar: jar},
		Tree:    phone(name),
		Account: &Account{Scheme: session.Certificate},
		Journal: journal,
	}
	if change != nil {
		change(cfg)
	}
	if cfg.Account.Scheme != session.Certificate {
		cfg.Client.Transport = withCertificate{}
	}
	a := cfg.Account
	w.PutAccount(name, session.Account{
		Scheme: a.Scheme, Name: a.Name, Password: []byte(string(a.Password)), Nonce: a.Nonce,
		ServerName: a.ServerName, ServerPassword: []byte(string(a.ServerPassword)), ServerNonce: a.ServerNonce,
	})
	return New(*cfg), cfg
}

func phone(name string) *tree.Tree {
	t := tree.New(tree.Limits{})
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for uri, value := range map[string]string{
		"./DevInfo/DevId": name, "./DevInfo/Man": "Roamgate", "./DevInfo/Mod": "Simulated",
		"./DevInfo/DmV": "1.2", "./DevInfo/Lang": "en", "./Settings/A": "old", "./Settings/B": "old",
		"./Big": strings.Repeat("0123456789 <&> ", 2000),
	} {
		t.Put(uri, tree.Node{Value: tree.Value{Data: []byte(value)}}, now)
	}
	ran := func(time.Time, []byte) int { return syncml.StatusOK }
	t.Put("./Vendor/MSFT/RemoteWipe/doWipe", tree.Node{Exec: ran}, now)
	return t
}

// value of a node as the server would get it.
func value(t *testing.T, tr *tree.Tree, uri string) string {
	t.Helper()
	u, err := tree.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	entries, code := tr.Get("test", u, time.Time{})
	if code != syncml.StatusOK {
		t.Fatalf("%s: %d", uri, code)
	}
	return string(entries[0].Value.Data)
}

func get(id, uri string) session.Task {
	return session.Task{ID: id, Command: &syncml.Op{Verb: syncml.Get, Items: []syncml.Item{{Target: syncml.Location{URI: uri}}}}}
}

func exec(id, uri, data string) session.Task {
	return session.Task{ID: id, Semantics: session.OnceOnly, Command: &syncml.Op{
		Verb: syncml.Exec, Items: []syncml.Item{{Target: syncml.Location{URI: uri}, Data: []byte(data), HasData: data != ""}},
	}}
}

// answered fails unless the device has answered a task with this status.
func (w *world) answered(t *testing.T, device, id string, code int) *session.Outcome {
	t.Helper()
	o, _ := w.Outcome(device, id)
	if o == nil || o.State != session.Answered || o.Code != code {
		t.Fatalf("task %s of %s: %+v, want it answered with %d", id, device, o, code)
	}
	return o
}

var syntaxes = map[string]syncml.Syntax{"xml": syncml.XML, "wbxml": wbxml.WBXML}
