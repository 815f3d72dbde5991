package session_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

var update = flag.Bool("update", false, "write what the session says into the transcripts")

// A transcript is a conversation in testdata: sections that begin with "--- ".
// What the device says was written by hand; what the queue is asked and told,
// and what the server says, is compared. Lines before the first section say what
// it is about.
const (
	deviceSection = "device"
	queueSection  = "queue"
	serverSection = "server"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// scene is what a transcript begins with.
type scene struct {
	account session.Account
	tasks   []session.Task
	change  func(*session.Config)
}

// counting is a source of nonces that are known.
type counting struct{ n byte }

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

// told writes down what a queue is asked and told.
type told struct {
	*sessiontest.Memory
	lines []string
}

func (q *told) Claim(ctx context.Context, device string, claims []session.Claim) ([]bool, error) {
	granted, err := q.Memory.Claim(ctx, device, claims)
	q.lines = append(q.lines, fmt.Sprintf("claim %+v: %v", claims, granted))
	return granted, err
}

func (q *told) Record(ctx context.Context, device string, r session.Report) error {
	for _, o := range r.Outcomes {
		line := fmt.Sprintf("outcome of %s: %s %d", o.Task, []string{"answered", "confirmed", "unknown", "undeliverable"}[o.State], o.Code)
		for _, p := range o.Parts {
			line += fmt.Sprintf("; %s %s %d", p.Name, p.URI, p.Code)
		}
		for _, v := range o.Results {
			line += fmt.Sprintf("; %s %s %q", v.URI, v.Format, v.Data)
		}
		q.lines = append(q.lines, line)
	}
	for _, v := range r.DevInfo {
		q.lines = append(q.lines, fmt.Sprintf("info %s %q", v.URI, v.Data))
	}
	for _, a := range r.Alerts {
		line := fmt.Sprintf("alert %d %s", a.Code, a.Correlator)
		for _, i := range a.Items {
			line += fmt.Sprintf("; %s %s %s %q", i.Source.URI, i.Meta.Type, i.Meta.Mark, i.Data)
		}
		q.lines = append(q.lines, line)
	}
	return q.Memory.Record(ctx, device, r)
}

func op(verb syncml.Verb, uri string) *syncml.Op {
	return &syncml.Op{Verb: verb, Items: []syncml.Item{{Target: syncml.Location{URI: uri}}}}
}

var (
	certificate = session.Account{Scheme: session.Certificate}
	bruce       = session.Account{Scheme: session.MD5, Name: "Bruce2", Password: []byte("OhBehave"), Nonce: []byte("Nonce")}
)

var scenes = map[string]scene{
	"windows10": {account: certificate, tasks: []session.Task{
		{ID: "os", Command: op(syncml.Get, "./DevDetail/SwV")},
		{ID: "camera", Command: sessiontest.Replace("./Vendor/MSFT/Policy/Config/Camera/AllowCamera", "0")},
		{ID: "lock", Semantics: session.OnceOnly, Command: op(syncml.Exec, "./Vendor/MSFT/RemoteLock/Lock")},
	}},
	"mobile61": {account: bruce, tasks: []session.Task{
		{ID: "proxy", Command: &syncml.Group{Atomic: true, Commands: []syncml.Command{
			sessiontest.Replace("./Vendor/MSFT/CM_ProxyEntries/HTTP", "proxy:8080"), sessiontest.Replace("./Vendor/MSFT/CM_ProxyEntries/WAP", "x"),
		}}},
		{ID: "wipe", Semantics: session.OnceOnly, Command: op(syncml.Exec, "./Vendor/MSFT/RemoteWipe/doWipe")},
	}},
	"credentials-refused": {account: bruce, tasks: []session.Task{{ID: "wipe", Semantics: session.OnceOnly, Command: op(syncml.Exec, "./Wipe")}}},
	"server-challenged": {
		account: session.Account{ServerName: "server", ServerPassword: []byte("secret"), ServerNonce: []byte("stale")},
		tasks: []session.Task{
			{ID: "wipe", Semantics: session.OnceOnly, Command: op(syncml.Exec, "./Wipe")},
			sessiontest.Task("set", session.Idempotent, "./A", "1"),
		},
	},
	"alerts": {account: certificate, tasks: []session.Task{
		{ID: "ask", Command: &syncml.Alert{Code: syncml.AlertConfirm, Items: []syncml.Item{{Data: []byte("MINDT=10")}, {Data: []byte("Install now?")}}}},
	}},
	"abort":          {account: certificate, tasks: []session.Task{sessiontest.Task("again", session.Idempotent, "./A", "1"), {ID: "once", Semantics: session.OnceOnly, Command: op(syncml.Exec, "./E")}}},
	"large-download": {account: certificate, tasks: []session.Task{sessiontest.Task("big", session.OnceOnly, "./Big", strings.Repeat("0123456789", 50))}},
	"large-lost":     {account: certificate, tasks: []session.Task{sessiontest.Task("big", session.OnceOnly, "./Big", strings.Repeat("0123456789", 80))}},
	"large-upload":   {account: certificate, tasks: []session.Task{{ID: "log", Command: op(syncml.Get, "./Log")}}},
	"large-upload-wrong": {account: certificate, tasks: []session.Task{{ID: "log", Command: op(syncml.Get, "./Log")}, {ID: "log2", Command: op(syncml.Get, "./Log2")}},
		change: func(c *session.Config) { c.MaxObjSize = 100 }},
	"long-package": {account: certificate, tasks: []session.Task{sessiontest.Task("set", session.Idempotent, "./A", "1")}},
	"taken-up": {account: certificate, tasks: []session.Task{
		{ID: "idempotent", Attempt: 1, Command: sessiontest.Replace("./A", "1")},
		{ID: "done", Semantics: session.Queryable, Attempt: 1, Command: sessiontest.Replace("./B", "2"), Query: &session.Query{URI: "./B", Want: []byte("2")}},
		{ID: "undone", Semantics: session.Queryable, Attempt: 1, Command: sessiontest.Replace("./C", "3"), Query: &session.Query{URI: "./C", Want: []byte("3")}},
		{ID: "once", Semantics: session.OnceOnly, Attempt: 1, Command: op(syncml.Exec, "./E")},
	}},
	"misplaced": {account: certificate},
	"version":   {account: certificate},
	"too-long":  {account: certificate, change: func(c *session.Config) { c.MaxMessages = 2 }},
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) != len(scenes) {
		t.Fatalf("%d transcripts, %d scenes, %v", len(files), len(scenes), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			sc, ok := scenes[name]
			if !ok {
				t.Fatal("no scene for this transcript")
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, sc, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("the conversation has changed; -update writes it anew:\n%s", got)
			}
		})
	}
}

