package session_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// FuzzSession lets a device say anything, several messages of it, to a session
// that has work for it. The input is messages with NUL between them, as a
// transcript has them. Whatever it says: no panic, no answer that can't be read
// or is larger than it takes, no once-only command twice, no secret but as a
// digest.
func FuzzSession(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var said []string
		for section := range strings.SplitSeq(string(script), "\n--- ") {
			if kind, text, _ := strings.Cut(section, "\n"); kind == deviceSection {
				said = append(said, text)
			}
		}
		for scheme := range uint8(6) {
			f.Add(scheme, []byte(strings.Join(said, "\x00")))
		}
	}
	f.Fuzz(func(t *testing.T, scheme uint8, input []byte) {
		q := sessiontest.NewMemory()
		account := session.Account{Scheme: session.Scheme(scheme % 3), Name: "Bruce2", Password: []byte("OhBehave"), Nonce: []byte("Nonce")}
		if scheme%6 >= 3 {
			account.ServerName, account.ServerPassword = "server", []byte("hushhush")
		}
		q.PutAccount("dev", account)
		q.Put("dev",
			session.Task{ID: "get", Command: op(syncml.Get, "./A")},
			sessiontest.Task("big", session.OnceOnly, "./Big", strings.Repeat("0123456789", 300)),
			session.Task{ID: "exec", Semantics: session.OnceOnly, Command: op(syncml.Exec, "./Once")},
			session.Task{ID: "asked", Semantics: session.Queryable, Attempt: 1, Command: sessiontest.Replace("./B", "2"), Query: &session.Query{URI: "./B"}},
		)
		mine, err := q.Account(t.Context(), "dev")
		if err != nil {
			t.Fatal(err)
		}
		s := session.New(session.Config{Queue: q, Accounts: q, Rand: &counting{}, MaxObjSize: 1000, MaxMessages: 20}, "dev", mine)
		defer s.Close()
		executed, room := 0, 64<<10
		var last []byte
		for _, octets := range bytes.SplitN(input, []byte{0}, 30) {
			doc, err := syncml.XML.Parse(octets, syncml.Limits{Octets: 1 << 15})
			if err != nil {
				continue
			}
			m, err := syncml.Decode(doc, syncml.Limits{})
			if err != nil {
				continue
			}
			if n := m.Header.Meta.MaxMsgSize; n > 0 {
				room = int(min(max(n, 1<<10), 4<<20))
			}
			out, err := s.Handle(t.Context(), noon, session.Input{Message: m, Octets: octets, Syntax: syncml.XML})
			if err != nil {
				return
			}
			if bytes.Contains(out.Octets, []byte("hushhush")) || bytes.Contains(out.Octets, []byte("OhBehave")) {
				t.Fatalf("a password in %s", out.Octets)
			}
			answer, err := syncml.XML.Parse(out.Octets, syncml.Limits{Octets: 1 << 24})
			if err != nil {
				t.Fatalf("the answer can't be read: %v\n%s", err, out.Octets)
			}
			if _, err = syncml.Decode(answer, syncml.Limits{}); err != nil {
				t.Fatalf("the answer can't be read: %v\n%s", err, out.Octets)
			}
			// Names that the device chose come back in frame and statuses; beside
			// them a message keeps to its room.
			if len(out.Octets) > room+4*len(octets) {
				t.Fatalf("%d octets for a device that takes %d", len(out.Octets), room)
			}
			if bytes.Contains(out.Octets, []byte("<LocURI>./Once")) {
				executed++
			}
			if !s.Authenticated() && bytes.Contains(out.Octets, []byte("<Get>")) {
				t.Fatal("a command for a device that has proven nothing")
			}
			last = out.Octets
			if out.Done {
				break
			}
		}
		if executed > 1 {
			t.Fatalf("a once-only command was sent %d times, at last in %s", executed, last)
		}
	})
}
