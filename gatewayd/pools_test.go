package main

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/session"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// A pool that is taken away stays routed while a session lives in it; routes
// that can't be had leave things as they were.
func TestPoolRoutes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	twoLinks(t)
	p, err := newPoolRoutes("gw-in", nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]bool) {
		t.Helper()
		for network, is := range want {
			if routed(t, network) != is {
				t.Errorf("%s routed: %v", network, !is)
			}
		}
	}
	none := func() []session.Info { return nil }
	one := func() []session.Info {
		return []session.Info{{Summary: ike.Summary{VirtualIPs: []netip.Addr{netip.MustParseAddr("10.8.0.1"), netip.MustParseAddr("fd00:8::1")}}}}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	must(p.add(prefixes("10.8.0.0/16", "10.7.0.0/16", "fd00:8::/64")))
	must(p.sweep(none))
	check(map[string]bool{"10.8.0.0/16": true, "10.7.0.0/16": true, "fd00:8::/64": true})
	must(p.add(prefixes("10.9.0.0/16", "fd00:9::/64")))
	check(map[string]bool{"10.9.0.0/16": true, "fd00:9::/64": true, "10.8.0.0/16": true, "10.7.0.0/16": true})
	must(p.sweep(one))
	check(map[string]bool{"10.9.0.0/16": true, "10.8.0.0/16": true, "fd00:8::/64": true, "10.7.0.0/16": false})
	must(p.sweep(none))
	check(map[string]bool{"10.9.0.0/16": true, "fd00:9::/64": true, "10.8.0.0/16": false, "fd00:8::/64": false})

	// Somebody else's route is in the way of the second pool: no route is made,
	// and none is taken.
	other, err := netlink.LinkByName("gw-out")
	must(err)
	taken := p.route(netip.MustParsePrefix("10.6.0.0/16"))
	taken.LinkIndex = other.Attrs().Index
	must(netlink.RouteAdd(taken))
	if err := p.add(prefixes("10.9.0.0/16", "10.5.0.0/16", "10.6.0.0/16")); err == nil {
		t.Error("a route that is another's was accepted")
	}
	must(p.sweep(none))
	check(map[string]bool{"10.9.0.0/16": true, "fd00:9::/64": true, "10.5.0.0/16": false, "10.6.0.0/16": true})

	// What somebody else took away already is no error.
	must(netlink.RouteDel(p.route(netip.MustParsePrefix("10.9.0.0/16"))))
	must(p.add(nil))
	must(p.sweep(none))
	check(map[string]bool{"10.9.0.0/16": false, "fd00:9::/64": false})
	if _, err := newPoolRoutes("none0", nil); err == nil {
		t.Error("an interface that isn't there was found")
	}
}
