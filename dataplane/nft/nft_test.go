package nft

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/acltest"
)

func start(t *testing.T, _ *acltest.World) *Access {
	t.Helper()
	a, err := Open(Config{Interface: acltest.DeviceLink, MaxDevices: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestConformance(t *testing.T) {
	acltest.Run(t, func(t *testing.T, w *acltest.World) acltest.Enforcer { return start(t, w) })
}

// Packets are counted by direction and verdict.
func TestCounters(t *testing.T) {
	w := acltest.NewWorld(t)
	a := start(t, w)
	if err := a.SetGroups([]acl.Group{{Name: "open"}, {Name: "g", List: acltest.List(t, "allow 10.2.0.5 tcp 443")}}); err != nil {
		t.Fatal(err)
	}
	for _, err := range a.Add([]acl.Device{
		{SPI: 1, Addresses: []netip.Addr{acltest.Open4}, Group: "open"},
		{SPI: 2, Addresses: []netip.Addr{acltest.Device4}, Group: "g"},
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := acltest.Packet{Device: acltest.Device4, Remote: acltest.Host4, Protocol: acl.TCP, Port: 443}
	q, r, s := p, p, p
	q.Port, r.Fragment, s.Device = 80, 5, netip.MustParseAddr("10.9.3.3")
	before, err := a.Counters()
	if err != nil {
		t.Fatal(err)
	}
	w.Pass(acl.Out, p, p, q, r, s, s)
	after, err := a.Counters()
	if err != nil {
		t.Fatal(err)
	}
	// The last packet of the batch passes too.
	for v, want := range map[acl.Verdict]uint64{acl.VerdictPass: 3, acl.VerdictDenied: 1, acl.VerdictFragment: 1, acl.VerdictUnknown: 2} {
		if n := after[acl.Out][v].Packets - before[acl.Out][v].Packets; n != want {
			t.Errorf("%v: %d packets, want %d", v, n, want)
		}
	}
}

// Other tables stay as they are; what a run left that ended without a word stays
// in force until the next one, and nothing is left at the end.
func TestTableOfItsOwn(t *testing.T) {
	w := acltest.NewWorld(t)
	nft(t, "add table inet theirs", "add chain inet theirs c { type filter hook forward priority 0; }", "add rule inet theirs c udp dport 7 drop")
	theirs := nft(t, "list table inet theirs")
	if err := Clear(acltest.DeviceLink); err != nil {
		t.Errorf("cleared nothing: %v", err)
	}
	if _, err := Open(Config{Interface: acltest.DeviceLink, MaxDevices: 1}); err != nil {
		t.Fatal(err)
	}
	p := acltest.Packet{Device: acltest.Open4, Remote: acltest.Host4, Protocol: acl.UDP, Port: 9}
	second := start(t, w)
	if err := second.SetGroups([]acl.Group{{}}); err != nil {
		t.Fatal(err)
	}
	for _, err := range second.Add([]acl.Device{{SPI: 1, Addresses: []netip.Addr{acltest.Open4}}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !w.Pass(acl.In, p)[0] {
		t.Error("the second run's list is not in force")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if tables := nft(t, "list tables"); strings.TrimSpace(tables) != "table inet theirs" {
		t.Errorf("tables are left: %s", tables)
	}
	if now := nft(t, "list table inet theirs"); now != theirs {
		t.Errorf("another table has changed:\n%s\n%s", theirs, now)
	}
}

// A device that came back without one of its addresses isn't merged with whoever
// gets that address next.
func TestAddressPassedOn(t *testing.T) {
	w := acltest.NewWorld(t)
	a := start(t, w)
	if err := a.SetGroups([]acl.Group{{Name: "staff"}, {Name: "quarantine", List: acltest.List(t, "allow 10.2.0.1 tcp 443")}}); err != nil {
		t.Fatal(err)
	}
	add := func(spi uint32, group string, addresses ...netip.Addr) {
		t.Helper()
		if err := a.Add([]acl.Device{{SPI: spi, Group: group, Addresses: addresses}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	add(9, "staff", acltest.Open4)
	old4 := netip.MustParseAddr("10.9.0.77")
	add(1, "quarantine", old4, acltest.Device6)
	add(2, "quarantine", acltest.Device4, acltest.Device6) // a new address after a change of pools
	if err := a.Remove([]uint32{1}); err != nil {
		t.Fatal(err)
	}
	add(3, "staff", old4)
	if g := a.roster.Device(2).Group.Name; g != "quarantine" {
		t.Errorf("the quarantined device is in %q", g)
	}
	if w.Pass(acl.In, acltest.Packet{Device: acltest.Device4, Remote: acltest.Host4, Protocol: acl.UDP, Port: 53})[0] {
		t.Error("the quarantined device passes")
	}
	if add(4, "quarantine", acltest.Device6, acltest.Device4); a.roster.Device(2) != a.roster.Device(4) {
		t.Error("a rekeyed Child SA is another device")
	}
	add(4, "staff", netip.MustParseAddr("10.9.0.78")) // an SPI with another address
	if err := a.Remove([]uint32{2, 3, 4, 9}); err != nil || a.roster.Len() != 0 {
		t.Errorf("%d devices are left, %v", a.roster.Len(), err)
	}
}

// nft runs commands of the tool and returns what it said.
func nft(t *testing.T, commands ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("the package nftables is missing")
	}
	said, err := exec.CommandContext(t.Context(), "nft", strings.Join(commands, "; ")).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %q: %v\n%s", commands, err, said)
	}
	return string(said)
}
