package access

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/acltest"
)

var (
	device4, device6 = acltest.Device4, acltest.Device6
	host4, host6     = acltest.Host4, acltest.Host6
)

type packet = acltest.Packet

const ethernet = 14

// octets with an Ethernet header, as BPF_PROG_TEST_RUN wants one.
func octets(p packet, d acl.Direction) []byte {
	b := make([]byte, ethernet, 2048)
	b[12], b[13] = 0x08, 0x00
	if p.Device.Is6() {
		b[12], b[13] = 0x86, 0xdd
	}
	return append(b, p.Octets(d)...)
}

var list = acltest.List

func open(t testing.TB, c Config) *Access {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	if c.MaxDevices == 0 {
		c.MaxDevices = 16
	}
	c.linkHeader = ethernet
	a, err := Open(c)
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			t.Fatalf("%+v", verifier)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (a *Access) set(t testing.TB, groups ...acl.Group) {
	t.Helper()
	if err := a.SetGroups(groups); err != nil {
		t.Fatal(err)
	}
}

func (a *Access) admit(t testing.TB, spi uint32, group string, addresses ...netip.Addr) {
	t.Helper()
	if err := errors.Join(a.Add([]acl.Device{{SPI: spi, Addresses: addresses, Group: group}})...); err != nil {
		t.Fatal(err)
	}
}

// context of a packet, as struct __sk_buff has it.
type context struct {
	_       [164]byte
	GSOSegs uint32
	_       [8]byte
	GSOSize uint32
	_       [12]byte
}

// run has a program judge a packet, and returns what the counters say of it.
func (a *Access) run(t testing.TB, d acl.Direction, octets []byte, segment uint32) (acl.Verdict, acl.Count) {
	t.Helper()
	before, err := a.Counters()
	if err != nil {
		t.Fatal(err)
	}
	program := [2]*ebpf.Program{a.programs.AccessIn, a.programs.AccessOut}[d]
	options := ebpf.RunOptions{Data: octets}
	if segment > 0 {
		options.Context = context{GSOSize: segment}
	}
	code, err := program.Run(&options)
	if err != nil {
		t.Fatal(err)
	}
	after, err := a.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for v := range acl.NumVerdicts {
		n := acl.Count{Packets: after[d][v].Packets - before[d][v].Packets, Bytes: after[d][v].Bytes - before[d][v].Bytes}
		if n.Packets == 0 {
			continue
		}
		verdict := acl.Verdict(v)
		if passed := int32(code) == -1; passed != (verdict == acl.VerdictPass) {
			t.Fatalf("counted as %v, but the program returned %d", verdict, int32(code))
		}
		return verdict, n
	}
	t.Fatal("no counter has changed")
	return 0, acl.Count{}
}

func TestVerdicts(t *testing.T) {
	a := open(t, Config{})
	a.set(t, acl.Group{}, acl.Group{Name: "staff", List: list(t,
		"allow 10.2.0.0/24 tcp 443", "deny 10.2.0.66", "allow 10.2.0.0/24 icmp", "allow 10.3.0.0/16", "deny 10.3.0.0/16 udp 53",
		"allow 2001:db8:2::/64 tcp 443", "allow 2001:db8:2::/64 icmp", "allow 2001:db8:3::/64", "allow 10.2.0.0/24 udp 1000-2000")})
	a.admit(t, 0x1000, "staff", device4, device6)
	open4, open6 := netip.MustParseAddr("10.9.0.8"), netip.MustParseAddr("2001:db8:9::8")
	a.admit(t, 0x1001, "", open4, open6)
	all4, all6 := netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("2001:db8:3::1")
	stranger := netip.MustParseAddr("10.9.0.99")
	hop := []byte{0, 0 /* next */, 0, 1, 4, 0, 0, 0, 0}
	for _, c := range []struct {
		name string
		packet
		want acl.Verdict
	}{
		{"allowed port", packet{Device: device4, Remote: host4, Protocol: acl.TCP, Port: 443}, acl.VerdictPass},
		{"other port", packet{Device: device4, Remote: host4, Protocol: acl.TCP, Port: 444}, acl.VerdictDenied},
		{"other protocol", packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 443}, acl.VerdictDenied},
		{"first of a range", packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 1000}, acl.VerdictPass},
		{"last of a range", packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 2000}, acl.VerdictPass},
		{"behind a range", packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 2001}, acl.VerdictDenied},
		{"longer network", packet{Device: device4, Remote: netip.MustParseAddr("10.2.0.66"), Protocol: acl.TCP, Port: 443}, acl.VerdictDenied},
		{"other network", packet{Device: device4, Remote: netip.MustParseAddr("10.2.1.5"), Protocol: acl.TCP, Port: 443}, acl.VerdictDenied},
		{"ICMP", packet{Device: device4, Remote: host4, Protocol: acl.ICMP}, acl.VerdictPass},
		{"ICMPv6", packet{Device: device6, Remote: host6, Protocol: acl.ICMPv6}, acl.VerdictPass},
		{"ICMP in IPv6", packet{Device: device6, Remote: host6, Protocol: acl.ICMP}, acl.VerdictDenied},
		{"IPv6", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Port: 443}, acl.VerdictPass},
		{"IPv6, other port", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Port: 80}, acl.VerdictDenied},
		{"first of two rules", packet{Device: device4, Remote: all4, Protocol: acl.UDP, Port: 53}, acl.VerdictPass},
		{"later fragment", packet{Device: device4, Remote: host4, Protocol: acl.TCP, Fragment: 3, Payload: make([]byte, 64)}, acl.VerdictFragment},
		{"later fragment, IPv6", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Fragment: 3, Payload: make([]byte, 64)}, acl.VerdictFragment},
		{"later fragment without ports", packet{Device: device4, Remote: host4, Protocol: acl.ICMP, Fragment: 3, Payload: make([]byte, 64)}, acl.VerdictPass},
		{"later fragment, all allowed", packet{Device: device4, Remote: all4, Protocol: acl.TCP, Fragment: 3, Payload: make([]byte, 64)}, acl.VerdictPass},
		{"later fragment, all allowed, IPv6", packet{Device: device6, Remote: all6, Protocol: acl.TCP, Fragment: 3, Payload: make([]byte, 64)}, acl.VerdictPass},
		{"no room for ports", packet{Device: device4, Remote: host4, Protocol: acl.TCP, Port: 443, Cut: 17}, acl.VerdictFragment},
		{"extension header", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Port: 443, Extensions: next(hop, acl.TCP)}, acl.VerdictPass},
		{"extension header, other port", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Port: 80, Extensions: next(hop, acl.TCP)}, acl.VerdictDenied},
		{"extension header cut off", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Port: 443, Extensions: next(hop, acl.TCP), Cut: 24}, acl.VerdictMalformed},
		{"no device", packet{Device: stranger, Remote: host4, Protocol: acl.TCP, Port: 443}, acl.VerdictUnknown},
		{"no list", packet{Device: open4, Remote: host4, Protocol: acl.TCP, Port: 1}, acl.VerdictPass},
		{"no list, IPv6", packet{Device: open6, Remote: host6, Protocol: 99}, acl.VerdictPass},
		{"no list, later fragment", packet{Device: open4, Remote: host4, Protocol: acl.TCP, Fragment: 3, Payload: make([]byte, 8)}, acl.VerdictPass},
	} {
		for _, d := range []acl.Direction{acl.In, acl.Out} {
			octets := octets(c.packet, d)
			got, count := a.run(t, d, octets, 0)
			if got != c.want || count != (acl.Count{Packets: 1, Bytes: uint64(len(octets) - ethernet)}) {
				t.Errorf("%s, %v: %v, counted %+v; want %v", c.name, d, got, count, c.want)
			}
		}
	}

	bad := func(name string, change func([]byte)) {
		octets := octets(packet{Device: device4, Remote: host4, Protocol: acl.TCP, Port: 443}, acl.In)
		change(octets)
		if got, _ := a.run(t, acl.In, octets, 0); got != acl.VerdictMalformed {
			t.Errorf("%s: %v", name, got)
		}
	}
	bad("ARP", func(b []byte) { b[13] = 6 })
	bad("version 6 in an IPv4 frame", func(b []byte) { b[ethernet] = 0x65 })
	bad("header of 16 octets", func(b []byte) { b[ethernet] = 0x44 })
	bad("header longer than the packet", func(b []byte) { b[ethernet] = 0x4f })
}

