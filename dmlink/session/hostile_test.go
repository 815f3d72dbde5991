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

// A device that has commands with long names answered and takes hardly any of
// the answers doesn't fill our memory with them.
func TestStatusesOwed(t *testing.T) {
	s := newSession(sessiontest.NewMemory())
	var body strings.Builder
	for i := range 60 {
		fmt.Fprintf(&body, "<Get><CmdID>%d</CmdID><Item><Target><LocURI>./%s</LocURI></Target><Source><LocURI>%[2]s</LocURI></Source></Item></Get>", i+1, strings.Repeat("x", 4000))
	}
	var err error
	for n := 1; n <= 20 && err == nil; n++ {
		_, _, err = say(t, s, hello("1", fmt.Sprint(n), body.String()))
	}
	if !errors.Is(err, session.ErrProtocol) {
		t.Errorf("after 8 MB of names that wait for a status: %v", err)
	}
}

// nonces counts what is written of them.
type nonces struct {
	*sessiontest.Memory
	written int
}

func (n *nonces) ServerNonce(ctx context.Context, device string, next []byte) error {
	n.written++
	return n.Memory.ServerNonce(ctx, device, next)
}

// Each nonce of ours is a write that waits for the disk: one a message.
func TestManyHeaderStatuses(t *testing.T) {
	q := &nonces{Memory: sessiontest.NewMemory()}
	account := session.Account{ServerName: "us", ServerPassword: []byte("secret")}
	q.PutAccount("dev", account)
	s := session.New(session.Config{Queue: q, Accounts: q, Rand: &counting{}}, "dev", account)
	if _, _, err := say(t, s, hello("1", "1", "<Final/>")); err != nil {
		t.Fatal(err)
	}
	one := "<Status><CmdID>1</CmdID><MsgRef>1</MsgRef><CmdRef>0</CmdRef><Cmd>SyncHdr</Cmd>" +
		`<Chal><Meta><Format xmlns="syncml:metinf">b64</Format><Type xmlns="syncml:metinf">syncml:auth-md5</Type><NextNonce xmlns="syncml:metinf">bm9uY2U=</NextNonce></Meta></Chal><Data>212</Data></Status>`
	if _, _, err := say(t, s, hello("1", "2", strings.Repeat(one, 500)+"<Final/>")); err != nil {
		t.Fatal(err)
	}
	if q.written != 1 {
		t.Errorf("%d writes for one message", q.written)
	}
}

func generic(id int, data string) string {
	return fmt.Sprintf(`<Alert><CmdID>%d</CmdID><Data>1226</Data><Item><Source><LocURI>./A</LocURI></Source><Meta><Type xmlns="syncml:metinf">x:y</Type></Meta><Data>%s</Data></Item></Alert>`, id, data)
}

// Each alert is rows in the database. A device that floods us with them is told
// to come again later; one with a book in it is told that that is too much.
func TestAlertFlood(t *testing.T) {
	q := sessiontest.NewMemory()
	s := newSession(q)
	var body strings.Builder
	for i := range 500 {
		body.WriteString(generic(i+1, "1"))
	}
	codes := map[int]int{}
	for n := 1; n <= 80; n++ {
		said := "<Final/>"
		if n == 1 {
			said = body.String()
		}
		_, m, err := say(t, s, hello("1", fmt.Sprint(n), said))
		if err != nil {
			break // the session is over
		}
		for _, c := range m.Body {
			if st, ok := c.(*syncml.Status); ok && st.Cmd == "Alert" {
				codes[st.Code]++
			}
		}
	}
	told := 0
	for _, r := range q.Reports() {
		told += len(r.Alerts)
	}
	if told != 128 || codes[200] != 128 || codes[syncml.StatusRetryLater] != 372 {
		t.Errorf("%d alerts recorded, statuses %v", told, codes)
	}

	q = sessiontest.NewMemory()
	_, m, err := say(t, newSession(q), hello("1", "1", generic(1, strings.Repeat("x", 300_000))+generic(2, "1")+"<Final/>"))
	if err != nil {
		t.Fatal(err)
	}
	var refused int
	for _, c := range m.Body {
		if st, ok := c.(*syncml.Status); ok && st.Cmd == "Alert" && st.Code == syncml.StatusEntityTooLarge {
			refused++
		}
	}
	if r := q.Reports(); refused != 1 || len(r) != 1 || len(r[0].Alerts) != 1 {
		t.Errorf("%d refused, %d reports", refused, len(r))
	}
}

// DevInfo that changes with every message would be a write each.
func TestInfoFlood(t *testing.T) {
	q := sessiontest.NewMemory()
	s := newSession(q)
	for n := 1; n <= 100; n++ {
		body := fmt.Sprintf("<Replace><CmdID>1</CmdID><Item><Source><LocURI>./DevInfo/Mod</LocURI></Source><Data>%d</Data></Item></Replace>", n)
		if _, _, err := say(t, s, hello("1", fmt.Sprint(n), body)); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	for _, r := range q.Reports() {
		if len(r.DevInfo) > 0 {
			told++
		}
	}
	if told == 0 || told > 8 {
		t.Errorf("DevInfo recorded %d times in a session", told)
	}
}
