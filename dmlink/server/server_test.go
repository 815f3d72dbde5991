package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/wbxml"
)

const certHeader = "X-Test-Certificate"

// accounts: alice and bob have certificates, carol and dave have passwords.
func newServer(change func(*server.Config)) (*server.Server, *sessiontest.Memory) {
	q := sessiontest.NewMemory()
	for _, device := range []string{"alice", "bob"} {
		q.PutAccount(device, session.Account{})
	}
	for _, device := range []string{"carol", "dave"} {
		q.PutAccount(device, session.Account{Scheme: session.MD5, Name: device, Password: []byte(device + "'s"), Nonce: []byte("n")})
	}
	for _, device := range []string{"alice", "bob", "carol", "dave"} {
		// More than one message has room for, so that a session goes on.
		for i := range 3 {
			q.Put(device, session.Task{ID: fmt.Sprint(device, i), Command: &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{
				Target: syncml.Location{URI: "./For/" + device}, Data: []byte(strings.Repeat("x", 700)),
			}}}})
		}
	}
	cfg := server.Config{
		Session: session.Config{Queue: q, Accounts: q, Rand: rand.Reader},
		URL:     "https://dm.example.com/dm",
		Identify: func(r *http.Request) (string, error) {
			switch device := r.Header.Get(certHeader); device {
			case "revoked":
				return "", server.ErrRefused
			case "broken":
				return "", errors.New("the directory is away")
			default:
				return device, nil
			}
		},
	}
	if change != nil {
		change(&cfg)
	}
	return server.New(cfg), q
}

// words of a device: who the transport says it is, who it says it is, and what
// it has been given.
type words struct {
	certificate, source     string
	sessionID, msgID, token string
	cookie                  string
	cred                    *syncml.Cred
	contentType             string
	body                    string
}

func (w words) message() *syncml.Message {
	m := &syncml.Message{Header: syncml.Header{
		SessionID: w.sessionID, MsgID: w.msgID, Source: syncml.Location{URI: w.source}, Target: syncml.Location{URI: "us"}, Cred: w.cred,
		Meta: syncml.Meta{MaxMsgSize: 1500},
	}, Final: true}
	return m
}

func (w words) request(t *testing.T) *http.Request {
	t.Helper()
	contentType, body := w.contentType, []byte(w.body)
	if contentType == "" {
		contentType = "application/vnd.syncml.dm+xml"
	}
	if w.body == "" {
		syntax := syncml.XML
		if strings.Contains(contentType, "wbxml") {
			syntax = wbxml.WBXML
		}
		var err error
		if body, err = syntax.Append(nil, w.message().Document()); err != nil {
			t.Fatal(err)
		}
	}
	url := "/dm"
	if w.token != "" {
		url += "?dmsession=" + w.token
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	if w.certificate != "" {
		r.Header.Set(certHeader, w.certificate)
	}
	if w.cookie != "" {
		r.AddCookie(&http.Cookie{Name: "dmsession", Value: w.cookie})
	}
	return r
}

// say w and return the status, the answer's octets and the token in it.
func say(t *testing.T, s http.Handler, w words) (int, string, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, w.request(t))
	body := rec.Body.String()
	_, token, _ := strings.Cut(body, "<RespURI>https://dm.example.com/dm?dmsession=")
	token, _, _ = strings.Cut(token, "<")
	return rec.Code, body, token
}

func md5Cred(device, password, nonce string) *syncml.Cred {
	return &syncml.Cred{Meta: syncml.Meta{Format: "b64", Type: syncml.AuthMD5}, Data: syncml.DigestMD5(device, []byte(password), []byte(nonce))}
}

func TestContentTypes(t *testing.T) {
	for _, contentType := range []string{
		"application/vnd.syncml.dm+xml", "application/vnd.syncml.dm+wbxml", "application/vnd.syncml+xml", "application/vnd.syncml+wbxml",
		"application/vnd.syncml.dm+xml; charset=UTF-8",
	} {
		s, _ := newServer(nil)
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, words{certificate: "alice", sessionID: "1", msgID: "1", contentType: contentType}.request(t))
		bare, _, _ := strings.Cut(contentType, ";")
		if rec.Code != 200 || rec.Header().Get("Content-Type") != bare || rec.Header().Get("Content-Length") != fmt.Sprint(rec.Body.Len()) {
			t.Errorf("%s: %d, %v", contentType, rec.Code, rec.Header())
		}
		syntax := syncml.XML
		if strings.Contains(bare, "wbxml") {
			syntax = wbxml.WBXML
		}
		if _, err := syntax.Parse(rec.Body.Bytes(), syncml.Limits{}); err != nil {
			t.Errorf("%s: %v", contentType, err)
		}
		s.Close()
	}
}

