package fleet_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

var suite = []struct {
	name string
	test func(*testing.T, *world)
}{
	{"life of a device", life},
	{"storm of enrollments", storm},
	{"addresses", addresses},
	{"pools change", poolsChange},
	{"content", content},
	{"roots of devices", roots},
	{"gateways with roots of their own", earlierRoots},
	{"ticket keys", ticketKeys},
	{"revocations end", revocationsEnd},
	{"gateways", gateways},
	{"a certificate is revoked while renewed", revokedMeanwhile},
	{"where devices are", where},
	{"alerts and drains", notices},
	{"a liar", liar},
	{"two managers", twoManagers},
	{"random histories", histories},
	{"a backup is restored", restored},
}

// TestSuite on both engines; then both are asked how they went about each
// statement, and none reads a whole table.
func TestSuite(t *testing.T) {
	// What is read whole has a few rows, or is read by pages because all of it is
	// wanted.
	small := func(table, text string) bool {
		switch table {
		case "gcm_section", "gcm_pool", "gcm_exclude", "gcm_group", "gcm_setting", "gcm_trust", "gcm_ticket_key", "gcm_gateway":
			return true
		}
		// By the primary key, and no further than the limit.
		page := strings.Contains(text, "FROM gcm_event ORDER BY id DESC LIMIT")
		return page || strings.Contains(text, "NOT EXISTS") || text == "DELETE FROM gcm_change"
	}
	t.Run("sqlite", func(t *testing.T) {
		r := &databasetest.Recorder{Prefix: "gcm_", Small: small}
		for _, c := range suite {
			t.Run(c.name, func(t *testing.T) { c.test(t, newWorld(t, r.SQLite(t))) })
		}
		db := r.SQLite(t)
		must(t, fleet.Tables.Migrate(t.Context(), db))
		r.Check(t, db, 50)
	})
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		r := &databasetest.Recorder{Prefix: "gcm_", Small: small}
		for _, c := range suite {
			t.Run(c.name, func(t *testing.T) { c.test(t, newWorld(t, r.Postgres(t, p))) })
		}
		db := r.Postgres(t, p)
		must(t, fleet.Tables.Migrate(t.Context(), db))
		r.Check(t, db, 50)
	})
}

// authorised is what gateways are told of a device.
func authorised(t testing.TB, g *gateway, device string) (group string, known bool) {
	t.Helper()
	m, known := g.Device(device)
	return m.Group, known
}

// life of a device: enrolled, in quarantine, released, revoked, closed, and
// enrolled again with the address that it had.
func life(t *testing.T, w *world) {
	f, _ := w.manager(t, func(o *fleet.Options) { o.QuarantineNew, o.DefaultGroup = true, "staff" })
	must(t, f.SetContent(t.Context(), pools("10.64.0.0/24", "2001:db8::/64")))
	g := w.join(t, f, "gateway-1")[0]
	w.outbox.tell(enrolled(1, "sales", "all"), enrolled(2))
	must(t, f.Follow(t.Context()))
	isIn := func(n int, want string) {
		t.Helper()
		eventually(t, name(n)+" is in "+want, func() bool { group, _ := authorised(t, g, name(n)); return group == want })
	}
	isIn(1, "quarantine")
	must(t, f.SetCompliant(t.Context(), name(1), true))
	must(t, f.SetCompliant(t.Context(), name(2), true))
	isIn(1, "sales")
	isIn(2, "staff")
	must(t, f.SetCompliant(t.Context(), name(1), false))
	isIn(1, "quarantine")
	must(t, f.Judge(t.Context(), []string{name(1), "nobody"}, nil))
	isIn(1, "sales")
	before1, _, _ := f.Documents().Version(gcm.Devices)
	must(t, f.Judge(t.Context(), []string{name(1), name(2)}, []string{"nobody"}))
	if after, _, _ := f.Documents().Version(gcm.Devices); after != before1 {
		t.Error("a judgement that was known makes a version")
	}
	must(t, f.SetGroup(t.Context(), name(2), "guests"))
	isIn(2, "guests")
	must(t, f.SetBarred(t.Context(), name(2), true))
	eventually(t, "it is barred", func() bool { m, _ := g.Device(name(2)); return m.Barred })
	before, err := f.Device(t.Context(), name(1))
	must(t, err)
	if len(before.Addresses) != 2 || before.Held || before.Group != "sales" {
		t.Fatalf("%+v", before)
	}
	// A renewal changes nothing.
	renewal := enrolled(1, "other")
	renewal.Kind = fleet.Renewed
	w.outbox.tell(renewal, revoked(1), closed(1), closed(1))
	must(t, f.Follow(t.Context()))
	eventually(t, "it is gone", func() bool { _, known := authorised(t, g, name(1)); return !known })
	if reason, yes := g.Revoked([32]byte{1}, []byte{1, 0, 0, 1}); !yes || reason != 4 {
		t.Error("its certificate isn't revoked")
	}
	if _, err := f.Device(t.Context(), name(1)); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("a closed device: %v", err)
	}
	w.outbox.tell(enrolled(3), enrolled(1, "sales"))
	must(t, f.Follow(t.Context()))
	isIn(1, "quarantine")
	after, err := f.Device(t.Context(), name(1))
	must(t, err)
	if !slices.Equal(after.Addresses, before.Addresses) {
		t.Errorf("it had %v and has %v", before.Addresses, after.Addresses)
	}
	for _, err := range []error{f.SetCompliant(t.Context(), "nobody", true), f.SetGroup(t.Context(), "nobody", "a")} {
		if !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("an unknown device: %v", err)
		}
	}
	if err := f.SetGroup(t.Context(), name(1), "No Group"); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("a group without a name: %v", err)
	}
	eventually(t, "gateway and manager have the same", func() bool { return g.same(f) })
}

