package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// managedRig is a rig that has a manager instead of a section static.
type managedRig struct {
	*rig
	number uint64
}

func newManagedRig(t *testing.T) *managedRig {
	t.Helper()
	r := &managedRig{rig: newRig(t)}
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ca.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(r.file), "management.key"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "  static:")
	text = []byte(before + "  management:\n    listen: 127.0.0.1:8447\n    name: gw1\n    key: management.key\n    file: managed.db\n    unreachable: {after: 1h, then: refuse}\n")
	if err := os.WriteFile(r.file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	return r
}

// open what the file and the agent's file say, as a start does.
func (r *managedRig) open(t *testing.T) {
	t.Helper()
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.started = time.Now()
	r.gateway.file = cfg
	if r.management, err = openManagement(r.gateway, cfg, r.logger); err != nil {
		t.Fatal(err)
	}
	if r.config, r.built, err = r.management.start(time.Now()); err != nil {
		t.Fatal(err)
	}
	r.ring, r.tickets = r.management.ring, nil
	r.management.running.Store(true)
	t.Cleanup(func() { _ = r.management.close() })
}

// push a whole section and return what kept it from being taken or applied.
func (r *managedRig) push(t *testing.T, section gcm.Section, records ...gcm.Record) []string {
	t.Helper()
	r.number++
	set, err := gcm.NewSet(section)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Commit(gcm.Version{Epoch: 1, Number: r.number}, records, nil); err != nil {
		t.Fatal(err)
	}
	state, err := r.management.agent.Replace(set)
	if err != nil {
		return []string{err.Error()}
	}
	return state.Reasons
}

func (r *managedRig) taken(t *testing.T, section gcm.Section, records ...gcm.Record) {
	t.Helper()
	if reasons := r.push(t, section, records...); len(reasons) > 0 {
		t.Fatalf("%s: %v", section, reasons)
	}
}

func names(groups []acl.Group) (list []string) {
	for _, g := range groups {
		list = append(list, g.Name)
	}
	slices.Sort(list)
	return list
}

// What is pushed is put into force piece by piece, holds after a reload and over
// a restart, and what is wrong is refused with its reasons.
func TestManagement(t *testing.T) {
	r := newManagedRig(t)
	if got := names(r.built.Groups); !slices.Equal(got, []string{"", "quarantine"}) {
		t.Errorf("before anything was pushed: groups %q", got)
	}
	if r.built.Groups[0].List == nil || r.built.Groups[0].Name != "quarantine" {
		t.Errorf("quarantine isn't closed: %+v", r.built.Groups)
	}
	pool := netip.MustParsePrefix("10.9.0.0/24")
	theirs := netip.MustParsePrefix("10.10.0.0/24")
	r.taken(t, gcm.Addresses, gcm.Pool{Prefix: pool, Gateway: "gw1"}.Record(), gcm.Pool{Prefix: theirs, Gateway: "gw2"}.Record(), gcm.ExcludeRecord(netip.MustParseAddr("10.9.0.9")))
	last := r.leases.configs[len(r.leases.configs)-1]
	if !slices.Equal(last.Pools, []netip.Prefix{pool}) || !slices.Equal(last.Neighbours, []netip.Prefix{theirs}) || len(last.Exclude) != 2 {
		t.Errorf("leases: %+v", last)
	}
	r.taken(t, gcm.Access, gcm.AccessGroup{Name: "staff", Rules: []string{"allow 10.2.0.0/24"}, DeviceRate: 1e6}.Record(), gcm.AccessGroup{Name: "closed", Closed: true}.Record())
	if got := names(r.lists.groups[len(r.lists.groups)-1]); !slices.Equal(got, []string{"", "closed", "quarantine", "staff"}) {
		t.Errorf("groups %q", got)
	}
	if len(r.sessions.rechecked) == 0 {
		t.Error("new groups, and nobody was looked at")
	}
	r.taken(t, gcm.Settings,
		gcm.Setting{Name: "static.networks", Value: `["10.2.0.0/24"]`}.Record(),
		gcm.Setting{Name: "static.networks@gw1", Value: `["10.3.0.0/24"]`}.Record(),
		gcm.Setting{Name: "static.networks@gw2", Value: `["10.4.0.0/24"]`}.Record(),
		gcm.Setting{Name: "esp.proposals", Value: `["aes256gcm16"]`}.Record())
	if got := fmt.Sprint(r.built.Assign.Networks); got != "[10.3.0.0/24]" {
		t.Errorf("networks %s", got)
	}
	admit := r.built.Admit

	for _, c := range []struct {
		section gcm.Section
		record  gcm.Record
		want    string
	}{
		{gcm.Access, gcm.AccessGroup{Name: "staff", Rules: []string{"allow all"}}.Record(), "group staff, rule 1"},
		{gcm.Access, gcm.AccessGroup{Name: "staff", GroupRate: 1}.Record(), "group staff, group rate"},
		{gcm.Addresses, gcm.Pool{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Gateway: "gw1"}.Record(), "holds the external address"},
		{gcm.Settings, gcm.Setting{Name: "external.port", Value: "501"}.Record(), "it isn't for a manager to set"},
		{gcm.Settings, gcm.Setting{Name: "trust.roots", Value: "[]"}.Record(), "it isn't for a manager to set"},
		{gcm.Settings, gcm.Setting{Name: "legacy.md5", Value: "true"}.Record(), `there is no "md5"`},
		{gcm.Settings, gcm.Setting{Name: "legacy.hmac_sha1", Value: "maybe"}.Record(), "expected true or false"},
		{gcm.Settings, gcm.Setting{Name: "ike.proposals", Value: `["rot13"]`}.Record(), "ike.proposals[0]"},
		{gcm.Settings, gcm.Setting{Name: "redirect.to", Value: `"203.0.113.1"`}.Record(), "which is this gateway"},
		{gcm.Tickets, gcm.TicketKey{From: time.Now().Add(time.Hour)}.Record(), "no ticket key"},
	} {
		if got := strings.Join(r.push(t, c.section, c.record), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s %q: %q, want %q", c.section, c.record.Key, got, c.want)
		}
	}
	r.taken(t, gcm.Tickets, gcm.TicketKey{ID: [8]byte{7}, From: time.Now().Add(-time.Hour)}.Record())
	if keys := r.ring.Keys(); len(keys) != 1 || keys[0].ID[0] != 7 {
		t.Errorf("ticket keys: %v", keys)
	}
	if r.built.Admit != admit {
		t.Error("another policy, although nobody's standing has changed")
	}
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.built.Assign.Networks, names(r.built.Groups)); got != "[10.3.0.0/24] [ closed quarantine staff]" {
		t.Errorf("after a reload: %s", got)
	}
	if err := r.management.close(); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if got := fmt.Sprint(r.built.Assign.Networks, names(r.built.Groups), len(r.ring.Keys()), r.built.Leases.Pools); got != "[10.3.0.0/24] [ closed quarantine staff] 1 [10.9.0.0/24]" {
		t.Errorf("after a restart: %s", got)
	}
	r.edit(t, "  management:", "  static: {pools: [10.9.0.0/16]}\n  management:")
	if _, err := r.Reload(); err == nil || !strings.Contains(err.Error(), "expected none: with gateway.management") {
		t.Errorf("static beside a manager: %v", err)
	}
}