func TestRefused(t *testing.T) {
	s, q := newServer(func(c *server.Config) { c.Session.MaxMsgSize = 10000 })
	defer s.Close()
	q.PutAccount("nonce away", session.Account{Scheme: session.MD5})
	fine := words{certificate: "alice", sessionID: "1", msgID: "1"}
	with := func(change func(*words)) words {
		w := fine
		change(&w)
		return w
	}
	for name, c := range map[string]struct {
		words  words
		change func(*http.Request)
		status int
		reason string
	}{
		"GET":                          {fine, func(r *http.Request) { r.Method = http.MethodGet }, 405, "method"},
		"no content type":              {fine, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "content_type"},
		"another content type":         {fine, func(r *http.Request) { r.Header.Set("Content-Type", "text/xml") }, 415, "content_type"},
		"another character set":        {fine, func(r *http.Request) { r.Header.Set("Content-Type", "application/vnd.syncml.dm+xml; charset=utf-16") }, 415, "content_type"},
		"compressed":                   {fine, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415, "content_type"},
		"too large, it says":           {with(func(w *words) { w.body = strings.Repeat(" ", 20000) }), nil, 413, "too_large"},
		"too large, it doesn't say":    {with(func(w *words) { w.body = strings.Repeat(" ", 20000) }), func(r *http.Request) { r.ContentLength = -1 }, 413, "too_large"},
		"too many elements":            {with(func(w *words) { w.body = "<SyncML>" + strings.Repeat("<a>", 100) }), nil, 413, "too_large"},
		"no XML":                       {with(func(w *words) { w.body = "hello" }), nil, 400, "malformed"},
		"entities":                     {with(func(w *words) { w.body = `<!DOCTYPE x [<!ENTITY a "b">]><SyncML>&a;</SyncML>` }), nil, 400, "malformed"},
		"XML for WBXML":                {with(func(w *words) { w.contentType, w.body = "application/vnd.syncml.dm+wbxml", "<SyncML/>" }), nil, 400, "malformed"},
		"a certificate that is barred": {with(func(w *words) { w.certificate = "revoked" }), nil, 403, "forbidden"},
		"a device nobody knows":        {with(func(w *words) { w.certificate = "eve" }), nil, 403, "forbidden"},
		"no name at all":               {with(func(w *words) { w.certificate = "" }), nil, 403, "forbidden"},
		"a name without certificate":   {with(func(w *words) { w.certificate, w.source = "", "alice" }), nil, 403, "forbidden"},
		"a directory that is away":     {with(func(w *words) { w.certificate = "broken" }), nil, 503, "failed"},
		"no such session":              {with(func(w *words) { w.msgID = "2" }), nil, 404, "no_session"},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.Stats().Refused[c.reason]
			r := c.words.request(t)
			if c.change != nil {
				c.change(r)
			}
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			if rec.Code != c.status || s.Stats().Refused[c.reason] != before+1 {
				t.Errorf("status %d, want %d; refused %v, want %s once", rec.Code, c.status, s.Stats().Refused, c.reason)
			}
			if c.status == 503 && rec.Header().Get("Retry-After") == "" {
				t.Error("nobody is told when to come again")
			}
		})
	}
	if st := s.Stats(); st.Sessions != 0 || st.Answered != 0 {
		t.Errorf("after them: %+v", st)
	}
}

