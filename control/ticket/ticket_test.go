package ticket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

var hourly = Schedule{Period: time.Hour, Keep: 8 * time.Hour}

func contents() *Contents {
	return &Contents{
		Issued: noon, Expires: noon.Add(8 * time.Hour), Authenticated: noon.Add(-time.Hour),
		SkD:        bytes.Repeat([]byte{7}, 32),
		Encryption: 20, KeyBits: 256, PRF: 5, Group: 31,
		Peer: []byte{2, 0, 0, 0, 'd', 'e', 'v'}, Own: []byte{2, 0, 0, 0, 'g', 'w'},
		Session: 0x1234, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00::7")},
		Auth: "ECDSA P-256", Client: "standard",
		Standing: Standing{
			Device: "phone-1", Epoch: 3, Instance: []byte{0x2a, 3}, Units: []string{"Sales", "Pilots"}, Until: noon.Add(1000 * time.Hour), Anchor: [32]byte{9},
			Path: []Link{{Issuer: [16]byte{1}, Serial: []byte{1, 2, 3}}, {Issuer: [16]byte{2}, Serial: []byte{4}}},
		},
	}
}

func newKeys(t *testing.T, now time.Time) Keys {
	t.Helper()
	k, changed, err := Keys(nil).Advance(now, hourly, rand.Reader)
	if err != nil || !changed || len(k) != 2 {
		t.Fatalf("first keys: %d, changed %v, %v", len(k), changed, err)
	}
	return k
}

