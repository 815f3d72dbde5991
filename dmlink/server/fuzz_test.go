package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/wbxml"
)

// FuzzServer lets somebody say two things to a server on which alice, who has a
// certificate, and carol, who has a password, are in the middle of sessions. He
// is bob, or nobody. Whatever he says: no panic, an answer of the protocol or a
// status that says why not, and nothing in it that is theirs.
func FuzzServer(f *testing.F) {
	for _, w := range []words{
		{source: "alice", sessionID: "7", msgID: "1"}, {source: "alice", sessionID: "7", msgID: "2"},
		{source: "carol", sessionID: "8", msgID: "2", cred: md5Cred("carol", "guess", "n")}, {source: "bob", sessionID: "9", msgID: "1"},
	} {
		for contentType, syntax := range map[string]syncml.Syntax{"application/vnd.syncml.dm+xml": syncml.XML, "application/vnd.syncml.dm+wbxml": wbxml.WBXML} {
			body, err := syntax.Append(nil, w.message().Document())
			if err != nil {
				f.Fatal(err)
			}
			for _, who := range []string{"", "bob"} {
				f.Add(who, contentType, "", body, body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, who, contentType, token string, first, second []byte) {
		if who != "" {
			who = "bob"
		}
		s, q := newServer(nil)
		defer s.Close()
		_, _, _ = say(t, s, words{certificate: "alice", source: "alice", sessionID: "7", msgID: "1"})
		_, _, _ = say(t, s, words{source: "carol", sessionID: "8", msgID: "1", cred: md5Cred("carol", "carol's", "n")})
		for _, body := range [][]byte{first, second} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/dm", strings.NewReader(string(body)))
			r.Header.Set("Content-Type", contentType)
			r.AddCookie(&http.Cookie{Name: "dmsession", Value: token})
			if who != "" {
				r.Header.Set(certHeader, who)
			}
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			answer := rec.Body.String()
			switch {
			case strings.Contains(answer, "./For/alice"), strings.Contains(answer, "./For/carol"):
				t.Fatalf("he was told what isn't his: %q", answer)
			case rec.Code == 200 && rec.Body.Len() == 0, rec.Code != 200 && strings.Contains(answer, "SyncML"), rec.Code == 500:
				t.Fatalf("%d %q", rec.Code, answer)
			}
		}
		for _, device := range []string{"alice", "carol"} {
			if o, claims := q.Outcome(device, device+"0"); o != nil || claims != 1 {
				t.Fatalf("%s's task: %+v after %d claims", device, o, claims)
			}
		}
	})
}
