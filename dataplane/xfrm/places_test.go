package xfrm

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// unbound is a backend of which only the model is used.
func unbound(config Config) *Backend {
	config.Pools = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd00:9::/64")}
	config.Logger = slog.New(slog.DiscardHandler)
	config.setDefaults()
	b := &Backend{
		config: config, model: newModel(), epoch: config.Now(),
		reserved: make(map[dataplane.SPI]struct{}), rests: make(map[dataplane.SPI]struct{}),
	}
	b.features.Algorithms = []dataplane.Algorithm{gcm128}
	return b
}

// behindNAT is a device at an outer address that it shares with others.
func behindNAT(in, out dataplane.SPI, virtual string) dataplane.Child {
	all := []dataplane.Selector{{First: netip.IPv4Unspecified(), Last: netip.MustParseAddr("255.255.255.255"), LastPort: 0xFFFF}}
	keys := dataplane.Keys{Encryption: counting(20)}
	return dataplane.Child{
		Inbound: dataplane.SA{SPI: in, Keys: keys}, Outbound: dataplane.SA{SPI: out, Keys: keys}, Algorithm: gcm128,
		VirtualIPs: []netip.Addr{netip.MustParseAddr(virtual)}, Local: all, Remote: all,
		Path: dataplane.Path{Local: netip.AddrPortFrom(gatewayAddr, 4500), Remote: netip.AddrPortFrom(peerAddr, 4500), Encapsulation: dataplane.EncapsulationUDP},
	}
}

// A device that chooses the outbound SPI of another one at its outer address is
// refused before the kernel hears of it, and the other one has what it had.
func TestNeighboursOutboundSPI(t *testing.T) {
	first := behindNAT(0x1001, 0x4711, "10.9.0.1")
	elsewhere := first
	elsewhere.Path.Remote = netip.MustParseAddrPort("198.51.100.7:4500")
	for _, c := range []struct {
		name   string
		second dataplane.Child
		// prepare changes what there is of the first one.
		prepare func(b *Backend, c *child)
		want    error
	}{
		{"the same SPI", behindNAT(0x1002, 0x4711, "10.9.0.2"), nil, dataplane.ErrInvalid},
		{"the SPI of an SA that it has just moved away from", behindNAT(0x1002, 0x4711, "10.9.0.2"), func(b *Backend, c *child) {
			b.dropOutbound(c)
			c.retired = c.outboundID()
			b.retired[c.retired] = c
			c.Path = elsewhere.Path
			b.outbounds[c.outboundID()] = c
		}, dataplane.ErrInvalid},
		{"our own SPI at our own address", func() dataplane.Child {
			c := behindNAT(0x1002, 0x1001, "10.9.0.2")
			c.Path.Remote = netip.AddrPortFrom(gatewayAddr, 4501)
			return c
		}(), nil, dataplane.ErrInvalid},
		{"another SPI", behindNAT(0x1002, 0x4712, "10.9.0.2"), nil, nil},
		{"the same SPI at another address", func() dataplane.Child {
			c := behindNAT(0x1002, 0x4711, "10.9.0.2")
			c.Path = elsewhere.Path
			return c
		}(), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unbound(Config{SourceBinding: true})
			b.locals = localsAt(t)
			victim, err := b.newChild(onLoopback(b, first))
			check(t, err)
			b.add(victim)
			if c.prepare != nil {
				c.prepare(b, victim)
			}
			second := onLoopback(b, c.second)
			if c.second.Path.Remote.Addr() == gatewayAddr {
				second.Path.Remote = netip.AddrPortFrom(second.Path.Local.Addr(), 4501)
			}
			b.reserved[second.Inbound.SPI] = struct{}{}
			r := b.newRun(1)
			if err := r.install(0, second); !errors.Is(err, c.want) {
				t.Errorf("install: %v, want %v", err, c.want)
			}
			if _, reserved := b.reserved[second.Inbound.SPI]; c.want != nil && (r.q.len() != 0 || !reserved || b.children[second.Inbound.SPI] != nil) {
				t.Errorf("%d messages, reserved %v after a refusal", r.q.len(), reserved)
			}
			if b.outbounds[victim.outboundID()] != victim {
				t.Error("the neighbour's outbound SA is forgotten")
			}
			// A successor doesn't take both either.
			heir := unbound(Config{SourceBinding: true})
			heir.locals = b.locals
			var children []*child
			states := []dataplane.ChildState{{Child: *onLoopback(b, first), NextSequence: 1}, {Child: *second, NextSequence: 1}}
			if c.prepare != nil {
				states[0].Child.Path.Remote = first.Path.Remote
			}
			if err := heir.importable(states, &children); !errors.Is(err, c.want) || len(heir.children) != 0 {
				t.Errorf("import: %v, want %v", err, c.want)
			}
		})
	}
}

