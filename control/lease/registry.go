package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// saveChunk bounds the transaction that writes times of last use, and
	// listChunk what List reads at once, so that requests don't wait long.
	saveChunk = 1024
	listChunk = 1024
)

// SessionID names a session of the caller's. 0 is none.
type SessionID uint64

// Request for an address.
type Request struct {
	// Device is the identity that was authenticated: 1 to 1,024 octets. The string is
	// kept: it isn't a piece of something large.
	Device string
	// Session that asks.
	Session SessionID
	// Family of the address. A session that wants one of each family asks
	// twice, the second time with Additional.
	Family Family
	// Want is the address the client asks for, or the zero Addr. It is a wish:
	// one of the other family or outside the pools is as good as none, and so is
	// a second one within an hour.
	Want netip.Addr
	// Entitled: a gateway has given Want to the device before, this one or one
	// that hands out Config.Neighbours, and says so itself. It is granted if it is
	// free, however often, and may lie in the neighbours' pools.
	Entitled bool
	// Assigned: Want is the device's alone, says somebody who assigns addresses
	// to devices wherever they connect. It is granted and no other one, and may
	// lie in the neighbours' pools. While another session uses it, or a session
	// of this device another address, the request waits for that session's end.
	Assigned bool
	// Evict is told of a session that an Assigned request waits for, from the
	// registry's goroutine. It must not block, and see to it that End is called.
	Evict func(SessionID)
	// Additional: the session is the current one and asks for an address
	// beside the one it has. If it was displaced meanwhile the answer is
	// ErrNotCurrent, so that it can't displace its successor.
	Additional bool
}

func (q Request) check() error {
	switch {
	case q.Device == "":
		return fmt.Errorf("%w: no device", ErrInvalid)
	case len(q.Device) > maxDevice:
		return fmt.Errorf("%w: device name of %d octets, at most %d", ErrInvalid, len(q.Device), maxDevice)
	case q.Session == 0:
		return fmt.Errorf("%w: no session", ErrInvalid)
	case q.Family >= numFamilies:
		return fmt.Errorf("%w: unknown family %d", ErrInvalid, q.Family)
	case q.Assigned && (!q.Want.IsValid() || q.Want.Is4In6() || familyOf(q.Want) != q.Family || q.Evict == nil):
		return fmt.Errorf("%w: %v is assigned, want an %v address and Evict", ErrInvalid, q.Want, q.Family)
	}
	return nil
}

// Grant answers a Request.
type Grant struct {
	Address netip.Addr
	// Displaced is the session that was the device's current one until now and
	// that the caller must close; 0 if there was none. It is reported once.
	Displaced SessionID
	// New: the device didn't have this address before.
	New bool
}

// Lease is an address that belongs to a device.
type Lease struct {
	Device  string
	Address netip.Addr
	// Live: Session is the device's current session. Otherwise it is 0.
	Live    bool
	Session SessionID
	// Since is when the address was assigned.
	Since time.Time
	// LastUsed is when the last session ended, or when the live one began.
	LastUsed time.Time
}

// Stats of a Registry. Counters start at 0 with Open.
type Stats struct {
	// Capacity of the pools by family, in addresses; math.MaxUint64 also
	// stands for more than that.
	Capacity [numFamilies]uint64
	// Assigned leases, and those of them that lie outside the pools.
	Assigned, Outside int
	// Live devices, those with a current session.
	Live int
	// Exhausted and Busy count answers of ErrExhausted and ErrBusy.
	Exhausted, Busy uint64
	// Displaced sessions.
	Displaced uint64
	// Reassigned addresses: taken from an idle device because none was free.
	Reassigned uint64
	// Writes are transactions on disk, WriteErrors those that failed.
	Writes, WriteErrors uint64
}

// Registry of leases. All methods may be called from any goroutine; one
// goroutine, loop, owns the table and the file.
type Registry struct {
	path         string
	queue        int
	saveInterval time.Duration
	busy         atomic.Uint64
	stats        atomic.Pointer[Stats]
	wake         chan struct{} // capacity 1
	done         chan struct{} // closed when loop has ended
	closeErr     error         // to be read after done

	mu       sync.Mutex // guards what follows; never held during a call or I/O
	waiting  []task     // in the order in which they came
	requests int        // of these, those that count against queue
	closed   bool

	// Owned by loop.
	config              Config
	table               *table
	parked              []task           // requests that wait for the end of a session
	store               *store           // nil: memory only
	unsaved             map[key]struct{} // a failed transaction may or may not have written these
	writes, writeErrors uint64
}

// task is what waits for the loop: a request, a release or an end that make up
// a batch, or a call that is made between batches.
type task struct {
	request  Request
	answer   func(Grant, error) // request
	released chan<- error       // release of request.Device
	call     func()             // call; none of the three: end of request.Session
	waits    SessionID          // request: whose end it waits for
}