// storm of 10,000 enrollments: two managers take what there is in turns, and each
// device has one address of each family, which nobody else has.
func storm(t *testing.T, w *world) {
	const devices = 10_000
	a, _ := w.manager(t, nil)
	b, _ := w.manager(t, nil)
	must(t, a.SetContent(t.Context(), pools("10.64.0.0/17", "10.65.0.0/24", "2001:db8::/64")))
	both := make(chan error, 2)
	for _, f := range []*fleet.Fleet{a, b} {
		go func() {
			for {
				at, err := f.Cursor(t.Context())
				if err != nil || at == devices {
					both <- err
					return
				}
				if err := f.Follow(t.Context()); err != nil {
					both <- err
					return
				}
			}
		}()
	}
	for n := range devices {
		w.outbox.tell(enrolled(n, "staff"))
	}
	must(t, errors.Join(<-both, <-both))
	count := func(f *fleet.Fleet) int { return f.Documents().Len(gcm.Devices) }
	eventually(t, "all are authorised", func() bool { return count(a) == devices && count(b) == devices })
	has := map[netip.Addr]string{}
	for n := range devices {
		d, err := b.Device(t.Context(), name(n))
		must(t, err)
		if len(d.Addresses) != 2 || !d.Addresses[0].Is4() || !d.Addresses[1].Is6() {
			t.Fatalf("%s has %v", d.Name, d.Addresses)
		}
		for _, addr := range d.Addresses {
			if other := has[addr]; other != "" {
				t.Fatalf("%v is %s's and %s's", addr, other, d.Name)
			}
			has[addr] = d.Name
		}
	}
	_, one, _ := a.Documents().Version(gcm.Devices)
	eventually(t, "both managers have the same", func() bool { _, other, _ := b.Documents().Version(gcm.Devices); return one == other })
}

// addresses of a small pool: used up, rested, given again; nobody's are nobody's.
func addresses(t *testing.T, w *world) {
	f, _ := w.manager(t, func(o *fleet.Options) { o.Rest = time.Hour })
	c := pools("10.64.0.0/29")
	c.Exclude = []netip.Addr{netip.MustParseAddr("10.64.0.3")}
	must(t, f.SetContent(t.Context(), c))
	of := func(n int) string {
		t.Helper()
		d, err := f.Device(t.Context(), name(n))
		if err != nil {
			return err.Error()
		}
		return strings.Trim(fmt.Sprint(d.Addresses), "[]")
	}
	do := func(entries ...fleet.Entry) {
		t.Helper()
		w.outbox.tell(entries...)
		must(t, f.Follow(t.Context()))
	}
	do(enrolled(1), enrolled(2), enrolled(3), enrolled(4), enrolled(5), enrolled(6))
	for n, want := range []string{"10.64.0.1", "10.64.0.2", "10.64.0.4", "10.64.0.5", "10.64.0.6", ""} {
		if got := of(n + 1); got != want {
			t.Errorf("device %d has %q, want %q", n+1, got, want)
		}
	}
	do(closed(2), enrolled(7))
	if got := of(7); got != "" {
		t.Errorf("an address that hasn't rested is given: %s", got)
	}
	w.clock.add(2 * time.Hour)
	do(closed(4), enrolled(8))
	if got := of(8); got != "10.64.0.2" {
		t.Errorf("the one that has rested is 10.64.0.2, not %s", got)
	}
	// Its former device is late, and that of a moment ago isn't.
	do(enrolled(2), enrolled(4))
	if of(2) != "" || of(4) != "10.64.0.5" {
		t.Errorf("back again: %q and %q", of(2), of(4))
	}
	// More room: those that had none get one at once.
	c.Pools = append(c.Pools, pool("10.64.1.0/30"))
	must(t, f.SetContent(t.Context(), c))
	if of(2) != "10.64.1.1" || of(6) != "10.64.1.2" || of(7) != "" {
		t.Errorf("with more room: %q, %q, %q", of(2), of(6), of(7))
	}
}

