package netns_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// Two devices behind a NAT have one address and different ports; when the NAT
// forgets, they come from new ports, and answers find their way in both worlds.
//
//	dev1 10.1.1.2 -- 10.1.1.1 net (NAT) 10.1.0.254 -- 10.1.0.1 gw
//	dev2 10.1.2.2 -- 10.1.2.1 /
func TestNATAndItsLossOfMemory(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			top := netns.ForTest(t, netns.Options{Devices: 2, IPv6: true})
			at, outside := netns.GatewayOutside, netns.RouterOutside
			if family == "IPv6" {
				at, outside = netns.GatewayOutside6, netns.RouterOutside6
			}
			gw := packets(t, top.Gateway, at)
			devices := make([]net.PacketConn, len(top.Devices))
			for i, d := range top.Devices {
				own := d.Address
				if family == "IPv6" {
					own = d.Address6
				}
				devices[i] = packets(t, d.Namespace, own)
			}
			ports := map[uint16]bool{}
			for _, first := range []uint16{20000, 30000} {
				if err := top.Router.Masquerade(t.Context(), first, first+999); err != nil {
					t.Fatal(err)
				}
				for _, dev := range devices {
					from := exchange(t, dev, gw)
					if from.Addr() != outside || from.Port() < first || from.Port() > first+999 {
						t.Errorf("the gateway saw %s, want %s and a port from %d on", from, outside, first)
					}
					ports[from.Port()] = true
				}
			}
			if len(ports) != 4 {
				t.Errorf("ports %v, want four", ports)
			}
		})
	}
}

// exchange sends a datagram and gets an answer; it returns the address that
// the other side saw.
func exchange(t *testing.T, dev, gw net.PacketConn) netip.AddrPort {
	t.Helper()
	if _, err := dev.WriteTo([]byte("question"), gw.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	_, from, err := gw.ReadFrom(got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gw.WriteTo([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	n, _, err := dev.ReadFrom(got)
	if err != nil || string(got[:n]) != "answer" {
		t.Fatalf("answer %q, %v", got[:n], err)
	}
	return from.(*net.UDPAddr).AddrPort()
}

// What the router is told to lose is lost, what it is told to delay is
// overtaken, and after Repair all is well.
//
//	dev1 10.1.1.2 -- 10.1.1.1 net (faults) 10.1.0.254 -- 10.1.0.1 gw
func TestBadWays(t *testing.T) {
	top := netns.ForTest(t, netns.Options{Router: true, IPv6: true})
	ctx, r := t.Context(), top.Router
	for _, c := range []struct {
		name    string
		at, own netip.Addr
	}{
		{"IPv4", netns.GatewayOutside, top.Devices[0].Address},
		{"IPv6", netns.GatewayOutside6, top.Devices[0].Address6},
	} {
		t.Run(c.name, func(t *testing.T) {
			gw, dev := packets(t, top.Gateway, c.at), packets(t, top.Devices[0].Namespace, c.own)
			const sent = 200 // what the receive buffer holds
			if arrived, overtaken := volley(t, dev, gw, sent, 100); arrived != sent || overtaken != 0 {
				t.Errorf("on a good way %d of %d arrived, %d overtaken", arrived, sent, overtaken)
			}
			if err := r.Lose(ctx, 20); err != nil {
				t.Fatal(err)
			}
			arrived, _ := volley(t, dev, gw, sent, 100)
			lost, err := r.Lost(ctx)
			if err != nil || lost == 0 || lost == sent || arrived+lost != sent {
				t.Errorf("%d of %d arrived and %d were lost, %v", arrived, sent, lost, err)
			}
			if err := r.Repair(ctx); err != nil {
				t.Fatal(err)
			}
			if err := r.Reorder(ctx, 20, 5*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if arrived, overtaken := volley(t, dev, gw, sent, 100); arrived != sent || overtaken == 0 {
				t.Errorf("with delays %d of %d arrived, %d overtaken", arrived, sent, overtaken)
			}
			if err := r.Repair(ctx); err != nil {
				t.Fatal(err)
			}
			if err := r.LoseFragments(ctx); err != nil {
				t.Fatal(err)
			}
			if arrived, _ := volley(t, dev, gw, 10, 3000); arrived != 0 {
				t.Errorf("%d fragmented datagrams arrived", arrived)
			}
			if arrived, _ := volley(t, dev, gw, 10, 1000); arrived != 10 {
				t.Errorf("%d of 10 whole datagrams arrived", arrived)
			}
			if err := r.Repair(ctx); err != nil {
				t.Fatal(err)
			}
			if arrived, _ := volley(t, dev, gw, 10, 3000); arrived != 10 {
				t.Errorf("after the repair %d of 10 fragmented datagrams arrived", arrived)
			}
		})
	}
}

// volley sends datagrams with numbers, and tells how many arrived until none
// came for a while and how many of these after a higher number.
func volley(t *testing.T, dev, gw net.PacketConn, count, size int) (arrived, overtaken int) {
	t.Helper()
	message := make([]byte, size)
	for i := range count {
		binary.BigEndian.PutUint32(message, uint32(i))
		if _, err := dev.WriteTo(message, gw.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, size)
	for highest := uint32(0); ; {
		if err := gw.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := gw.ReadFrom(got); err != nil {
			return arrived, overtaken
		}
		arrived++
		n := binary.BigEndian.Uint32(got)
		if n < highest {
			overtaken++
		}
		highest = max(highest, n)
	}
}

func packets(t *testing.T, n *netns.Namespace, at netip.Addr) net.PacketConn {
	t.Helper()
	c, err := n.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
