// Package acltest is the conformance suite of what enforces access lists: it
// sends packets through a router with two TUN interfaces and compares what comes
// out with what package acl says.
//
// What lives here: packets, lists, random ones too, and the suite. What doesn't:
// what only one way of enforcing can do, such as rates and counters.
package acltest

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/roamgate/roamgate/bpf/acl"
)

// Enforcer is what the suite tries.
type Enforcer interface {
	SetGroups([]acl.Group) error
	Add([]acl.Device) []error
	Regroup(spi uint32, group string) error
	Remove(spis []uint32) error
}

// SPIs of the suite's devices.
const (
	spi     = 0x1001
	spiOpen = 0x1002
)

// Run runs the suite. start returns an enforcer that is in force on DeviceLink
// of the world and ends with the test.
func Run(t *testing.T, start func(*testing.T, *World) Enforcer) {
	for _, story := range []struct {
		name string
		tell func(*testing.T, *World, Enforcer)
	}{
		{"Lists", lists}, {"Random", random}, {"Regroup", regroup}, {"Groups", groups},
		{"Strangers", strangers}, {"Returned", returned}, {"Replace", replace},
	} {
		t.Run(story.name, func(t *testing.T) {
			w := NewWorld(t)
			e := start(t, w)
			if err := e.SetGroups([]acl.Group{{Name: "open"}}); err != nil {
				t.Fatal(err)
			}
			add(t, e, acl.Device{SPI: spiOpen, Addresses: []netip.Addr{Open4, Open6}, Group: "open"})
			story.tell(t, w, e)
		})
	}
}

func set(t *testing.T, e Enforcer, groups ...acl.Group) {
	t.Helper()
	if err := e.SetGroups(append(groups, acl.Group{Name: "open"})); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, e Enforcer, devices ...acl.Device) {
	t.Helper()
	if err := errors.Join(e.Add(devices)...); err != nil {
		t.Fatal(err)
	}
}

func device(group string) acl.Device {
	return acl.Device{SPI: spi, Addresses: []netip.Addr{Device4, Device6}, Group: group}
}

// Each kind of rule, both ways and in both families.
func lists(t *testing.T, w *World, e Enforcer) {
	set(t, e, acl.Group{Name: "staff", List: List(t,
		"allow 10.2.0.0/24 tcp 443", "deny 10.2.0.66", "allow 10.2.0.0/24 icmp", "allow 10.2.3.0/24", "deny 10.2.3.0/24 udp 53",
		"allow 10.2.0.0/24 udp 1000-2000", "deny 10.2.4.0/24 tcp 25", "allow 10.2.4.0/24",
		"allow 2001:db8:2::/64 tcp 443", "allow 2001:db8:2::/64 icmp", "allow 2001:db8:2:3::/64")})
	add(t, e, device("staff"))
	all4, all6 := netip.MustParseAddr("10.2.3.1"), netip.MustParseAddr("2001:db8:2:3::1")
	mail := netip.MustParseAddr("10.2.4.1")
	piece := func(remote netip.Addr, protocol uint8) Packet {
		p := Packet{Device: Device4, Remote: remote, Protocol: protocol, Fragment: 100, Payload: make([]byte, 64)}
		if remote.Is6() {
			p.Device = Device6
		}
		return p
	}
	options := []byte{60, acl.TCP, 0, 1, 4, 0, 0, 0, 0}
	for _, c := range []struct {
		name string
		Packet
		pass bool
	}{
		{"allowed port", Packet{Device: Device4, Remote: Host4, Protocol: acl.TCP, Port: 443}, true},
		{"other port", Packet{Device: Device4, Remote: Host4, Protocol: acl.TCP, Port: 444}, false},
		{"other protocol", Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 443}, false},
		{"first of a range", Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 1000}, true},
		{"last of a range", Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 2000}, true},
		{"behind a range", Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 2001}, false},
		{"longer network", Packet{Device: Device4, Remote: netip.MustParseAddr("10.2.0.66"), Protocol: acl.TCP, Port: 443}, false},
		{"other network", Packet{Device: Device4, Remote: netip.MustParseAddr("10.2.1.5"), Protocol: acl.TCP, Port: 443}, false},
		{"ICMP", Packet{Device: Device4, Remote: Host4, Protocol: acl.ICMP}, true},
		{"IPv6", Packet{Device: Device6, Remote: Host6, Protocol: acl.TCP, Port: 443}, true},
		{"IPv6, other port", Packet{Device: Device6, Remote: Host6, Protocol: acl.TCP, Port: 80}, false},
		{"IPv6, options", Packet{Device: Device6, Remote: Host6, Protocol: acl.TCP, Port: 443, Extensions: options}, true},
		{"IPv6, options, other port", Packet{Device: Device6, Remote: Host6, Protocol: acl.TCP, Port: 80, Extensions: options}, false},
		{"first of two rules", Packet{Device: Device4, Remote: all4, Protocol: acl.UDP, Port: 53}, true},
		{"denied port", Packet{Device: Device4, Remote: mail, Protocol: acl.TCP, Port: 25}, false},
		{"beside it", Packet{Device: Device4, Remote: mail, Protocol: acl.TCP, Port: 26}, true},
		{"fragment, an allowed port", piece(Host4, acl.TCP), false},
		{"fragment, an allowed port, IPv6", piece(Host6, acl.TCP), false},
		{"fragment, a denied port", piece(mail, acl.TCP), false},
		{"fragment, ports of another protocol", piece(mail, acl.UDP), true},
		{"fragment, all allowed", piece(all4, acl.TCP), true},
		{"fragment, all allowed, IPv6", piece(all6, acl.TCP), true},
		{"no list", Packet{Device: Open4, Remote: mail, Protocol: acl.TCP, Port: 25}, true},
		{"no list, IPv6", Packet{Device: Open6, Remote: Host6, Protocol: 99}, true},
	} {
		w.expect(c.name, c.Packet, c.pass)
	}
}