// poolsChange: they grow in place, shrink, and are another gateway's; addresses
// that are still in one stay.
func poolsChange(t *testing.T, w *world) {
	f, _ := w.manager(t, nil)
	must(t, f.SetContent(t.Context(), pools("10.64.0.0/28")))
	for n := range 20 {
		w.outbox.tell(enrolled(n))
	}
	must(t, f.Follow(t.Context()))
	eventually(t, "all are authorised", func() bool { return f.Documents().Len(gcm.Devices) == 20 })
	all := func() map[string]string {
		m := map[string]string{}
		seen := map[string]bool{}
		for n := range 20 {
			d, err := f.Device(t.Context(), name(n))
			must(t, err)
			got := strings.Trim(fmt.Sprint(d.Addresses), "[]")
			if got != "" && seen[got] {
				t.Errorf("%s is given twice", got)
			}
			seen[got] = true
			m[d.Name] = got
		}
		return m
	}
	small := all()
	must(t, f.SetContent(t.Context(), pools("10.64.0.0/16")))
	grown := all()
	for device, had := range small {
		if had != "" && grown[device] != had || grown[device] == "" {
			t.Errorf("%s had %q and has %q", device, had, grown[device])
		}
	}
	must(t, f.SetContent(t.Context(), pools("10.64.0.0/29", "10.99.0.0/24")))
	shrunk := all()
	first := netip.MustParsePrefix("10.64.0.0/29")
	for device, had := range grown {
		a := netip.MustParseAddr(had)
		stays := first.Contains(a) && had != "10.64.0.7"
		if now := shrunk[device]; stays != (now == had) || now == "" || now == "10.64.0.7" {
			t.Errorf("%s had %q and has %q", device, had, now)
		}
	}
	c := pools("10.99.0.0/24")
	c.Pools = append(c.Pools, fleet.Pool{Prefix: netip.MustParsePrefix("10.64.0.0/29"), Gateway: "gateway-1"})
	must(t, f.SetContent(t.Context(), c))
	for device, a := range all() {
		if !strings.HasPrefix(a, "10.99.") {
			t.Errorf("%s has %q, and only 10.99.0.0/24 is the manager's", device, a)
		}
	}
	w2, _ := w.manager(t, nil)
	_, one, _ := f.Documents().Version(gcm.Devices)
	if _, other, _ := w2.Documents().Version(gcm.Devices); one != other {
		t.Error("what is read at the start isn't what was committed")
	}
}

// revocationsEnd when the certificate would have, and a day.
func revocationsEnd(t *testing.T, w *world) {
	f, stop := w.manager(t, nil)
	w.outbox.tell(revoked(1))
	must(t, f.Follow(t.Context()))
	has := func(f *fleet.Fleet) bool {
		return f.Documents().Has(gcm.Devices, gcm.RevocationKey([32]byte{1}, string([]byte{1, 0, 0, 1})))
	}
	eventually(t, "it is told", func() bool { return has(f) })
	stop()
	w.clock.add(20 * 24 * time.Hour)
	f, stop = w.manager(t, nil)
	if !has(f) {
		t.Error("a revocation went before its certificate ended")
	}
	stop()
	w.clock.add(14 * 24 * time.Hour)
	f, _ = w.manager(t, nil)
	eventually(t, "it isn't told any more", func() bool { return !has(f) })
}

