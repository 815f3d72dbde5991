package lease

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// model is the package comment written as slow and simple as possible, for
// IPv4: it knows every address of the pools and looks at all of them each time.
type model struct {
	usable []netip.Addr // in the order of use
	owner  map[netip.Addr]string
	unused map[netip.Addr]int64 // since when; absent: never assigned
	live   map[string]SessionID
}

func newModel(usable []netip.Addr) *model {
	return &model{
		usable: usable,
		owner:  make(map[netip.Addr]string),
		unused: make(map[netip.Addr]int64),
		live:   make(map[string]SessionID),
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
	if !inPools || before == 0 && wantFree {
		var never, free, idle []netip.Addr
		for _, a := range m.usable {
			_, was := m.unused[a]
			switch owner := m.owner[a]; {
			case owner == "" && !was:
				never = append(never, a)
			case owner == "":
				free = append(free, a)
			case m.live[owner] == 0:
				idle = append(idle, a)
			}
		}
		m.longestUnusedFirst(free)
		m.longestUnusedFirst(idle)
		order := slices.Concat(never, free, idle)
		switch {
		case wantFree:
			pick = req.Want
		case len(order) == 0:
			return Grant{}, ErrExhausted
		default:
			pick = order[0]
		}
		if known {
			delete(m.owner, has)
			m.unused[has] = now
			if !inPools {
				delete(m.unused, has)
			}
		}
		m.owner[pick], m.unused[pick] = req.Device, now
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
	m.unused[a] = now
	if !slices.Contains(m.usable, a) {
		delete(m.unused, a)
	}
	return nil
}

// restart ends all sessions.
func (m *model) restart(now int64) {
	for device := range m.live {
		a, _ := m.address(device)
		m.unused[a] = now
	}
	clear(m.live)
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