// next sets the last next header of extensions that begin with their kind.
func next(extensions []byte, protocol uint8) []byte {
	out := append([]byte(nil), extensions...)
	at := 1
	for {
		length := 8 + int(out[at+1])*8
		if at+length >= len(out) {
			out[at] = protocol
			return out
		}
		at += length
	}
}

// A packet whose extension headers go on and on is dropped; the bound leaves
// room for all that are in use.
func TestExtensionHeadersAreBounded(t *testing.T) {
	a := open(t, Config{})
	a.set(t, acl.Group{Name: "", List: list(t, "allow any tcp 443")})
	a.admit(t, 1, "", device6)
	for n, want := range map[int]acl.Verdict{1: acl.VerdictPass, 7: acl.VerdictPass, 8: acl.VerdictMalformed, 20: acl.VerdictMalformed} {
		extensions := []byte{60}
		for range n {
			extensions = append(extensions, 60, 0, 1, 4, 0, 0, 0, 0)
		}
		p := packet{Device: device6, Remote: host6, Protocol: acl.TCP, Port: 443, Extensions: next(extensions, acl.TCP)}
		if got, _ := a.run(t, acl.In, octets(p, acl.In), 0); got != want {
			t.Errorf("%d headers: %v, want %v", n, got, want)
		}
	}
}

