package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
)

// wipe that ends in an hour.
func (s *suite) orderWipe(device string) (command, task string) {
	s.t.Helper()
	k := s.order(session.OnceOnly, exec("./Vendor/MSFT/RemoteWipe/doWipe"))
	k.Kind, k.Closes = "wipe", true
	return s.put(k, device)
}

func (s *suite) wipe(device string, want store.WipeState) store.Wipe {
	s.t.Helper()
	w, err := s.Wipe(s.t.Context(), device)
	s.must(err)
	if w.State != want {
		s.t.Errorf("wipe of %s is %s, want %s", device, w.State, want)
	}
	return w
}

func (s *suite) wipeConfirmed() {
	ctx := s.t.Context()
	v := s.enroll("a")
	other, otherTask := s.put(s.order(session.Idempotent, exec("./A")), "a")
	command, task := s.orderWipe("a")
	s.wipe("a", store.WipeOrdered)
	if !s.claim("a", command, 0) || !s.claim("a", other, 0) {
		s.t.Fatal("not granted")
	}
	// Refused: the device stays as it is until the order expires.
	refused, _ := s.orderWipe("a")
	s.claim("a", refused, 0)
	s.record("a", session.Outcome{Task: refused, State: session.Answered, Code: 500})
	s.wipe("a", store.WipeOrdered)
	for range 2 {
		s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 200})
	}
	w := s.wipe("a", store.WipeClosing)
	if w.Reason != store.WipedReason || !w.Enrolled.Equal(v.Enrolled) {
		s.t.Errorf("wipe %+v", w)
	}
	s.state(task, "a", store.Answered)
	s.state(otherTask, "a", store.Cancelled)
	if d, err := s.Device(ctx, "a"); err != nil || d.Open {
		s.t.Errorf("device %+v, %v", d, err)
	}
	events, err := s.Outbox(ctx, 0, 0)
	s.must(err)
	if len(events) != 1 || events[0].Device != "a" || events[0].Reason != store.WipedReason {
		s.t.Errorf("outbox %+v", events)
	}
	// Somebody takes the rest, fails, crashes, and it is done at last.
	take := func(want int) []store.Wipe {
		s.t.Helper()
		all, err := s.TakeWipes(ctx, time.Minute, 10)
		s.must(err)
		if len(all) != want {
			s.t.Fatalf("took %+v, want %d", all, want)
		}
		return all
	}
	w = take(1)[0]
	take(0)
	s.must(s.DelayWipe(ctx, w, s.clock.Now().Add(time.Hour), errors.New("no answer")))
	s.clock.Add(time.Minute)
	take(0)
	s.clock.Add(time.Hour)
	take(1) // and crashes
	s.clock.Add(time.Minute)
	w = take(1)[0]
	if w.Tries != 3 || w.Trouble != "no answer" {
		s.t.Errorf("third try: %+v", w)
	}
	for range 2 {
		s.must(s.EndWipe(ctx, w))
	}
	s.clock.Add(time.Hour)
	take(0)
	if w = s.wipe("a", store.WipeClosed); w.Closed.IsZero() {
		s.t.Errorf("wipe %+v", w)
	}
	if n, err := s.ExpireWipes(ctx, 0); err != nil || n != 0 {
		s.t.Errorf("expired %d, %v", n, err)
	}
}

