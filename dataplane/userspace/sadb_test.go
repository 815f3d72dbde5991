package userspace

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

func TestSPILayout(t *testing.T) {
	for _, c := range []struct {
		member, loop uint8
		slot         uint32
		tag          uint8
		want         dataplane.SPI
	}{
		{0, 0, firstSlot, 0, 256},
		{0, 0, firstSlot, 63, 319},
		{0, 1, 0, 0, 0x0400_0000},
		{1, 0, 0, 0, 0x8000_0000},
		{1, 31, maxSlots - 1, 63, 0xFFFF_FFFF},
		{0, 5, 0xABCDE, 0x2A, 0x16AF_37AA},
	} {
		spi := makeSPI(c.member, c.loop, c.slot, c.tag)
		if spi != c.want || memberOf(spi) != c.member || loopOf(spi) != c.loop || slotOf(spi) != c.slot || tagOf(spi) != c.tag {
			t.Errorf("%+v: %#08x", c, uint32(spi))
		}
	}
}

// TestSlotsRest: a slot comes back after a while, not before while there are
// others, and with another tag.
func TestSlotsRest(t *testing.T) {
	const children = 8
	db := newSADB(1, 3, children, 8, newDirectory(4, children))
	now := time.Hour
	seen := make(map[uint32]dataplane.SPI)
	for range 2 * children {
		spi, err := db.reserve(now)
		if err != nil {
			t.Fatal(err)
		}
		if _, again := seen[slotOf(spi)]; again || memberOf(spi) != 1 || loopOf(spi) != 3 {
			t.Fatalf("SPI %#08x", uint32(spi))
		}
		seen[slotOf(spi)] = spi
		installedSlot(db, spi)
		db.free(db.find(spi), now)
	}
	now += slotRest
	for range children {
		spi, err := db.reserve(now)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[slotOf(spi)]; !ok || before == spi {
			t.Errorf("SPI %#08x after %#08x", uint32(spi), uint32(before))
		}
		if db.find(seen[slotOf(spi)]) != nil {
			t.Errorf("the last SPI of a slot is still known")
		}
	}
	if _, err := db.reserve(now); !errors.Is(err, dataplane.ErrFull) {
		t.Errorf("reserved more than %d: %v", children, err)
	}
}

// TestReconnectsLeaveSlots: a device that connects again and again takes the SPIs
// of nobody, and no SPI comes back before it has rested, however few slots there
// are.
func TestReconnectsLeaveSlots(t *testing.T) {
	const children = 512
	for _, c := range []struct {
		name string
		rest time.Duration // between connections
		used bool          // only every other one installs a Child SA
	}{{"at once", 0, false}, {"steadily", restTime / children, false}, {"half of them in vain", restTime / (16 * children), true}} {
		t.Run(c.name, func(t *testing.T) {
			db := newSADB(0, 0, children, 8, newDirectory(1, children))
			now := time.Hour
			freed := make(map[dataplane.SPI]time.Duration)
			for n := range 30 * children {
				spi, err := db.reserve(now)
				if err != nil {
					t.Fatalf("after %d connections of one device: %v", n, err)
				}
				if before, again := freed[spi]; again && now-before < restTime {
					t.Fatalf("connection %d: SPI %#08x again after %v", n, uint32(spi), now-before)
				}
				if !c.used || n%2 == 0 {
					installedSlot(db, spi)
					freed[spi] = now
				}
				db.free(db.find(spi), now)
				now += c.rest
			}
		})
	}
}

