package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
)

// from says w from an address.
func from(t *testing.T, s http.Handler, address string, w words) int {
	t.Helper()
	r := w.request(t)
	r.RemoteAddr = address
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec.Code
}

// A stranger who begins sessions and proves nothing takes the places of his own,
// not those of devices that are about to prove who they are.
func TestStrangersDontLockOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(func(c *server.Config) { c.MaxUnproven = 20 })
		defer s.Close()
		// Dave is being challenged when the flood begins.
		if code := from(t, s, "10.0.0.4:4", words{source: "dave", sessionID: "1", msgID: "1"}); code != 200 {
			t.Fatal(code)
		}
		for i := range 200 {
			from(t, s, fmt.Sprintf("10.0.0.66:%d", 1000+i), words{source: "carol", sessionID: fmt.Sprint(i), msgID: "1"})
		}
		if st := s.Stats(); st.Unproven != 20 {
			t.Errorf("%d sessions that proved nothing", st.Unproven)
		}
		if code := from(t, s, "10.0.0.3:3", words{source: "carol", sessionID: "8", msgID: "1", cred: md5Cred("carol", "carol's", "n")}); code != 200 {
			t.Errorf("carol herself, from her own address: %d", code)
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, words{source: "dave", sessionID: "2", msgID: "1", cred: md5Cred("dave", "dave's", "n")}.request(t))
		if rec.Code != 200 {
			t.Errorf("dave: %d", rec.Code)
		}
		// Nobody who proves nothing keeps a place for long.
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Unproven != 0 {
			t.Errorf("a minute later %d sessions prove nothing still", st.Unproven)
		}
	})
}

// The many who come from one address each have no more than their share either.
func TestCrowdsDontLockOut(t *testing.T) {
	s, _ := newServer(func(c *server.Config) { c.MaxUnproven = 20 })
	defer s.Close()
	for i := range 10 {
		for n := range 10 {
			from(t, s, fmt.Sprintf("10.0.1.%d:%d", i, n+1), words{source: "carol", sessionID: fmt.Sprint(n), msgID: "1"})
		}
	}
	if code := from(t, s, "10.0.0.3:3", words{source: "carol", sessionID: "8", msgID: "1", cred: md5Cred("carol", "carol's", "n")}); code != 200 {
		t.Errorf("carol: %d", code)
	}
}

// stuck is a body that never ends; it tells when it is asked for.
type stuck struct {
	asked chan struct{}
	done  <-chan struct{}
}

func (s stuck) Read([]byte) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.done
	return 0, io.ErrUnexpectedEOF
}

// A device that begins many requests at once and ends none has a few of them;
// strangers together have so many as there may be who proved nothing.
func TestRequestsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(func(c *server.Config) { c.MaxUnproven = 30 })
		defer s.Close()
		end := make(chan struct{})
		codes := make(chan int, 100)
		open := func(w words) {
			r := w.request(t)
			r.Body, r.ContentLength = io.NopCloser(stuck{make(chan struct{}, 1), end}), 1000
			go func() {
				rec := httptest.NewRecorder()
				s.ServeHTTP(rec, r)
				codes <- rec.Code
			}()
		}
		for range 50 {
			open(words{certificate: "alice", source: "alice", sessionID: "1", msgID: "1"})
		}
		synctest.Wait()
		if n := len(codes); n < 42 {
			t.Errorf("%d of alice's 50 requests were refused", n)
		}
		for range 50 {
			open(words{source: "carol", sessionID: "1", msgID: "1"})
		}
		synctest.Wait()
		if n := len(codes); n < 42+20 {
			t.Errorf("%d of all 100 were refused", n)
		}
		// Meanwhile bob has his session.
		if code, _, _ := say(t, s, words{certificate: "bob", source: "bob", sessionID: "1", msgID: "1"}); code != 200 {
			t.Errorf("bob: %d", code)
		}
		close(end)
		synctest.Wait()
		if code, _, _ := say(t, s, words{certificate: "alice", source: "alice", sessionID: "1", msgID: "1"}); code != 200 {
			t.Errorf("alice, afterwards: %d", code)
		}
	})
}

// Who has proven nothing writes short messages.
func TestStrangersWords(t *testing.T) {
	s, _ := newServer(nil)
	defer s.Close()
	long := func(w words) words {
		w.body = strings.Repeat(" ", 100_000)
		return w
	}
	if code, _, _ := say(t, s, long(words{source: "carol", sessionID: "1", msgID: "1"})); code != 413 {
		t.Errorf("a stranger's 100,000 octets: %d", code)
	}
	// A device's are read, and these mean nothing.
	if code, _, _ := say(t, s, long(words{certificate: "alice", source: "alice", sessionID: "1", msgID: "1"})); code != 400 {
		t.Errorf("a device's: %d", code)
	}
	_, _, token := say(t, s, words{source: "carol", sessionID: "1", msgID: "1", cred: md5Cred("carol", "carol's", "n")})
	if code, _, _ := say(t, s, long(words{source: "carol", sessionID: "1", msgID: "2", token: token})); code != 400 {
		t.Errorf("carol's, once she has proven who she is: %d", code)
	}
}

// A device that does nothing but begin sessions is told to wait.
func TestSessionsTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := sessiontest.NewMemory()
		for _, device := range []string{"alice", "bob"} {
			q.PutAccount(device, session.Account{})
		}
		s, _ := newServer(func(c *server.Config) {
			c.Session.Queue, c.Session.Accounts, c.SessionsAMinute = q, q, 30
		})
		defer s.Close()
		codes := map[int]int{}
		for i := range 100 {
			code, _, _ := say(t, s, words{certificate: "alice", sessionID: fmt.Sprint(i), msgID: "1"})
			codes[code]++
		}
		if codes[200] != 30 || codes[429] != 70 {
			t.Errorf("alice's 100 sessions: %v", codes)
		}
		if code, _, _ := say(t, s, words{certificate: "bob", sessionID: "1", msgID: "1"}); code != 200 {
			t.Errorf("bob: %d", code)
		}
		time.Sleep(2 * time.Minute)
		if code, _, _ := say(t, s, words{certificate: "alice", sessionID: "1", msgID: "1"}); code != 200 {
			t.Errorf("alice, two minutes later: %d", code)
		}
	})
}