// Random lists and packets near to them.
func random(t *testing.T, w *World, e Enforcer) {
	const lists, packets = 60, 100
	source := rand.New(rand.NewPCG(3, 4))
	passed := 0
	for n := range lists {
		l := RandomList(t, source)
		set(t, e, acl.Group{Name: "g", List: l})
		if n == 0 {
			add(t, e, device("g"))
		}
		d := acl.Direction(n % acl.NumDirections)
		batch := make([]Packet, packets)
		for i := range batch {
			batch[i] = RandomPacket(source)
		}
		for i, pass := range w.Pass(d, batch...) {
			if want := l.Decide(batch[i].Seen()); pass != (want == acl.VerdictPass) {
				t.Fatalf("list %v\n%v, %v: passed %t, want %v", l.Rules(), batch[i], d, pass, want)
			}
			if pass {
				passed++
			}
		}
	}
	if passed < lists*packets/10 || passed > lists*packets*9/10 {
		t.Errorf("%d of %d packets passed: the lists tell nothing", passed, lists*packets)
	}
}

// The next packet already is judged by the new group.
func regroup(t *testing.T, w *World, e Enforcer) {
	set(t, e, acl.Group{Name: "quarantine", List: List(t, "allow 10.2.0.1 tcp 443")}, acl.Group{})
	add(t, e, device("quarantine"))
	p := Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 53}
	p6 := Packet{Device: Device6, Remote: Host6, Protocol: acl.UDP, Port: 53}
	for n := range 6 {
		group := []string{"", "quarantine"}[n%2]
		w.expect("before "+group, p, n%2 == 1)
		if err := e.Regroup(spi, group); err != nil {
			t.Fatal(err)
		}
		w.expect("after "+group, p, n%2 == 0)
		w.expect("after "+group, p6, n%2 == 0)
	}
	for _, bad := range []error{e.Regroup(spi, "nobody"), e.Regroup(99, ""), errors.Join(e.Add([]acl.Device{{SPI: 5, Addresses: []netip.Addr{Device4}, Group: "nobody"}})...)} {
		if !errors.Is(bad, acl.ErrGroup) {
			t.Errorf("a group or device that isn't one: %v", bad)
		}
	}
	w.expect("after errors", p, false)
	// The Child SA after it brings another group, and is the same device.
	add(t, e, acl.Device{SPI: spi + 100, Addresses: []netip.Addr{Device4, Device6}})
	w.expect("second Child SA", p, true)
	if err := e.Remove([]uint32{spi}); err != nil {
		t.Fatal(err)
	}
	w.expect("the first is gone", p, true)
	if err := e.Remove([]uint32{spi + 100, 77}); err != nil {
		t.Fatal(err)
	}
	w.expect("both are gone", p, false)
}