// TestOneSlotHasItsTags: with one slot left its SPIs follow each other until they
// would come again too early.
func TestOneSlotHasItsTags(t *testing.T) {
	db := newSADB(0, 0, 1, 8, newDirectory(1, 1))
	db.tables[0].slots = firstSlot + 1
	now, freed := time.Hour, make(map[dataplane.SPI]time.Duration)
	refused := 0
	for range 100 * tags {
		spi, err := db.reserve(now)
		if errors.Is(err, dataplane.ErrFull) {
			refused++
			now += restTime / 3
			continue
		}
		if before, again := freed[spi]; again && now-before < restTime {
			t.Fatalf("SPI %#08x again after %v", uint32(spi), now-before)
		}
		installedSlot(db, spi)
		now += time.Second
		db.free(db.find(spi), now)
		freed[spi] = now
	}
	if len(freed) != tags || refused == 0 || refused > 50*tags {
		t.Errorf("%d SPIs, %d times refused", len(freed), refused)
	}
}

// TestImportedSlots: slots that came in are never drawn while they are in use,
// and rest like others when they are freed.
func TestImportedSlots(t *testing.T) {
	const children = 8
	db := newSADB(0, 0, children, 8, newDirectory(1, children))
	imported := makeSPI(0, 0, firstSlot+2, 9)
	s, err := db.place(imported)
	if err != nil {
		t.Fatal(err)
	}
	installedSlot(db, imported)
	drawn := func(now time.Duration) (found bool) {
		var all []dataplane.SPI
		for range children - 1 { // there are as many that don't have to be woken
			spi, err := db.reserve(now)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, spi)
			found = found || slotOf(spi) == slotOf(imported)
		}
		for _, spi := range all {
			installedSlot(db, spi)
			db.free(db.find(spi), now)
		}
		return found
	}
	if drawn(time.Hour) || drawn(2*time.Hour) {
		t.Error("drew the slot of an imported SPI")
	}
	db.free(s, 3*time.Hour)
	if drawn(3*time.Hour) || drawn(3*time.Hour+slotRest-1) {
		t.Error("drew the slot of an imported SPI while it rests")
	}
	if !drawn(4 * time.Hour) {
		t.Error("never drew the slot of an imported SPI that was freed")
	}
}

// TestReservedSlotsDoNotRest: what was reserved and given back is there again at
// once, under another SPI, and doesn't cost those that were used their rest.
func TestReservedSlotsDoNotRest(t *testing.T) {
	const children = 8
	db := newSADB(0, 0, children, 8, newDirectory(1, children))
	now := time.Hour
	used, err := db.reserve(now)
	if err != nil {
		t.Fatal(err)
	}
	installedSlot(db, used)
	db.free(db.find(used), now)
	last := used
	for range 1000 * children {
		spi, err := db.reserve(now)
		if err != nil {
			t.Fatal(err)
		}
		if slotOf(spi) == slotOf(used) || spi == last || db.find(last) != nil {
			t.Fatalf("SPI %#08x after %#08x", uint32(spi), uint32(last))
		}
		last = spi
		db.free(db.find(spi), now)
	}
	if db.fresh > firstSlot+2 || db.directory.taken.Load() != 0 || len(db.returned) != 1 {
		t.Errorf("up to slot %d, %d taken, %d given back", db.fresh, db.directory.taken.Load(), len(db.returned))
	}
}

// installedSlot makes a reserved slot an installed one.
func installedSlot(db *sadb, spi dataplane.SPI) {
	db.put(db.find(spi), &prepared{child: &dataplane.Child{VirtualIPs: []netip.Addr{virtual4}}})
}

func TestPlaceRefuses(t *testing.T) {
	db := newSADB(0, 2, 8, 8, newDirectory(4, 8))
	taken, err := db.reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		spi  dataplane.SPI
		want error
	}{
		{"slot in use", taken, dataplane.ErrInvalid},
		{"another loop's", makeSPI(0, 1, 9, 0), dataplane.ErrInvalid},
		{"slot that is never drawn", makeSPI(0, 2, 0, 0), dataplane.ErrInvalid},
		{"slot beyond the table", makeSPI(0, 2, 500, 0), dataplane.ErrFull},
	} {
		if s, err := db.place(c.spi); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, s, err, c.want)
		}
	}
}

