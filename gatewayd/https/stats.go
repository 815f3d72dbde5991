package https

import "sync/atomic"

// Stats of a server since it was made.
type Stats struct {
	// Open connections; Accepted ones, those Refused because their source or all
	// had too many, those Evicted for others.
	Open, Accepted, Refused, Evicted uint64
	// Requests by the first digit of their status, 2 to 5; those Limited by the
	// rate of their source and those TooLarge were not handled.
	Requests          [6]uint64
	Limited, TooLarge uint64
}

type counters struct {
	accepted, refused, evicted atomic.Uint64
	limited, tooLarge          atomic.Uint64
	requests                   [6]atomic.Uint64
}

func (c *counters) request(status int) {
	if d := status / 100; d >= 2 && d <= 5 {
		c.requests[d].Add(1)
	}
}

// Stats as they are now.
func (s *Server) Stats() Stats {
	s.gate.mu.Lock()
	open := uint64(len(s.gate.open))
	s.gate.mu.Unlock()
	st := Stats{
		Open: open, Accepted: s.stats.accepted.Load(), Refused: s.stats.refused.Load(), Evicted: s.stats.evicted.Load(),
		Limited: s.stats.limited.Load(), TooLarge: s.stats.tooLarge.Load(),
	}
	for i := range st.Requests {
		st.Requests[i] = s.stats.requests[i].Load()
	}
	return st
}