// A change of devices concerns those devices, and groups that aren't in force
// are quarantine.
func TestManagedDevices(t *testing.T) {
	r := newManagedRig(t)
	r.taken(t, gcm.Access, gcm.AccessGroup{Name: "staff"}.Record())
	address := netip.MustParseAddr("10.9.0.7")
	set, _ := gcm.NewSet(gcm.Devices)
	mirror, _ := gcm.NewSet(gcm.Devices)
	commit := func(n uint64, put []gcm.Record, del ...[]byte) gcm.Delta {
		t.Helper()
		d, err := mirror.Commit(gcm.Version{Epoch: 1, Number: n}, put, del)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := commit(1, []gcm.Record{
		gcm.Authorisation{Device: "a", Group: "staff", Addresses: []netip.Addr{address}}.Record(), gcm.Authorisation{Device: "b", Group: "field"}.Record(),
		gcm.Authorisation{Device: "c"}.Record(), gcm.Authorisation{Device: "d", Group: "default", Barred: true}.Record(),
	})
	if err := set.Apply(first); err != nil {
		t.Fatal(err)
	}
	if _, err := r.management.agent.Replace(set); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{"a": "staff false [10.9.0.7] true", "b": "quarantine false [] true", "c": " false [] true", "d": " true [] true", "e": " false [] false"} {
		m, known := r.management.roll.Device(device)
		if got := fmt.Sprint(m.Group, " ", m.Barred, " ", m.Addresses, " ", known); got != want {
			t.Errorf("%s: %s, want %s", device, got, want)
		}
	}
	r.sessions.rechecked = nil
	issuer := [32]byte{1}
	d := commit(2, []gcm.Record{gcm.Authorisation{Device: "b", Group: "staff"}.Record(), gcm.Revocation{Issuer: issuer, Serial: "\x05", At: time.Now()}.Record()}, gcm.DeviceKey("c"))
	if _, err := r.management.agent.Patch(d); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", r.sessions.rechecked); got != `[{["b" "c"] ["\x05"]}]` {
		t.Errorf("looked at: %s", got)
	}
	if _, revoked := r.management.roll.Revoked(issuer, []byte{5}); !revoked {
		t.Error("not revoked")
	}
	if _, known := r.management.roll.Device("c"); known {
		t.Error("c is still known")
	}
}