// localsAt is a socket on loopback, at a port that was drawn.
func localsAt(t *testing.T) encap.Pairs {
	t.Helper()
	socket, err := encap.Listen(netip.MustParseAddrPort("127.0.0.1:0"), "")
	check(t, err)
	t.Cleanup(func() { socket.Close() })
	return encap.Pairs{{Encap: socket}}
}

// onLoopback is c with a path from the sockets of b.
func onLoopback(b *Backend, c dataplane.Child) *dataplane.Child {
	c.Path.Local = b.locals[0].Encap.Local()
	return &c
}

// A move to where a neighbour has the SPI is refused, too.
func TestMoveToNeighboursSPI(t *testing.T) {
	b := unbound(Config{SourceBinding: true})
	b.locals = localsAt(t)
	roaming := behindNAT(0x1002, 0x4711, "10.9.0.2")
	home := netip.MustParseAddrPort("198.51.100.7:4500")
	roaming.Path.Remote = home
	var children [2]*child
	for i, c := range []dataplane.Child{behindNAT(0x1001, 0x4711, "10.9.0.1"), roaming} {
		n, err := b.newChild(onLoopback(b, c))
		check(t, err)
		b.add(n)
		children[i] = n
	}
	path := children[0].Path
	if err := b.move(dataplane.Move{Inbound: 0x1002, Path: path}); !errors.Is(err, dataplane.ErrInvalid) {
		t.Errorf("move: %v", err)
	}
	if children[1].Path.Remote != home || b.outbounds[children[0].outboundID()] != children[0] || b.outbounds[children[1].outboundID()] != children[1] {
		t.Error("a refused move changed something")
	}
}

// What the kernel refused because another program has it there is not removed
// when the rest of the child is taken back.
func TestRefusedSAIsNotRemoved(t *testing.T) {
	b := unbound(Config{SourceBinding: true})
	c := behindNAT(0x1001, 0x4711, "10.9.0.1")
	n := &child{Child: &c}
	b.add(n)
	for _, id := range []stateID{n.outboundID(), n.inboundID()} {
		p := part{child: n, makes: id}
		p.refuse(nil)
		before := b.newRun(1)
		before.takeOut(0, n, nil)
		p.refuse(unix.EEXIST)
		after := b.newRun(1)
		after.takeOut(0, n, nil)
		if before.q.len()-after.q.len() != 2 {
			t.Errorf("%d messages before, %d after the refusal of %v", before.q.len(), after.q.len(), id)
		}
	}
}

// A device with one address in the pools of the start and one outside of them (a
// pool that came by reload, or an address kept by a ticket) is let in with both.
func TestOneAddressOutsidePools(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00:a::7")
	for _, binding := range []bool{true, false} {
		b := unbound(Config{SourceBinding: binding})
		shared, err := b.sharedSelectors()
		check(t, err)
		for _, order := range [][]netip.Addr{{v4, v6}, {v6, v4}} {
			c := &dataplane.Child{VirtualIPs: order, Local: b.config.Common}
			for _, a := range c.VirtualIPs {
				c.Remote = append(c.Remote, dataplane.Selector{First: a, Last: a, LastPort: 0xFFFF})
			}
			n := child{Child: c}
			check(t, b.choosePolicies(&n, c))
			for _, a := range order {
				let := func(s selector) bool { return s.src.Contains(a) }
				if !slices.ContainsFunc(slices.Concat(shared, n.inbound), let) {
					t.Errorf("source binding %v, %v: no policy lets %v in", binding, order, a)
				}
			}
			for _, s := range n.blocked {
				if s.src.Contains(v6) {
					t.Errorf("source binding %v: %v is blocked, which nothing shared lets in", binding, s.src)
				}
			}
		}
	}
}
