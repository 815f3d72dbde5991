package agent

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
)

func read(e *Events, cursor uint64, most int) string {
	events, _, ok := e.after(nil, cursor, most)
	if !ok {
		return "to come"
	}
	var all []string
	for _, e := range events {
		s := fmt.Sprint(e.Cursor)
		if e.Kind == gcm.Dropped {
			s += fmt.Sprintf("(%d after %d %s)", e.Count, e.After, e.Reason)
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// TestBuffer: what is too old is gone, and its place says so; cursors go on with
// the next run.
func TestBuffer(t *testing.T) {
	e := newEvents(4, 1)
	if got := read(e, 0, 9); got != "" {
		t.Errorf("nothing happened: %q", got)
	}
	_, more, _ := e.after(nil, 0, 9)
	for range 3 {
		e.Add(gcm.Event{Kind: gcm.Counters})
	}
	<-more
	for _, c := range []struct {
		cursor uint64
		want   string
	}{{0, "1 2 3"}, {2, "3"}, {3, ""}, {4, "to come"}} {
		if got := read(e, c.cursor, 9); got != c.want {
			t.Errorf("after %d: %q, want %q", c.cursor, got, c.want)
		}
	}
	for range 3 {
		e.Add(gcm.Event{Kind: gcm.Counters})
	}
	for _, c := range []struct {
		cursor uint64
		most   int
		want   string
	}{{0, 9, "2(2 after 0 ) 3 4 5 6"}, {1, 9, "2(1 after 1 ) 3 4 5 6"}, {2, 9, "3 4 5 6"}, {0, 1, "2(2 after 0 ) 3"}, {5, 9, "6"}} {
		if got := read(e, c.cursor, c.most); got != c.want {
			t.Errorf("after %d: %q, want %q", c.cursor, got, c.want)
		}
	}
	next := newEvents(4, 2)
	if got := read(next, 6, 9); got != fmt.Sprintf("%d(0 after 6 restart)", uint64(1)<<runBits) {
		t.Errorf("after a restart: %q", got)
	}
	next.Add(gcm.Event{Kind: gcm.Counters})
	if got := next.newest(); got != 1<<runBits+1 {
		t.Errorf("the first of the second run: %d", got)
	}
}

// TestStream: events come as they happen, and again to who didn't get them. One
// that can't be told stops none behind it.
func TestStream(t *testing.T) {
	i := install(t)
	g := new(gateway)
	a := open(t, g.config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
	address, stop := serve(t, a)
	c := client(t, i.manager(t))
	follow := func(after uint64) (*gcm.EventReader, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s%s?after=%d", address, gcm.PathEvents, after), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK {
			t.Fatalf("after %d: %s", after, response.Status)
		}
		return gcm.NewEventReader(response.Body, after), func() { cancel(); response.Body.Close() }
	}
	next := func(r *gcm.EventReader) gcm.Event {
		t.Helper()
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	r, leave := follow(0)
	for n := range uint64(3) {
		a.Events.Add(gcm.Event{Kind: gcm.SessionStarted, Device: "phone-1", Count: n})
		if e := next(r); e.Cursor != n+1 || e.Count != n || e.At.IsZero() {
			t.Errorf("event %d: %+v", n, e)
		}
	}
	leave()
	a.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: "No Name"})
	a.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: "phone-1"})
	r, leave = follow(1)
	defer leave()
	for _, want := range []struct {
		cursor uint64
		kind   gcm.EventKind
	}{{2, gcm.SessionStarted}, {3, gcm.SessionStarted}, {4, gcm.Dropped}, {5, gcm.SessionEnded}} {
		if e := next(r); e.Cursor != want.cursor || e.Kind != want.kind {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
	if status, _ := ask(t, c, http.MethodGet, "https://"+address+gcm.PathEvents+"?after=99", "", nil); status != http.StatusConflict {
		t.Errorf("a cursor that is to come: %d", status)
	}
	if status, _ := ask(t, c, http.MethodGet, "https://"+address+gcm.PathEvents+"?after=x", "", nil); status != http.StatusBadRequest {
		t.Errorf("no cursor: %d", status)
	}
	stop()
	if _, err := r.Next(); err == nil {
		t.Error("the stream goes on without a server")
	}
}
