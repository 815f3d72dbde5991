package main

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/roamgate/roamgate/control/dhcp"
)

// The server follows changes of the pools, its figures only grow, and an address
// that isn't there leaves it as it was.
func TestInformer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	twoLinks(t)
	i := &informer{tun: "gw-in", logger: slog.New(slog.DiscardHandler)}
	defer i.close()
	if err := i.use(dhcp.Config{}, nil); err != nil || i.server != nil {
		t.Fatalf("without an address: %v", err)
	}
	c := dhcp.Config{Server: netip.MustParseAddr("10.2.0.1")}
	pools := prefixes("10.9.0.0/16")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(i.use(c, pools))
	first := i.server
	must(i.use(dhcp.Config{Server: c.Server, Domain: "corp.example.com"}, pools))
	if i.server != first {
		t.Error("replaced although the pools are the same")
	}
	i.former.Answered, i.former.Drops[dhcp.ReasonRate] = 3, 4
	must(i.use(c, prefixes("10.8.0.0/16")))
	if i.server == first {
		t.Error("not replaced although the pools are others")
	}
	if s := i.stats(); s.Answered != 3 || s.Drops[dhcp.ReasonRate] != 4 {
		t.Errorf("%+v", s)
	}
	second := i.server
	if err := i.use(dhcp.Config{Server: netip.MustParseAddr("192.0.2.99")}, pools); err == nil || i.server != second {
		t.Errorf("an address of nobody: %v", err)
	}
	if link, err := netlink.LinkByName("gw-in"); err != nil {
		t.Fatal(err)
	} else {
		must(netlink.LinkDel(link))
	}
	if err := i.use(c, pools); err == nil || i.server != second {
		t.Errorf("an interface that is gone: %v", err)
	}
}
