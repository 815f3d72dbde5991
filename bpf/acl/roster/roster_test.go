package roster

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/roamgate/roamgate/bpf/acl"
)

type (
	table  = Table[int, int]
	group  = Group[int]
	device = Device[int, int]
)

var a1, a2, a3 = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("2001:db8::3")

// use puts groups in force, the ones that there are again.
func use(t *table, names ...string) {
	var next []*group
	for _, name := range names {
		g := t.Find(name)
		if g == nil {
			g = &group{Name: name}
		}
		next = append(next, g)
	}
	t.Use(next)
}

func add(t *testing.T, tb *table, spi uint32, name string, addresses ...netip.Addr) Addition[int, int] {
	t.Helper()
	p, err := tb.Plan(acl.Device{SPI: spi, Group: name, Addresses: addresses})
	if err != nil {
		t.Fatal(err)
	}
	tb.Commit(p)
	return p
}

// An address goes to the device that is told last, and comes back with its
// group when that one has gone, whatever happened to the older device.
func TestAddressComesBack(t *testing.T) {
	tb := New[int, int]()
	use(tb, "staff", "guests")
	old := add(t, tb, 1, "staff", a1, a3).Device
	p := add(t, tb, 2, "guests", a1)
	if len(p.Moves) != 1 || p.Moves[0].From != old || p.Moves[0].FromGroup.Name != "staff" || p.Moves[0].ToGroup.Name != "guests" {
		t.Errorf("moves %+v", p.Moves)
	}
	if owned := tb.Addresses(old); !slices.Equal(owned, []netip.Addr{a3}) {
		t.Errorf("the older one has %v", owned)
	}
	d, g, err := tb.Regroup(1, "guests")
	if err != nil || d != old {
		t.Fatal(d, err)
	}
	tb.Join(d, g)
	_, gone, moves := tb.Remove([]uint32{2, 7})
	if len(gone) != 1 || gone[0] != p.Device || len(moves) != 1 || moves[0].To != old || moves[0].ToGroup.Name != "guests" {
		t.Errorf("gone %v, moves %+v", gone, moves)
	}
	if _, _, moves = tb.Remove([]uint32{1}); len(moves) != 2 || moves[0].To != nil || moves[1].To != nil {
		t.Errorf("moves %+v", moves)
	}
	if tb.Len() != 0 || len(tb.owners)+len(tb.older)+len(tb.bySPI) != 0 {
		t.Errorf("left: %+v", tb)
	}
}

// A rekeyed Child SA is the same device; a plan that isn't carried out changes
// nothing.
func TestPlanOfARekeyedChild(t *testing.T) {
	tb := New[int, int]()
	use(tb, "staff", "guests")
	first := add(t, tb, 1, "staff", a1, a3).Device
	if p, err := tb.Plan(acl.Device{SPI: 2, Group: "guests", Addresses: []netip.Addr{a2}}); err != nil || !p.New || tb.Len() != 1 || tb.Device(2) != nil {
		t.Errorf("a plan has made %d devices, %v", tb.Len(), err)
	}
	if p := add(t, tb, 2, "staff", a3, a1, a1); p.Device != first || p.New || !p.Other || len(p.Moves) != 0 {
		t.Errorf("rekeyed: %+v", p)
	}
	if _, gone, _ := tb.Remove([]uint32{1}); len(gone) != 0 {
		t.Error("gone with the old Child SA")
	}
	// The same SPI with other addresses is another device, and the first is gone.
	if p := add(t, tb, 2, "guests", a1); p.Gone != first || len(p.Moves) != 2 || p.Moves[1].To != nil || tb.Len() != 1 {
		t.Errorf("another device: %+v", p)
	}
	if _, err := tb.Plan(acl.Device{SPI: 3, Group: "nobody"}); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("no such group: %v", err)
	}
	if _, _, err := tb.Regroup(9, "staff"); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("no such SPI: %v", err)
	}
}

// A group that goes is there until its last device has left, and is the same
// one if it comes back before.
func TestGroupsGo(t *testing.T) {
	tb := New[int, int]()
	use(tb, "a", "b")
	g := add(t, tb, 1, "a", a1).Group
	if u := tb.Unused([]*group{tb.Find("a")}); len(u) != 1 || u[0].Name != "b" {
		t.Errorf("unused: %v", u)
	}
	use(tb, "c")
	if gone := tb.Retire(); len(gone) != 1 || gone[0].Name != "b" {
		t.Errorf("gone: %v", gone)
	}
	if _, err := tb.Plan(acl.Device{SPI: 2, Group: "a", Addresses: []netip.Addr{a1}}); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("it takes another device: %v", err)
	}
	use(tb, "a", "c")
	if tb.Find("a") != g || len(tb.Retire()) != 0 {
		t.Error("it isn't the one with the device")
	}
	use(tb, "c")
	add(t, tb, 2, "c", a1)
	if gone := tb.Retire(); len(gone) != 1 || gone[0] != g {
		t.Errorf("gone: %v", gone)
	}
}

// Whoever does what it is told has each address where the table has it, in the
// group of its device; and in the end nothing is left.
func TestMovesAreComplete(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addresses := []netip.Addr{a1, a2, a3, netip.MustParseAddr("10.9.0.4")}
	names := []string{"a", "b", "c"}
	type place struct {
		device *device
		group  *group
	}
	for range 300 {
		tb := New[int, int]()
		use(tb, names...)
		leads := map[netip.Addr]place{}
		follow := func(moves []Move[int, int]) {
			for _, m := range moves {
				if was := leads[m.Address]; was.device != m.From || was.group != m.FromGroup {
					t.Fatalf("%+v, but it was %+v", m, was)
				}
				if leads[m.Address] = (place{m.To, m.ToGroup}); m.To == nil {
					delete(leads, m.Address)
				}
			}
		}
		for range 60 {
			switch spi := random.Uint32N(6); random.IntN(4) {
			case 0, 1:
				var some []netip.Addr
				for _, a := range addresses {
					if random.IntN(2) == 0 {
						some = append(some, a)
					}
				}
				follow(add(t, tb, spi, names[random.IntN(3)], some...).Moves)
			case 2:
				if d, g, err := tb.Regroup(spi, names[random.IntN(3)]); err == nil {
					for _, a := range tb.Addresses(d) {
						leads[a] = place{d, g}
					}
					tb.Join(d, g)
				}
			case 3:
				_, _, moves := tb.Remove([]uint32{spi, random.Uint32N(6)})
				follow(moves)
			}
			devices := tb.Devices()
			if n := tb.Find("a").devices + tb.Find("b").devices + tb.Find("c").devices; n != tb.Len() || n != len(devices) {
				t.Fatalf("%d in groups, %d devices, %d known", n, tb.Len(), len(devices))
			}
			for _, a := range addresses {
				if owner := tb.owner(a); owner != leads[a].device || owner != nil && owner.Group != leads[a].group {
					t.Fatalf("%v leads to %+v, and is %+v's", a, leads[a], owner)
				}
			}
		}
		_, _, moves := tb.Remove([]uint32{0, 1, 2, 3, 4, 5})
		follow(moves)
		if len(leads)+tb.Len()+len(tb.owners)+len(tb.older)+len(tb.bySPI) != 0 {
			t.Fatalf("left: %v, %+v", leads, tb)
		}
	}
}
