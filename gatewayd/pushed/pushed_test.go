package pushed

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/config"
)

func set(t *testing.T, section gcm.Section, records ...gcm.Record) *gcm.Set {
	t.Helper()
	s, err := gcm.NewSet(section)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(gcm.Version{Epoch: 1, Number: 1}, records, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// A section takes the place of what it was before, and of nothing else.
func TestTake(t *testing.T) {
	prefix := netip.MustParsePrefix
	p := config.Pushed{Settings: []config.Setting{{Name: "ike.mobike", Value: "false"}}}
	for _, s := range []*gcm.Set{
		set(t, gcm.Access,
			gcm.AccessGroup{Name: "staff", Rules: []string{"allow 10.2.0.0/24 tcp 443", "allow any icmp"}, DeviceRate: 125000}.Record(),
			gcm.AccessGroup{Name: "all"}.Record(), gcm.AccessGroup{Name: "none", Closed: true}.Record()),
		set(t, gcm.Addresses,
			gcm.Pool{Prefix: prefix("10.9.0.0/24"), Gateway: "gw1"}.Record(), gcm.Pool{Prefix: prefix("10.10.0.0/24"), Gateway: "gw2"}.Record(),
			gcm.Pool{Prefix: prefix("fd00::/64")}.Record(), gcm.ExcludeRecord(netip.MustParseAddr("10.9.0.1"))),
		set(t, gcm.Devices, gcm.Authorisation{Device: "phone"}.Record()),
	} {
		if errs := Take(&p, "gw1", s); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	var groups []string
	for _, g := range p.Groups {
		var rules []string
		for _, rule := range g.Rules {
			text, err := rule.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, string(text))
		}
		groups = append(groups, fmt.Sprintf("%s %q %d", g.Name, rules, g.DeviceRate))
	}
	if got := strings.Join(groups, "; "); got != `all [] 0; none ["deny any"] 0; staff ["allow 10.2.0.0/24 tcp 443" "allow any icmp"] 1000000` {
		t.Errorf("groups: %s", got)
	}
	if got := fmt.Sprint(p.Pools, p.Neighbours, p.Exclude, p.Settings); got != "[10.9.0.0/24] [10.10.0.0/24 fd00::/64] [10.9.0.1] [{ike.mobike false}]" {
		t.Errorf("addresses: %s", got)
	}
	all := errors.Join(Take(&p, "gw1", set(t, gcm.Access, gcm.AccessGroup{Name: "a", Rules: []string{"maybe", "allow any", "never"}, GroupRate: 1, DeviceRate: 2}.Record()))...)
	for _, want := range []string{"rule 1", "rule 3", "group rate", "device rate"} {
		if all == nil || !strings.Contains(all.Error(), want) {
			t.Errorf("%v lacks %q", all, want)
		}
	}
	if errs := Take(&p, "gw1", set(t, gcm.Addresses, gcm.Pool{Prefix: prefix("10.9.0.0/24")}.Record(), gcm.Pool{Prefix: prefix("10.9.0.0/16")}.Record())); len(errs) != 1 {
		t.Errorf("overlapping pools: %v", errs)
	}
}

// What is said to one gateway goes before what is said to all, and what is said
// of a part after what is said of the whole.
func TestSettings(t *testing.T) {
	s := set(t, gcm.Settings,
		gcm.Setting{Name: "ike.lifetime.rekey", Value: `"1h"`}.Record(), gcm.Setting{Name: "ike.lifetime", Value: `{"rekey":"2h"}`}.Record(),
		gcm.Setting{Name: "ike.mobike", Value: "true"}.Record(), gcm.Setting{Name: "ike.mobike@gw1", Value: "false"}.Record(),
		gcm.Setting{Name: "redirect.to@gw2", Value: `"x.example"`}.Record())
	if got := fmt.Sprint(settings("gw1", s)); got != `[{ike.mobike false} {ike.lifetime {"rekey":"2h"}} {ike.lifetime.rekey "1h"}]` {
		t.Errorf("gw1: %s", got)
	}
	if got := fmt.Sprint(settings("gw2", s)); got != `[{ike.mobike true} {redirect.to "x.example"} {ike.lifetime {"rekey":"2h"}} {ike.lifetime.rekey "1h"}]` {
		t.Errorf("gw2: %s", got)
	}
}

func TestKeys(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	key := func(id byte, from time.Duration) gcm.Record {
		return gcm.TicketKey{ID: [8]byte{id}, From: now.Add(from), Secret: [32]byte{id}}.Record()
	}
	keys, err := Keys(set(t, gcm.Tickets, key(1, time.Hour), key(2, -time.Hour), key(3, -2*time.Hour)), now, 8*time.Hour)
	if err != nil || len(keys) != 3 || keys[0].ID[0] != 3 || keys[2].ID[0] != 1 || keys[1].Keep != 8*time.Hour || keys[1].Secret[0] != 2 {
		t.Errorf("%v, %v", keys, err)
	}
	for _, s := range []*gcm.Set{set(t, gcm.Tickets), set(t, gcm.Tickets, key(1, time.Second))} {
		if _, err := Keys(s, now, time.Hour); !errors.Is(err, ErrNoKey) {
			t.Errorf("%d keys: %v", s.Len(), err)
		}
	}
}

type known map[string]gcm.Authorisation

func (k known) Device(name string) (gcm.Authorisation, bool)  { a, ok := k[name]; return a, ok }
func (k known) Revoked([sha256.Size]byte, []byte) (int, bool) { return 4, true }

// A device whose group isn't in force is in quarantine until it is.
func TestRoll(t *testing.T) {
	r := new(Roll)
	if _, ok := r.Device("phone"); ok {
		t.Error("somebody is known before anything came")
	}
	if _, revoked := r.Revoked([32]byte{}, nil); revoked {
		t.Error("something is revoked before anything came")
	}
	r.Of(known{"phone": {Group: "staff"}, "free": {Group: "default"}, "bad": {Barred: true}})
	group := func(device string) string { m, _ := r.Device(device); return m.Group }
	if group("phone") != "quarantine" || group("free") != "" {
		t.Errorf("phone in %q, free in %q", group("phone"), group("free"))
	}
	if !r.InForce(map[string]bool{"staff": true, "": true}) || group("phone") != "staff" {
		t.Errorf("phone in %q", group("phone"))
	}
	if r.InForce(map[string]bool{"staff": true, "": true}) {
		t.Error("the same groups are others")
	}
	if !r.InForce(map[string]bool{"crew": true, "": true}) || group("phone") != "quarantine" {
		t.Errorf("phone in %q", group("phone"))
	}
	if m, ok := r.Device("bad"); !ok || !m.Barred {
		t.Errorf("%+v, %t", m, ok)
	}
	if reason, revoked := r.Revoked([32]byte{}, nil); reason != 4 || !revoked {
		t.Error("nothing is revoked")
	}
}
