package session

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// Info about a session that is up.
type Info struct {
	// ID stays the same while the IKE SA is rekeyed; the first octet is the
	// number of the session's shard.
	ID lease.SessionID
	// Summary as it is now: SPIs, algorithms and addresses follow what happens.
	// What is said of a Child SA is that of the oldest; zero if there is none.
	ike.Summary
	// Children are all Child SAs, the oldest first.
	Children    []Child
	Established time.Time

	// Traffic of all Child SAs, those that are gone included.
	Traffic
	// LastIn and LastOut are zero if no packet came or went.
	LastIn, LastOut time.Time
}

// infos is what others may know of the sessions that are up. Shards write it
// when something changes.
type infos struct {
	mu sync.Mutex
	m  map[lease.SessionID]*session
	// current session of each device, the one that came up last.
	current map[string]lease.SessionID
}

func (i *infos) set(s *session) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, had := i.m[s.id]; !had {
		i.current[s.card.device] = s.id
		i.m[s.id] = s
	}
}

func (i *infos) remove(id lease.SessionID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s := i.m[id]; s != nil && i.current[s.card.device] == id {
		delete(i.current, s.card.device)
	}
	delete(i.m, id)
}

func (i *infos) len() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.m)
}

// known is what there was to know of a session.
type known struct {
	card  card
	usage usage
}

func (i *infos) ids() []lease.SessionID {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Keys(i.m))
}

// listed at once are so many sessions: shards wait meanwhile.
const listedAtOnce = 256

func (i *infos) list() []known {
	ids := i.ids()
	list := make([]known, 0, len(ids))
	for chunk := range slices.Chunk(ids, listedAtOnce) {
		i.mu.Lock()
		for _, id := range chunk {
			if s := i.m[id]; s != nil {
				list = append(list, known{s.card.copied(), s.account.read()})
			}
		}
		i.mu.Unlock()
	}
	return list
}

// of a device, by its name.
func (i *infos) of(device string) (k known, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s := i.m[i.current[device]]; s != nil {
		return known{s.card.copied(), s.account.read()}, true
	}
	return known{}, false
}

// is says whether a session that is up is one of a device.
func (i *infos) is(id lease.SessionID, device string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.m[id]
	return s != nil && s.card.device == device
}

func (k *known) info() Info {
	i, u := k.card.info(), &k.usage
	i.Traffic, i.LastIn, i.LastOut = u.Traffic, u.LastIn, u.LastOut
	return i
}

// Session of a device, with counters that are up to two seconds old.
func (s *Server) Session(device string) (Info, bool) {
	k, ok := s.infos.of(device)
	if !ok {
		return Info{}, false
	}
	return k.info(), true
}

// End a session of a device as Kill does, and no newer one of it. False if there
// is none.
func (s *Server) End(device string, id lease.SessionID) bool {
	if !s.infos.is(id, device) {
		return false
	}
	s.order(closeOrder{id: id, reason: ike.CloseKilled})
	return true
}

// Sessions returns the sessions that are up, oldest first, with the counters
// of now. It may be called from any goroutine, at any time.
func (s *Server) Sessions() []Info {
	s.meter.read()
	known := s.infos.list()
	list := make([]Info, len(known))
	for i, k := range known {
		list[i] = k.info()
	}
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
			s.order(closeOrder{id: info.ID, reason: ike.CloseKilled})
		}
	}
	return n
}
