package gcm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func authorisation(i, group int) Record {
	return Authorisation{
		Device: fmt.Sprintf("device-%d", i), Group: fmt.Sprintf("group-%d", group), Barred: group == 3,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
	}.Record()
}

// randomSet has some of 40 devices.
func randomSet(t *testing.T, r *rand.Rand) *Set {
	s, err := NewSet(Devices)
	if err != nil {
		t.Fatal(err)
	}
	var put []Record
	for i := range 40 {
		if r.IntN(2) == 0 {
			put = append(put, authorisation(i, r.IntN(4)))
		}
	}
	if _, err := s.Commit(Version{1, 1}, put, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func same(a, b *Set) bool {
	return a.Hash() == b.Hash() && reflect.DeepEqual(slices.Collect(a.Sorted()), slices.Collect(b.Sorted())) && a.version == b.version
}

func overWire(t *testing.T, d Delta) Delta {
	t.Helper()
	var b bytes.Buffer
	if err := WriteDelta(&b, d); err != nil {
		t.Fatal(err)
	}
	back, err := ReadDelta(&b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// TestDeltaLeadsFromOneToTheOther: for random pairs, over the wire; the hash that
// was kept while applying is that of a set made anew.
func TestDeltaLeadsFromOneToTheOther(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := randomSet(t, r), randomSet(t, r)
		b.version = Version{1, 2}
		if err := a.Apply(overWire(t, a.Diff(b))); err != nil {
			t.Fatal(err)
		}
		if !same(a, b) {
			t.Fatalf("after the delta: %d records, %v; want %d, %v", a.Len(), a.Hash(), b.Len(), b.Hash())
		}
		var snapshot bytes.Buffer
		if err := WriteSnapshot(&snapshot, a); err != nil {
			t.Fatal(err)
		}
		again, err := ReadSnapshot(&snapshot)
		if err != nil || !same(again, b) {
			t.Fatalf("by snapshot: %v", err)
		}
	}
}

// TestChainOfCommits: a manager changes its set, and a gateway that gets every
// delta has the same after each.
func TestChainOfCommits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	manager, gateway := randomSet(t, r), randomSet(t, r)
	gateway.version = Version{}
	if err := gateway.Apply(gateway.Diff(manager)); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(500) {
		var put []Record
		var del [][]byte
		for i := range 40 {
			switch r.IntN(8) {
			case 0:
				put = append(put, authorisation(i, r.IntN(4)))
			case 1:
				del = append(del, DeviceKey(fmt.Sprintf("device-%d", i)))
			}
		}
		d, err := manager.Commit(Version{1, 2 + n}, put, del)
		if err != nil {
			t.Fatal(err)
		}
		if err := gateway.Apply(overWire(t, d)); err != nil {
			t.Fatal(err)
		}
		if !same(manager, gateway) {
			t.Fatalf("apart after commit %d", n)
		}
	}
}

// TestRefusedDeltas: replayed, reordered, of another base, of another section, a
// lie about the result, out of order; nothing changes by any of them.
func TestRefusedDeltas(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	start := randomSet(t, r)
	first, _ := start.Clone().Commit(Version{1, 2}, []Record{authorisation(100, 1), authorisation(101, 1)}, nil)
	after := start.Clone()
	if err := after.Apply(first); err != nil {
		t.Fatal(err)
	}
	second, _ := after.Clone().Commit(Version{1, 3}, nil, [][]byte{DeviceKey("device-100")})
	change := func(d Delta, f func(*Delta)) Delta {
		d.Put, d.Delete = append([]Record(nil), d.Put...), append([][]byte(nil), d.Delete...)
		f(&d)
		return d
	}
	for _, c := range []struct {
		name string
		on   *Set
		d    Delta
		want error
	}{
		{"replayed", after, first, ErrStale},
		{"an older epoch", after, change(second, func(d *Delta) { d.Version = Version{0, 99} }), ErrStale},
		{"the second before the first", start, second, ErrBase},
		{"of another section", after, change(second, func(d *Delta) { d.Section = Access }), ErrMalformed},
		{"a lie about the result", after, change(second, func(d *Delta) { d.Hash[0]++ }), ErrHash},
		{"less than it says", start, change(first, func(d *Delta) { d.Put = d.Put[:1] }), ErrHash},
		{"out of order", start, change(first, func(d *Delta) { d.Put[0], d.Put[1] = d.Put[1], d.Put[0] }), ErrMalformed},
		{"the same key twice", start, change(first, func(d *Delta) { d.Put[1] = d.Put[0] }), ErrMalformed},
		{"deletes what isn't there", start, change(first, func(d *Delta) { d.Delete = [][]byte{DeviceKey("nobody")} }), ErrBase},
		{"put and deleted", after, change(second, func(d *Delta) { d.Put = []Record{authorisation(100, 2)} }), ErrMalformed},
		{"no record", start, change(first, func(d *Delta) { d.Put[0].Value = nil }), ErrRecord},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.on.Clone()
			if err := c.on.Apply(c.d); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !same(before, c.on) {
				t.Error("and something changed")
			}
		})
	}
}

