package dm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// accounts by the way in which both sides show who they are.
var accounts = map[string]func() *Account{
	"certificate": func() *Account { return &Account{Scheme: session.Certificate} },
	"md5": func() *Account {
		return &Account{Scheme: session.MD5, Name: "Bruce2", Password: []byte("OhBehave"), Nonce: []byte("Nonce")}
	},
	"md5 both": func() *Account {
		return &Account{
			Scheme: session.MD5, Name: "Bruce2", Password: []byte("OhBehave"), Nonce: []byte("Nonce"),
			ServerName: "server", ServerPassword: []byte("secret"), ServerNonce: []byte("x"),
		}
	},
	"hmac": func() *Account {
		return &Account{Scheme: session.HMAC, Name: `Bru"ce`, Password: []byte("OhBehave"), Nonce: []byte{0, 1, 255}}
	},
	"hmac both": func() *Account {
		return &Account{
			Scheme: session.HMAC, Name: "Bruce2", Password: []byte("OhBehave"), Nonce: []byte("Nonce"),
			ServerName: "server", ServerPassword: []byte("secret"), ServerNonce: []byte("x"),
		}
	},
	"certificate, server by md5": func() *Account {
		return &Account{Scheme: session.Certificate, ServerName: "server", ServerPassword: []byte("secret"), ServerNonce: []byte("x")}
	},
}

// One session with every command, by every way of authentication, in both
// syntaxes and versions, and with every message sent twice; then another one,
// which has nothing to do and uses the next nonces.
func TestSessions(t *testing.T) {
	for name, account := range accounts {
		for syntaxName, syntax := range syntaxes {
			for _, version := range []syncml.Version{syncml.V12, syncml.V11} {
				for _, repeat := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%s/repeat=%t", name, syntaxName, version.DTD(), repeat), func(t *testing.T) {
						w := newWorld(t, nil)
						client, cfg := w.device(t, "phone", func(c *Config) {
							c.Account, c.Syntax, c.Version, c.Faults.Repeat = account(), syntax, version, repeat
						})
						everyCommand(t, w, client, cfg)
					})
				}
			}
		}
	}
}

