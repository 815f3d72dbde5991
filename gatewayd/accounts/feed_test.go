package accounts

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
)

// outbox in memory, of another process unless it tells news.
type outbox struct {
	mu     sync.Mutex
	events []directory.Event
	news   chan struct{}
}

func (o *outbox) Outbox(_ context.Context, after int64, max int) (out []directory.Event, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		if e.Number > after && len(out) < max {
			out = append(out, e)
		}
	}
	return out, nil
}

func (o *outbox) TrimOutbox(_ context.Context, upTo int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.events) > 1 && o.events[0].Number <= upTo {
		o.events = o.events[1:]
	}
	return nil
}

func (o *outbox) News() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.news
}

func (o *outbox) add(at time.Time, here bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := int64(1)
	if len(o.events) > 0 {
		n = o.events[len(o.events)-1].Number + 1
	}
	o.events = append(o.events, directory.Event{Number: n, At: at})
	if here {
		close(o.news)
		o.news = make(chan struct{})
	}
}

// reader takes what there is, unless it is broken.
type reader struct {
	outbox *outbox
	mu     sync.Mutex
	cursor int64
	reads  int
	err    error
}

func (r *reader) read(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.err != nil {
		return r.err
	}
	events, err := r.outbox.Outbox(ctx, r.cursor, page)
	if len(events) > 0 {
		r.cursor = events[len(events)-1].Number
	}
	return err
}

func (r *reader) state() (cursor int64, reads int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cursor, r.reads
}

func (r *reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *reader) reader(name string) Reader {
	return Reader{Name: name, Read: r.read, Cursor: func(context.Context) (int64, error) {
		n, _ := r.state()
		return n, nil
	}}
}

// Commits of this process wake readers at once, those of others are found soon,
// and a reader in trouble neither keeps the others from reading nor asks without
// end.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{news: make(chan struct{})}
		good, bad := &reader{outbox: o}, &reader{outbox: o}
		f := NewFeed(o, FeedOptions{}, good.reader("good"), bad.reader("bad"))
		ctx, cancel := context.WithCancel(t.Context())
		var over sync.WaitGroup
		over.Go(func() { f.Run(ctx) })
		synctest.Wait()
		want := func(r *reader, cursor int64) {
			t.Helper()
			if got, _ := r.state(); got != cursor {
				t.Errorf("cursor %d, want %d", got, cursor)
			}
		}
		o.add(time.Now(), true)
		synctest.Wait()
		want(good, 1)
		want(bad, 1)
		o.add(time.Now(), false)
		synctest.Wait()
		want(good, 1)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		want(good, 2)

		bad.fail(errors.New("broken"))
		_, before := bad.state()
		for range 1000 {
			o.add(time.Now(), true)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		want(good, 1002)
		if _, reads := bad.state(); reads-before > 30 {
			t.Errorf("%d reads in a minute of trouble", reads-before)
		}
		bad.fail(nil)
		time.Sleep(longestPause)
		synctest.Wait()
		want(bad, 1002)
		cancel()
		over.Wait()
	})
}

// Only what is old and was taken by all is trimmed, and never the newest.
func TestTrim(t *testing.T) {
	now := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	o := &outbox{}
	for n := range 3 * page {
		o.add(now.Add(time.Duration(n)*time.Minute), false)
	}
	ahead, behind := &reader{outbox: o, cursor: 3 * page}, &reader{outbox: o, cursor: page + 10}
	f := NewFeed(o, FeedOptions{Keep: time.Hour, Now: func() time.Time { return now }}, ahead.reader("ahead"), behind.reader("behind"))
	first := func(want int64) {
		t.Helper()
		if err := f.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := o.events[0].Number; got != want {
			t.Errorf("the first event is %d, want %d", got, want)
		}
	}
	first(1) // none is old
	now = now.Add(time.Hour + 50*time.Minute)
	first(51)
	now = now.Add(24 * time.Hour)
	first(page + 11) // somebody hasn't read on
	behind.cursor = 3 * page
	first(3 * page)
	first(3 * page)
}