// TestNewEpoch: a restored manager begins again at a low number, in a new epoch.
func TestNewEpoch(t *testing.T) {
	gateway := randomSet(t, rand.New(rand.NewPCG(7, 8)))
	gateway.version = Version{1, 900}
	manager := randomSet(t, rand.New(rand.NewPCG(9, 10)))
	manager.version = Version{1, 400}
	if err := gateway.Apply(gateway.Diff(manager)); !errors.Is(err, ErrStale) {
		t.Errorf("a manager that forgot: %v, want %v", err, ErrStale)
	}
	manager.version = Version{2, 1}
	if err := gateway.Apply(gateway.Diff(manager)); err != nil || !same(gateway, manager) {
		t.Errorf("in a new epoch: %v", err)
	}
}

// everyRecord is one of each kind, with what it decodes to.
func everyRecord() map[Section][]struct {
	r    Record
	want any
} {
	a := Authorisation{"phone-1", "sales", true, []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")}}
	v := Revocation{Issuer: [32]byte{1, 2}, Serial: "\x01\x00\xff", Reason: 1, At: noon}
	g := AccessGroup{Name: "sales", Rules: []string{"allow 10.0.0.0/8 tcp 443", "deny any"}, DeviceRate: 1 << 20, GroupRate: 1 << 30}
	closed := AccessGroup{Name: "quarantine", Closed: true}
	p := Pool{netip.MustParsePrefix("10.64.0.0/10"), "gateway-1"}
	x := netip.MustParseAddr("fd00::ffff")
	k := TicketKey{ID: [8]byte{1}, Secret: [32]byte{2}, From: noon}
	s := Setting{"redirect.to", `"gateway-2.example.com"`}
	root, below := Authority{Root: true, DER: []byte("a certificate")}, Authority{DER: []byte("another one")}
	type pair = struct {
		r    Record
		want any
	}
	return map[Section][]pair{
		Devices:   {{a.Record(), a}, {v.Record(), v}},
		Access:    {{g.Record(), g}, {closed.Record(), closed}},
		Addresses: {{p.Record(), p}, {ExcludeRecord(x), x}},
		Tickets:   {{k.Record(), k}},
		Settings:  {{s.Record(), s}},
		Trust:     {{root.Record(), root}, {below.Record(), below}},
	}
}

func TestRecords(t *testing.T) {
	for section, pairs := range everyRecord() {
		for _, c := range pairs {
			got, err := Decode(section, c.r)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: %#v, %v; want %#v", section, got, err, c.want)
			}
			if _, err := Decode(section, Record{c.r.Key[:len(c.r.Key)-1], nil}); err == nil && section != Settings {
				t.Errorf("%s: half a key and no value is taken", section)
			}
		}
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	long := make([]byte, 300<<10)
	address := func(b ...byte) []byte { return append([]byte{0, 0, byte(len(b))}, b...) }
	for name, c := range map[string]struct {
		section Section
		r       Record
		want    error
	}{
		"no section":              {"other", Record{[]byte("a"), nil}, ErrRecord},
		"no key":                  {Access, Record{}, ErrRecord},
		"unknown kind":            {Devices, Record{[]byte("z1"), nil}, ErrRecord},
		"device in capitals":      {Devices, Record{[]byte("dPhone"), []byte{0, 0}}, ErrRecord},
		"unknown flag":            {Devices, Record{[]byte("dphone"), []byte{2, 0}}, ErrRecord},
		"group beyond the end":    {Devices, Record{[]byte("dphone"), []byte{0, 5, 'a'}}, ErrRecord},
		"address of five octets":  {Devices, Record{[]byte("dphone"), address(1, 2, 3, 4, 5)}, ErrRecord},
		"IPv4 in IPv6":            {Devices, Record{[]byte("dphone"), address(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4)}, ErrRecord},
		"the same address twice":  {Devices, Record{[]byte("dphone"), append(address(1, 2, 3, 4), 4, 1, 2, 3, 4)}, ErrRecord},
		"serial with a zero":      {Devices, Record{append(make([]byte, 33), 0, 1), make([]byte, 9)}, ErrRecord},
		"a list that is too long": {Access, Record{[]byte("g"), long}, ErrTooLarge},
		"host bits":               {Addresses, Record{[]byte{'p', 24, 10, 0, 0, 1}, nil}, ErrRecord},
		"network of 33 bits":      {Addresses, Record{[]byte{'p', 33, 10, 0, 0, 1}, nil}, ErrRecord},
		"half a ticket key":       {Tickets, Record{[]byte("k12345678"), make([]byte, 39)}, ErrRecord},
		"another certificate":     {Trust, Record{Authority{DER: []byte("a")}.Record().Key, []byte("b")}, ErrRecord},
		"no certificate":          {Trust, Authority{}.Record(), ErrRecord},
		"setting without UTF-8":   {Settings, Record{[]byte("a"), []byte{0xff}}, ErrRecord},
	} {
		if got, err := Decode(c.section, c.r); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}

// TestSnapshotThatIsNone: each octet cut off or changed is noticed.
func TestSnapshotThatIsNone(t *testing.T) {
	s := randomSet(t, rand.New(rand.NewPCG(11, 12)))
	var b bytes.Buffer
	if err := WriteSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	for i := range b.Bytes() {
		if _, err := ReadSnapshot(bytes.NewReader(b.Bytes()[:i])); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut after %d octets: %v, want %v", i, err, ErrMalformed)
		}
		changed := bytes.Clone(b.Bytes())
		changed[i] ^= 1
		got, err := ReadSnapshot(bytes.NewReader(changed))
		const version = 4 + 1 + len("devices")
		if isVersion := i >= version && i < version+16; isVersion {
			if err != nil || got.Version() == s.Version() {
				t.Fatalf("another version: %v", err)
			}
		} else if err == nil {
			t.Fatalf("octet %d changed, and nobody noticed", i)
		}
	}
	if _, err := ReadSnapshot(bytes.NewReader(append(b.Bytes(), 0))); !errors.Is(err, ErrMalformed) {
		t.Errorf("an octet too many: %v", err)
	}
}

// TestSaysMoreThanItHas: a length is no reason to reserve memory for it.
func TestSaysMoreThanItHas(t *testing.T) {
	var head bytes.Buffer
	s, _ := NewSet(Devices)
	if err := WriteSnapshot(&head, s); err != nil {
		t.Fatal(err)
	}
	most := bytes.TrimSuffix(head.Bytes(), []byte{0})
	for _, c := range []struct {
		count []byte
		want  error
	}{{[]byte{0x80, 0x80, 0x80, 0x02}, ErrMalformed}, {[]byte{0x81, 0x80, 0x80, 0x02}, ErrTooLarge}, {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 1}, ErrMalformed}, {[]byte{0x80, 0}, ErrMalformed}} {
		allocated := testing.AllocsPerRun(1, func() {
			if _, err := ReadSnapshot(bytes.NewReader(append(bytes.Clone(most), c.count...))); !errors.Is(err, c.want) {
				t.Errorf("% x: %v, want %v", c.count, err, c.want)
			}
		})
		if allocated > 50 {
			t.Errorf("% x: %v allocations", c.count, allocated)
		}
	}
}