// A device that never said so is closed all the same.
func (s *suite) wipeExpired() {
	ctx := s.t.Context()
	s.enroll("a")
	s.enroll("b")
	_, unsent := s.orderWipe("a")
	command, sent := s.orderWipe("b")
	s.claim("b", command, 0)
	// Nor one whose answer got lost, of which a session has said so.
	s.enroll("c")
	lost, asked := s.orderWipe("c")
	s.claim("c", lost, 0)
	s.record("c", session.Outcome{Task: lost, State: session.Unknown})
	s.wipe("c", store.WipeOrdered)
	if n, err := s.ExpireWipes(ctx, 0); err != nil || n != 0 {
		s.t.Errorf("expired %d before the end, %v", n, err)
	}
	s.clock.Add(time.Hour)
	if n, err := s.ExpireWipes(ctx, 1); err != nil || n != 1 {
		s.t.Errorf("expired %d, %v", n, err)
	}
	if n, err := s.ExpireWipes(ctx, 0); err != nil || n != 2 {
		s.t.Errorf("expired %d, %v", n, err)
	}
	s.state(asked, "c", store.Unknown)
	if w := s.wipe("c", store.WipeClosing); w.Reason != store.ExpiredReason {
		s.t.Errorf("wipe %+v", w)
	}
	s.state(unsent, "a", store.Cancelled)
	s.state(sent, "b", store.Unknown)
	if w := s.wipe("a", store.WipeClosing); w.Reason != store.ExpiredReason {
		s.t.Errorf("wipe %+v", w)
	}
	// Its word comes too late to change that, and is kept.
	s.record("b", session.Outcome{Task: command, State: session.Answered, Code: 200})
	s.state(sent, "b", store.Answered)
	if w := s.wipe("b", store.WipeClosing); w.Reason != store.ExpiredReason {
		s.t.Errorf("wipe %+v", w)
	}
	if events, err := s.Outbox(ctx, 0, 0); err != nil || len(events) != 3 {
		s.t.Errorf("outbox %+v, %v", events, err)
	}
}

// Whoever enrolls anew isn't ended by what was ordered before.
func (s *suite) wipeAnew() {
	ctx := s.t.Context()
	s.enroll("a")
	command, _ := s.orderWipe("a")
	s.claim("a", command, 0)
	s.clock.Add(time.Minute)
	s.enroll("a")
	_, err := s.Wipe(ctx, "a")
	s.want(err, store.ErrNotFound)
	s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 200})
	if v, err := s.Device(ctx, "a"); err != nil || !v.Open {
		s.t.Errorf("an old wipe closed the new enrollment: %+v, %v", v, err)
	}
	// And the other way: wiped, closed, enrolled, wiped again.
	for range 2 {
		s.clock.Add(time.Minute)
		s.enroll("a")
		command, _ = s.orderWipe("a")
		s.claim("a", command, 0)
		s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 200})
		s.wipe("a", store.WipeClosing)
	}
	// Cancelled in time.
	s.clock.Add(time.Minute)
	s.enroll("a")
	_, task := s.orderWipe("a")
	_, err = s.Cancel(ctx, task)
	s.must(err)
	s.clock.Add(2 * time.Hour)
	if n, err := s.ExpireWipes(ctx, 0); err != nil || n != 0 {
		s.t.Errorf("a cancelled wipe expired: %d, %v", n, err)
	}
}

// The order was taken back when the device had it already.
func (s *suite) wipeCancelled() {
	ctx := s.t.Context()
	s.enroll("a")
	command, task := s.orderWipe("a")
	s.claim("a", command, 0)
	_, err := s.Cancel(ctx, task)
	s.must(err)
	_, err = s.Wipe(ctx, "a")
	s.want(err, store.ErrNotFound)
	s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 200})
	if w := s.wipe("a", store.WipeClosing); w.Task != task {
		s.t.Errorf("wipe %+v", w)
	}
	if v, err := s.Device(ctx, "a"); err != nil || v.Open {
		s.t.Errorf("device %+v, %v", v, err)
	}
}

// Several servers take each wipe once.
func (s *suite) wipesShared() {
	const devices = 40
	for i := range devices {
		name := fmt.Sprint("d", i)
		s.enroll(name)
		command, _ := s.orderWipe(name)
		s.claim(name, command, 0)
		s.record(name, session.Outcome{Task: command, State: session.Answered, Code: 200})
	}
	var mu sync.Mutex
	taken := map[string]int{}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				all, err := s.TakeWipes(s.t.Context(), time.Minute, 3)
				if err != nil {
					s.t.Error(err)
					return
				}
				if len(all) == 0 {
					return
				}
				mu.Lock()
				for _, w := range all {
					taken[w.Device]++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for i := range devices {
		if n := taken[fmt.Sprint("d", i)]; n > 1 {
			s.t.Errorf("d%d was taken %d times", i, n)
		}
	}
	// What one server skipped because another one had it locked comes next time.
	for {
		all, err := s.TakeWipes(s.t.Context(), time.Minute, 100)
		s.must(err)
		if len(all) == 0 {
			break
		}
		for _, w := range all {
			taken[w.Device]++
		}
	}
	if len(taken) != devices {
		s.t.Errorf("%d of %d were taken", len(taken), devices)
	}
}
