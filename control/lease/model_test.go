package lease

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// model is the package comment written as slow and simple as possible, for
// IPv4: it knows every address of the pools and looks at all of them each time.
type model struct {
	usable []netip.Addr // in the order of use
	owner  map[netip.Addr]string
	unused map[netip.Addr]int64 // since when; absent: never assigned
	live   map[string]SessionID
	// wished: when a device last left an address for the one it asked for.
	wished map[string]int64
	// at: what stands before it in usable was assigned, some since forgotten.
	at      int
	forgot  bool
	maxFree int
}

func newModel(usable []netip.Addr) *model {
	return &model{
		usable:  usable,
		owner:   make(map[netip.Addr]string),
		unused:  make(map[netip.Addr]int64),
		live:    make(map[string]SessionID),
		wished:  make(map[string]int64),
		maxFree: maxFree,
	}
}

// reconfigure looks from the first address on again.
func (m *model) reconfigure(usable []netip.Addr) {
	m.usable, m.at, m.forgot = usable, 0, false
	m.never()
}

// never is the first address that was never assigned.
func (m *model) never() []netip.Addr {
	for ; m.at < len(m.usable); m.at++ {
		if _, was := m.unused[m.usable[m.at]]; !was {
			return slices.Clone(m.usable[m.at : m.at+1])
		}
	}
	return nil
}

// free addresses, that which is unused longest first.
func (m *model) free() (free []netip.Addr) {
	for _, a := range m.usable {
		if _, was := m.unused[a]; was && m.owner[a] == "" {
			free = append(free, a)
		}
	}
	m.longestUnusedFirst(free)
	return free
}

// vacate is called when an address became free.
func (m *model) vacate(a netip.Addr, now int64) {
	m.unused[a] = now
	if !slices.Contains(m.usable, a) {
		delete(m.unused, a)
		return
	}
	for range forgetAtOnce {
		if free := m.free(); len(free) > m.maxFree {
			delete(m.unused, free[0])
			m.forgot = true
		}
	}
}

func (m *model) address(device string) (netip.Addr, bool) {
	for a, d := range m.owner {
		if d == device {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (m *model) acquire(req Request, now int64) (Grant, error) {
	has, known := m.address(req.Device)
	inPools := known && slices.Contains(m.usable, has)
	wantFree := slices.Contains(m.usable, req.Want) && m.owner[req.Want] == ""
	before := m.live[req.Device]

	pick := has
	last, moved := m.wished[req.Device]
	mayWish := !moved || now-last >= int64(time.Hour)
	if !inPools || before == 0 && wantFree && mayWish {
		var idle []netip.Addr
		for _, a := range m.usable {
			if owner := m.owner[a]; owner != "" && m.live[owner] == 0 {
				idle = append(idle, a)
			}
		}
		m.longestUnusedFirst(idle)
		if wantFree {
			pick = req.Want
		} else {
			order := slices.Concat(m.never(), m.free())
			if len(order) == 0 && m.forgot {
				m.at, m.forgot = 0, false
				order = m.never()
			}
			order = append(order, idle...)
			if len(order) == 0 {
				return Grant{}, ErrExhausted
			}
			pick = order[0]
		}
		delete(m.wished, m.owner[pick])
		m.owner[pick], m.unused[pick] = req.Device, now
		if known {
			delete(m.owner, has)
			m.vacate(has, now)
		}
		if inPools {
			m.wished[req.Device] = now
		}
	}
	g := Grant{Address: pick, New: pick != has}
	if before != req.Session {
		g.Displaced = before
		m.unused[pick] = now
	}
	m.live[req.Device] = req.Session
	return g, nil
}

func (m *model) longestUnusedFirst(a []netip.Addr) {
	slices.SortFunc(a, func(x, y netip.Addr) int {
		return cmp.Or(cmp.Compare(m.unused[x], m.unused[y]), x.Compare(y))
	})
}

func (m *model) end(device string, s SessionID, now int64) {
	if s == 0 || m.live[device] != s {
		return
	}
	delete(m.live, device)
	a, _ := m.address(device)
	m.unused[a] = now
}

func (m *model) release(device string, now int64) error {
	a, ok := m.address(device)
	if !ok {
		return ErrUnknownDevice
	}
	if m.live[device] != 0 {
		return ErrInUse
	}
	delete(m.owner, a)
	delete(m.wished, device)
	m.vacate(a, now)
	return nil
}

// restart ends all sessions.
func (m *model) restart(now int64) {
	for device := range m.live {
		a, _ := m.address(device)
		m.unused[a] = now
	}
	clear(m.live)
	clear(m.wished)
	m.reconfigure(m.usable)
}

// check compares what a table or registry lists with the model.
func (m *model) check(leases []Lease) error {
	seen := make(map[netip.Addr]bool)
	for _, l := range leases {
		if seen[l.Address] {
			return fmt.Errorf("%v is listed twice", l.Address)
		}
		seen[l.Address] = true
		if m.owner[l.Address] != l.Device || m.live[l.Device] != l.Session || l.Live != (l.Session != 0) {
			return fmt.Errorf("%v: got %q with session %d, want %q with %d",
				l.Address, l.Device, l.Session, m.owner[l.Address], m.live[m.owner[l.Address]])
		}
	}
	for a, d := range m.owner {
		if !seen[a] {
			return fmt.Errorf("%v of %q is missing", a, d)
		}
	}
	return nil
}

// modelPools are configurations that overlap in part.
var modelPools = []Config{
	{Pools: prefixes("10.0.0.0/29", "10.0.1.4/30"), Exclude: []netip.Addr{netip.MustParseAddr("10.0.0.3")}},
	{Pools: prefixes("10.0.1.0/29")},
	{Pools: prefixes("10.0.2.0/31", "10.0.0.0/30", "10.0.1.0/30")},
	{Pools: prefixes("10.0.0.0/28"), Exclude: []netip.Addr{netip.MustParseAddr("10.9.9.9")}},
}

// modelUsable spells out modelPools by hand.
var modelUsable = [][]netip.Addr{
	addrs("10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.1.5", "10.0.1.6"),
	addrs("10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6"),
	addrs("10.0.2.0", "10.0.2.1", "10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2"),
	addrs("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7",
		"10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"),
}

func prefixes(s ...string) (p []netip.Prefix) {
	for _, x := range s {
		p = append(p, netip.MustParsePrefix(x))
	}
	return p
}

func addrs(s ...string) (a []netip.Addr) {
	for _, x := range s {
		a = append(a, netip.MustParseAddr(x))
	}
	return a
}

// fleet makes random events: ten devices that connect, also with a second
// session while the first is live, disconnect, and are released.
type fleet struct {
	*rand.Rand
	last SessionID
}

func (f *fleet) device() string { return fmt.Sprintf("device-%d", f.IntN(10)) }

func (f *fleet) request() Request {
	f.last++
	req := Request{Device: f.device(), Session: f.last}
	if f.IntN(3) == 0 {
		all := modelUsable[f.IntN(len(modelUsable))]
		req.Want = all[f.IntN(len(all))]
	}
	return req
}

// session is one of a live device, or one that is long over.
func (f *fleet) session(m *model) (string, SessionID) {
	d := f.device()
	if s := m.live[d]; s != 0 && f.IntN(5) > 0 {
		return d, s
	}
	return d, SessionID(f.Uint64N(uint64(f.last) + 1))
}
