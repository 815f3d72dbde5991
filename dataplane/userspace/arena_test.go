package userspace

import (
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// TestCiphersGiveWay: with places for two, five children that talk in turn lose
// nothing, and none of their windows and sequence numbers.
func TestCiphersGiveWay(t *testing.T) {
	const children, rounds = 5, 20
	h := newHarness(t, nil, func(c *Config) { c.ActiveChildren = 2 })
	var peers []*peer
	for i := range children {
		peers = append(peers, newPeer(t, h, func(c *dataplane.Child) {
			c.VirtualIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + i)})}
		}))
	}
	for range rounds {
		for _, p := range peers {
			ip := up4
			ip.Src = p.child.VirtualIPs[0]
			p.up(ip.UDP(1, 2, nil), 0)
			p.inside()
			p.next-- // once more
			p.up(ip.UDP(1, 2, nil), 0)
			back := down4
			back.Dst = ip.Src
			if inner, _ := p.down(back.UDP(2, 1, nil)); inner == nil {
				t.Fatal("nothing came back")
			}
		}
	}
	h.dropped(t, dataplane.ReasonReplay, children*rounds)
	for c := range h.backend.Counters {
		if c.PacketsIn != rounds || c.PacketsOut != rounds {
			t.Errorf("%+v", c)
		}
	}
	if n := h.backend.loops[0].ciphers.made; n != 2 {
		t.Errorf("%d places for ciphers", n)
	}
	for _, p := range peers {
		p.apply(dataplane.Remove{Inbound: p.child.Inbound.SPI})
	}
	l := h.backend.loops[0]
	l.do(func() {
		if len(l.ciphers.free) != 2 || len(l.policies.known) != 0 || len(l.newest) != 0 || len(l.directory.holders) != 0 {
			t.Errorf("left: %d ciphers in use, %d policies, %d routes, %d addresses",
				2-len(l.ciphers.free), len(l.policies.known), len(l.newest), len(l.directory.holders))
		}
	})
}

// TestSilentChildrenGiveWay: though there are more places, a child that comes takes
// that of one that was silent for a minute; one that isn't silent keeps its own.
func TestSilentChildrenGiveWay(t *testing.T) {
	h := newHarness(t, nil, func(c *Config) { c.ActiveChildren = 1000 })
	var peers []*peer
	for i := range 3 {
		peers = append(peers, newPeer(t, h, func(c *dataplane.Child) {
			c.VirtualIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + i)})}
		}))
	}
	say := func(p *peer) {
		ip := up4
		ip.Src = p.child.VirtualIPs[0]
		p.up(ip.UDP(1, 2, nil), 0)
		p.inside()
	}
	say(peers[0])
	say(peers[1])
	h.clock.advance(restAfter - time.Second)
	say(peers[1])
	h.clock.advance(2 * time.Second)
	say(peers[2])
	l := h.backend.loops[0]
	l.do(func() {
		place := func(p *peer) uint32 { return l.find(p.child.Inbound.SPI).cipher }
		if l.ciphers.made != 2 || place(peers[0]) != 0 || place(peers[1]) != 2 || place(peers[2]) != 1 {
			t.Errorf("%d places: %d, %d, %d", l.ciphers.made, place(peers[0]), place(peers[1]), place(peers[2]))
		}
		if e := l.ciphers.at(0); e.seal != nil {
			t.Error("a cipher for a direction in which nothing went")
		}
	})
	say(peers[0]) // it is made anew
}

// endingTransform notes its end.
type endingTransform struct {
	esp.Transform
	erased bool
}

func (e *endingTransform) Erase() {
	e.erased = true
	e.Transform.Erase()
}

// TestTransformsEnd: they are erased with their child, when they give way, and with the
// loop; no others.
func TestTransformsEnd(t *testing.T) {
	h := newHarness(t, nil, func(c *Config) { c.ActiveChildren = 3 })
	l := h.backend.loops[0]
	var peers []*peer
	var transforms []*endingTransform
	join := func(i byte) {
		p := newPeer(t, h, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, i})} })
		peers = append(peers, p)
		l.do(func() {
			s := l.find(p.child.Inbound.SPI)
			for _, made := range []func(*sa, time.Duration) esp.Transform{l.opener, l.sealer} {
				transforms = append(transforms, &endingTransform{Transform: made(s, l.now)})
			}
			e := l.cipher(s, l.now)
			e.open, e.seal = transforms[len(transforms)-2], transforms[len(transforms)-1]
		})
	}
	want := func(when string, erased ...bool) {
		t.Helper()
		l.do(func() {
			for i, tr := range transforms {
				if tr.erased != erased[i/2] {
					t.Errorf("%s: transform %d erased: %v", when, i, tr.erased)
				}
			}
		})
	}
	for i := range byte(3) {
		join(10 + i)
	}
	want("three places", false, false, false)
	peers[1].apply(dataplane.Remove{Inbound: peers[1].child.Inbound.SPI})
	want("removed", false, true, false)
	join(13)
	want("in its place", false, true, false, false)
	join(14)
	want("one gives way", true, true, false, false, false)
	if err := h.backend.Close(); err != nil {
		t.Fatal(err)
	}
	for i, tr := range transforms {
		if !tr.erased {
			t.Errorf("transform %d outlived its loop", i)
		}
	}
}

