package session

import (
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

const (
	// meterPeriod is how old figures may be, except those that Sessions gives.
	meterPeriod = 2 * time.Second
	// meterChunk is how many Child SAs are added up before others have a turn.
	meterChunk = 1024
)

// Traffic counts inner packets and their bytes: in from devices, out to them.
type Traffic struct {
	BytesIn    uint64 `json:"bytes_in"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesOut   uint64 `json:"bytes_out"`
	PacketsOut uint64 `json:"packets_out"`
}

func (t *Traffic) add(u Traffic) {
	t.BytesIn += u.BytesIn
	t.PacketsIn += u.PacketsIn
	t.BytesOut += u.BytesOut
	t.PacketsOut += u.PacketsOut
}

// usage is what all Child SAs of a session carried so far.
type usage struct {
	Traffic
	LastIn, LastOut time.Time
}

// account keeps a session's usage.
type account struct {
	session lease.SessionID
	home    *slab.Chunk[account]
	// children that count for it, and whether there will be no more; meter.mu.
	children int32
	closed   bool

	mu  sync.Mutex
	sum usage
	// watched: the shard knows that a packet may be unanswered, and looks by itself.
	watched bool
}

func (a *account) read() usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sum
}

// watch is read for liveness: unless a packet went out after anything was heard,
// the shard has no reason to look again before add says so.
func (a *account) watch(heard time.Time) usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watched = unanswered(latest(heard, a.sum.LastIn), a.sum.LastOut)
	return a.sum
}

// add says whether the shard is to be told of a packet that may be unanswered.
func (a *account) add(t Traffic, lastIn, lastOut time.Time) (tell bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sum.add(t)
	tell = !a.watched && lastOut.After(a.sum.LastOut) && unanswered(latest(a.sum.LastIn, lastIn), lastOut)
	a.sum.LastIn, a.sum.LastOut = latest(a.sum.LastIn, lastIn), latest(a.sum.LastOut, lastOut)
	a.watched = a.watched || tell
	return tell
}

// meter adds up the counters of Child SAs, which go with them, to figures that
// only grow.
type meter struct {
	backend dataplane.Backend
	// unanswered is told of sessions to which packets went after anything came from
	// them, once each until their shard has looked.
	unanswered func([]lease.SessionID)

	reading sync.Mutex // one reading at a time; taken before mu
	batch   []dataplane.ChildCounters
	began   time.Time // of the last reading

	mu       sync.Mutex
	total    Traffic
	children map[dataplane.SPI]*metered // those of sessions that are up
	// Where they are.
	accounts slab.Of[account]
	metered  slab.Of[metered]
}

// metered is a Child SA at the last reading.
type metered struct {
	account *account
	home    *slab.Chunk[metered]
	last    Traffic
}

func newMeter(b dataplane.Backend, unanswered func([]lease.SessionID)) *meter {
	return &meter{backend: b, unanswered: unanswered, children: make(map[dataplane.SPI]*metered)}
}

// recent is a backend that finds by itself whose counters may have changed since.
type recent interface {
	CountersSince(since time.Time, yield func(dataplane.ChildCounters) bool)
}

// open an account.
func (m *meter) open(session lease.SessionID) *account {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, home := m.accounts.Get()
	a.session, a.home = session, home
	return a
}

// close an account: nobody reads it any more. It goes with the last Child SA that
// counts for it.
func (m *meter) close(a *account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.closed = true
	a.settle()
}

// settle gives an account back that nothing needs; meter.mu is held.
func (a *account) settle() {
	if a.closed && a.children == 0 {
		a.home.Put(a)
	}
}

// add lets a Child SA count for an account.
func (m *meter) add(spi dataplane.SPI, a *account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(spi)
	child, home := m.metered.Get()
	child.account, child.home = a, home
	a.children++
	m.children[spi] = child
}

// drop a Child SA that is known; mu is held.
func (m *meter) drop(spi dataplane.SPI) {
	child := m.children[spi]
	if child == nil {
		return
	}
	a := child.account
	child.home.Put(child)
	delete(m.children, spi)
	a.children--
	a.settle()
}

// remove forgets a Child SA; what it carried in all stays counted. final is zero
// if the data plane didn't know it any more.
func (m *meter) remove(spi dataplane.SPI, final *dataplane.ChildCounters) {
	m.mu.Lock()
	var tell []lease.SessionID
	if child := m.children[spi]; child != nil && m.count(child, final) {
		tell = append(tell, child.account.session)
	}
	m.drop(spi)
	m.mu.Unlock()
	if tell != nil {
		m.unanswered(tell)
	}
}

func (m *meter) sum() Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// read takes a reading.
func (m *meter) read() {
	m.reading.Lock()
	defer m.reading.Unlock()
	// Most carry nothing most of the time, and looking for their accounts is what a
	// reading costs. What came after the last reading began wasn't read; a period
	// more is for clocks of whole seconds, and for who was not added yet.
	since := m.began.Add(-meterPeriod)
	m.began = time.Now()
	m.batch = m.batch[:0]
	take := func(c dataplane.ChildCounters) bool {
		if !quiet(&c, since) {
			m.batch = append(m.batch, c)
		}
		return true
	}
	if b, ok := m.backend.(recent); ok {
		b.CountersSince(since, take)
	} else {
		m.backend.Counters(take)
	}
	for chunk := range slices.Chunk(m.batch, meterChunk) {
		m.fold(chunk)
	}
}

// quiet: nothing was carried since, by the times that are told.
func quiet(c *dataplane.ChildCounters, since time.Time) bool {
	if last := latest(c.LastIn, c.LastOut); !last.IsZero() {
		return last.Before(since)
	}
	return c.PacketsIn|c.PacketsOut|c.BytesIn|c.BytesOut == 0
}

func (m *meter) fold(counters []dataplane.ChildCounters) {
	if tell := m.countAll(counters); len(tell) > 0 {
		m.unanswered(tell)
	}
}

func (m *meter) countAll(counters []dataplane.ChildCounters) (tell []lease.SessionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range counters {
		if child := m.children[counters[i].Inbound]; child != nil && m.count(child, &counters[i]) {
			tell = append(tell, child.account.session)
		}
	}
	return tell
}

// count adds what a Child SA carried since the last reading; see account.add. mu
// is held.
func (m *meter) count(child *metered, c *dataplane.ChildCounters) (tell bool) {
	more := Traffic{
		BytesIn: c.BytesIn, PacketsIn: c.PacketsIn, BytesOut: c.BytesOut, PacketsOut: c.PacketsOut,
	}.since(child.last)
	child.last.add(more)
	m.total.add(more)
	return child.account.add(more, c.LastIn, c.LastOut)
}

// since is what was added to u; nothing where a counter is behind, because its
// reading is older.
func (t Traffic) since(u Traffic) Traffic {
	return Traffic{
		BytesIn: t.BytesIn - min(u.BytesIn, t.BytesIn), PacketsIn: t.PacketsIn - min(u.PacketsIn, t.PacketsIn),
		BytesOut: t.BytesOut - min(u.BytesOut, t.BytesOut), PacketsOut: t.PacketsOut - min(u.PacketsOut, t.PacketsOut),
	}
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// earliest of the times that are set; zero if none is.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