// What the programs do is what package acl says, on random lists and packets
// that are near to what the lists say.
func TestReference(t *testing.T) {
	a := open(t, Config{})
	random := rand.New(rand.NewPCG(1, 2))
	const lists, packets = 400, 256
	verdicts := map[acl.Verdict]int{}
	for n := range lists {
		l := acltest.RandomList(t, random)
		a.set(t, acl.Group{Name: "g", List: l})
		if n == 0 {
			a.admit(t, 1, "g", device4, device6)
		}
		for range packets {
			p := acltest.RandomPacket(random)
			want := l.Decide(p.Seen())
			d := acl.Direction(random.IntN(acl.NumDirections))
			code, err := [2]*ebpf.Program{a.programs.AccessIn, a.programs.AccessOut}[d].Run(&ebpf.RunOptions{Data: octets(p, d)})
			if err != nil {
				t.Fatal(err)
			}
			if (int32(code) == -1) != (want == acl.VerdictPass) {
				t.Fatalf("list %v\npacket %+v, %v: returned %d, want %v", l.Rules(), p, d, int32(code), want)
			}
			verdicts[want]++
		}
	}
	counters, err := a.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for v := range acl.NumVerdicts {
		if n := counters[acl.In][v].Packets + counters[acl.Out][v].Packets; n != uint64(verdicts[acl.Verdict(v)]) {
			t.Errorf("%v: the programs counted %d, the reference %d", acl.Verdict(v), n, verdicts[acl.Verdict(v)])
		}
	}
	for _, v := range []acl.Verdict{acl.VerdictPass, acl.VerdictDenied, acl.VerdictFragment} {
		if verdicts[v] < lists*packets/50 {
			t.Errorf("%v: only %d of %d packets", v, verdicts[v], lists*packets)
		}
	}
	t.Log(verdicts)
}

// A super-packet counts as its segments will, whatever gso_segs says.
func TestSegments(t *testing.T) {
	a := open(t, Config{})
	a.set(t, acl.Group{})
	a.admit(t, 1, "", device4, device6)
	for _, c := range []struct {
		name string
		packet
		segment uint32
		want    acl.Count
	}{
		{"TCP", packet{Device: device4, Remote: host4, Protocol: acl.TCP, Payload: make([]byte, 1000)}, 300, acl.Count{Packets: 4, Bytes: 1000 + 4*40}},
		{"TCP, no rest", packet{Device: device4, Remote: host4, Protocol: acl.TCP, Payload: make([]byte, 900)}, 300, acl.Count{Packets: 3, Bytes: 900 + 3*40}},
		{"TCP over IPv6", packet{Device: device6, Remote: host6, Protocol: acl.TCP, Payload: make([]byte, 901)}, 300, acl.Count{Packets: 4, Bytes: 901 + 4*60}},
		{"UDP", packet{Device: device4, Remote: host4, Protocol: acl.UDP, Payload: make([]byte, 1000)}, 500, acl.Count{Packets: 2, Bytes: 1000 + 2*28}},
		{"smaller than a segment", packet{Device: device4, Remote: host4, Protocol: acl.UDP, Payload: make([]byte, 10)}, 500, acl.Count{Packets: 1, Bytes: 10 + 28}},
	} {
		for _, d := range []acl.Direction{acl.In, acl.Out} {
			if v, count := a.run(t, d, octets(c.packet, d), c.segment); v != acl.VerdictPass || count != c.want {
				t.Errorf("%s, %v: %v, %+v; want %+v", c.name, d, v, count, c.want)
			}
		}
	}
	var usage []Usage
	if err := a.Usage(func(u Usage) bool { usage = append(usage, u); return true }); err != nil || len(usage) != 1 {
		t.Fatal(usage, err)
	}
	want := acl.Count{Packets: 4 + 3 + 4 + 2 + 1, Bytes: 1160 + 1020 + 1141 + 1056 + 38}
	if usage[0].Passed != [2]acl.Count{want, want} || usage[0].Last[acl.In].IsZero() || usage[0].Last[acl.Out].IsZero() {
		t.Errorf("usage %+v, want %+v each way", usage[0], want)
	}
}

