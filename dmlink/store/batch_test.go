package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
)

func TestBatch(t *testing.T) {
	ctx := t.Context()
	s := storetest.SQLite(t, nil)
	for _, name := range []string{"a", "b"} {
		if err := s.Enroll(ctx, store.Device{Name: name, Enrolled: storetest.Noon}); err != nil {
			t.Fatal(err)
		}
	}
	b := store.NewBatch(s, store.BatchOptions{Octets: 3000, Devices: 2})
	later := storetest.Noon.Add(time.Hour)
	b.Seen("a", storetest.Noon)
	b.Seen("b", storetest.Noon)
	b.Seen("c", storetest.Noon) // no room
	b.Seen("a", later)
	octets := []byte("one")
	b.Message(store.Message{At: later, Device: "a", Octets: octets})
	copy(octets, "two") // the caller's again
	b.Message(store.Message{At: later, Device: "a", Octets: make([]byte, 4000)})
	if n := b.Dropped(); n != 2 {
		t.Errorf("dropped %d", n)
	}
	// A database that is away takes nothing; last visits wait.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	b.Flush(gone)
	if n := b.Dropped(); n != 3 {
		t.Errorf("dropped %d with a message that couldn't be written", n)
	}
	b.Message(store.Message{At: later, Device: "a", Octets: []byte("three")})
	ended := make(chan struct{})
	go func() {
		b.Run(gone) // writes once more at its end
		close(ended)
	}()
	<-ended
	if v, err := s.Device(ctx, "a"); err != nil || !v.Seen.Equal(later) {
		t.Errorf("device %+v, %v", v, err)
	}
	if got, err := s.Messages(ctx, "a", 0, 0); err != nil || len(got) != 1 || string(got[0].Octets) != "three" {
		t.Errorf("messages %+v, %v", got, err)
	}
}

// A device that talks without end has its share of the log, and others theirs.
func TestShares(t *testing.T) {
	ctx := t.Context()
	s := storetest.SQLite(t, nil)
	b := store.NewBatch(s, store.BatchOptions{Share: 10_000, ShareEvery: time.Hour, Devices: 3})
	at := storetest.Noon
	logged := func(device string, proven bool, n int) (kept int) {
		t.Helper()
		before := b.Dropped()
		for range n {
			b.Message(store.Message{At: at, Device: device, Proven: proven, Octets: make([]byte, 744)}) // and 256
		}
		return n - int(b.Dropped()-before)
	}
	for _, c := range []struct {
		device string
		proven bool
		want   int
	}{{"a", true, 10}, {"a", true, 0}, {"b", true, 10}, {"a", false, 10}, {"c", true, 0}} {
		if n := logged(c.device, c.proven, 20); n != c.want {
			t.Errorf("%s, proven %v: %d are logged, want %d", c.device, c.proven, n, c.want)
		}
	}
	at = at.Add(30 * time.Minute)
	if n := logged("a", true, 20); n != 5 {
		t.Errorf("half a share later %d are logged", n)
	}
	at = at.Add(time.Hour)
	if n := logged("c", true, 20); n != 10 {
		t.Errorf("with room again %d are logged", n)
	}
	b.Flush(ctx)
	if got, err := s.Messages(ctx, "a", 0, 0); err != nil || len(got) != 25 {
		t.Errorf("%d messages, %v", len(got), err)
	}
}
