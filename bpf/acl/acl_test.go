package acl

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func list(t *testing.T, lines ...string) *List {
	t.Helper()
	var rules []Rule
	for _, line := range lines {
		r, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r...)
	}
	l, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The longest network with a matching rule decides, in it the first such rule;
// a longer network without one changes nothing.
func TestDecide(t *testing.T) {
	l := list(t,
		"allow 0.0.0.0/0 udp 53", "deny 10.0.0.0/8", "allow 10.2.0.0/16 tcp 80-443", "deny 10.2.3.0/24 tcp 443",
		"allow 10.2.3.0/24 tcp 443", "allow 10.2.0.0/16 icmp", "deny 10.2.3.4 tcp 80", "allow 2001:db8::/32 icmp")
	for _, c := range []struct {
		remote   string
		protocol uint8
		port     int // -1: none to be seen
		want     Verdict
	}{
		{"192.0.2.1", UDP, 53, VerdictPass},
		{"192.0.2.1", TCP, 53, VerdictDenied},
		{"10.1.1.1", UDP, 53, VerdictDenied},
		{"10.2.1.1", TCP, 443, VerdictPass},
		{"10.2.1.1", TCP, 79, VerdictDenied},
		{"10.2.3.1", TCP, 443, VerdictDenied},
		{"10.2.3.1", TCP, 80, VerdictPass},
		{"10.2.3.4", TCP, 80, VerdictDenied},
		{"10.2.3.4", TCP, 81, VerdictPass},
		{"10.2.3.4", ICMP, -1, VerdictPass},
		{"10.2.3.4", TCP, -1, VerdictFragment},
		{"10.1.1.1", TCP, -1, VerdictDenied},
		{"192.0.2.1", UDP, -1, VerdictFragment},
		{"192.0.2.1", TCP, -1, VerdictDenied},
		{"2001:db8::1", ICMPv6, -1, VerdictPass},
		{"2001:db8::1", ICMP, -1, VerdictDenied},
		{"2001:db8::1", UDP, 53, VerdictDenied},
	} {
		p := Packet{Remote: netip.MustParseAddr(c.remote), Protocol: c.protocol, Known: c.port >= 0, Port: uint16(max(c.port, 0))}
		if got := l.Decide(p); got != c.want {
			t.Errorf("%+v: %v, want %v", p, got, c.want)
		}
	}
	if (&List{}).Decide(Packet{Remote: netip.MustParseAddr("10.0.0.1")}) != VerdictDenied {
		t.Error("the empty list allows something")
	}
}

