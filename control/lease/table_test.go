package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func testTable(t *testing.T, cfg Config) *table {
	t.Helper()
	spaces, err := cfg.build()
	if err != nil {
		t.Fatal(err)
	}
	tab := newTable(spaces)
	tab.begin()
	return tab
}

func (t *table) list() (leases []Lease) {
	for _, l := range t.leases {
		if l.device != nil {
			leases = append(leases, l.export())
		}
	}
	return leases
}

// dump is everything that a rollback has to bring back.
func (t *table) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v\n", t.tally) // queue heads and tails by pointer
	for _, sp := range t.spaces {
		fmt.Fprintln(&b, sp.pools)
	}
	var lines []string
	for k, l := range t.leases {
		lines = append(lines, fmt.Sprintf("%v %p %+v\n", k.addr(), l, *l))
	}
	for n, d := range t.devices {
		lines = append(lines, fmt.Sprintf("%v %p %+v\n", n, d, *d))
	}
	slices.Sort(lines)
	return b.String() + strings.Join(lines, "")
}

// Many random events: the table does what the model says, each time.
// Every now and then a batch is rolled back and must leave no trace.
func TestTableAgainstModel(t *testing.T) {
	events := 200_000
	if testing.Short() {
		events = 20_000
	}
	f := &fleet{Rand: rand.New(rand.NewPCG(1, 2))}
	tab, m := testTable(t, modelPools[0]), newModel(modelUsable[0])
	tab.maxFree, m.maxFree = 1, 1
	forgotten, recalled, refused := 0, 0, 0
	for event := 1; event <= events; event++ {
		now := int64(event) * int64(time.Minute)
		tab.begin()
		switch n := f.IntN(1000); {
		case n < 500:
			req := f.request()
			forgot, entries := tab.forgot[IPv4], len(tab.leases)
			if has, known := m.address(req.Device); known && req.Want != has && tab.vacant(IPv4, req) && !tab.devices[req.Device].mayWish(now) {
				refused++
			}
			got, gotErr := tab.acquire(req, now, false)
			if forgot && !tab.forgot[IPv4] && len(tab.leases) > entries {
				recalled++
			}
			want, wantErr := m.acquire(req, now)
			if got != want || !errors.Is(gotErr, wantErr) {
				t.Fatalf("event %d: %+v: got %+v, %v; want %+v, %v", event, req, got, gotErr, want, wantErr)
			}
		case n < 900:
			d, s := f.session(m)
			tab.end(d, s, now)
			m.end(d, s, now)
		case n < 950:
			d := f.device()
			if got, want := tab.release(d, now, false), m.release(d, now); !errors.Is(got, want) {
				t.Fatalf("event %d: release %s: got %v, want %v", event, d, got, want)
			}
		case n < 995:
			before := tab.dump()
			for range f.IntN(20) {
				tab.acquire(f.request(), now, false)
				tab.end(f.device(), f.last-SessionID(f.IntN(5)), now)
				_ = tab.release(f.device(), now, false) // any outcome is taken back
			}
			tab.rollback()
			if after := tab.dump(); after != before {
				t.Fatalf("event %d: rollback left a trace:\n%s\nwas:\n%s", event, after, before)
			}
		default:
			i := f.IntN(len(modelPools))
			spaces, err := modelPools[i].build()
			if err != nil {
				t.Fatal(err)
			}
			tab.rebuild(spaces)
			m.reconfigure(modelUsable[i])
		}
		if tab.forgot[IPv4] {
			forgotten++
		}
		if err := m.check(tab.list()); err != nil {
			t.Fatalf("event %d: %v", event, err)
		}
		if tab.assigned != len(m.owner) || tab.live != len(m.live) {
			t.Fatalf("event %d: counts %d assigned, %d live; want %d, %d", event, tab.assigned, tab.live, len(m.owner), len(m.live))
		}
	}
	if tab.exhausted == 0 || tab.reassigned == 0 || tab.displaced == 0 {
		t.Fatalf("the events never met a full pool: %+v", tab.tally)
	}
	if forgotten == 0 || recalled == 0 || refused == 0 {
		t.Fatalf("the events never met a forgotten address (%d), one that came back (%d), a wish too many (%d)", forgotten, recalled, refused)
	}
}

