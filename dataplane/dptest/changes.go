package dptest

import (
	"errors"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// changeScenarios need no packets.
var changeScenarios = []scenario{
	{"reserve and give back", reserveAndGiveBack, one},
	{"no room", noRoom, one},
	{"an SPI rests", spiRests, one},
	{"an SPI that was not installed doesn't", unusedSPIComesBack, one},
	{"install is refused", installRefused, one},
	{"changes to what isn't there", unknownChanges, one},
	{"a path that can't be", movesRefused, one},
	{"a path of the other family", moveToOtherFamily, two},
	{"IKE messages from an address that isn't ours", sendFromElsewhere, one},
	{"a failed change doesn't stop others", failureInTheMiddle, one},
	{"counters of installed children only", countersOfInstalled, one},
	{"exported and imported unchanged", exportImport, one},
	{"import of all or none", importAllOrNone, one},
	{"after export", afterExport, one},
	{"after close", afterClose, one},
}

// manySPIs is how often scenarios reserve where the number doesn't matter.
const manySPIs = 300

func isError(err, want error) bool { return errors.Is(err, want) }

func reserveAndGiveBack(e *env) {
	seen := make(map[dataplane.SPI]bool)
	for range min(manySPIs, e.Backend.Features().MaxChildren) {
		spi := e.reserve()
		if spi < 256 || seen[spi] {
			e.Fatalf("Reserve gave %#08x, reserved by RFC 4303 or in use", uint32(spi))
		}
		seen[spi] = true
	}
	for spi := range seen {
		e.apply(dataplane.Remove{Inbound: spi})
		e.refused(dataplane.Remove{Inbound: spi}, dataplane.ErrUnknownSPI)
	}
}

func noRoom(e *env) {
	room := e.Backend.Features().MaxChildren
	var last dataplane.SPI
	for range room {
		last = e.reserve()
	}
	if spi, err := e.Backend.Reserve(virtual4); !errors.Is(err, dataplane.ErrFull) {
		e.Fatalf("Reserve beyond MaxChildren %d: %#08x, %v", room, uint32(spi), err)
	}
	e.apply(dataplane.Remove{Inbound: last})
	e.reserve()
}

func spiRests(e *env) {
	seen := make(map[dataplane.SPI]bool)
	child := e.child(nil)
	e.apply(dataplane.Remove{Inbound: child.Inbound.SPI})
	for range manySPIs {
		spi, err := e.Backend.Reserve(virtual4)
		if errors.Is(err, dataplane.ErrFull) {
			break // all others rest
		}
		if err != nil || seen[spi] {
			e.Fatalf("Reserve: %#08x, %v; it was given back just now", uint32(spi), err)
		}
		seen[spi] = true
		child.Inbound.SPI = spi
		e.apply(dataplane.Install{Child: child}, dataplane.Remove{Inbound: spi})
	}
	if e.Advance == nil {
		return
	}
	e.Advance(3 * time.Minute)
	for range min(manySPIs, e.Backend.Features().MaxChildren) {
		e.reserve()
	}
}

// unusedSPIComesBack: who only reserves uses nothing up.
func unusedSPIComesBack(e *env) {
	last := dataplane.SPI(0)
	for range 2*min(manySPIs, e.Backend.Features().MaxChildren) + manySPIs {
		spi := e.reserve()
		if spi == last {
			e.Fatalf("SPI %#08x twice in a row", uint32(spi))
		}
		last = spi
		e.apply(dataplane.Remove{Inbound: spi})
	}
}

func installRefused(e *env) {
	child := e.child(nil)
	edits := []struct {
		name string
		want error
		edit func(*dataplane.Child)
	}{
		{"SPI not reserved", dataplane.ErrNotReserved, func(c *dataplane.Child) { c.Inbound.SPI ^= 1 }},
		{"unknown encryption", dataplane.ErrAlgorithm, func(c *dataplane.Child) { c.Algorithm.Encryption = 0xFFFF }},
		{"short inbound key", dataplane.ErrKeyLength, func(c *dataplane.Child) { c.Inbound.Keys.Encryption = c.Inbound.Keys.Encryption[1:] }},
		{"long outbound key", dataplane.ErrKeyLength, func(c *dataplane.Child) { c.Outbound.Keys.Integrity = make([]byte, 99) }},
		{"no virtual address", dataplane.ErrInvalid, func(c *dataplane.Child) { c.VirtualIPs = nil }},
		{"two of a family", dataplane.ErrInvalid, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{virtual4, host4} }},
		{"zero virtual address", dataplane.ErrInvalid, func(c *dataplane.Child) { c.VirtualIPs = []netip.Addr{{}} }},
		{"no local selector", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Local = nil }},
		{"no remote selector", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Remote = nil }},
		{"range of two families", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Local = []dataplane.Selector{{First: host4, Last: host6}} }},
		{"range backwards", dataplane.ErrInvalid, func(c *dataplane.Child) {
			c.Local = []dataplane.Selector{{First: host4, Last: host4, FirstPort: 2, LastPort: 1}}
		}},
		{"no remote address", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Path.Remote = netip.AddrPort{} }},
		{"local address of somebody else", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Path.Local = netip.MustParseAddrPort("192.0.2.99:4500") }},
		{"a path to its own virtual address", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Path.Remote = inTunnel(c.Path) }},
		{"reserved outbound SPI", dataplane.ErrInvalid, func(c *dataplane.Child) { c.Outbound.SPI = 255 }},
	}
	if !e.Backend.Features().RawESP {
		edits = append(edits, edits[len(edits)-1])
		edits[len(edits)-1].name, edits[len(edits)-1].edit = "raw ESP", func(c *dataplane.Child) { c.Path.Encapsulation = dataplane.EncapsulationNone }
	}
	if !e.Backend.Features().ESN {
		edits = append(edits, edits[1])
		edits[len(edits)-1].name, edits[len(edits)-1].edit = "ESN", func(c *dataplane.Child) { c.ESN = true }
	}
	for _, bad := range edits {
		broken := child
		bad.edit(&broken)
		if errs := e.Backend.Apply([]dataplane.Change{dataplane.Install{Child: broken}}); !errors.Is(errs[0], bad.want) {
			e.Errorf("%s: %v, want %v", bad.name, errs[0], bad.want)
		}
	}
	// None of them took the reservation.
	e.apply(dataplane.Install{Child: child})
	e.refused(dataplane.Install{Child: child}, dataplane.ErrNotReserved)
}