// TestMembers: a successor with the other member bit takes children over and
// draws SPIs of its own that never meet theirs.
func TestMembers(t *testing.T) {
	old := newHarness(t, nil, func(c *Config) { c.MaxChildren = 600 })
	for range 500 {
		if _, err := old.backend.Reserve(virtual4); err != nil {
			t.Fatal(err)
		}
	}
	p := newPeer(t, old, nil)
	if inner, _ := p.down(down4.UDP(1, 2, nil)); inner == nil {
		t.Fatal("no traffic before the hand-over")
	}
	var states []dataplane.ChildState
	err := old.backend.Export(func(s dataplane.ChildState) bool {
		states = append(states, s)
		return true
	})
	if err != nil || len(states) != 1 {
		t.Fatalf("exported %d children, %v", len(states), err)
	}

	heir := newHarness(t, nil, func(c *Config) { c.Member = 1 })
	var own []dataplane.SPI
	for range 63 {
		spi, err := heir.backend.Reserve(virtual4)
		if err != nil || memberOf(spi) != 1 {
			t.Fatalf("SPI %#08x, %v", uint32(spi), err)
		}
		own = append(own, spi)
	}
	states[0].Child.Path.Local = heir.Encap
	if err := heir.backend.Import(states); err != nil {
		t.Fatal(err)
	}
	p.harness = heir
	if inner, _ := p.down(down4.UDP(1, 2, nil)); inner == nil {
		t.Error("no traffic after the hand-over")
	}
	if _, err := heir.backend.Reserve(virtual4); !errors.Is(err, dataplane.ErrFull) {
		t.Errorf("imported children don't count: %v", err)
	}
	p.apply(dataplane.Remove{Inbound: p.child.Inbound.SPI})
	p.apply(dataplane.Remove{Inbound: own[0]})
}

// TestKeysAreErased: what can be erased is, when a child goes, when it is
// refused and when the backend closes.
func TestKeysAreErased(t *testing.T) {
	zero := func(k dataplane.Keys) bool {
		for _, b := range append(append([]byte(nil), k.Encryption...), k.Integrity...) {
			if b != 0 {
				return false
			}
		}
		return true
	}
	h := newHarness(t, nil, nil)
	keysOf := func(p *peer) (in, out dataplane.Keys) {
		l := h.backend.loops[0]
		l.do(func() { in, out = l.keys.get(l.installed(p.child.Inbound.SPI).keys, gcm128) })
		if zero(in) || zero(out) {
			t.Fatal("keys of a live child are erased")
		}
		return in, out
	}
	removed, closed := newPeer(t, h, nil), newPeer(t, h, nil)
	in, out := keysOf(removed)
	removed.apply(dataplane.Remove{Inbound: removed.child.Inbound.SPI})
	if !zero(in) || !zero(out) {
		t.Error("Remove leaves keys")
	}
	in, out = keysOf(closed)
	if err := h.backend.Close(); err != nil {
		t.Fatal(err)
	}
	if !zero(in) || !zero(out) {
		t.Error("Close leaves keys")
	}
	if zero(closed.child.Inbound.Keys) {
		t.Error("the caller's keys were erased")
	}
}

// TestNewestRoute: of several children the newest whose selectors match carries
// the packet.
func TestNewestRoute(t *testing.T) {
	h := newHarness(t, nil, nil)
	wide := newPeer(t, h, nil)
	narrow := newPeer(t, h, func(c *dataplane.Child) {
		c.Local = []dataplane.Selector{{First: netip.MustParseAddr("10.2.0.200"), Last: netip.MustParseAddr("10.2.0.200"), LastPort: 0xFFFF}}
	})
	near := down4
	near.Src = netip.MustParseAddr("10.2.0.200")
	if inner, _ := narrow.down(near.UDP(1, 2, nil)); inner == nil {
		t.Error("the newest child doesn't carry what it may")
	}
	if inner, _ := wide.down(down4.UDP(1, 2, nil)); inner == nil {
		t.Error("the older child doesn't carry what the newest may not")
	}
}
