package layered

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
)

// room is a layer that knows so many Child SAs and the groups "staff" and "".
type room struct {
	t    *testing.T
	size int
	in   map[dataplane.SPI]string
}

func (r *room) Admit(children []*dataplane.Child) []error {
	errs := make([]error, len(children))
	for i, c := range children {
		if len(r.in) == r.size {
			errs[i] = dataplane.ErrFull
			continue
		}
		r.in[c.Inbound.SPI] = c.Group
	}
	return errs
}

func (r *room) Regroup(inbound dataplane.SPI, group string) error {
	if _, ok := r.in[inbound]; !ok {
		r.t.Errorf("regroup of %#x, which isn't known", inbound)
	}
	if group != "" && group != "staff" {
		return dataplane.ErrGroup
	}
	r.in[inbound] = group
	return nil
}

func (r *room) Forget(inbound []dataplane.SPI) {
	for _, spi := range inbound {
		delete(r.in, spi)
	}
}

func newRoom(t *testing.T, size int) *room {
	return &room{t: t, size: size, in: make(map[dataplane.SPI]string)}
}

var (
	gateway  = netip.MustParseAddr("192.0.2.1")
	gateway6 = netip.MustParseAddr("2001:db8::2")
)

func local(a netip.Addr) dptest.Local {
	return dptest.Local{IKE: netip.AddrPortFrom(a, 500), Encap: netip.AddrPortFrom(a, 4500)}
}

// A backend with layers is a backend, and when it is closed no layer knows
// anything any more.
func TestConformance(t *testing.T) {
	dptest.Run(t, func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		outside, inside := newRoom(t, 1000), newRoom(t, 1000)
		b := New(dptest.NewFake(gateway, events, gateway6), outside, inside)
		t.Cleanup(func() {
			if err := b.Close(); err != nil || len(outside.in) != 0 || len(inside.in) != 0 {
				t.Errorf("close: %v; %d and %d Child SAs are left in layers", err, len(outside.in), len(inside.in))
			}
		})
		second := local(gateway6)
		return &dptest.Harness{Backend: b, Local: local(gateway), Second: &second}
	})
}

func child(t *testing.T, b *Backend) dataplane.Child {
	virtual := netip.MustParseAddr("10.9.0.7")
	spi, err := b.Reserve(virtual)
	if err != nil {
		t.Fatal(err)
	}
	all := []dataplane.Selector{{First: netip.IPv4Unspecified(), Last: netip.MustParseAddr("255.255.255.255"), LastPort: 65535}}
	keys := dataplane.Keys{Encryption: make([]byte, 20)}
	return dataplane.Child{
		Inbound: dataplane.SA{SPI: spi, Keys: keys}, Outbound: dataplane.SA{SPI: 0x4711, Keys: keys},
		Algorithm:  dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128},
		VirtualIPs: []netip.Addr{virtual}, Local: all, Remote: all,
		Path: dataplane.Path{Local: netip.AddrPortFrom(gateway, 4500), Remote: netip.MustParseAddrPort("198.51.100.7:4500")},
	}
}

func apply(b *Backend, changes ...dataplane.Change) error { return errors.Join(b.Apply(changes)...) }

// A layer without room fails the exchange, and no other layer keeps what came
// of it. What one layer knows, all know.
func TestLayerIsFull(t *testing.T) {
	outside, inside := newRoom(t, 10), newRoom(t, 1)
	b := New(dptest.NewFake(gateway, make(chan dataplane.Event, 1)), outside, inside)
	defer b.Close()
	first, second := child(t, b), child(t, b)
	errs := b.Apply([]dataplane.Change{
		dataplane.Install{Child: first}, dataplane.Install{Child: second}, dataplane.UseOutbound{Inbound: first.Inbound.SPI},
	})
	if errs[0] != nil || !errors.Is(errs[1], dataplane.ErrFull) || errs[2] != nil {
		t.Fatalf("errors %v, want the second child refused", errs)
	}
	if len(outside.in) != 1 || len(inside.in) != 1 {
		t.Errorf("layers know %d and %d Child SAs, want 1 and 1", len(outside.in), len(inside.in))
	}
	if err := apply(b, dataplane.Remove{Inbound: first.Inbound.SPI}, dataplane.Install{Child: second}); !errors.Is(err, dataplane.ErrFull) {
		t.Errorf("install before the room is free again: %v", err)
	}
	if err := apply(b, dataplane.Install{Child: second}); err != nil {
		t.Errorf("install when there is room: %v", err)
	}
}