// What a group says of its devices holds for the next packet, and a device in
// two Child SAs is one.
func TestRegroup(t *testing.T) {
	a := open(t, Config{})
	quarantine := acl.Group{Name: "quarantine", List: list(t, "allow 10.2.0.1 tcp 443")}
	a.set(t, acl.Group{}, quarantine)
	a.admit(t, 1, "quarantine", device4)
	a.admit(t, 2, "quarantine", device4)
	p := octets(packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 53}, acl.In)
	for n, step := range []struct {
		do   func() error
		want acl.Verdict
	}{
		{func() error { return nil }, acl.VerdictDenied},
		{func() error { return a.Regroup(2, "") }, acl.VerdictPass},
		{func() error { return a.Regroup(1, "quarantine") }, acl.VerdictDenied},
		{func() error { return a.Remove([]uint32{1}) }, acl.VerdictDenied},
		{func() error { return a.Regroup(2, "") }, acl.VerdictPass},
		{func() error { return a.Remove([]uint32{2, 99}) }, acl.VerdictUnknown},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got, _ := a.run(t, acl.In, p, 0); got != step.want {
			t.Errorf("step %d: the next packet: %v, want %v", n, got, step.want)
		}
	}
	a.admit(t, 3, "", device4)
	if err := a.Regroup(3, "nobody"); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("group that isn't one: %v", err)
	}
	if err := errors.Join(a.Add([]acl.Device{{SPI: 4, Group: "nobody", Addresses: []netip.Addr{host4}}})...); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("device of a group that isn't one: %v", err)
	}
	if got, _ := a.run(t, acl.In, p, 0); got != acl.VerdictPass {
		t.Errorf("after two errors: %v", got)
	}
}

// A group that goes stays in force for its devices, and its slot is free when
// they have left; a list can come, change and go.
func TestGroupsComeAndGo(t *testing.T) {
	a := open(t, Config{MaxDevices: 4})
	a.slots.max = 3
	only := func(host string) *acl.List { return list(t, "allow "+host) }
	p := octets(packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 53}, acl.Out)
	expect := func(what string, want acl.Verdict) {
		t.Helper()
		if got, _ := a.run(t, acl.Out, p, 0); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	a.set(t, acl.Group{Name: "a"})
	a.admit(t, 1, "a", device4)
	expect("no list", acl.VerdictPass)
	a.set(t, acl.Group{Name: "a", List: only("10.2.0.9")})
	expect("a list", acl.VerdictDenied)
	a.set(t, acl.Group{Name: "a", List: only("10.2.0.5")})
	expect("another list", acl.VerdictPass)
	a.set(t, acl.Group{Name: "b", List: only("10.2.0.9")})
	expect("the group is gone", acl.VerdictPass)
	if err := errors.Join(a.Add([]acl.Device{{SPI: 2, Group: "a", Addresses: []netip.Addr{device6}}})...); !errors.Is(err, acl.ErrGroup) {
		t.Errorf("a group that is gone takes a device: %v", err)
	}
	a.set(t, acl.Group{Name: "a", List: only("10.2.0.9")}, acl.Group{Name: "b"})
	expect("the group is back with another list", acl.VerdictDenied)
	a.set(t, acl.Group{Name: "b"})
	if err := a.Regroup(1, "b"); err != nil {
		t.Fatal(err)
	}
	expect("moved", acl.VerdictPass)
	for i := range 8 {
		a.set(t, acl.Group{Name: "b"}, acl.Group{Name: fmt.Sprint("c", i), List: only("10.2.0.9")})
	}
	a.set(t, acl.Group{Name: "b", List: &acl.List{}})
	expect("an empty list", acl.VerdictDenied)
	a.set(t, acl.Group{Name: "b"})
	expect("no list again", acl.VerdictPass)
}