func TestATicketComesBackAsItWas(t *testing.T) {
	ring := NewRing(newKeys(t, noon))
	sealed, err := ring.Seal(noon, contents(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{contents().SkD, []byte("phone-1"), contents().Peer} {
		if bytes.Contains(sealed, secret) {
			t.Errorf("%q is in the clear", secret)
		}
	}
	got, _, err := ring.Open(noon.Add(time.Minute), sealed)
	if err != nil {
		t.Fatal(err)
	}
	want := contents()
	for _, p := range []*time.Time{&got.Issued, &got.Expires, &got.Authenticated, &got.Until} {
		*p = p.UTC()
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	t.Logf("a ticket has %d octets", len(sealed))
}

// Each octet of a ticket is protected, and each ticket that is too short is
// noticed without looking further.
func TestForgedTickets(t *testing.T) {
	ring := NewRing(newKeys(t, noon))
	sealed, err := ring.Seal(noon, contents(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		forged := slices.Clone(sealed)
		forged[i] ^= 0x40
		want := ErrForged
		switch {
		case i == 0:
			want = ErrMalformed
		case i < headLen:
			want = ErrUnknownKey
		}
		if _, _, err := ring.Open(noon, forged); !errors.Is(err, want) {
			t.Fatalf("octet %d changed: %v, want %v", i, err, want)
		}
	}
	for n := range sealed {
		if _, _, err := ring.Open(noon, sealed[:n]); err == nil {
			t.Fatalf("%d octets of %d are taken for a ticket", n, len(sealed))
		}
	}
	if _, _, err := ring.Open(noon, make([]byte, MaxLen+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
	if _, _, err := ring.Open(contents().Expires, sealed); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	other := NewRing(newKeys(t, noon))
	if _, _, err := other.Open(noon, sealed); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another gateway: %v", err)
	}
	// The same ID in front of another key is no way in.
	keys := ring.Keys()
	keys[0].Secret[0] ^= 1
	if _, _, err := NewRing(keys).Open(noon, sealed); !errors.Is(err, ErrForged) {
		t.Errorf("another key of the same ID: %v", err)
	}
}

// A device comes back hours later, over several rotations, until the key is
// erased.
func TestKeysRotateAndOpenUntilTheyAreErased(t *testing.T) {
	ring := NewRing(newKeys(t, noon))
	sealed, err := ring.Seal(noon.Add(59*time.Minute), contents(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[KeyID]bool{}
	for minute := range 11 * 60 {
		now := noon.Add(time.Duration(minute) * time.Minute)
		held := ring.Keys()
		next, changed, err := held.Advance(now, hourly, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if changed == next.Same(held) {
			t.Fatalf("%v: changed is %v", now, changed)
		}
		if len(next) > 11 {
			t.Fatalf("%v: %d keys", now, len(next))
		}
		ring.Replace(next)
		seen[next.at(now).ID] = true
		_, _, err = ring.Open(noon, sealed) // noon: the key's life is looked at, not the ticket's
		if open := now.Before(noon.Add(9 * time.Hour)); open != (err == nil) {
			t.Fatalf("%v: %v", now, err)
		}
	}
	if len(seen) != 11 {
		t.Errorf("%d keys sealed in eleven hours", len(seen))
	}
	// Asleep for days: one key for now, one for later, nothing else.
	k, _, err := ring.Keys().Advance(noon.Add(100*time.Hour), hourly, rand.Reader)
	if err != nil || len(k) != 2 || k[0].From.After(noon.Add(100*time.Hour)) || !k.after(noon.Add(100*time.Hour)) {
		t.Errorf("after days: %v, %v", k, err)
	}
	// The clock went back: there is a key to seal with nevertheless, in order.
	k, changed, err := k.Advance(noon, hourly, rand.Reader)
	if err != nil || !changed || k.at(noon) == nil || !slices.IsSortedFunc(k, func(a, b Key) int { return a.From.Compare(b.From) }) {
		t.Errorf("after the clock went back: %v, %v", k, err)
	}
}

func TestReplaceErases(t *testing.T) {
	keys := newKeys(t, noon)
	ring := NewRing(keys)
	ring.Replace(newKeys(t, noon))
	if keys[0].Secret != [32]byte{} || keys[1].Secret != [32]byte{} {
		t.Error("secrets of the set that was replaced are still there")
	}
	if _, err := NewRing(nil).Seal(noon, contents(), rand.Reader); !errors.Is(err, ErrNoKey) {
		t.Errorf("without keys: %v", err)
	}
}

func TestKeysAsText(t *testing.T) {
	keys := newKeys(t, noon)
	text := keys.Append(nil)
	again, err := ParseKeys(text)
	if err != nil || !again.Same(keys) {
		t.Fatalf("%v, %v", again, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, broken := range map[string]string{
		"empty":        "",
		"no header":    lines[1],
		"cut off":      string(text[:len(text)-1]),
		"out of order": lines[0] + lines[2] + lines[1],
		"repeated":     lines[0] + lines[1] + lines[1],
		"no hex":       lines[0] + strings.Replace(lines[1], lines[1][:1], "x", 1),
		"two fields":   lines[0] + lines[1][17:],
		"blank line":   lines[0] + "\n",
	} {
		if k, err := ParseKeys([]byte(broken)); !errors.Is(err, ErrKeys) || k != nil {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	if k, err := ParseKeys([]byte(keysHeader)); err != nil || len(k) != 0 {
		t.Errorf("no keys: %v, %v", k, err)
	}
}

func TestWhatDoesNotFit(t *testing.T) {
	ring := NewRing(newKeys(t, noon))
	for name, spoil := range map[string]func(*Contents){
		"no SK_d":        func(c *Contents) { c.SkD = nil },
		"long SK_d":      func(c *Contents) { c.SkD = make([]byte, 65) },
		"no identity":    func(c *Contents) { c.Peer = nil },
		"long identity":  func(c *Contents) { c.Own = make([]byte, 1025) },
		"no device":      func(c *Contents) { c.Device = "" },
		"long device":    func(c *Contents) { c.Device = strings.Repeat("x", 256) },
		"many units":     func(c *Contents) { c.Units = make([]string, 9) },
		"no path":        func(c *Contents) { c.Path = nil },
		"long serial":    func(c *Contents) { c.Path[0].Serial = make([]byte, 33) },
		"many addresses": func(c *Contents) { c.Addresses = append(c.Addresses, c.Addresses...) },
	} {
		c := contents()
		spoil(c)
		if _, err := ring.Seal(noon, c, rand.Reader); !errors.Is(err, ErrContents) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilter(t *testing.T) {
	f := NewFilter(3)
	end := noon.Add(time.Hour)
	use := func(now time.Time, s Serial, end time.Time, fresh, remembered bool) {
		t.Helper()
		if a, b := f.Use(now, s, end); a != fresh || b != remembered {
			t.Errorf("ticket %d: fresh %v, remembered %v", s, a, b)
		}
	}
	use(noon, 1, end, true, true)
	use(noon, 1, end, false, true)
	if !f.Used(1, end) || f.Used(2, end) {
		t.Error("who was used?")
	}
	use(noon, 2, end, true, true)
	use(noon, 3, end.Add(5*time.Hour), true, true)
	// Full: others get in and are not remembered; those that were, stay known.
	use(noon, 4, end, true, false)
	use(noon, 4, end, true, false)
	use(noon, 1, end, false, true)
	if f.Len() != 3 {
		t.Errorf("%d remembered", f.Len())
	}
	// Expired ones make room.
	later := noon.Add(3 * time.Hour)
	use(later, 5, later.Add(time.Hour), true, true)
	use(later, 3, end.Add(5*time.Hour), false, true)
	if f.Len() != 2 {
		t.Errorf("%d remembered", f.Len())
	}
}

// What a gateway with our keys could send: nothing is read past its end, and
// what is taken says the same again.
func FuzzContents(f *testing.F) {
	f.Add(contents().append(nil))
	f.Add(contents().append(nil)[:40])
	short := contents()
	short.Addresses, short.Path, short.Instance = nil, short.Path[:1], nil
	f.Add(short.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.append(nil), b) {
			t.Fatalf("%x is read as %+v, which is written otherwise", b, c)
		}
	})
}

func FuzzOpen(f *testing.F) {
	keys, _, err := Keys(nil).Advance(noon, hourly, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	ring := NewRing(keys)
	sealed, err := ring.Seal(noon, contents(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := ring.Open(noon, b); err == nil && !bytes.Equal(b, sealed) {
			t.Fatal("a ticket that nobody sealed")
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	keys, _, err := Keys(nil).Advance(noon, hourly, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(keys.Append(nil))
	f.Add([]byte(keysHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKeys(b)
		if err != nil {
			return
		}
		again, err := ParseKeys(k.Append(nil))
		if err != nil || !again.Same(k) {
			t.Fatalf("%v: read again %v, %v", k, again, err)
		}
	})
}
