package enroll

import "sync"

// Metrics since the start.
type Metrics struct {
	Requests  uint64 // made
	Enrolled  uint64 // certificates for requests
	Again     uint64 // the same certificate again
	Renewed   uint64
	Certified uint64 // certificates that are not a device's
	Revoked   uint64
	Closed    uint64
	Expired   uint64 // requests
	Refused   map[Reason]uint64
	Failed    uint64 // applications that could not be decided
	// Unrecorded refusals, because too many came at once.
	Unrecorded uint64
	// Sources is how many source prefixes are counted at the moment.
	Sources int
}

type counters struct {
	mu sync.Mutex
	m  Metrics
}

func (c *counters) add(f func(*Metrics)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.m)
}

// Metrics of this process.
func (s *Service) Metrics() Metrics {
	s.counters.mu.Lock()
	m := s.counters.m
	m.Refused = make(map[Reason]uint64, len(Reasons))
	for _, r := range Reasons {
		m.Refused[r] = s.counters.m.Refused[r]
	}
	s.counters.mu.Unlock()
	m.Sources = s.sources.len()
	return m
}