func everyCommand(t *testing.T, w *world, client *Client, cfg *Config) {
	t.Helper()
	add := func(id, uri, data string) session.Task {
		task := sessiontest.Task(id, session.Idempotent, uri, data)
		task.Command.(*syncml.Op).Verb = syncml.Add
		return task
	}
	group := func(id string, atomic bool, commands ...syncml.Command) session.Task {
		return session.Task{ID: id, Command: &syncml.Group{Atomic: atomic, Commands: commands}}
	}
	run := exec("exec", wipe, "")
	if cfg.Faults.Repeat {
		run.Semantics = session.Idempotent // once-only: TestRepeatedOnceOnly
	}
	w.Put("phone",
		get("get", "./Settings/A"),
		get("list", "./Settings"),
		get("missing", "./Nowhere"),
		sessiontest.Task("replace", session.Idempotent, "./Settings/A", "new <&> value\r\n"),
		add("add", "./Settings/C", "c"),
		add("again", "./Settings/C", "c"),
		session.Task{ID: "copy", Command: &syncml.Op{Verb: syncml.Copy, Items: []syncml.Item{{Source: syncml.Location{URI: "./Settings/A"}, Target: syncml.Location{URI: "./Settings/D"}}}}},
		session.Task{ID: "delete", Command: &syncml.Op{Verb: syncml.Delete, Items: []syncml.Item{{Target: syncml.Location{URI: "./Settings/C"}}}}},
		run,
		group("sequence", false, sessiontest.Replace("./Settings/B", "1"), sessiontest.Replace("./Settings/B", "2")),
		group("atomic", true, sessiontest.Replace("./Settings/B", "3"), sessiontest.Replace("./Nowhere", "4")),
		session.Task{ID: "bin", Command: &syncml.Op{Verb: syncml.Add, Items: []syncml.Item{{
			Target: syncml.Location{URI: "./Settings/Bin"}, Meta: syncml.Meta{Format: "bin"}, Data: []byte{0, 1, 2, 255},
		}}}},
		session.Task{ID: "ask", Command: &syncml.Alert{Code: syncml.AlertConfirm, Items: []syncml.Item{{Data: []byte("MINDT=10"), HasData: true}, {Data: []byte("Install?"), HasData: true}}}},
	)
	summary, err := client.Session(t.Context())
	if err != nil {
		t.Fatalf("%v after %+v", err, summary)
	}
	if o := w.answered(t, "phone", "get", 200); len(o.Results) != 1 || string(o.Results[0].Data) != "old" || o.Results[0].URI != "./Settings/A" || o.Results[0].Format != "chr" {
		t.Errorf("results of get: %+v", o.Results)
	}
	if o := w.answered(t, "phone", "list", 200); string(o.Results[0].Data) != "A/B" || o.Results[0].Format != "node" {
		t.Errorf("children: %+v", o.Results)
	}
	for id, code := range map[string]int{
		"missing": 404, "replace": 200, "add": 200, "again": 418, "copy": 200, "delete": 200, "exec": 200, "sequence": 200, "atomic": 507, "bin": 200, "ask": 200,
	} {
		w.answered(t, "phone", id, code)
	}
	atomic, _ := w.Outcome("phone", "atomic")
	if p := atomic.Parts; len(p) != 2 || p[0].Code != 216 || p[1].Code != 404 || p[1].URI != "./Nowhere" {
		t.Errorf("parts of the Atomic: %+v", p)
	}
	for uri, want := range map[string]string{"./Settings/A": "new <&> value\r\n", "./Settings/B": "2", "./Settings/D": "new <&> value\r\n"} {
		if got := value(t, cfg.Tree, uri); got != want {
			t.Errorf("%s is %q, want %q", uri, got, want)
		}
	}
	info := map[string]string{}
	for _, r := range w.Reports() {
		for _, v := range r.DevInfo {
			info[v.URI] = string(v.Data)
		}
	}
	if info["./DevInfo/DevId"] != "phone" || info["./DevInfo/Mod"] != "Simulated" {
		t.Errorf("DevInfo: %v", info)
	}
	before := len(w.Reports())
	if summary, err := client.Session(t.Context()); err != nil || summary.Commands != 0 {
		t.Errorf("a session with nothing to do: %+v, %v", summary, err)
	}
	if n := len(w.Reports()) - before; n != 0 {
		t.Errorf("%d reports of what was known", n)
	}
}

// Atomics that a device refuses: one in another, a Get in one, and an Exec that
// can't be taken back. Each part says what became of it.
func TestAtomic(t *testing.T) {
	set := func(uri string) syncml.Command { return sessiontest.Replace(uri, "new") }
	for name, c := range map[string]struct {
		commands []syncml.Command
		code     int
		parts    []int
	}{
		"all":              {[]syncml.Command{set("./Settings/A"), set("./Settings/B")}, 200, []int{200, 200}},
		"none":             {[]syncml.Command{set("./Settings/A"), set("./Nowhere"), set("./Settings/B")}, 507, []int{216, 404, 215}},
		"one in another":   {[]syncml.Command{set("./Settings/A"), &syncml.Group{Atomic: true, Commands: []syncml.Command{set("./Settings/B")}}}, 507, []int{216, 500, 0}},
		"a Get":            {[]syncml.Command{set("./Settings/A"), get("", "./Settings/A").Command}, 507, []int{216, 500}},
		"an Exec, undone?": {[]syncml.Command{exec("", wipe, "").Command, set("./Nowhere")}, 507, []int{516, 404}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			client, cfg := w.device(t, "phone", nil)
			w.Put("phone", session.Task{ID: "atomic", Command: &syncml.Group{Atomic: true, Commands: c.commands}})
			if _, err := client.Session(t.Context()); err != nil {
				t.Fatal(err)
			}
			o := w.answered(t, "phone", "atomic", c.code)
			var codes []int
			for _, p := range o.Parts {
				codes = append(codes, p.Code)
			}
			if !slices.Equal(codes, c.parts) {
				t.Errorf("parts %v, want %v", codes, c.parts)
			}
			want := "old"
			if c.code == 200 {
				want = "new"
			}
			if got := value(t, cfg.Tree, "./Settings/A"); got != want {
				t.Errorf("./Settings/A is %s", got)
			}
		})
	}
}