// play what the device says in script and return the whole conversation.
func play(t *testing.T, sc scene, script string) string {
	t.Helper()
	q := &told{Memory: sessiontest.NewMemory()}
	q.Put("dev", sc.tasks...)
	account := sc.account
	account.Password, account.ServerPassword = slices.Clone(account.Password), slices.Clone(account.ServerPassword)
	q.PutAccount("dev", account)
	cfg := session.Config{Queue: q, Accounts: q, Rand: &counting{}}
	if sc.change != nil {
		sc.change(&cfg)
	}
	mine, err := q.Account(t.Context(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	s := session.New(cfg, "dev", mine)
	intro, rest, _ := strings.Cut(script, "--- ")
	var out strings.Builder
	out.WriteString(intro)
	for section := range strings.SplitSeq(rest, "\n--- ") {
		kind, text, _ := strings.Cut(section, "\n")
		if kind != deviceSection {
			continue
		}
		fmt.Fprintf(&out, "--- %s\n%s\n", deviceSection, strings.TrimSpace(text))
		in := session.Input{Octets: []byte(text), Syntax: syncml.XML}
		doc, err := syncml.XML.Parse(in.Octets, syncml.Limits{})
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if in.Message, err = syncml.Decode(doc, syncml.Limits{}); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		q.lines = nil
		answer, err := s.Handle(t.Context(), noon, in)
		if len(q.lines) > 0 {
			fmt.Fprintf(&out, "--- %s\n%s\n", queueSection, strings.Join(q.lines, "\n"))
		}
		if err != nil {
			fmt.Fprintf(&out, "--- %s fails\n%v\n", serverSection, err)
			continue
		}
		kind = serverSection
		if answer.Done {
			kind += ", the session is over"
		}
		fmt.Fprintf(&out, "--- %s\n%s", kind, indent(t, answer.Octets))
	}
	return out.String()
}

// indent a message for reading, without its frame.
func indent(t *testing.T, octets []byte) string {
	t.Helper()
	doc, err := syncml.XML.Parse(octets, syncml.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range doc.Root.Children {
		indentElement(&b, e, "")
	}
	return b.String()
}

func indentElement(b *strings.Builder, e *syncml.Element, margin string) {
	switch {
	case len(e.Children) == 1 && len(e.Children[0].Children) == 0:
		c := e.Children[0]
		fmt.Fprintf(b, "%s<%s> <%s>%s\n", margin, e.Name, c.Name, c.Text)
	case len(e.Children) > 0:
		fmt.Fprintf(b, "%s<%s>\n", margin, e.Name)
		for _, c := range e.Children {
			indentElement(b, c, margin+"  ")
		}
	default:
		fmt.Fprintf(b, "%s<%s>%s\n", margin, e.Name, e.Text)
	}
}
