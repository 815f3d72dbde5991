package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/acltest"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/gatewayd/config"
)

func accessChild(spi dataplane.SPI, group string, addresses ...netip.Addr) *dataplane.Child {
	return &dataplane.Child{Inbound: dataplane.SA{SPI: spi}, VirtualIPs: addresses, Group: group}
}

// Whatever enforces, the layer takes devices of groups that are in force, moves
// them, and has the data plane's errors.
func TestAccessLayer(t *testing.T) {
	for way, how := range map[config.Enforce]string{config.EnforceAuto: "BPF (tcx", config.EnforceBPF: "BPF (tcx", config.EnforceNFTables: "nftables"} {
		t.Run(string(way), func(t *testing.T) {
			w := acltest.NewWorld(t)
			cfg := config.Default()
			cfg.Gateway.Access.Enforce = way
			groups := []acl.Group{{}, {Name: "staff", List: acltest.List(t, "allow 10.2.0.5 udp 53")}}
			l, err := openAccess(cfg, acltest.DeviceLink, groups, false, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}()
			if !strings.HasPrefix(l.how(), how) {
				t.Errorf("enforced by %q, want %q", l.how(), how)
			}
			layer := l.layer()
			errs := layer.Admit([]*dataplane.Child{
				accessChild(1, "", acltest.Open4), accessChild(2, "staff", acltest.Device4), accessChild(3, "nobody", acltest.Device6),
			})
			if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], dataplane.ErrGroup) {
				t.Fatalf("errors %v", errs)
			}
			p := acltest.Packet{Device: acltest.Device4, Remote: acltest.Host4, Protocol: acl.UDP, Port: 54}
			if w.Pass(acl.In, p)[0] {
				t.Error("the list is not in force")
			}
			if err := layer.Regroup(2, "nobody"); !errors.Is(err, dataplane.ErrGroup) {
				t.Errorf("a group that isn't one: %v", err)
			}
			if err := layer.Regroup(2, ""); err != nil || !w.Pass(acl.In, p)[0] {
				t.Errorf("the next packet after a change of the group was dropped; %v", err)
			}
			layer.Forget([]dataplane.SPI{2, 99})
			if w.Pass(acl.In, p)[0] {
				t.Error("a device that is gone sends")
			}
			counters := l.counters()[acl.In]
			if counters[acl.VerdictDenied].Packets != 1 || counters[acl.VerdictUnknown].Packets != 1 || counters[acl.VerdictPass].Packets < 2 {
				t.Errorf("counters %+v", counters)
			}
		})
	}
}

// Where nothing can enforce lists, who needs one is refused, and others get in;
// a reload may change who that is.
func TestUnenforced(t *testing.T) {
	cfg := config.Default()
	cfg.Gateway.Access.Enforce = config.EnforceBPF
	groups := []acl.Group{{}, {Name: "staff", List: &acl.List{}}}
	l, err := openAccess(cfg, "nosuch0", groups, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if l.how() != "none" {
		t.Errorf("enforced by %q", l.how())
	}
	admit := func(group string) error {
		return errors.Join(l.layer().Admit([]*dataplane.Child{accessChild(1, group, acltest.Device4)})...)
	}
	if err := admit(""); err != nil {
		t.Errorf("a group without a list: %v", err)
	}
	if err := admit("staff"); !errors.Is(err, dataplane.ErrGroup) {
		t.Errorf("a group with a list: %v", err)
	}
	if err := l.layer().Regroup(1, "staff"); !errors.Is(err, dataplane.ErrGroup) {
		t.Errorf("into a group with a list: %v", err)
	}
	if err := l.SetGroups([]acl.Group{{Name: "staff"}}); err != nil || admit("staff") != nil {
		t.Errorf("the list is gone: %v, %v", err, admit("staff"))
	}
	l.layer().Forget([]dataplane.SPI{1})
	if l.counters() != (acl.Counters{}) || l.Close() != nil {
		t.Error("it counts, or can't be closed")
	}
}

// A reload puts groups in force before sessions are asked, and takes them back
// if these refuse.
func TestReloadOfGroups(t *testing.T) {
	r := newRig(t)
	r.edit(t, "  static:\n", "  static:\n    groups: [{name: staff, rules: [deny any]}]\n")
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if g := r.lists.groups; len(g) != 1 || len(g[0]) != 2 || g[0][0].Name != "staff" || g[0][0].List == nil || g[0][1].Name != "" {
		t.Errorf("lists were told %+v", g)
	}
	// A group that goes is there until nobody is led to it.
	r.edit(t, "name: staff", "name: team")
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if g := r.lists.groups[1:]; len(g) != 2 || len(g[0]) != 3 || g[0][2].Name != "staff" || g[0][2].List == nil || len(g[1]) != 2 || g[1][0].Name != "team" {
		t.Errorf("lists were told %+v", g)
	}
	r.lists.groups = r.lists.groups[2:]
	r.sessions.refuse = errors.New("no")
	r.edit(t, "deny any", "allow any")
	if _, err := r.Reload(); err == nil {
		t.Fatal("accepted")
	}
	if g := r.lists.groups; len(g) != 3 || !slices.Equal(g[2][0].List.Rules(), g[0][0].List.Rules()) || slices.Equal(g[1][0].List.Rules(), g[0][0].List.Rules()) {
		t.Errorf("lists were told %+v", g)
	}
}