// Sizes: every message stays within what the device takes, whatever is in it,
// and what is too large for one goes in chunks, both ways.
func TestLargeObjects(t *testing.T) {
	big := strings.Repeat("an apple & a <pear> ", 3000)
	for name, syntax := range syntaxes {
		for _, size := range []int{1500, 5000, 60000, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				w := newWorld(t, func(c *server.Config) { c.Session.MaxMsgSize = max(size, 4096) })
				client, cfg := w.device(t, "phone", func(c *Config) { c.Syntax, c.MaxMsgSize = syntax, size })
				w.Put("phone",
					sessiontest.Task("first", session.Idempotent, "./Settings/A", "first"),
					sessiontest.Task("big", session.OnceOnly, "./Settings/B", big),
					get("get", "./Big"),
					sessiontest.Task("last", session.Idempotent, "./Settings/A", "last"),
				)
				summary, err := client.Session(t.Context())
				if err != nil {
					t.Fatalf("%v after %+v", err, summary)
				}
				for _, id := range []string{"first", "big", "get", "last"} {
					w.answered(t, "phone", id, 200)
				}
				if got := value(t, cfg.Tree, "./Settings/B"); got != big {
					t.Errorf("the device has %d octets, want %d", len(got), len(big))
				}
				if o, _ := w.Outcome("phone", "get"); string(o.Results[0].Data) != value(t, cfg.Tree, "./Big") {
					t.Errorf("we have %d octets of what the device sent", len(o.Results[0].Data))
				}
				if value(t, cfg.Tree, "./Settings/A") != "last" {
					t.Error("what came last isn't what is left")
				}
			})
		}
	}
}

func TestObjectsThatGoWrong(t *testing.T) {
	big := strings.Repeat("x", 20000)
	t.Run("the device promises more than it sends: 424", func(t *testing.T) {
		w := newWorld(t, func(c *server.Config) { c.Session.MaxMsgSize = 4096 })
		client, _ := w.device(t, "phone", func(c *Config) { c.Faults.ShortObject = true })
		w.Put("phone", get("get", "./Big"))
		if _, err := client.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o := w.answered(t, "phone", "get", 424); len(o.Results) != 0 {
			t.Errorf("results were taken whose size is wrong: %d octets", len(o.Results[0].Data))
		}
	})
	t.Run("the device takes no such object", func(t *testing.T) {
		w := newWorld(t, nil)
		client, _ := w.device(t, "phone", func(c *Config) { c.MaxMsgSize, c.MaxObjSize = 2000, 10000 })
		w.Put("phone", sessiontest.Task("big", session.OnceOnly, "./Settings/B", big), sessiontest.Task("small", session.Idempotent, "./Settings/A", "1"))
		if _, err := client.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o, claims := w.Outcome("phone", "big"); o == nil || o.State != session.Undeliverable || o.Code != 413 || claims != 0 {
			t.Errorf("outcome %+v after %d claims", o, claims)
		}
		w.answered(t, "phone", "small", 200)
	})
	t.Run("an Atomic that fits into no message", func(t *testing.T) {
		w := newWorld(t, nil)
		client, _ := w.device(t, "phone", func(c *Config) { c.MaxMsgSize = 2000 })
		w.Put("phone", session.Task{ID: "atomic", Command: &syncml.Group{Atomic: true, Commands: []syncml.Command{sessiontest.Replace("./Settings/A", big)}}})
		if _, err := client.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o, _ := w.Outcome("phone", "atomic"); o == nil || o.State != session.Undeliverable || o.Code != 413 {
			t.Errorf("outcome %+v", o)
		}
	})
	t.Run("we take no such object: 416", func(t *testing.T) {
		w := newWorld(t, func(c *server.Config) { c.Session.MaxMsgSize, c.Session.MaxObjSize = 4096, 10000 })
		client, _ := w.device(t, "phone", nil)
		w.Put("phone", get("get", "./Big"), sessiontest.Task("after", session.Idempotent, "./Settings/A", "1"))
		if _, err := client.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o := w.answered(t, "phone", "get", 416); len(o.Results) != 0 {
			t.Error("an object above MaxObjSize was taken")
		}
		w.answered(t, "phone", "after", 200)
	})
	t.Run("control characters: base64 or nothing", func(t *testing.T) {
		w := newWorld(t, nil)
		client, _ := w.device(t, "phone", nil)
		w.Put("phone", sessiontest.Task("raw", session.OnceOnly, "./Settings/A", "a\x00b"))
		if _, err := client.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o, _ := w.Outcome("phone", "raw"); o == nil || o.State != session.Undeliverable || o.Code != 415 {
			t.Errorf("outcome %+v", o)
		}
	})
}