// Installing twice is refused and leaves the first as it was.
func TestInstalledTwice(t *testing.T) {
	r := newRoom(t, 10)
	b := New(dptest.NewFake(gateway, make(chan dataplane.Event, 1)), r)
	defer b.Close()
	c := child(t, b)
	c.Group = "staff"
	if err := apply(b, dataplane.Install{Child: c}); err != nil {
		t.Fatal(err)
	}
	c.Group = ""
	if err := apply(b, dataplane.Install{Child: c}); !errors.Is(err, dataplane.ErrNotReserved) {
		t.Errorf("second install: %v", err)
	}
	if r.in[c.Inbound.SPI] != "staff" {
		t.Errorf("group %q after a refused install", r.in[c.Inbound.SPI])
	}
}

// failing is a backend that removes a Child SA, and can't say that it is gone.
type failing struct {
	dataplane.Backend
	err error
}

func (f failing) Apply(changes []dataplane.Change) []error {
	errs := f.Backend.Apply(changes)
	for i, c := range changes {
		if _, ok := c.(dataplane.Remove); ok {
			errs[i] = f.err
		}
	}
	return errs
}

// After a Remove that failed below no layer knows the Child SA: the backend
// doesn't either. One that is closed has removed nothing.
func TestRemoveFails(t *testing.T) {
	for _, c := range []struct {
		err  error
		left int
	}{{errors.New("no answer"), 0}, {dataplane.ErrUnknownSPI, 0}, {dataplane.ErrClosed, 1}} {
		r := newRoom(t, 1)
		b := New(failing{dptest.NewFake(gateway, make(chan dataplane.Event, 1)), c.err}, r)
		defer b.Close()
		first := child(t, b)
		if err := apply(b, dataplane.Install{Child: first}); err != nil {
			t.Fatal(err)
		}
		if err := apply(b, dataplane.Remove{Inbound: first.Inbound.SPI}); !errors.Is(err, c.err) || len(r.in) != c.left {
			t.Errorf("remove: %v, want %v; %d left in the layer, want %d", err, c.err, len(r.in), c.left)
		}
		if c.left == 0 {
			if err := apply(b, dataplane.Install{Child: child(t, b)}); err != nil {
				t.Errorf("after %v there is no room: %v", c.err, err)
			}
		}
	}
}

// A group is changed in the layers only where the backend knows the Child SA.
func TestRegroup(t *testing.T) {
	r := newRoom(t, 10)
	b := New(dptest.NewFake(gateway, make(chan dataplane.Event, 1)), r)
	defer b.Close()
	c := child(t, b)
	if err := apply(b, dataplane.Install{Child: c}, dataplane.Regroup{Inbound: c.Inbound.SPI, Group: "staff"}); err != nil || r.in[c.Inbound.SPI] != "staff" {
		t.Errorf("group %q, %v", r.in[c.Inbound.SPI], err)
	}
	if err := apply(b, dataplane.Regroup{Inbound: c.Inbound.SPI, Group: "nobody"}); !errors.Is(err, dataplane.ErrGroup) {
		t.Errorf("unknown group: %v", err)
	}
	if err := apply(b, dataplane.Regroup{Inbound: c.Inbound.SPI + 1, Group: "staff"}); !errors.Is(err, dataplane.ErrUnknownSPI) {
		t.Errorf("unknown SPI: %v", err)
	}
}