// Open starts a registry whose leases are kept in the file at path, which is
// made, for its owner only, if there is none. With path "" they are kept in
// memory only. Errors: ErrConfig, ErrLocked, ErrForeign, ErrVersion,
// ErrCorrupt, and those of the file system.
func Open(path string, cfg Config) (*Registry, error) {
	spaces, err := cfg.build()
	if err != nil {
		return nil, err
	}
	r := &Registry{
		path:         path,
		queue:        cfg.Queue,
		saveInterval: cfg.SaveInterval,
		wake:         make(chan struct{}, 1),
		done:         make(chan struct{}),
		config:       cfg.clone(),
		table:        newTable(spaces),
		unsaved:      make(map[key]struct{}),
	}
	if r.queue == 0 {
		r.queue = defaultQueue
	}
	if r.saveInterval == 0 {
		r.saveInterval = defaultSaveInterval
	}
	if path != "" {
		if r.store, err = openStore(path, r.table); err != nil {
			return nil, err
		}
	}
	r.table.rebuild(spaces)
	r.publish()
	go r.loop()
	return r, nil
}

// Acquire asks for an address and makes the session the device's current one.
// The answer comes once: from the registry's goroutine, after what changed is
// on disk, in the order of the calls; ErrInvalid, ErrBusy and ErrClosed come
// before Acquire returns. answer must not block, and must not call methods that
// wait: Release, List, Reconfigure, Close. Errors: those of a request in
// errors.go.
//
// For each session that was granted an address, End is called when it is over.
func (r *Registry) Acquire(req Request, answer func(Grant, error)) {
	err := req.check()
	if err == nil {
		err = r.enqueue(task{request: req, answer: answer})
	}
	if err != nil {
		answer(Grant{}, err)
	}
}

// End says that the session is over. It is ignored unless the session is the
// device's current one. The lease stays with the device.
func (r *Registry) End(device string, s SessionID) {
	// After Close there is nothing to end.
	_ = r.enqueue(task{request: Request{Device: device, Session: s}})
}

// Release forgets what is assigned to an idle device. Errors:
// ErrUnknownDevice, ErrInUse, ErrStore, ErrClosed.
func (r *Registry) Release(device string) error {
	released := make(chan error, 1)
	if err := r.enqueue(task{request: Request{Device: device}, released: released}); err != nil {
		return err
	}
	return <-released
}

// Reconfigure changes the pools and what is excluded from them; nothing, if
// there is an error. Leases outside the new pools stay while their session
// lives. Errors: ErrConfig, ErrClosed. It looks at every lease, which holds up
// requests for up to a second a million.
func (r *Registry) Reconfigure(cfg Config) error {
	spaces, err := cfg.build()
	if err != nil {
		return err
	}
	cfg = cfg.clone()
	return r.do(func() {
		if !r.config.samePools(cfg) {
			r.config = cfg
			r.table.rebuild(spaces)
		}
	})
}

// List returns the leases by address. Requests go on meanwhile, so that leases
// may be from slightly different moments. After Close it is empty.
func (r *Registry) List() []Lease {
	byAddress := make(map[netip.Addr]Lease)
	var keys []key
	if r.do(func() { keys = slices.AppendSeq(make([]key, 0, len(r.table.leases)), maps.Keys(r.table.leases)) }) != nil {
		return nil
	}
	for chunk := range slices.Chunk(keys, listChunk) {
		err := r.do(func() {
			for _, k := range chunk {
				if l := r.table.leases[k]; l != nil && l.device != nil {
					byAddress[k.addr()] = l.export()
				}
			}
		})
		if err != nil {
			return nil
		}
	}
	return slices.SortedFunc(maps.Values(byAddress), func(a, b Lease) int { return a.Address.Compare(b.Address) })
}

func (l *lease) export() Lease {
	return Lease{
		Device:   l.device.name,
		Address:  l.key.addr(),
		Live:     l.live(),
		Session:  l.device.session,
		Since:    time.Unix(0, l.since),
		LastUsed: time.Unix(0, l.used),
	}
}

// Stats returns figures as of the last batch. It doesn't wait, not for the disk
// either.
func (r *Registry) Stats() Stats {
	s := *r.stats.Load()
	s.Busy = r.busy.Load()
	return s
}

// Close answers what waits, writes what is to be written and closes the file.
// A second call waits for the same and returns the same.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.notify()
	<-r.done
	return r.closeErr
}

// enqueue hands a task to the loop. Only requests are refused when many wait:
// a lost end would leave an address live for ever, and there are no more ends
// than grants.
func (r *Registry) enqueue(t task) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	if t.answer != nil {
		if r.requests >= r.queue {
			r.busy.Add(1)
			return ErrBusy
		}
		r.requests++
	}
	r.waiting = append(r.waiting, t)
	r.notify()
	return nil
}

func (r *Registry) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// do has the loop make a call and waits for it, and for Stats to show what it
// changed.
func (r *Registry) do(call func()) error {
	made := make(chan struct{})
	err := r.enqueue(task{call: func() {
		defer close(made)
		call()
		r.publish()
	}})
	if err != nil {
		return err
	}
	<-made
	return nil
}