// A device can touch only its own session: bob, dave and a stranger try alice's
// and carol's, with all that they could have seen or guessed.
func TestOwnSessionOnly(t *testing.T) {
	s, q := newServer(nil)
	defer s.Close()
	if code, body, _ := say(t, s, words{certificate: "alice", source: "alice", sessionID: "7", msgID: "1"}); code != 200 || !strings.Contains(body, "./For/alice") {
		t.Fatalf("alice begins: %d %s", code, body)
	}
	code, body, carols := say(t, s, words{source: "carol", sessionID: "8", msgID: "1", cred: md5Cred("carol", "carol's", "n")})
	if code != 200 || !strings.Contains(body, "./For/carol") || len(carols) < 20 {
		t.Fatalf("carol begins: %d %s", code, body)
	}
	_, _, daves := say(t, s, words{source: "dave", sessionID: "9", msgID: "1", cred: md5Cred("dave", "dave's", "n")})
	for name, w := range map[string]words{
		"bob, with alice's SessionID":                       {certificate: "bob", source: "bob", sessionID: "7", msgID: "2"},
		"bob, with alice's name":                            {certificate: "bob", source: "alice", sessionID: "7", msgID: "2"},
		"bob begins with alice's name":                      {certificate: "bob", source: "alice", sessionID: "7", msgID: "1"},
		"bob, with carol's token":                           {certificate: "bob", source: "carol", sessionID: "8", msgID: "2", token: carols},
		"dave, with his token and carol's SessionID":        {source: "carol", sessionID: "8", msgID: "2", token: daves},
		"dave, with his token and alice's SessionID":        {source: "alice", sessionID: "7", msgID: "2", token: daves},
		"dave, with carol's SessionID and no token":         {source: "carol", sessionID: "8", msgID: "2"},
		"a stranger begins with carol's name":               {source: "carol", sessionID: "8", msgID: "1"},
		"a stranger begins with carol's name and a digest":  {source: "carol", sessionID: "8", msgID: "1", cred: md5Cred("carol", "guess", "n")},
		"a stranger repeats carol's first words":            {source: "carol", sessionID: "8", msgID: "1", cred: md5Cred("carol", "carol's", "n")},
		"a stranger with a token that he made up":           {source: "carol", sessionID: "8", msgID: "2", token: strings.Repeat("A", 26)},
		"a stranger with a cookie that he made up":          {source: "carol", sessionID: "8", msgID: "2", cookie: strings.Repeat("A", 26)},
		"a stranger begins with alice's name":               {source: "alice", sessionID: "7", msgID: "1"},
		"alice without her certificate, with carol's token": {source: "alice", sessionID: "7", msgID: "2", token: carols},
	} {
		t.Run(name, func(t *testing.T) {
			code, body, token := say(t, s, w)
			if strings.Contains(body, "./For/alice") || strings.Contains(body, "./For/carol") {
				t.Errorf("%d, he was told what is somebody else's:\n%s", code, body)
			}
			// Bob may go on with a session that he has begun himself.
			if w.msgID == "2" && code == 200 && !strings.Contains(body, "./For/bob") {
				t.Errorf("a session answered:\n%s", body)
			}
			if token != "" && token == carols {
				t.Error("he was given carol's token")
			}
		})
	}
	for _, device := range []string{"alice", "carol"} {
		if o, claims := q.Outcome(device, device+"0"); o != nil || claims != 1 {
			t.Errorf("%s's task: %+v after %d claims", device, o, claims)
		}
	}
	// Both go on as if nothing had been.
	if code, body, _ := say(t, s, words{certificate: "alice", source: "alice", sessionID: "7", msgID: "2"}); code != 200 || !strings.Contains(body, "./For/alice") {
		t.Errorf("alice goes on: %d %s", code, body)
	}
	if code, body, _ := say(t, s, words{source: "carol", sessionID: "8", msgID: "2", cookie: carols}); code != 200 || !strings.Contains(body, "./For/carol") {
		t.Errorf("carol goes on: %d %s", code, body)
	}
}

