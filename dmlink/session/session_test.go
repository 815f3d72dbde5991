package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// hello is a message of a device.
func hello(sessionID, msgID, body string) []byte {
	return fmt.Appendf(nil, `<SyncML xmlns="SYNCML:SYNCML1.2"><SyncHdr><VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>%s</SessionID><MsgID>%s</MsgID>`+
		`<Target><LocURI>us</LocURI></Target><Source><LocURI>dev</LocURI></Source><Meta><MaxMsgSize xmlns="syncml:metinf">2000</MaxMsgSize></Meta></SyncHdr><SyncBody>%s</SyncBody></SyncML>`, sessionID, msgID, body)
}

func say(t *testing.T, s *session.Session, octets []byte) (session.Output, *syncml.Message, error) {
	t.Helper()
	doc, err := syncml.XML.Parse(octets, syncml.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := syncml.Decode(doc, syncml.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Handle(t.Context(), noon, session.Input{Message: m, Octets: octets, Syntax: syncml.XML})
	if err != nil {
		return out, nil, err
	}
	if doc, err = syncml.XML.Parse(out.Octets, syncml.Limits{}); err != nil {
		t.Fatal(err)
	}
	if m, err = syncml.Decode(doc, syncml.Limits{}); err != nil {
		t.Fatal(err)
	}
	return out, m, nil
}

func newSession(q *sessiontest.Memory) *session.Session {
	return session.New(session.Config{Queue: q, Accounts: q, Rand: &counting{}}, "dev", session.Account{})
}

// A message that comes again gets the same octets again; another one with its
// MsgID, or of another session, breaks the session.
func TestRepeated(t *testing.T) {
	q := sessiontest.NewMemory()
	q.Put("dev", sessiontest.Task("1", session.Idempotent, "./A", "1"))
	s := newSession(q)
	first, _, err := say(t, s, hello("1", "1", "<Final/>"))
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := say(t, s, hello("1", "1", "<Final/>"))
	if err != nil || string(again.Octets) != string(first.Octets) {
		t.Errorf("again: %s, %v", again.Octets, err)
	}
	if _, claims := q.Outcome("dev", "1"); claims != 1 {
		t.Errorf("%d claims", claims)
	}
	for name, octets := range map[string][]byte{"another message with its MsgID": hello("1", "1", "<Alert><CmdID>1</CmdID><Data>1201</Data></Alert><Final/>"), "another session": hello("2", "2", "<Final/>")} {
		s := newSession(sessiontest.NewMemory())
		if _, _, err := say(t, s, hello("1", "1", "")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := say(t, s, octets); !errors.Is(err, session.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A claim that another session won isn't sent, and what it cost is asked for
// again: the next task goes instead.
func TestLostClaim(t *testing.T) {
	q := sessiontest.NewMemory()
	q.Put("dev", sessiontest.Task("1", session.OnceOnly, "./A", "1"))
	rival := &thief{Memory: q}
	s := session.New(session.Config{Queue: rival, Accounts: q, Rand: &counting{}}, "dev", session.Account{})
	out, m, err := say(t, s, hello("1", "1", "<Final/>"))
	if err != nil || !out.Done || len(m.Body) != 1 {
		t.Errorf("%s, %v", out.Octets, err)
	}
}

// thief claims what anybody asks for, just before.
type thief struct{ *sessiontest.Memory }

func (q *thief) Next(ctx context.Context, device string, except []string, n int) ([]session.Task, error) {
	tasks, err := q.Memory.Next(ctx, device, except, n)
	for _, t := range tasks {
		if _, err := q.Claim(ctx, device, []session.Claim{{Task: t.ID, Attempt: t.Attempt}}); err != nil {
			return nil, err
		}
	}
	return tasks, err
}

// Statuses of a message with hundreds of commands don't fit into one answer of
// 2,000 octets: they come in several, then it is our turn.
func TestManyStatuses(t *testing.T) {
	const alerts = 100
	q := sessiontest.NewMemory()
	q.Put("dev", sessiontest.Task("1", session.Idempotent, "./A", "1"))
	s := newSession(q)
	var body strings.Builder
	for i := range alerts {
		fmt.Fprintf(&body, "<Alert><CmdID>%d</CmdID><Data>1224</Data></Alert>", i+1)
	}
	out, m, err := say(t, s, hello("1", "1", body.String()+"<Final/>"))
	statuses := map[string]bool{}
	for n := 2; ; n++ {
		if err != nil || out.Done || len(out.Octets) > 2000 || n > 50 {
			t.Fatalf("message %d: %d octets, done: %t, %v", n, len(out.Octets), out.Done, err)
		}
		for _, c := range m.Body {
			if st, ok := c.(*syncml.Status); ok && st.Cmd == "Alert" && st.MsgRef == "1" {
				statuses[st.CmdRef] = true
			}
		}
		if m.Final {
			break
		}
		out, m, err = say(t, s, hello("1", fmt.Sprint(n), fmt.Sprintf("<Status><CmdID>1</CmdID><MsgRef>%d</MsgRef><CmdRef>0</CmdRef><Cmd>SyncHdr</Cmd><Data>200</Data></Status><Alert><CmdID>2</CmdID><Data>1222</Data></Alert>", n-1)))
	}
	if len(statuses) != alerts {
		t.Errorf("%d statuses of %d", len(statuses), alerts)
	}
	if r, ok := m.Body[len(m.Body)-1].(*syncml.Op); !ok || r.Verb != syncml.Replace {
		t.Errorf("the last message has no command: %s", out.Octets)
	}
}

// A queue that offers the same task for ever doesn't hold a session up.
func TestQueueRepeatsItself(t *testing.T) {
	q := sessiontest.NewMemory()
	q.Put("dev", sessiontest.Task("1", session.Idempotent, "./A", "1"))
	s := session.New(session.Config{Queue: &stubborn{q}, Accounts: q, Rand: &counting{}}, "dev", session.Account{})
	if out, _, err := say(t, s, hello("1", "1", "<Final/>")); err != nil || out.Done {
		t.Fatalf("%s, %v", out.Octets, err)
	}
	if out, _, err := say(t, s, hello("1", "2", "<Final/>")); err != nil || !out.Done {
		t.Errorf("%s, %v", out.Octets, err)
	}
}

type stubborn struct{ *sessiontest.Memory }

func (q *stubborn) Next(ctx context.Context, device string, _ []string, n int) ([]session.Task, error) {
	return q.Memory.Next(ctx, device, nil, n)
}

// A device can't make us remember without end: statuses that it never fetches,
// results of one Get that never end.
func TestHoarding(t *testing.T) {
	for name, body := range map[string]string{
		"statuses": strings.Repeat("<Alert><CmdID>1</CmdID><Data>1226</Data></Alert>", 2000),
		"results":  "<Results><CmdID>1</CmdID><MsgRef>1</MsgRef><CmdRef>2</CmdRef><Item><Source><LocURI>./A</LocURI></Source><Data>" + strings.Repeat("x", 1000) + "</Data></Item></Results>",
	} {
		t.Run(name, func(t *testing.T) {
			q := sessiontest.NewMemory()
			q.Put("dev", session.Task{ID: "1", Command: op(syncml.Get, "./A")})
			s := session.New(session.Config{Queue: q, Accounts: q, Rand: &counting{}, MaxObjSize: 1000}, "dev", session.Account{})
			if _, m, err := say(t, s, hello("1", "1", "<Final/>")); err != nil || m.Body[1].ID() != "2" {
				t.Fatal(err)
			}
			for n := 2; n < 10; n++ {
				if _, _, err := say(t, s, hello("1", fmt.Sprint(n), body)); err != nil {
					if !errors.Is(err, session.ErrProtocol) {
						t.Error(err)
					}
					return
				}
			}
			t.Error("it went on for ever")
		})
	}
}

// A check-in with nothing to do costs the account: a device that tells what it
// told before isn't reported, and an idle queue isn't asked.
func TestEmptyCheckIn(t *testing.T) {
	q := sessiontest.NewMemory()
	q.PutAccount("dev", session.Account{})
	check := func(model string) {
		t.Helper()
		account, err := q.Account(t.Context(), "dev")
		if err != nil {
			t.Fatal(err)
		}
		s := session.New(session.Config{Queue: q, Accounts: q, Rand: &counting{}}, "dev", account)
		out, _, err := say(t, s, hello("1", "1", "<Alert><CmdID>1</CmdID><Data>1201</Data></Alert><Replace><CmdID>2</CmdID><Item><Source><LocURI>./DevInfo/Mod</LocURI></Source><Data>"+model+"</Data></Item></Replace><Final/>"))
		if err != nil || !out.Done {
			t.Fatalf("%s, %v", out.Octets, err)
		}
	}
	check("X")
	if n := len(q.Reports()); n != 1 {
		t.Errorf("%d reports of what is new", n)
	}
	q.Fail(errors.New("nobody asks"))
	check("X")
	q.Fail(nil)
	check("Y")
	if r := q.Reports(); len(r) != 2 || string(r[1].DevInfo[0].Data) != "Y" {
		t.Errorf("reports %+v", r)
	}
}