// What stands in a longest network is all that counts for its addresses.
func TestEntries(t *testing.T) {
	l := list(t, "deny 10.2.0.0/16 tcp", "allow 10.0.0.0/8", "allow any udp", "allow 10.2.3.0/24 tcp 1", "deny 10.2.3.0/24 tcp 2")
	got := map[string]string{}
	for _, e := range l.Entries() {
		var rules []string
		for _, r := range e.Rules {
			rules = append(rules, r.String())
		}
		got[e.Remote.String()] = strings.Join(rules, "; ")
	}
	want := map[string]string{
		"10.2.3.0/24": "allow 10.2.3.0/24 tcp 1; deny 10.2.3.0/24 tcp 2; deny 10.2.0.0/16 tcp; allow 10.0.0.0/8",
		"10.2.0.0/16": "deny 10.2.0.0/16 tcp; allow 10.0.0.0/8",
		"10.0.0.0/8":  "allow 10.0.0.0/8",
		"0.0.0.0/0":   "allow 0.0.0.0/0 udp",
		"::/0":        "allow ::/0 udp",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("entries %v, want %v", got, want)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string][]string{
		"allow 10.0.0.0/8 tcp 443":          {"allow 10.0.0.0/8 tcp 443"},
		"  deny\t10.2.0.5   udp  1000-2000": {"deny 10.2.0.5/32 udp 1000-2000"},
		"allow any":                         {"allow 0.0.0.0/0", "allow ::/0"},
		"allow any icmp":                    {"allow 0.0.0.0/0 icmp", "allow ::/0 icmpv6"},
		"allow 2001:db8::/32 icmp":          {"allow 2001:db8::/32 icmpv6"},
		"deny 10.0.0.0/8 any":               {"deny 10.0.0.0/8"},
		"deny 10.0.0.0/8 47":                {"deny 10.0.0.0/8 gre"},
		"allow 10.0.0.0/8 sctp 0-65535":     {"allow 10.0.0.0/8 sctp"},
		"allow 10.0.0.0/8 112":              {"allow 10.0.0.0/8 112"},
	} {
		rules, err := Parse(text)
		var got []string
		for _, r := range rules {
			got = append(got, r.String())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "allow", "permit any", "allow 10.0.0.0/8 tcp 1 2", "allow 10.0.0.1/8", "allow 10.0.0.0/33", "allow ::ffff:10.0.0.0/104",
		"allow fe80::1%eth0", "allow 10.0.0.0/8 icmp 8", "allow 10.0.0.0/8 any 53", "allow any 0", "allow any 256", "allow any tcp 65536",
		"allow any tcp 5-4", "allow any tcp -1", "allow any tcp 1-", "allow host.example tcp 1",
	} {
		if rules, err := Parse(text); !errors.Is(err, ErrRule) {
			t.Errorf("%q: %v, %v", text, rules, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"allow 10.0.0.0/8 tcp 443", "deny any icmp", "allow 2001:db8::/32 udp 1-2", "allow any 47", "deny ::/0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Parse(text)
		if err != nil {
			return
		}
		for _, r := range rules {
			if err := r.Check(); err != nil {
				t.Fatalf("%q: %v: %v", text, r, err)
			}
			again, err := Parse(r.String())
			if err != nil || len(again) != 1 || again[0] != r {
				t.Fatalf("%q: %v reads back as %v, %v", text, r, again, err)
			}
		}
		if _, err := New(rules); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// Lists and groups are bounded, so that what enforces them can be.
func TestBounds(t *testing.T) {
	rule := func(i int, bits int) Rule {
		p, _ := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}).Prefix(bits)
		return Rule{Allow: true, Remote: p, Protocol: TCP, First: uint16(i), Last: uint16(i)}
	}
	for name, c := range map[string]struct {
		n, bits int
		ok      bool
	}{
		"many networks":          {MaxRules, 24, true},
		"one too many":           {MaxRules + 1, 24, false},
		"many for one network":   {MaxRulesPerAddress, 8, true},
		"too many for a network": {MaxRulesPerAddress + 1, 8, false},
	} {
		var rules []Rule
		for i := range c.n {
			rules = append(rules, rule(i, c.bits))
		}
		if _, err := New(rules); errors.Is(err, ErrList) == c.ok || (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New([]Rule{{}}); !errors.Is(err, ErrRule) {
		t.Errorf("a rule of nothing: %v", err)
	}
	for name, groups := range map[string][]Group{
		"twice":         {{Name: "a"}, {Name: "b"}, {Name: "a"}},
		"a slow rate":   {{Device: Rate{BytesPerSecond: MinRate - 1, Burst: MinBurst}}},
		"a fast rate":   {{Total: Rate{BytesPerSecond: MaxRate + 1, Burst: MinBurst}}},
		"a small burst": {{Total: Rate{BytesPerSecond: MinRate, Burst: MinBurst - 1}}},
		"an hour":       {{Total: Rate{BytesPerSecond: MinRate, Burst: 3601 * MinRate}}},
	} {
		if err := CheckGroups(groups); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckGroups(make([]Group, MaxGroups+1)); !errors.Is(err, ErrFull) {
		t.Errorf("too many groups: %v", err)
	}
}

// Names are part of the interface.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for v := range Verdict(NumVerdicts) {
		if name := v.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("verdict %d is called %q", v, name)
		}
		seen[v.String()] = true
	}
	if In.String() != "in" || Out.String() != "out" {
		t.Error("directions have other names")
	}
}