// An access list that is too long with what the gateway adds to it is refused
// before it is stored: a gateway that has it wouldn't start. Where one is stored
// that the configuration file has no room for any more, the gateway starts, and
// nobody reaches more than with it.
func TestAccessThatCannotBeBuilt(t *testing.T) {
	r := newManagedRig(t)
	restricted := gcm.AccessGroup{Name: "default"}
	for n := range acl.MaxRulesPerAddress {
		restricted.Rules = append(restricted.Rules, fmt.Sprintf("allow 0.0.0.0/0 tcp %d", 1000+n))
	}
	if got := strings.Join(r.push(t, gcm.Access, restricted.Record()), ""); !strings.Contains(got, "66 rules concern 10.9.255.254/32") {
		t.Errorf("with the gateway's own services: %q", got)
	}
	if s := r.management.agent.Sections()[gcm.Access]; s.Records != 0 {
		t.Errorf("it is stored: %+v", s)
	}
	again := func(edits ...string) {
		t.Helper()
		if err := r.management.close(); err != nil {
			t.Fatal(err)
		}
		r.edit(t, edits...)
		r.open(t)
	}
	again("    address: 10.9.255.254\n", "    name: gatewayd0\n")
	r.taken(t, gcm.Access, restricted.Record(), gcm.AccessGroup{Name: "staff"}.Record())
	again("    name: gatewayd0\n", "    address: 10.9.255.254\n")
	if s := r.management.agent.Sections()[gcm.Access]; s.Applied || len(s.Reasons) == 0 {
		t.Errorf("access: %+v", s)
	}
	if got := names(r.built.Groups); !slices.Equal(got, []string{"", "quarantine"}) {
		t.Errorf("groups %q", got)
	}
	for _, g := range r.built.Groups {
		if g.List == nil || slices.ContainsFunc(g.List.Rules(), func(rule acl.Rule) bool { return rule.Allow && rule.Remote.Bits() == 0 }) {
			t.Errorf("group %q is open", g.Name)
		}
	}
	if m, _ := r.management.roll.Device("nobody"); m.Group != "" || r.management.roll.InForce(map[string]bool{"": true, "quarantine": true}) {
		t.Error("other groups are in force")
	}
	r.taken(t, gcm.Access, gcm.AccessGroup{Name: "staff"}.Record())
	if got := names(r.built.Groups); !slices.Equal(got, []string{"", "quarantine", "staff"}) {
		t.Errorf("after it was mended: %q", got)
	}
}

// closedTo says whether newcomers are kept out by the settings of now, and where
// they are sent.
func (r *managedRig) closedTo() (closed bool, to string) {
	s := r.sessions.updates[len(r.sessions.updates)-1]
	return s.IKE.Drained || s.IKE.Unattended, s.IKE.RedirectTo
}