// Groups come, change and go while a device is in one.
func groups(t *testing.T, w *World, e Enforcer) {
	p := Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 53}
	this, other := List(t, "allow 10.2.0.5"), List(t, "allow 10.2.0.6")
	set(t, e, acl.Group{Name: "a"})
	add(t, e, device("a"))
	w.expect("no list", p, true)
	set(t, e, acl.Group{Name: "a", List: other})
	w.expect("a list", p, false)
	set(t, e, acl.Group{Name: "a", List: this})
	w.expect("another list", p, true)
	set(t, e, acl.Group{Name: "b", List: other})
	w.expect("the group is gone, its device isn't", p, true)
	if err := errors.Join(e.Add([]acl.Device{{SPI: 9, Group: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.9")}}})...); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("a group that is gone takes a device: %v", err)
	}
	set(t, e, acl.Group{Name: "a", List: other}, acl.Group{Name: "b"})
	w.expect("the group is back with another list", p, false)
	set(t, e, acl.Group{Name: "b", List: this})
	if err := e.Regroup(spi, "b"); err != nil {
		t.Fatal(err)
	}
	w.expect("moved", p, true)
	set(t, e, acl.Group{Name: "b", List: &acl.List{}})
	w.expect("an empty list", p, false)
	set(t, e, acl.Group{Name: "b"})
	w.expect("no list again", p, true)
	if err := e.SetGroups([]acl.Group{{Name: "b", List: other}, {Name: "b"}}); err == nil {
		t.Error("one group twice was taken")
	}
	w.expect("after an error", p, true)
}

// What no device has passes neither way.
func strangers(t *testing.T, w *World, e Enforcer) {
	set(t, e, acl.Group{})
	p := Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 53}
	p6 := Packet{Device: Device6, Remote: Host6, Protocol: acl.UDP, Port: 53}
	w.expect("before", p, false)
	w.expect("before", p6, false)
	add(t, e, device(""))
	w.expect("known", p, true)
	w.expect("known", p6, true)
	if err := e.Remove([]uint32{spi}); err != nil {
		t.Fatal(err)
	}
	w.expect("afterwards", p, false)
	w.expect("afterwards", p6, false)
}

// An address is that of the device told last, and the older one's again when
// that one has gone.
func returned(t *testing.T, w *World, e Enforcer) {
	set(t, e, acl.Group{Name: "staff", List: List(t, "allow any")}, acl.Group{Name: "none", List: List(t, "deny any")})
	p := Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 53}
	p6 := Packet{Device: Device6, Remote: Host6, Protocol: acl.UDP, Port: 53}
	add(t, e, device("staff"))
	add(t, e, acl.Device{SPI: spi + 0x10, Addresses: []netip.Addr{Device4}, Group: "none"})
	w.expect("told last", p, false)
	w.expect("the other address", p6, true)
	if err := e.Remove([]uint32{spi + 0x10}); err != nil {
		t.Fatal(err)
	}
	w.expect("returned", p, true)
	if err := e.Remove([]uint32{spi}); err != nil {
		t.Fatal(err)
	}
	w.expect("nobody's", p, false)
}

// While lists are replaced, what both the old and the new one allow passes, and
// what both deny doesn't.
func replace(t *testing.T, w *World, e Enforcer) {
	one := List(t, "allow 10.2.0.0/24 tcp 443", "allow 10.2.0.5 udp 1", "deny 10.2.0.7")
	two := List(t, "deny 10.2.0.9", "allow 10.2.0.0/24 tcp 443", "allow 10.2.0.0/24 udp 2", "deny 10.2.0.5 udp 9")
	set(t, e, acl.Group{Name: "g", List: one})
	add(t, e, device("g"))
	var over atomic.Bool
	var failed atomic.Value
	wait := w.Go(func() {
		for n := range 40 {
			if err := e.SetGroups([]acl.Group{{Name: "g", List: []*acl.List{two, one}[n%2]}, {Name: "open"}}); err != nil {
				failed.Store(err)
				break
			}
		}
		over.Store(true)
	})
	allowed := Packet{Device: Device4, Remote: Host4, Protocol: acl.TCP, Port: 443}
	denied := Packet{Device: Device4, Remote: Host4, Protocol: acl.UDP, Port: 9}
	sent := 0
	for !over.Load() || sent == 0 {
		for i, pass := range w.Pass(acl.Direction(sent%2), allowed, denied, allowed, denied) {
			if pass != (i%2 == 0) {
				t.Errorf("packet %d of a batch passed: %t", i, pass)
			}
		}
		sent++
	}
	wait()
	if err := failed.Load(); err != nil {
		t.Error(err)
	}
	t.Logf("%d packets while lists were replaced 40 times", 4*sent)
}