// content is imported and exported, and what is wrong changes nothing.
func content(t *testing.T, w *world) {
	f, _ := w.manager(t, func(o *fleet.Options) {
		o.Check = func(c fleet.Content) []error {
			if c.Settings["ike.bad"] != nil {
				return []error{errors.New("no such setting: ike.bad")}
			}
			return nil
		}
	})
	const text = `groups:
  quarantine:
    rules:
    - allow 10.0.0.1 udp 443
    closed: true
  staff:
    device_rate: 1000000
pools:
- prefix: 10.64.0.0/16
- prefix: 10.65.0.0/16
  gateway: gateway-1
exclude:
- 10.64.0.1
settings:
  ike.proposals:
  - aes256gcm16-prfsha384-ecp384
  redirect.to@gateway-1: gateway-2.example.org
`
	c, err := fleet.ReadContent(strings.NewReader(text))
	must(t, err)
	must(t, f.SetContent(t.Context(), c))
	var b strings.Builder
	got, err := f.Content(t.Context())
	must(t, err)
	must(t, fleet.WriteContent(&b, got))
	if b.String() != text {
		t.Errorf("imported:\n%s\nexported:\n%s", text, b.String())
	}
	before, _, _ := f.Documents().Version(gcm.Access)
	must(t, f.SetContent(t.Context(), got))
	if after, _, _ := f.Documents().Version(gcm.Access); after != before {
		t.Errorf("the same content makes version %v of %v", after, before)
	}
	for name, change := range map[string]func(*fleet.Content){
		"a setting that nobody knows": func(c *fleet.Content) { c.Settings = map[string]any{"ike.bad": 1} },
		"pools that overlap":          func(c *fleet.Content) { c.Pools = append(c.Pools, pool("10.64.128.0/24")) },
		"not a network":               func(c *fleet.Content) { c.Pools = []fleet.Pool{{Prefix: netip.MustParsePrefix("10.64.0.1/16")}} },
		"not the name of a group":     func(c *fleet.Content) { c.Groups = map[string]fleet.Group{"No": {}} },
		"a rule of two lines":         func(c *fleet.Content) { c.Groups = map[string]fleet.Group{"a": {Rules: []string{"x\ny"}}} },
		"excluded twice":              func(c *fleet.Content) { c.Exclude = append(c.Exclude, c.Exclude...) },
	} {
		bad, err := f.Content(t.Context())
		must(t, err)
		change(&bad)
		if err := f.SetContent(t.Context(), bad); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"groups: [", "unknown: 1", "pools: [{prefix: x}]"} {
		if _, err := fleet.ReadContent(strings.NewReader(text)); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// ticketKeys are made ahead, turned over and erased.
func ticketKeys(t *testing.T, w *world) {
	set := func(o *fleet.Options) { o.TicketPeriod, o.TicketLifetime = time.Hour, 3*time.Hour }
	keys := func() []gcm.TicketKey {
		f, stop := w.manager(t, set)
		defer stop()
		must(t, f.Keep(t.Context()))
		all, err := f.TicketKeys(t.Context())
		must(t, err)
		return all
	}
	first := keys()
	if len(first) != 2 || first[0].From.After(w.clock.Now()) || first[1].From.Sub(first[0].From) != time.Hour {
		t.Fatalf("at first: %v", first)
	}
	if first[0].Secret == first[1].Secret || first[0].Secret == [32]byte{} {
		t.Error("keys aren't drawn at random")
	}
	if again := keys(); !slices.Equal(again, first) {
		t.Errorf("nothing was due: %v", again)
	}
	for hour := 1; hour <= 8; hour++ {
		w.clock.add(time.Hour)
		now := keys()
		if last := now[len(now)-1]; !last.From.After(w.clock.Now()) {
			t.Errorf("hour %d: nothing is made ahead", hour)
		}
		for n, k := range now {
			if n+1 < len(now) && now[n+1].From.Add(3*time.Hour).Before(w.clock.Now()) {
				t.Errorf("hour %d: the key of %v should be gone", hour, k.From)
			}
		}
		if len(now) > 6 {
			t.Errorf("hour %d: %d keys", hour, len(now))
		}
	}
	// After a long time nobody makes up for what was missed.
	w.clock.add(100 * time.Hour)
	if now := keys(); len(now) > 4 {
		t.Errorf("%d keys", len(now))
	}
}