func TestEvents(t *testing.T) {
	events := []Event{
		{Cursor: 6, At: noon, Kind: SessionStarted, Device: "phone-1", Session: "1f", Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3")}, Peer: netip.MustParseAddrPort("192.0.2.1:4500")},
		{Cursor: 9, At: noon, Kind: Dropped, Count: 2, After: 6},
		{Cursor: 10, At: noon, Kind: Counters, Sums: map[string]uint64{"bytes_in": 1 << 60}},
	}
	var lines []byte
	for _, e := range events {
		var err error
		if lines, err = e.Append(lines); err != nil {
			t.Fatal(err)
		}
	}
	r := NewEventReader(bytes.NewReader(lines), 5)
	for _, want := range events {
		if got, err := r.Next(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for name, line := range map[string]string{
		"an older cursor": `{"cursor":5,"at":"2026-11-22T12:00:00Z","kind":"counters"}`,
		"unknown kind":    `{"cursor":6,"at":"2026-11-22T12:00:00Z","kind":"other"}`,
		"unknown key":     `{"cursor":6,"at":"2026-11-22T12:00:00Z","kind":"counters","x":1}`,
		"two on a line":   `{"cursor":6,"kind":"counters"} {"cursor":7,"kind":"counters"}`,
		"no device":       `{"cursor":6,"kind":"counters","device":"../../etc"}`,
		"too long":        `{"cursor":6,"kind":"counters","reason":"` + strings.Repeat("x", MaxLine) + `"}`,
		"long reason":     `{"cursor":6,"kind":"counters","reason":"` + strings.Repeat("x", maxText+1) + `"}`,
		"empty address":   `{"cursor":6,"kind":"session_started","device":"phone-1","session":"1f","addresses":[""]}`,
		"with a zone":     `{"cursor":6,"kind":"session_started","device":"phone-1","session":"1f","addresses":["fe80::1%a b"]}`,
		"long zone":       `{"cursor":6,"kind":"session_started","device":"phone-1","session":"1f","peer":"[fe80::1%` + strings.Repeat("x", maxZone+1) + `]:500"}`,
	} {
		if e, err := NewEventReader(strings.NewReader(line), 5).Next(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v; want %v", name, e, err, ErrMalformed)
		}
	}
}

func TestStateInJSON(t *testing.T) {
	s := randomSet(t, rand.New(rand.NewPCG(1, 1)))
	want := State{Gateway: "g", Started: noon, Sections: map[Section]SectionState{Devices: {Version: s.Version(), Hash: s.Hash(), Records: s.Len(), Applied: true}}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got State
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v, %v", text, got, err)
	}
	if err := json.Unmarshal([]byte(`{"sections":{"devices":{"hash":"12"}}}`), &got); !errors.Is(err, ErrMalformed) {
		t.Errorf("half a hash: %v", err)
	}
}

// TestRefusals carry each error over, with reasons that don't grow.
func TestRefusals(t *testing.T) {
	state := SectionState{Version: Version{1, 2}, Applied: true}
	for _, want := range []error{ErrMalformed, ErrTooLarge, ErrStale, ErrBase, ErrHash, ErrRecord, ErrRefused, ErrBusy, ErrStorage} {
		text, err := json.Marshal(Refuse(fmt.Errorf("why: %w", want), nil, state))
		if err != nil {
			t.Fatal(err)
		}
		var r Refusal
		if err := json.Unmarshal(text, &r); err != nil || !errors.Is(r.Err(), want) || !strings.Contains(r.Err().Error(), "why: ") || !reflect.DeepEqual(r.State, state) {
			t.Errorf("%v: %s, %v", want, text, r.Err())
		}
	}
	reasons := make([]error, 3*maxReasons)
	for n := range reasons {
		reasons[n] = errors.New(strings.Repeat("x", 1<<20))
	}
	r := Refuse(ErrRefused, reasons, state)
	if len(r.Reasons) != maxReasons+1 || r.Reasons[maxReasons] != fmt.Sprintf("and %d more", 2*maxReasons) || len(r.Reasons[0]) != 1<<10 {
		t.Errorf("%d reasons, the last is %q", len(r.Reasons), r.Reasons[len(r.Reasons)-1])
	}
	if got := len(r.Err().Error()); got > 2<<10 {
		t.Errorf("an error of %d octets", got)
	}
	if err := (Refusal{Code: "other"}).Err(); !errors.Is(err, ErrRefused) {
		t.Errorf("a code of tomorrow: %v", err)
	}
}

// TestRestore holds what was kept to the rules of the wire.
func TestRestore(t *testing.T) {
	s := randomSet(t, rand.New(rand.NewPCG(13, 14)))
	if got, err := Restore(Devices, s.Version(), s.Hash(), s.All()); err != nil || !same(got, s) {
		t.Errorf("%v", err)
	}
	for name, c := range map[string]struct {
		section Section
		records []Record
		want    error
	}{
		"less":       {Devices, nil, ErrHash},
		"twice":      {Devices, []Record{authorisation(1, 1), authorisation(1, 1)}, ErrMalformed},
		"no record":  {Devices, []Record{{Key: []byte("z")}}, ErrRecord},
		"no section": {"other", nil, ErrMalformed},
	} {
		if _, err := Restore(c.section, s.Version(), s.Hash(), slices.Values(c.records)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// BenchmarkRevocation: one revocation among a million authorisations.
func BenchmarkRevocation(b *testing.B) {
	s, _ := NewSet(Devices)
	put := make([]Record, 0, 1<<20)
	for i := range 1 << 20 {
		put = append(put, authorisation(i, 1))
	}
	if _, err := s.Commit(Version{1, 1}, put, nil); err != nil {
		b.Fatal(err)
	}
	n := uint64(1)
	for b.Loop() {
		n++
		r := Revocation{Serial: fmt.Sprintf("\x01%d", n), At: noon}.Record()
		if _, err := s.Commit(Version{1, n}, []Record{r}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