func unknownChanges(e *env) {
	child := e.child(nil)
	reserved, path := child.Inbound.SPI, child.Path
	for _, spi := range []dataplane.SPI{0, 255, reserved, reserved ^ 1, 0xFFFFFFFF} {
		e.refused(dataplane.UseOutbound{Inbound: spi}, dataplane.ErrUnknownSPI)
		e.refused(dataplane.Move{Inbound: spi, Path: path}, dataplane.ErrUnknownSPI)
		e.refused(dataplane.Regroup{Inbound: spi, Group: ""}, dataplane.ErrUnknownSPI)
		if spi != reserved {
			e.refused(dataplane.Remove{Inbound: spi}, dataplane.ErrUnknownSPI)
		}
	}
}

func movesRefused(e *env) {
	child := e.child(nil)
	e.apply(dataplane.Install{Child: child})
	spi := child.Inbound.SPI
	nowhere, elsewhere, otherFamily := child.Path, child.Path, child.Path
	nowhere.Remote = netip.AddrPort{}
	elsewhere.Local = netip.MustParseAddrPort("192.0.2.99:4500")
	otherFamily.Remote = netip.AddrPortFrom(host6, 4500)
	if child.Path.Local.Addr().Is6() {
		otherFamily.Remote = netip.AddrPortFrom(host4, 4500)
	}
	ring := child.Path
	ring.Remote = inTunnel(child.Path)
	for _, path := range []dataplane.Path{nowhere, elsewhere, otherFamily, ring} {
		e.refused(dataplane.Move{Inbound: spi, Path: path}, dataplane.ErrInvalid)
	}
	// Nobody else may send to there either, as long as that child is installed.
	other := e.child(nil)
	other.VirtualIPs = []netip.Addr{virtual4.Next()}
	other.Path.Remote = ring.Remote
	e.refused(dataplane.Install{Child: other}, dataplane.ErrInvalid)
	e.apply(dataplane.Move{Inbound: spi, Path: child.Path})
}