// More devices than there is room for are refused, one by one, and there is
// room again when others went.
func TestFull(t *testing.T) {
	a := open(t, Config{MaxDevices: 2})
	a.set(t, acl.Group{})
	address := func(n byte) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, n})} }
	errs := a.Add([]acl.Device{{SPI: 1, Addresses: address(1)}, {SPI: 2, Addresses: address(2)}, {SPI: 3, Addresses: address(3)}})
	if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], acl.ErrFull) {
		t.Errorf("errors %v", errs)
	}
	if err := a.Remove([]uint32{1}); err != nil {
		t.Fatal(err)
	}
	a.admit(t, 3, "", address(3)...)
	for n, want := range []acl.Verdict{acl.VerdictUnknown, acl.VerdictPass, acl.VerdictPass} {
		p := packet{Device: address(byte(n + 1))[0], Remote: host4, Protocol: acl.UDP}
		if got, _ := a.run(t, acl.In, octets(p, acl.In), 0); got != want {
			t.Errorf("device %d: %v, want %v", n+1, got, want)
		}
	}
}

// Above XFRM a packet that came through no Child SA is nobody's. (Which one a
// packet came through can't be said natively; the virtual machine does.)
func TestBoundToItsSA(t *testing.T) {
	a := open(t, Config{BindSA: true})
	a.set(t, acl.Group{})
	a.admit(t, 1, "", device4)
	p := packet{Device: device4, Remote: host4, Protocol: acl.UDP}
	for d, want := range []acl.Verdict{acl.VerdictWrongSA, acl.VerdictPass} {
		if got, _ := a.run(t, acl.Direction(d), octets(p, acl.Direction(d)), 0); got != want {
			t.Errorf("%v: %v, want %v", acl.Direction(d), got, want)
		}
	}
}

// A device that came back without one of its addresses isn't merged with whoever
// gets that address next.
func TestAddressPassedOn(t *testing.T) {
	a := open(t, Config{})
	a.set(t, acl.Group{Name: "staff"}, acl.Group{Name: "quarantine", List: list(t, "allow 10.2.0.1 tcp 443")})
	old4 := netip.MustParseAddr("10.9.0.77")
	a.admit(t, 1, "quarantine", old4, device6)
	a.admit(t, 2, "quarantine", device4, device6) // a new address after a change of pools
	if err := a.Remove([]uint32{1}); err != nil {
		t.Fatal(err)
	}
	a.admit(t, 3, "staff", old4)
	p := octets(packet{Device: device4, Remote: host4, Protocol: acl.UDP, Port: 53}, acl.In)
	if got, _ := a.run(t, acl.In, p, 0); got != acl.VerdictDenied {
		t.Errorf("the quarantined device: %v, want denied", got)
	}
	p = octets(packet{Device: old4, Remote: host4, Protocol: acl.UDP, Port: 53}, acl.In)
	if got, _ := a.run(t, acl.In, p, 0); got != acl.VerdictPass {
		t.Errorf("who has its former address: %v, want pass", got)
	}
	if a.table.Device(2) == a.table.Device(3) {
		t.Error("two devices are one: with BindSA either may use the other's address")
	}
	a.admit(t, 4, "quarantine", device6, device4)
	if a.table.Device(2) != a.table.Device(4) {
		t.Error("a rekeyed Child SA is another device")
	}
	a.admit(t, 4, "staff", netip.MustParseAddr("10.9.0.78")) // an SPI with another address
	if err := a.Remove([]uint32{2, 3, 4}); err != nil || a.table.Len() != 0 {
		t.Errorf("%d devices are left, %v", a.table.Len(), err)
	}
}

// The slot of a group that went is free when its last device left by a rekeyed
// Child SA.
func TestSlotOfAGroupThatWasLeft(t *testing.T) {
	a := open(t, Config{})
	a.slots.max = 3
	a.set(t, acl.Group{Name: "a"})
	a.admit(t, 1, "a", device4)
	for i, name := range []string{"b", "c", "d", "e", "f"} {
		if err := a.SetGroups([]acl.Group{{Name: name}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a.admit(t, uint32(i+2), name, device4) // rekeyed before Regroup
		if err := a.Remove([]uint32{uint32(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
}
