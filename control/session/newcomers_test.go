package session

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gate"
)

// waitingRoom with a gate of its own, and what it takes to fill it.
type waitingRoom struct {
	*newcomers
	t   *testing.T
	now time.Time
}

func newWaitingRoom(t *testing.T, cfg gate.Config) *waitingRoom {
	t.Helper()
	g, err := gate.New(cfg, gate.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	return &waitingRoom{newcomers: newNewcomers(g, new([16]byte), newStats(), 1), t: t, now: time.Unix(1e9, 0)}
}

// message of a host with a text.
func (w *waitingRoom) message(host byte, spi uint64, resume bool, text string) (packet, uint64) {
	return messageOf(netip.AddrFrom4([4]byte{10, 1, host, 1}), spi, resume, text)
}

func messageOf(source netip.Addr, spi uint64, resume bool, text string) (packet, uint64) {
	p := packet{data: []byte(text), remote: netip.AddrPortFrom(source, 500)}
	p.header.Init, p.header.Resume, p.header.InitiatorSPI = true, resume, spi
	return p, gate.Sum64(new([16]byte), []byte(text))
}

func (w *waitingRoom) come(host byte, spi uint64, resume bool, text string) (repeated bool) {
	p, sum := w.message(host, spi, resume, text)
	return w.put(w.now, p, sum)
}

// next that is taken, "" if nobody is.
func (w *waitingRoom) next(full bool) string {
	w.t.Helper()
	p, key, ok := w.take(w.now, full)
	if !ok {
		return ""
	}
	if p.header.InitiatorSPI != key.spi || p.remote != key.remote {
		w.t.Errorf("key %+v of %+v", key, p)
	}
	return string(p.data)
}

func (w *waitingRoom) want(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// Those with tickets come first and while workers are behind; all others in the
// order in which they came. A message that says something new takes the place of the
// one before, one that is repeated doesn't wait twice, and one whose machine is there
// goes to it.
func TestNewcomersWait(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	w.come(1, 1, false, "first")
	w.come(2, 1, false, "second")
	w.come(1, 2, false, "another of the first host")
	w.come(3, 1, true, "ticket")
	w.come(1, 1, false, "first")              // repeated
	w.come(1, 1, false, "first with cookie")  // answered a COOKIE
	w.come(3, 1, false, "no ticket any more") // one that waits by a ticket
	if n := w.stats.drops[ReasonWaitsAlready].Load(); n != 3 {
		t.Errorf("%d waited already, want 3", n)
	}
	w.want("while workers are behind", w.next(false), "ticket")
	w.want("while workers are behind", w.next(false), "")
	w.want("in order", w.next(true), "first with cookie")
	if !w.come(1, 1, false, "first with cookie") {
		t.Error("what has its machine waits again")
	}
	if w.come(1, 1, false, "first, once more with another cookie") {
		t.Error("what has no machine goes to one")
	}
	w.want("in order", w.next(true), "second")
	w.want("in order", w.next(true), "another of the first host")
	w.want("what its sender says now", w.next(true), "first, once more with another cookie")
	w.want("at the end", w.next(true), "")
	for host, spi := range map[byte]uint64{1: 1, 2: 1, 3: 1} {
		for _, text := range []string{"first with cookie", "first, once more with another cookie", "second", "ticket"} {
			p, sum := w.message(host, spi, false, text)
			w.over(initKey{remote: p.remote, spi: spi, sum: sum})
		}
	}
	p, sum := w.message(1, 2, false, "another of the first host")
	w.over(initKey{remote: p.remote, spi: 2, sum: sum})
	if len(w.known) != 0 || w.octets != 0 {
		t.Errorf("%d are known and %d octets counted in the end", len(w.known), w.octets)
	}
	if w.gate.CookieNeeded(p.remote.Addr()) {
		t.Error("the gate counts those who have gone")
	}
}

// Who isn't heard of is gone; who repeats himself is there.
func TestNewcomersGiveUp(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	w.come(1, 1, false, "gone")
	w.come(2, 1, false, "there")
	w.now = w.now.Add(newcomerPatience - 1)
	w.come(2, 1, false, "there")
	w.now = w.now.Add(1)
	w.want("who is there", w.next(true), "there")
	if n := w.stats.drops[ReasonWaitedTooLong].Load(); n != 1 {
		t.Errorf("%d waited too long, want 1", n)
	}
}

// Who has repeated himself for long does so after a longer pause.
func TestNewcomersHavePauses(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	for _, pause := range []time.Duration{0, 1, 2, 4, 8} {
		w.now = w.now.Add(pause * time.Second)
		w.come(1, 1, false, "there")
	}
	w.now = w.now.Add(16 * time.Second)
	w.want("who would speak now", w.next(true), "there")
}

// Of one network many come before one of another: that one waits for none of them
// but the first.
func TestNewcomersOfANetworkWaitForThemselves(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	for spi := range uint64(100) {
		w.come(1, spi+1, false, "of many")
	}
	w.come(2, 1, false, "alone")
	w.want("first", w.next(true), "of many")
	w.want("second", w.next(true), "alone")
	for range 99 {
		w.want("after that", w.next(true), "of many")
	}
	w.want("at the end", w.next(true), "")
	if len(w.full.of) != 0 {
		t.Errorf("%d networks are remembered", len(w.full.of))
	}
}

// Those of a network that has as many half-open IKE SAs as it may have wait until one
// is over; others don't wait for that.
func TestNewcomersWaitForRoom(t *testing.T) {
	w := newWaitingRoom(t, gate.Config{MaxHalfOpen: 10, CookieAt: 9, MaxHalfOpenPrefix: 1, CookieAtPrefix: 0})
	w.come(1, 1, false, "of a full network")
	w.come(2, 1, true, "of another")
	full, other := netip.AddrFrom4([4]byte{10, 1, 1, 7}), netip.AddrFrom4([4]byte{10, 1, 2, 7})
	w.gate.Open(full)
	w.want("first", w.next(true), "of another")
	w.want("while it is full", w.next(true), "")
	w.gate.Open(other)
	w.gate.Close(full)
	w.want("then", w.next(true), "of a full network")
}

// A network that is full holds up nobody of the others of its site, however many of
// its own wait before them.
func TestNewcomersOfAFullNetwork(t *testing.T) {
	w := newWaitingRoom(t, gate.Config{MaxHalfOpen: 10000, CookieAt: 9000, MaxHalfOpenPrefix: 4000, CookieAtPrefix: 3000})
	full, other := netip.MustParseAddr("2001:db8:1:1::1"), netip.MustParseAddr("2001:db8:1:2::1")
	const waiting = 500
	for spi := range uint64(waiting) {
		p, sum := messageOf(full, spi, false, "of a full network")
		w.put(w.now, p, sum)
	}
	for range 1000 {
		w.gate.Open(full)
	}
	p, sum := messageOf(other, 1, false, "of another")
	w.put(w.now, p, sum)
	for looks := 1; ; looks++ {
		if text := w.next(true); text == "of another" {
			break
		} else if text != "" || looks > waiting/passedBy+1 {
			t.Fatalf("%q after %d looks", text, looks)
		}
	}
	w.want("while it is full", w.next(true), "")
	w.gate.Close(full)
	w.want("then", w.next(true), "of a full network")
}

// A copy that was sent before its sender was asked for a cookie, and comes late,
// doesn't take the place of the message with the cookie.
func TestNewcomersKeepTheCookie(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	plain, sum := w.message(1, 1, false, "first")
	cookied, _ := w.message(1, 1, false, "cookie and first")
	w.put(w.now, plain, sum)
	w.put(w.now, cookied, sum)
	w.put(w.now, plain, sum)
	w.want("who waits", w.next(true), "cookie and first")
	w.want("then", w.next(true), "")
}

// Who gives up and begins anew with his ticket goes on where he stood, and what he
// gave up is forgotten. Another who shows it from elsewhere waits for himself.
func TestNewcomersBeginAnew(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	ticket := func(host byte, spi uint64, ticket, nonce string) string {
		text := resumeText(spi, ticket, nonce)
		w.come(host, spi, true, text)
		return text
	}
	gaveUp := ticket(1, 1, "first", "a")
	second := ticket(1, 2, "second", "b")
	anew := ticket(1, 3, "first", "c")
	thief := ticket(2, 4, "first", "d")
	if gaveUp == anew {
		t.Fatal("the messages are the same")
	}
	if p, sum := w.message(1, 1, true, gaveUp); w.knows(initKey{remote: p.remote, spi: 1, sum: sum}) {
		t.Error("what was given up is known")
	}
	w.want("first", w.next(true), anew)
	w.want("in the other network", w.next(true), thief)
	w.want("then", w.next(true), second)
	w.want("at the end", w.next(true), "")
	for spi := range uint64(5) {
		for _, text := range []string{gaveUp, anew, thief, second} {
			for host := range byte(3) {
				p, sum := w.message(host, spi, true, text)
				w.over(initKey{remote: p.remote, spi: spi, sum: sum})
			}
		}
	}
	if len(w.known) != 0 || len(w.holders) != 0 || w.octets != 0 {
		t.Errorf("%d are known, %d hold tickets, %d octets are counted in the end", len(w.known), len(w.holders), w.octets)
	}
}

// resumeText is an IKE_SESSION_RESUME: nonce and ticket.
func resumeText(spi uint64, ticket, nonce string) string {
	b := append(binary.BigEndian.AppendUint64(nil, spi), make([]byte, 8)...)
	b = append(b, 40, 0x20, 38, 0x08, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(28+4+len(nonce)+8+len(ticket)))
	b = append(binary.BigEndian.AppendUint16(append(b, 41, 0), uint16(4+len(nonce))), nonce...)
	b = append(binary.BigEndian.AppendUint16(append(b, 0, 0), uint16(8+len(ticket))), 1, 0, 0x40, 0x1d)
	return string(append(b, ticket...))
}

// One network has its share of the places, and from some on needs cookies; nobody
// makes the gateway keep more octets than it means to.
func TestNewcomersAreBounded(t *testing.T) {
	w := newWaitingRoom(t, gate.Config{MaxHalfOpen: 100, CookieAt: 50, MaxHalfOpenPrefix: 10, CookieAtPrefix: 5})
	of := netip.AddrFrom4([4]byte{10, 1, 1, 1})
	for spi := range uint64(20) {
		if got, want := w.gate.CookieNeeded(of), spi >= 5; got != want {
			t.Errorf("cookie for newcomer %d: %v", spi, got)
		}
		w.come(1, spi+1, false, "many")
	}
	w.come(2, 1, false, "of another network")
	if all := w.len(); all != 11 {
		t.Errorf("%d wait, want 10 of one network and 1 of another", all)
	}
	long := string(make([]byte, 64<<10))
	w = newWaitingRoom(t, gate.Config{MaxHalfOpen: 1 << 20, CookieAt: 1, MaxHalfOpenPrefix: 1 << 20, CookieAtPrefix: 1})
	for spi := range uint64(w.most/len(long) + 10) {
		w.come(1, spi+1, false, long)
	}
	if w.octets > w.most || w.stats.drops[ReasonInboxFull].Load() != 10 {
		t.Errorf("%d octets wait, %d messages found no room", w.octets, w.stats.drops[ReasonInboxFull].Load())
	}
}

// As many are begun as can go on: who hasn't been heard of since is in the way for
// freshTime, who waits for us until he is finished.
func TestFreshAreBounded(t *testing.T) {
	var f fresh
	now := time.Unix(1e9, 0)
	var list []*sa
	for f.room(now) > 0 {
		list = append(list, &sa{})
		f.add(now, list[len(list)-1])
	}
	if len(list) != maxFresh {
		t.Fatalf("%d begun, want %d", len(list), maxFresh)
	}
	f.remove(list[0])
	f.remove(list[0])
	if n := f.room(now); n != 1 {
		t.Errorf("room for %d after one was up, want 1", n)
	}
	for _, s := range list[1 : maxFinishing+1] {
		f.finish(s)
	}
	later := now.Add(freshTime)
	if n := f.room(later); n != 0 {
		t.Errorf("room for %d while many are being finished", n)
	}
	f.remove(list[1])
	if n := f.room(later); n != maxFresh {
		t.Errorf("room for %d, want %d: the others didn't go on", n, maxFresh)
	}
	if f.begun.len() != 0 {
		t.Errorf("%d are remembered", f.begun.len())
	}
}

// Those who say that they have a ticket, without end, don't keep the others out.
func TestNewcomersAreNotStarved(t *testing.T) {
	w := newWaitingRoom(t, gate.DefaultConfig())
	w.come(200, 1, false, "in full")
	for n := range uint64(100) {
		w.come(byte(n), 2+n, true, "junk")
		if w.next(true) == "in full" {
			return
		}
	}
	t.Error("it waits still")
}