func TestManyTasks(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { c.Session.MaxTasks = 150 })
	client, cfg := w.device(t, "phone", func(c *Config) { c.MaxMsgSize = 4000 })
	for i := range 200 {
		w.Put("phone", sessiontest.Task(fmt.Sprint(i), session.OnceOnly, "./Settings/A", fmt.Sprint(i)))
	}
	for _, want := range []string{"149", "199"} {
		if _, err := client.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := value(t, cfg.Tree, "./Settings/A"); got != want {
			t.Errorf("the last one executed is %s, want %s", got, want)
		}
	}
	for i := range 200 {
		w.answered(t, "phone", fmt.Sprint(i), 200)
	}
}

func TestAuthenticationFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		base   string
		change func(*Account)
		works  bool
	}{
		{"wrong password", "md5", func(a *Account) { a.Password = []byte("wrong") }, false},
		{"wrong name", "md5", func(a *Account) { a.Name = "Bruce3" }, false},
		{"a nonce of long ago", "md5", func(a *Account) { a.Nonce = []byte("long ago") }, true},
		{"wrong password, HMAC", "hmac", func(a *Account) { a.Password = []byte("wrong") }, false},
		{"a nonce of long ago, HMAC", "hmac", func(a *Account) { a.Nonce = nil }, true},
		{"MD5 where HMAC is asked for", "hmac", func(a *Account) { a.Scheme = session.MD5 }, false},
		{"no certificate", "certificate", func(a *Account) { a.Scheme = session.MD5 }, false},
		{"the server's nonce of long ago", "md5 both", func(a *Account) { a.ServerNonce = []byte("long ago") }, true},
		{"the server's password is wrong", "md5 both", func(a *Account) { a.ServerPassword = []byte("wrong") }, false},
		{"the server's nonce of long ago, HMAC", "hmac both", func(a *Account) { a.ServerNonce = []byte("long ago") }, true},
		{"the server's password is wrong, HMAC", "hmac both", func(a *Account) { a.ServerPassword = []byte("wrong") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			client, cfg := w.device(t, "phone", func(cfg *Config) { cfg.Account = accounts[c.base]() })
			c.change(cfg.Account)
			if cfg.Account.Scheme != session.Certificate {
				cfg.Client.Transport = withCertificate{}
			}
			w.Put("phone", exec("exec", wipe, "once"), sessiontest.Task("set", session.Idempotent, "./Settings/A", "new"))
			_, err := client.Session(t.Context())
			if c.works {
				if err != nil {
					t.Fatal(err)
				}
				w.answered(t, "phone", "exec", 200)
				w.answered(t, "phone", "set", 200)
				if _, claims := w.Outcome("phone", "exec"); claims != 1 {
					t.Errorf("the once-only command was claimed %d times", claims)
				}
				if _, err := client.Session(t.Context()); err != nil {
					t.Errorf("the session after it: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrAuthentication) && !errors.Is(err, ErrStatus) {
				t.Errorf("error %v", err)
			}
			if o, claims := w.Outcome("phone", "exec"); o != nil || claims != 0 {
				t.Errorf("a once-only command left for a device that nobody knows, or that doesn't believe us: %+v, %d claims", o, claims)
			}
			if value(t, cfg.Tree, "./Settings/A") != "old" {
				t.Error("a device obeyed a server that it doesn't believe, or one unknown was served")
			}
		})
	}
}