// TestSAHasNoPointers: garbage collection would walk the tables otherwise.
func TestSAHasNoPointers(t *testing.T) {
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		if kind := typ.Kind(); kind == reflect.Struct {
			for i := range typ.NumField() {
				walk(typ.Field(i).Type, path+"."+typ.Field(i).Name)
			}
		} else if kind == reflect.Array {
			walk(typ.Elem(), path+"[]")
		} else if kind > reflect.Complex128 {
			t.Errorf("sa%s is a %v", path, kind)
		}
	}
	walk(reflect.TypeFor[sa](), "")
}

// TestMemoryOfAnIdleChild: well below 1 KiB, everything counted that a loop
// keeps for it.
func TestMemoryOfAnIdleChild(t *testing.T) {
	const children, most = 5_000, 580
	h := newHarness(t, nil, func(c *Config) { c.MaxChildren = children })
	template := newChild(t, h, netip.MustParseAddrPort("127.0.0.1:4500"))
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range children - 1 {
		spi, err := h.backend.Reserve(virtual4)
		if err != nil {
			t.Fatal(err)
		}
		c := template
		c.Inbound.SPI = spi
		virtual := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		c.VirtualIPs = []netip.Addr{virtual}
		c.Remote = []dataplane.Selector{{First: virtual, Last: virtual, LastPort: 0xFFFF}}
		if errs := h.backend.Apply([]dataplane.Change{dataplane.Install{Child: c}, dataplane.UseOutbound{Inbound: spi}}); errs[0] != nil || errs[1] != nil {
			t.Fatal(errs)
		}
	}
	each := float64(heap()-before) / children
	t.Logf("%.0f octets for each of %d idle children", each, children)
	if each > most {
		t.Errorf("%.0f octets for an idle child, want at most %d", each, most)
	}
	runtime.KeepAlive(h)
}

// TestPoliciesAreShared: children that have in common what they may, have one.
func TestPoliciesAreShared(t *testing.T) {
	var ps policies
	a := policy{algorithm: gcm128, local: []dataplane.Selector{{First: host4, Last: host4}}}
	b := a
	b.group = "other"
	first := ps.hold(&a)
	if again := ps.hold(&a); again != first {
		t.Error("the same policy has two places")
	}
	second := ps.hold(&b)
	if second == first || ps.at(second).group != "other" {
		t.Error("another group has the same place")
	}
	ps.release(first)
	if !slices.Equal(ps.at(first).local, a.local) {
		t.Error("gone while a child has it")
	}
	ps.release(first)
	if third := ps.hold(&policy{group: "third"}); third != first {
		t.Errorf("place %d instead of %d, which is free", third, first)
	}
}

// TestKeyArena: pieces of both sizes, given back erased and used again.
func TestKeyArena(t *testing.T) {
	var a keyArena
	child := func(alg dataplane.Algorithm, fill byte) *dataplane.Child {
		e, i, ok := alg.KeyLengths()
		if !ok {
			t.Fatal(alg)
		}
		keys := func(b byte) dataplane.Keys {
			return dataplane.Keys{Encryption: slices.Repeat([]byte{b}, e), Integrity: slices.Repeat([]byte{b + 1}, i)}
		}
		return &dataplane.Child{Algorithm: alg, Inbound: dataplane.SA{Keys: keys(fill)}, Outbound: dataplane.SA{Keys: keys(fill + 2)}}
	}
	for _, alg := range features().Algorithms {
		refs := make(map[keyRef]*dataplane.Child)
		for i := range 2*keysAtOnce + 3 {
			c := child(alg, byte(i%200+1))
			refs[a.put(c)] = c
		}
		for ref, c := range refs {
			in, out := a.get(ref, alg)
			if !reflect.DeepEqual(in, c.Inbound.Keys) || !reflect.DeepEqual(out, c.Outbound.Keys) {
				t.Fatalf("%v: keys %x %x", alg, in, out)
			}
			a.free(ref)
			for _, b := range append(in.Encryption, out.Integrity...) {
				if b != 0 {
					t.Fatalf("%v: keys remain", alg)
				}
			}
		}
	}
	for i, z := range a.sizes {
		if len(z.chunks) != 3 {
			t.Errorf("size %d has %d chunks, want 3", i, len(z.chunks))
		}
	}
}
