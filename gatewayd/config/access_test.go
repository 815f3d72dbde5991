package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
)

// withGroups is the sample with other groups, and the line where they begin.
func withGroups(groups string) string {
	before, rest, _ := strings.Cut(sample(), "    groups:\n")
	_, after, _ := strings.Cut(rest, "    # Devices that no group names:")
	return before + "    groups:\n" + groups + "    # Devices that no group names:" + after
}

func TestGroupErrors(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"a rule", withGroups("      - name: a\n        rules: [allow 10.0.0.0/8, allow 10.0.0.1/8]\n"), `gateway.static.groups[0].rules[1]: got "allow 10.0.0.1/8", expected "allow|deny NETWORK|any [PROTOCOL [PORT[-PORT]]]"`},
		{"a rule that is a section", withGroups("      - name: a\n        rules: [{allow: any}]\n"), `gateway.static.groups[0].rules[0]: got a section, expected "allow|deny`},
		{"no name", withGroups("      - devices: [a]\n"), `gateway.static.groups[0].name: got "", expected a name`},
		{"a name in capitals", withGroups("      - name: Staff\n"), `gateway.static.groups[0].name: got "Staff", expected a name of at most 32 lower-case letters`},
		{"a name twice", withGroups("      - name: a\n      - name: a\n"), `gateway.static.groups[1].name: got "a", which is in the group "a" already`},
		{"a device", withGroups("      - {name: a, devices: [a phone]}\n"), `gateway.static.groups[0].devices[0]: got "a phone", expected the name of a device`},
		{"a device twice", withGroups("      - {name: a, devices: [phone]}\n      - {name: b, devices: [PHONE]}\n"), `gateway.static.groups[1].devices[0]: got "phone", which is in the group "a" already`},
		{"a unit twice", withGroups("      - {name: a, organizational_units: [Sales]}\n      - {name: b, organizational_units: [Sales]}\n"), `gateway.static.groups[1].organizational_units[0]: got "Sales", which is in the group "a" already`},
		{"too many rules", withGroups("      - name: a\n        rules:\n" + strings.Repeat("          - allow 10.0.0.0/8 tcp 1\n", acl.MaxRulesPerAddress+1)), `gateway.static.groups[0].rules: not a list: 65 rules concern 10.0.0.0/8, at most 64`},
		{"a rate", withGroups("      - {name: a, device_rate: 50Mb}\n"), `gateway.static.groups[0].device_rate: got "50Mb", expected a rate from 8kbit to 1000Gbit`},
		{"a slow rate", withGroups("      - {name: a, group_rate: 7kbit}\n"), `gateway.static.groups[0].group_rate: got "7kbit", expected a rate from 8kbit`},
		{"a fast rate", withGroups("      - {name: a, group_rate: 99999999999999Gbit}\n"), `gateway.static.groups[0].group_rate: got "99999999999999Gbit", expected a rate`},
		{"no quarantine", strings.Replace(withGroups("      - name: a\n"), "unknown_devices: admit", "unknown_devices: quarantine", 1), `gateway.static.unknown_devices: got quarantine, expected a group with that name`},
		{"a policy", strings.Replace(sample(), "unknown_devices: admit", "unknown_devices: drop", 1), `gateway.static.unknown_devices: got "drop", expected one of admit, quarantine, refuse`},
		{"a way", strings.Replace(sample(), "enforce: auto", "enforce: iptables", 1), `gateway.access.enforce: got "iptables", expected one of auto, bpf, nftables`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(c.file))
			var problems Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.want) || problems[0].Line == 0 {
				t.Errorf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

// Groups become what enforces and admission want: the group `default` has the
// empty name inside and is there in any case, rates have bursts, and no list
// keeps a device from the gateway's DHCP.
func TestBuildGroups(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	l.write(t, "gatewayd.yaml", []byte(strings.NewReplacer("address: \"\"", "address: 10.9.255.254").Replace(withGroups(
		"      - {name: staff, devices: [laptop], rules: [allow 10.2.0.0/16 tcp 443, deny any], device_rate: 50Mbit, group_rate: 8kbit}\n      - name: quarantine\n"))), 0o644)
	c, err := Load(l.dir + "/gatewayd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Build(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Groups) != 3 || b.Groups[0].Name != "staff" || b.Groups[1].Name != "quarantine" || b.Groups[1].List != nil || b.Groups[2].Name != "" {
		t.Fatalf("groups %+v", b.Groups)
	}
	staff := b.Groups[0]
	if staff.Device != (acl.Rate{BytesPerSecond: 6250000, Burst: 625000}) || staff.Total != (acl.Rate{BytesPerSecond: 1000, Burst: acl.MinBurst}) {
		t.Errorf("rates %+v, %+v", staff.Device, staff.Total)
	}
	for remote, want := range map[string]acl.Verdict{"10.2.0.1": acl.VerdictDenied, "10.9.255.254": acl.VerdictPass, "255.255.255.255": acl.VerdictPass} {
		if got := staff.List.Decide(acl.Packet{Remote: netip.MustParseAddr(remote), Protocol: acl.UDP, Port: 67, Known: true}); got != want {
			t.Errorf("DHCP at %s: %v, want %v", remote, got, want)
		}
	}
	if err := acl.CheckGroups(b.Groups); err != nil {
		t.Error(err)
	}
	text, err := c.YAML()
	if err != nil || !strings.Contains(string(text), "- allow 10.2.0.0/16 tcp 443") || !strings.Contains(string(text), "device_rate: 50Mbit") {
		t.Errorf("config show: %v\n%s", err, text)
	}
}
