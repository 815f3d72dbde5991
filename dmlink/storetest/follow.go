package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

const source = "enrollment"

func (s *suite) take(after, upTo int64, want bool, steps ...store.Step) {
	s.t.Helper()
	if taken, err := s.Follow(s.t.Context(), source, after, upTo, steps); err != nil || taken != want {
		s.t.Errorf("events %d to %d: taken %t, %v, want %t", after, upTo, taken, err, want)
	}
}

func (s *suite) device(name string) store.Device {
	s.t.Helper()
	v, err := s.Device(s.t.Context(), name)
	s.must(err)
	return v
}

// Events of others count once each and in order, whatever their clocks say.
func (s *suite) follows() {
	ctx := s.t.Context()
	step := func(at time.Time, welcome string) store.Step {
		e := store.Step{Enroll: &store.Device{Name: "phone-1", User: "bob", Groups: []string{"sales"}, Enrolled: at}}
		if welcome != "" {
			e.Welcome = store.Task{ID: welcome, Kind: "schedule", Created: at, Expires: at.Add(time.Hour),
				Command: &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{Target: syncml.Location{URI: "./A"}, Data: []byte("1")}}}}
		}
		return e
	}
	waiting := func(want ...string) {
		s.t.Helper()
		tasks, err := s.Next(ctx, "phone-1", nil, 10)
		s.must(err)
		if len(tasks) != len(want) {
			s.t.Errorf("%d commands wait, want %d", len(tasks), len(want))
		}
	}
	s.take(0, 3, true, step(Noon, "welcome-1"))
	waiting("welcome-1")
	s.take(0, 3, false, step(Noon, "welcome-1"))
	s.take(3, 4, true, store.Step{Close: "phone-1", Reason: "lost"})
	if v := s.device("phone-1"); v.Open {
		s.t.Errorf("after closing: %+v", v)
	}
	waiting()
	// Let in anew, as told by a clock that is behind.
	s.take(4, 5, true, step(Noon.Add(-time.Minute), "welcome-2"))
	if v := s.device("phone-1"); !v.Open || !v.Enrolled.After(Noon) || v.User != "bob" || len(v.Groups) != 1 {
		s.t.Errorf("enrolled anew: %+v", v)
	}
	waiting("welcome-2")
	// Events without a meaning, and about devices that nobody knows.
	s.take(5, 9, true, store.Step{}, store.Step{Close: "phone-9"})
	if n, err := s.Followed(ctx, source); n != 9 || err != nil {
		s.t.Errorf("followed up to %d, %v", n, err)
	}
	if n, err := s.Followed(ctx, "somebody else"); n != 0 || err != nil {
		s.t.Errorf("somebody else was followed up to %d, %v", n, err)
	}
	// What fails leaves the number, too.
	bad := step(Noon.Add(time.Hour), "welcome-2")
	if taken, err := s.Follow(ctx, source, 9, 10, []store.Step{bad}); taken || err == nil {
		s.t.Errorf("a task twice: taken %t, %v", taken, err)
	}
	if n, err := s.Followed(ctx, source); n != 9 || err != nil {
		s.t.Errorf("after a failure: %d, %v", n, err)
	}
	if _, err := s.Follow(ctx, source, 9, 9, nil); err == nil {
		s.t.Error("no event was taken")
	}
}

// Of servers that follow the same events one takes each.
func (s *suite) followShared() {
	const events = 20
	var taken atomic.Int64
	var servers sync.WaitGroup
	for range 3 {
		other := Store(s.t, s.database, s.clock)
		servers.Go(func() {
			for {
				n, err := other.Followed(s.t.Context(), source)
				if err != nil {
					s.t.Error(err)
					return
				}
				if n == events {
					return
				}
				won, err := other.Follow(s.t.Context(), source, n, n+1, []store.Step{{Enroll: &store.Device{Name: "phone", Enrolled: Noon}}})
				if err != nil {
					s.t.Error(err)
					return
				}
				if won {
					taken.Add(1)
				}
			}
		})
	}
	servers.Wait()
	if n := taken.Load(); n != events {
		s.t.Errorf("%d events were taken %d times", events, n)
	}
	if v := s.device("phone"); !v.Enrolled.Equal(Noon.Add((events - 1) * time.Microsecond)) {
		s.t.Errorf("enrolled at %v", v.Enrolled)
	}
}