// inTunnel is the virtual address of the family of a path.
func inTunnel(p dataplane.Path) netip.AddrPort {
	if p.Local.Addr().Is6() {
		return netip.AddrPortFrom(virtual6, 4500)
	}
	return netip.AddrPortFrom(virtual4, 4500)
}

// moveToOtherFamily: a child goes to another local address and back.
func moveToOtherFamily(e *env) {
	second := e.Second
	child := e.child(nil)
	e.apply(dataplane.Install{Child: child})
	other := e.pathFrom(second)
	mixed := dataplane.Path{Local: other.Local, Remote: child.Path.Remote}
	e.refused(dataplane.Move{Inbound: child.Inbound.SPI, Path: mixed}, dataplane.ErrInvalid)
	e.apply(dataplane.Move{Inbound: child.Inbound.SPI, Path: other})
	e.apply(dataplane.Move{Inbound: child.Inbound.SPI, Path: child.Path})
	e.apply(dataplane.Move{Inbound: child.Inbound.SPI, Path: other})
	if states := e.export(); len(states) != 1 || states[0].Child.Path != other {
		e.Errorf("exported %+v, want the path %+v", states, other)
	}
}

// sendFromElsewhere: a message goes from the address that it names, or not at
// all, and those before it have gone.
func sendFromElsewhere(e *env) {
	good := dataplane.Datagram{Data: []byte("good"), Local: e.IKE, Remote: e.IKE}
	for name, edit := range map[string]func(*dataplane.Datagram){
		"nobody's address":            func(d *dataplane.Datagram) { d.Local = netip.MustParseAddrPort("192.0.2.99:500") },
		"no address":                  func(d *dataplane.Datagram) { d.Local = netip.AddrPort{} },
		"marker on the port for IKE":  func(d *dataplane.Datagram) { d.Marker = true },
		"no marker on the other port": func(d *dataplane.Datagram) { d.Local = e.Encap },
	} {
		bad := good
		edit(&bad)
		before := e.Backend.Drops()
		if n, err := e.Backend.Transport().Send([]dataplane.Datagram{good, bad, good}); n != 1 || !errors.Is(err, dataplane.ErrInvalid) {
			e.Errorf("%s: Send returned %d, %v", name, n, err)
		}
		e.dropped(before, dataplane.ReasonOutsideSend)
	}
}

func failureInTheMiddle(e *env) {
	first, second := e.child(nil), e.child(nil)
	errs := e.Backend.Apply([]dataplane.Change{
		dataplane.Install{Child: first},
		dataplane.UseOutbound{Inbound: second.Inbound.SPI}, // too early
		dataplane.Install{Child: second},
		dataplane.UseOutbound{Inbound: second.Inbound.SPI},
	})
	for i, want := range []error{nil, dataplane.ErrUnknownSPI, nil, nil} {
		if !errors.Is(errs[i], want) {
			e.Errorf("change %d: %v, want %v", i, errs[i], want)
		}
	}
	if errs := e.Backend.Apply(nil); len(errs) != 0 {
		e.Errorf("no changes: %v", errs)
	}
}

func countersOfInstalled(e *env) {
	e.reserve()
	want := make(map[dataplane.SPI]bool)
	for range 3 {
		child := e.child(nil)
		e.apply(dataplane.Install{Child: child})
		want[child.Inbound.SPI] = true
	}
	yielded := 0
	for c := range e.Backend.Counters {
		if !want[c.Inbound] || c != (dataplane.ChildCounters{Inbound: c.Inbound}) {
			e.Errorf("counters %+v", c)
		}
		yielded++
	}
	if yielded != 3 {
		e.Errorf("counters of %d children, want 3", yielded)
	}
	for range e.Backend.Counters {
		yielded++
		break
	}
	if yielded != 4 {
		e.Error("Counters goes on after yield returned false")
	}
}
