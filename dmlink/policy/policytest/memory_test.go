package policytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Feeder { return NewMemory() })
}

// Several engines, as of several servers, share the devices while documents
// change and devices answer: in the end each device has what the last one says.
func TestEnginesShareTheWork(t *testing.T) {
	const devices, versions = 50, 10
	s := NewMemory()
	for i := range devices {
		s.PutDevice(t, policy.Facts{ID: fmt.Sprint(i), Unit: []string{"corp", "corp/sales"}[i%2], Groups: []string{"field"}})
	}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	engine := func() *policy.Engine { return policy.NewEngine(s, policy.Config{}) }
	for range 3 {
		e := engine()
		group.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.Refresh(ctx, 7); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
					return
				}
			}
		})
	}
	admin := engine()
	for v := range versions {
		if _, err := admin.Apply(t.Context(), document(fmt.Sprint(v)), int64(v), "admin", ""); err != nil {
			t.Fatal(err)
		}
		for i := range devices {
			checkIn(t, s, fmt.Sprint(i), i%3)
		}
	}
	stop()
	group.Wait()
	for range 4 {
		for n := 1; n > 0; {
			var err error
			if n, err = admin.Refresh(t.Context(), devices); err != nil {
				t.Fatal(err)
			}
		}
		for i := range devices {
			checkIn(t, s, fmt.Sprint(i), 0)
		}
	}
	for i := range devices {
		x, err := admin.Explain(t.Context(), fmt.Sprint(i))
		if err != nil || x.Version != versions {
			t.Fatalf("%+v, %v", x, err)
		}
		for uri, n := range x.Nodes {
			if n.Progress != policy.Confirmed {
				t.Errorf("device %d: %s is %s", i, uri, n.Progress)
			}
		}
	}
}

// checkIn answers what waits; with leave, so many of the first are claimed and
// not answered. What another engine has taken away in the meantime is skipped.
func checkIn(t *testing.T, s *Memory, id string, leave int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[id]
	for i := len(d.waiting) - 1; i >= 0; i-- {
		k := d.waiting[i]
		d.claimed[k.ID] = true
		d.change++
		if i < leave {
			continue
		}
		d.waiting = append(d.waiting[:i:i], d.waiting[i+1:]...)
		delete(d.claimed, k.ID)
		d.outcomes, d.at = append(d.outcomes, session.Outcome{Task: k.ID, Code: 200}), time.Unix(1, 0)
		s.mark(d)
	}
}
