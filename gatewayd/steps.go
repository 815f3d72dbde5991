package main

import (
	"sync"

	"github.com/roamgate/roamgate/gatewayd/local"
)

// steps tells everybody who asks how the end of the gateway goes.
type steps struct {
	mu        sync.Mutex
	told      []local.Progress
	followers []chan local.Progress
	done      bool
}

// maxSteps that are told in one life; a follower's channel holds them all, so
// that telling never blocks.
const maxSteps = 64

// tell adds a step. Steps after maxSteps, and after one with Done, are not
// told.
func (s *steps) tell(p local.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || len(s.told) >= maxSteps-1 && !p.Done {
		return
	}
	s.told = append(s.told, p)
	s.done = p.Done
	for _, f := range s.followers {
		f <- p
		if p.Done {
			close(f)
		}
	}
}

// follow returns all steps, those told before included. The channel is closed
// after the one with Done.
func (s *steps) follow() <-chan local.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := make(chan local.Progress, maxSteps)
	for _, p := range s.told {
		f <- p
	}
	if s.done {
		close(f)
	} else {
		s.followers = append(s.followers, f)
	}
	return f
}