// Without a manager for too long newcomers are refused, if that is configured,
// until one is heard from; what a manager drains is drained beside that.
func TestManagerIsAway(t *testing.T) {
	r := newManagedRig(t)
	m := r.management
	m.look(time.Now().Add(59 * time.Minute))
	if len(r.sessions.updates) > 0 {
		t.Error("something changed in time")
	}
	m.look(time.Now().Add(61 * time.Minute))
	if closed, _ := r.closedTo(); !closed {
		t.Error("newcomers are let in")
	}
	if s := r.Status().Management; !s.Alone || !s.Refusing {
		t.Errorf("%+v", s)
	}
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if closed, _ := r.closedTo(); !closed {
		t.Error("a reload lets newcomers in")
	}
	host := managementHost{r.gateway, m}
	if err := host.Drain(gcm.Drain{On: true, To: "gw2.example.com", Within: 5}); err != nil {
		t.Fatal(err)
	}
	if closed, to := r.closedTo(); !closed || to != "gw2.example.com" {
		t.Errorf("drained: %t, %q", closed, to)
	}
	m.look(time.Now())
	if closed, to := r.closedTo(); !closed || to != "gw2.example.com" {
		t.Errorf("drained, with a manager: %t, %q", closed, to)
	}
	var s gcm.State
	if host.Tell(&s); s.Health != gcm.Draining || s.Drain.To != "gw2.example.com" {
		t.Errorf("%+v", s)
	}
	if err := host.Drain(gcm.Drain{On: true, To: "not a name"}); err == nil {
		t.Error("drained to nowhere")
	}
	if err := host.Drain(gcm.Drain{}); err != nil {
		t.Fatal(err)
	}
	if closed, to := r.closedTo(); closed || to != "" {
		t.Errorf("afterwards: %t, %q", closed, to)
	}
	r.edit(t, "then: refuse", "then: admit")
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	m.look(time.Now().Add(61 * time.Minute))
	if closed, _ := r.closedTo(); closed {
		t.Error("newcomers are kept out, against what is configured")
	}
	if s := r.Status().Management; !s.Alone || s.Refusing {
		t.Errorf("%+v", s)
	}
	if _, err := r.Stop(local.Stop{Drain: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if err := host.Drain(gcm.Drain{}); err == nil {
		t.Error("a manager stops an end")
	}
}

// What happens is told: the beginning and the end of a session with its figures,
// refusals, alerts' ends.
func TestManagementEvents(t *testing.T) {
	r := newManagedRig(t)
	m := r.management
	host := managementHost{r.gateway, m}
	r.sessions.infos = []session.Info{{ID: 0xa1, Summary: ike.Summary{Device: "phone-1", VirtualIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}}, {ID: 0xa2, Summary: ike.Summary{Device: "phone-2", VirtualIPs: []netip.Addr{netip.MustParseAddr("fd00::2")}}}}
	before := m.agent.State().Cursor
	r.recorded(session.Record{Event: session.RecordStart, Device: "phone-1", Session: "00000000000000a1"})
	r.recorded(session.Record{Event: session.RecordInterim, Device: "phone-1"})
	m.noticed(session.Notice{Kind: session.NoticeRefused, Device: "phone-3", Reason: "barred"})
	r.recorded(session.Record{Event: session.RecordStop, Device: "phone-1", Reason: ike.CloseKilled})
	if n := m.agent.State().Cursor - before; n != 3 {
		t.Errorf("%d events, want 3", n)
	}
	var listed []string
	host.Sessions("", func(s gcm.Session) bool { listed = append(listed, s.ID+" "+s.Device); return len(listed) < 9 })
	host.Sessions("phone-2", func(s gcm.Session) bool { listed = append(listed, s.Device); return true })
	if got := strings.Join(listed, ", "); got != "00000000000000a1 phone-1, 00000000000000a2 phone-2, phone-2" {
		t.Errorf("%s", got)
	}
	for _, c := range []struct {
		device, id string
		want       bool
	}{{"phone-1", "00000000000000a1", true}, {"phone-1", "00000000000000a2", false}, {"phone-1", "xyz", false}, {"phone-2", "", true}, {"phone-9", "", false}} {
		if got := host.End(c.device, c.id); got != c.want {
			t.Errorf("ending %s of %s: %t", c.id, c.device, got)
		}
	}
	if _, ok := m.where("phone-1"); ok {
		t.Error("phone-1 can be alerted, and the gateway has no address to do it from")
	}
	m.sockets.v4 = new(net.UDPConn)
	if d, ok := m.where("phone-1"); !ok || d.Address.String() != "10.9.0.1" {
		t.Errorf("phone-1: %+v, %t", d, ok)
	}
	if _, ok := m.where("phone-2"); ok {
		t.Error("phone-2 has no IPv4 address")
	}
	m.sockets.v6 = new(net.UDPConn)
	if d, ok := m.where("phone-2"); !ok || !d.Address.Is6() {
		t.Errorf("phone-2: %+v, %t", d, ok)
	}
	if err := host.Alert("phone-1", "a", []byte("x")); err == nil {
		t.Error("an alert without an address to send it from")
	}
	if _, ok := host.Reload(); !ok {
		t.Error("reload")
	}
}

// What init writes for a managed gateway is a configuration, and what is missing
// is asked for.
func TestInitManaged(t *testing.T) {
	f := &initManagedFlags{
		initFlags: initFlags{external: "eth0", internal: "eth1", address: netip.MustParseAddr("203.0.113.1"), id: "vpn1.example.com"},
		name:      "gw1", host: "gw1.example.com", listen: netip.MustParseAddrPort("10.2.0.1:8447"), root: "root.pem", intermediates: []string{"issuing.pem"},
		certificate: "gateway.pem", own: "gateway.key", oid: "2.25.7", tunnel: netip.MustParseAddr("10.9.255.254"),
	}
	dir := t.TempDir()
	text, err := f.renderManaged(initPaths{filepath.Join(dir, "gatewayd.yaml"), "", "state", "run"})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("x.yaml", text)
	if err != nil || !cfg.Managed() || cfg.ManagementHost() != "gw1.example.com" {
		t.Errorf("%v\n%s", err, text)
	}
	if got := f.missing(dir); len(got) != 4 {
		t.Errorf("missing: %v", got)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "want --managed"}, {[]string{"--managed"}, "want --name"}, {[]string{"--managed", "--name", "gw1"}, "gatewayd pki show"},
	} {
		if code, out := told(t, append([]string{"init", "gateway", "--dir", dir}, c.args...)...); code == exitOK || !strings.Contains(out, c.want) {
			t.Errorf("%v: %d: %s", c.args, code, out)
		}
	}
}