// A device with sessions in both families has one current session, and a
// session that was displaced between its two requests doesn't come back.
func TestOneAddressOfEachFamily(t *testing.T) {
	tab := testTable(t, Config{Pools: prefixes("10.0.0.0/29", "2001:db8::/64")})
	ask := func(s SessionID, f Family, additional bool) (Grant, error) {
		return tab.acquire(Request{Device: "d", Session: s, Family: f, Additional: additional}, int64(s), false)
	}
	want := func(g Grant, err error, address string, displaced SessionID) {
		t.Helper()
		if err != nil || g.Address != netip.MustParseAddr(address) || g.Displaced != displaced {
			t.Fatalf("got %+v, %v; want %s, displaced %d", g, err, address, displaced)
		}
	}
	g, err := ask(1, IPv4, false)
	want(g, err, "10.0.0.1", 0)
	g, err = ask(1, IPv6, true)
	want(g, err, "2001:db8::1", 0)
	g, err = ask(2, IPv4, false)
	want(g, err, "10.0.0.1", 1)
	if _, err := ask(1, IPv6, true); !errors.Is(err, ErrNotCurrent) {
		t.Fatalf("displaced session: %v", err)
	}
	g, err = ask(2, IPv6, true)
	want(g, err, "2001:db8::1", 0)
	if tab.live != 1 || tab.assigned != 2 || tab.displaced != 1 {
		t.Fatalf("%+v", tab.tally)
	}
	tab.end("d", 2, 3)
	if err := tab.release("d", 4, false); err != nil || len(tab.devices) != 0 || tab.assigned != 0 {
		t.Fatalf("release: %v, %d devices, %d leases", err, len(tab.devices), tab.assigned)
	}
}

// A pool of 16 million addresses takes memory only for what was assigned.
func TestLargePoolIsLazy(t *testing.T) {
	tab := testTable(t, Config{Pools: prefixes("10.0.0.0/8", "2001:db8::/32")})
	if c := tab.spaces[IPv4].capacity; c != 1<<24-2 {
		t.Fatalf("capacity %d", c)
	}
	if c := tab.spaces[IPv6].capacity; c != 1<<64-1 {
		t.Fatalf("capacity %d", c)
	}
	for i := range 100 {
		want := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		if g, err := tab.acquire(Request{Device: fmt.Sprint(i), Session: 1}, 1, false); err != nil || g.Address != want {
			t.Fatalf("got %v, %v; want %v", g.Address, err, want)
		}
	}
	if len(tab.leases) != 100 {
		t.Fatalf("%d leases in memory", len(tab.leases))
	}
}

// One device that wants another address at each login, of a pool without end,
// gets one an hour, and leaves no more behind than is remembered.
func TestWishesLeaveLittleBehind(t *testing.T) {
	tab := testTable(t, Config{Pools: prefixes("fd00:1::/64")})
	const most = 50
	tab.maxFree = most
	want := netip.MustParseAddr("fd00:1::1000")
	first := want
	logins, moves := 1000, 0
	for i := range logins {
		now := int64(i+1) * int64(10*time.Minute)
		tab.begin()
		g, err := tab.acquire(Request{Device: "mallory", Session: SessionID(i + 1), Family: IPv6, Want: want}, now, false)
		if err != nil {
			t.Fatal(err)
		}
		if g.New {
			moves++
		}
		tab.end("mallory", SessionID(i+1), now)
		want = want.Next()
	}
	// The first address is no move, the second may come at once.
	if most := 2 + (logins-2)/6; moves != most {
		t.Errorf("%d addresses in %d logins, want %d", moves, logins, most)
	}
	if n := len(tab.leases); n != most+1 {
		t.Errorf("%d addresses are remembered, want %d", n, most+1)
	}
	if tab.leases[keyOf(first)] != nil {
		t.Error("the oldest one is still remembered")
	}
}
