package session

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// Info about a session that is up.
type Info struct {
	ID lease.SessionID
	ike.Summary
	Established time.Time

	// Counters of the Child SA; bytes are those of inner packets.
	BytesIn, PacketsIn   uint64
	BytesOut, PacketsOut uint64
	// LastIn and LastOut are zero if no packet came or went.
	LastIn, LastOut time.Time
}

// infos is what others may know of the sessions that are up. Shards write it
// when one comes or goes.
type infos struct {
	mu sync.Mutex
	m  map[lease.SessionID]Info
}

func (i *infos) set(info Info) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.m[info.ID] = info
}

func (i *infos) remove(id lease.SessionID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.m, id)
}

func (i *infos) len() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.m)
}

func (i *infos) list() []Info {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Values(i.m))
}

// Sessions returns the sessions that are up, oldest first, with the counters
// of now. It may be called from any goroutine, at any time.
func (s *Server) Sessions() []Info {
	list := s.infos.list()
	at := make(map[dataplane.SPI]*Info, len(list))
	for i := range list {
		at[list[i].Inbound] = &list[i]
	}
	s.backend.Counters(func(c dataplane.ChildCounters) bool {
		if info := at[c.Inbound]; info != nil {
			info.BytesIn, info.PacketsIn = c.BytesIn, c.PacketsIn
			info.BytesOut, info.PacketsOut = c.BytesOut, c.PacketsOut
			info.LastIn, info.LastOut = c.LastIn, c.LastOut
		}
		return true
	})
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(a.Established.Compare(b.Established), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Kill closes the sessions that match, telling their peers, and returns how
// many these are. It doesn't wait until they are gone.
func (s *Server) Kill(match func(Info) bool) int {
	n := 0
	for _, info := range s.Sessions() {
		if match(info) {
			n++
			s.order(closeOrder{spi: uint64(info.ID), reason: ike.CloseKilled})
		}
	}
	return n
}
