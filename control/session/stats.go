package session

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
)

// Stats of a server. HalfOpen and Established are gauges, all else only grows.
type Stats struct {
	// HalfOpen counts IKE SAs that are being set up, and those that linger after
	// they failed to be; not those that linger after a session.
	HalfOpen, Established int
	// Initiated counts IKE_SA_INIT requests that got a machine.
	Initiated, EstablishedTotal uint64
	Closed                      map[ike.CloseReason]uint64
	Notes                       map[ike.Note]uint64
	// Refused by the admission policy, by the name of its reason; all names are
	// there.
	Refused map[string]uint64
	// Drops by the names of gate.Reason and Reason; all names are there. What
	// the gate answered instead of passing it on is among them.
	Drops map[string]uint64
	// Events of the data plane: "address_changed", "unknown_spi", "soft_limit",
	// "hard_limit", "expired"; and "address_hint", an address change that the
	// peer was asked about, of which "address_hint_confirmed" came true.
	Events map[string]uint64
	// Legacy counts sessions by each legacy algorithm that they use.
	Legacy map[string]uint64
	// RekeyedIKE counts IKE SAs that another one took over from, Moved the
	// changes of a session's path.
	RekeyedIKE, Moved uint64
	// Traffic of all sessions, as of some seconds ago at most.
	Traffic
	// Tickets by the names of TicketResult; all names are there.
	Tickets map[string]uint64
	// Work is how many computations of each kind the workers did: "key exchange",
	// "verify" and "sign", by public keys all of them.
	Work map[string]uint64
	// Handshake is the time from IKE_SA_INIT to an established session, in
	// seconds.
	Handshake Histogram
}

// Histogram of durations.
type Histogram struct {
	// Bounds in seconds, the upper ends of buckets, included.
	Bounds []float64
	// Counts of each bucket alone, and as the last one of what lies above.
	Counts []uint64
	// Sum in seconds.
	Sum float64
}

var handshakeBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// stats is counted by all goroutines.
type stats struct {
	initiated, rekeyedIKE, moved atomic.Uint64

	gateDrops [gate.NumReasons]atomic.Uint64
	drops     [NumReasons]atomic.Uint64
	refusals  [admit.NumReasons]atomic.Uint64

	mu        sync.Mutex
	total     uint64 // established
	closings  map[ike.CloseReason]uint64
	notes     map[ike.Note]uint64
	events    map[string]uint64
	legacy    map[string]uint64
	work      map[string]uint64
	handshake Histogram
}

func newStats() *stats {
	return &stats{
		closings: make(map[ike.CloseReason]uint64),
		notes:    make(map[ike.Note]uint64),
		events: map[string]uint64{
			eventCrashToken: 0, eventAddressChanged: 0, eventHint: 0, eventHintConfirmed: 0,
			eventUnknownSPI: 0, eventSoftLimit: 0, eventHardLimit: 0, eventExpired: 0,
		},
		legacy:    make(map[string]uint64),
		work:      make(map[string]uint64),
		handshake: Histogram{Bounds: handshakeBounds, Counts: make([]uint64, len(handshakeBounds)+1)},
	}
}

func (st *stats) drop(r Reason)            { st.drops[r].Add(1) }
func (st *stats) gateDrop(r gate.Reason)   { st.gateDrops[r].Add(1) }
func (st *stats) refused(r admit.Reason)   { st.refusals[r].Add(1) }
func (st *stats) closed(r ike.CloseReason) { count(st, st.closings, r) }
func (st *stats) note(n ike.Note)          { count(st, st.notes, n) }
func (st *stats) event(name string)        { count(st, st.events, name) }
func (st *stats) worked(name string)       { count(st, st.work, name) }

func count[K comparable](st *stats, m map[K]uint64, k K) {
	st.mu.Lock()
	defer st.mu.Unlock()
	m[k]++
}

func (st *stats) established(took time.Duration, legacy []string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.total++
	i, _ := slices.BinarySearch(st.handshake.Bounds, took.Seconds())
	st.handshake.Counts[i]++
	st.handshake.Sum += took.Seconds()
	for _, name := range legacy {
		st.legacy[name]++
	}
}

// Stats may be called from any goroutine, at any time.
func (s *Server) Stats() Stats {
	st := s.stats
	out := Stats{
		HalfOpen:    s.gate.HalfOpen(),
		Established: s.infos.len(),
		Initiated:   st.initiated.Load(),
		RekeyedIKE:  st.rekeyedIKE.Load(),
		Moved:       st.moved.Load(),
		Traffic:     s.meter.sum(),
		Tickets:     s.tickets.counts(),
		Refused:     make(map[string]uint64, admit.NumReasons),
		Drops:       make(map[string]uint64, gate.NumReasons+NumReasons),
	}
	for r := range admit.Reason(admit.NumReasons) {
		out.Refused[r.String()] = st.refusals[r].Load()
	}
	for r := gate.ReasonNone + 1; int(r) < gate.NumReasons; r++ {
		out.Drops[r.String()] = st.gateDrops[r].Load()
	}
	for r := range Reason(NumReasons) {
		out.Drops[r.String()] = st.drops[r].Load()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	out.EstablishedTotal = st.total
	out.Closed, out.Notes, out.Events = maps.Clone(st.closings), maps.Clone(st.notes), maps.Clone(st.events)
	out.Legacy, out.Work = maps.Clone(st.legacy), maps.Clone(st.work)
	out.Handshake = st.handshake
	out.Handshake.Counts = slices.Clone(st.handshake.Counts)
	return out
}
