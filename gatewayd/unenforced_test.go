package main

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/acltest"
)

// A list that comes by a reload for devices that are connected is refused where
// nothing can enforce it.
func TestListByReloadIsRefused(t *testing.T) {
	for name, fallBack := range map[string]func([]acl.Group) (enforcer, error){
		"bpf only": nil, "no nftables": func([]acl.Group) (enforcer, error) { return nil, errors.New("no nftables") },
	} {
		u := newUnenforced([]acl.Group{{Name: "staff"}}, fallBack)
		if err := u.Add([]acl.Device{{SPI: 1, Group: "staff"}})[0]; err != nil {
			t.Fatal(err)
		}
		listed := []acl.Group{{Name: "staff", List: acltest.List(t, "allow 10.2.0.1 tcp 443")}}
		if err := u.SetGroups(listed); !errors.Is(err, errUnenforced) {
			t.Errorf("%s: %v", name, err)
		}
		if err := u.Remove([]uint32{1}); err != nil {
			t.Fatal(err)
		}
		if err := u.SetGroups(listed); err != nil || !errors.Is(u.Add([]acl.Device{{SPI: 2, Group: "staff"}})[0], acl.ErrGroup) {
			t.Errorf("%s: nobody is connected: %v", name, err)
		}
	}
}

// Where there is nftables it takes over the devices that are connected.
func TestListByReloadIsEnforced(t *testing.T) {
	w := acltest.NewWorld(t)
	u := newUnenforced([]acl.Group{{Name: "staff"}, {}}, func(groups []acl.Group) (enforcer, error) {
		e, _, err := byNFTables(acltest.DeviceLink, 4, groups)
		return e, err
	})
	defer u.Close()
	if err := u.Add([]acl.Device{{SPI: 1, Group: "staff", Addresses: []netip.Addr{acltest.Device4}}})[0]; err != nil {
		t.Fatal(err)
	}
	if err := u.Add([]acl.Device{{SPI: 2, Addresses: []netip.Addr{acltest.Open4}}})[0]; err != nil {
		t.Fatal(err)
	}
	p := acltest.Packet{Device: acltest.Device4, Remote: acltest.Host4, Protocol: acl.UDP, Port: 54}
	allowed := p
	allowed.Port = 53
	if err := u.SetGroups([]acl.Group{{Name: "staff", List: acltest.List(t, "allow 0.0.0.0/0 udp 53")}, {}}); err != nil || !u.enforced() {
		t.Fatalf("enforced %t, %v", u.enforced(), err)
	}
	if passed := w.Pass(acl.In, p, allowed); passed[0] || !passed[1] {
		t.Errorf("passed %v, want the second", passed)
	}
}
