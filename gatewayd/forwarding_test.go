package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/xfrm"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// What the kernel lacks for this configuration has to be said, since it decides
// who forwards.
func TestKernelLacks(t *testing.T) {
	c := config.Default()
	c.Gateway.External.Address = netip.MustParseAddr("203.0.113.1")
	able := xfrm.Abilities{Algorithms: c.Gateway.Algorithms(), IPv6: true}
	if err := kernelLacks(able, c); err != nil {
		t.Errorf("an able kernel lacks %v", err)
	}

	gone := able
	gone.Interface = errors.New("no xfrm interface")
	few := able
	few.Algorithms = able.Algorithms[1:]
	old := able
	old.IPv6 = false
	dual := *c
	dual.Gateway.External.MoreAddresses = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	for _, l := range []struct {
		name string
		a    xfrm.Abilities
		c    *config.Config
		want string
	}{
		{"no interface", gone, c, "no xfrm interface"},
		{"an algorithm", few, c, able.Algorithms[0].String()},
		{"IPv6, which is listened on", old, &dual, "IPv6"},
	} {
		if err := kernelLacks(l.a, l.c); err == nil || !strings.Contains(err.Error(), l.want) {
			t.Errorf("%s: %v, want %q in it", l.name, err, l.want)
		}
	}
	if err := kernelLacks(old, c); err != nil {
		t.Errorf("IPv6 that nobody asked for: %v", err)
	}
}

// Who insists on the kernel is told at which key, and nothing has been made.
func TestInsistOnKernel(t *testing.T) {
	c := config.Default()
	c.Gateway.Backend = config.BackendXFRM
	var undo undoStack
	_, err := forwardWith(c, 1400, slog.New(slog.DiscardHandler), &undo, func() xfrm.Abilities {
		return xfrm.Abilities{ESP: xfrm.ErrKernel}
	})
	var p config.Problem
	if !errors.As(err, &p) || p.Key != "gateway.backend" || len(undo) != 0 {
		t.Errorf("error %v, %d things made", err, len(undo))
	}
}

// The selectors that devices commonly have are the networks and, where DHCPINFORM
// is answered, who answers it.
func TestCommonSelectors(t *testing.T) {
	c := config.Default()
	if got := commonSelectors(c); got != nil {
		t.Errorf("without networks: %v, want everything", got)
	}
	c.Gateway.Static.Networks = []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}
	c.Gateway.Tunnel.Address = netip.MustParseAddr("10.9.0.254")
	got := commonSelectors(c)
	want := []dataplane.Selector{
		{First: netip.MustParseAddr("10.2.0.0"), Last: netip.MustParseAddr("10.2.255.255"), LastPort: 0xFFFF},
		{First: netip.MustParseAddr("10.9.0.254"), Last: netip.MustParseAddr("10.9.0.254"), LastPort: 0xFFFF},
		{First: broadcast, Last: broadcast, LastPort: 0xFFFF},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("selector %d is %v, want %v", i, got[i], want[i])
		}
	}
}