// A device has one session: a new one, once it has proven who it is, ends the
// one before.
func TestOneSessionEach(t *testing.T) {
	s, _ := newServer(nil)
	defer s.Close()
	for range 5 {
		if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "7", msgID: "1"}); code != 200 {
			t.Fatal(code)
		}
		if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "7", msgID: "2"}); code != 200 {
			t.Fatal(code)
		}
	}
	if st := s.Stats(); st.Sessions != 1 || st.Unproven != 0 {
		t.Errorf("alice has %+v", st)
	}
	if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "6", msgID: "3"}); code != 404 {
		t.Errorf("a session that is gone: %d", code)
	}
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := newServer(func(c *server.Config) {
			c.MaxSessions, c.MaxUnproven, c.Idle, c.Lifetime = 6, 3, time.Minute, 10*time.Minute
		})
		defer s.Close()
		for i := range 3 {
			if code, _, _ := say(t, s, words{source: "carol", sessionID: fmt.Sprint(i), msgID: "1"}); code != 200 {
				t.Fatalf("stranger %d: %d", i, code)
			}
		}
		if code, _, _ := say(t, s, words{source: "carol", sessionID: "9", msgID: "1"}); code != 200 || s.Stats().Unproven != 3 {
			t.Errorf("one stranger too many takes another's place: %d, %+v", code, s.Stats())
		}
		for i := range 3 {
			device := fmt.Sprint("device", i)
			q.PutAccount(device, session.Account{})
			q.Put(device, sessiontest.Task(device, session.Idempotent, "./A", "1"))
			if code, _, _ := say(t, s, words{certificate: device, sessionID: "1", msgID: "1"}); code != 200 {
				t.Fatalf("device %d beside them: %d", i, code)
			}
		}
		if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: "1"}); code != 503 {
			t.Errorf("one too many: %d", code)
		}
		if st := s.Stats(); st.Sessions != 6 || st.Unproven != 3 {
			t.Errorf("%+v", st)
		}
		// A minute later all of them are gone, though nobody came.
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Sessions != 0 || st.Unproven != 0 {
			t.Errorf("a minute later: %+v", st)
		}
		// A device that goes on for ever is let go at the end of a lifetime.
		if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: "1"}); code != 200 {
			t.Fatal(code)
		}
		alive := 0
		for n := 2; n < 40; n++ {
			time.Sleep(30 * time.Second)
			q.Put("alice", sessiontest.Task(fmt.Sprint("more", n), session.Idempotent, "./A", "1"))
			if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: fmt.Sprint(n)}); code == 200 {
				alive++
			}
		}
		if alive == 0 || alive > 20 {
			t.Errorf("%d messages in a lifetime of 20 half minutes", alive)
		}
	})
}

// A queue that is away: 503, nothing left, and the session is gone.
func TestQueueAway(t *testing.T) {
	s, q := newServer(nil)
	defer s.Close()
	if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: "1"}); code != 200 {
		t.Fatal(code)
	}
	q.Fail(errors.New("away"))
	if code, body, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: "2"}); code != 503 || strings.Contains(body, "SyncML") {
		t.Errorf("%d %s", code, body)
	}
	q.Fail(nil)
	if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: "3"}); code != 404 {
		t.Errorf("the session is still there: %d", code)
	}
}

// A device that never ends its message is let go.
func TestSlowBody(t *testing.T) {
	s, _ := newServer(func(c *server.Config) { c.Transfer = 50 * time.Millisecond })
	defer s.Close()
	h := httptest.NewServer(s)
	defer h.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /dm HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.syncml.dm+xml\r\nContent-Length: 1000\r\n\r\n<SyncML>")
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if answer != "" && !strings.Contains(answer, "400") {
		t.Errorf("answer %q", answer)
	}
}

// What is traced is what was said, by whom, with what is known of him then.
func TestTrace(t *testing.T) {
	var traced []string
	var seen []string
	s, _ := newServer(func(c *server.Config) {
		c.Trace = func(m server.Traced) {
			traced = append(traced, fmt.Sprintf("%s proven=%t sent=%t %t %s", m.Device, m.Proven, m.Sent, len(m.Octets) > 100, m.ContentType))
		}
		c.Seen = func(device string, _ time.Time) { seen = append(seen, device) }
	})
	defer s.Close()
	_, _, _ = say(t, s, words{source: "carol", sessionID: "1", msgID: "1"})
	_, _, _ = say(t, s, words{source: "carol", sessionID: "2", msgID: "1", cred: md5Cred("carol", "carol's", "n")})
	const ct = "application/vnd.syncml.dm+xml"
	want := []string{
		"carol proven=false sent=false true " + ct, "carol proven=false sent=true true " + ct,
		"carol proven=false sent=false true " + ct, "carol proven=true sent=true true " + ct,
	}
	if fmt.Sprint(traced) != fmt.Sprint(want) {
		t.Errorf("traced %q, want %q", traced, want)
	}
	if fmt.Sprint(seen) != "[carol]" {
		t.Errorf("seen %v", seen)
	}
}

// Messages of one session at the same time are handled one after the other, and
// one that is ended meanwhile by a new session answers no more. Run with -race.
func TestConcurrent(t *testing.T) {
	s, _ := newServer(nil)
	defer s.Close()
	done := make(chan struct{})
	for g := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range 50 {
				rec := httptest.NewRecorder()
				w := words{certificate: "alice", sessionID: fmt.Sprint(g % 2), msgID: fmt.Sprint(1 + n%3)}
				s.ServeHTTP(rec, w.request(t).WithContext(context.Background()))
			}
		}()
	}
	for range 4 {
		<-done
	}
	if st := s.Stats(); st.Sessions > 1 {
		t.Errorf("%+v", st)
	}
}
