package session

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gate"
)

/* Where newcomers wait
 *
 * After an outage all devices come at once, and what is dropped then comes again
 * when its sender thinks fit: after 1, 2, 4, 8 s, by every sender's clock alike. A
 * gateway that drops what it can't do at once works for a moment and then waits with
 * them. So first messages wait here and are taken when there is nothing else to do:
 * the gateway has work in the pauses, what was begun is finished before more is
 * begun, and who repeats what waits already is not put in twice. Who gives up and
 * begins anew with the same ticket goes on where it stood: a fleet that is more work
 * than its devices have patience would otherwise be served in vain.
 *
 * Networks have turns, so one that floods the gateway, with messages that nobody
 * forged, doesn't have others wait behind it.
 *
 * Who waits is counted by the gate like those that are half-open, and with them,
 * so many of one network have to bring a cookie, and more aren't let in.
 */

const (
	// newcomerPatience is how long one waits that isn't heard of, at least, and
	// newcomerMargin how much longer than it has repeated its message so far: clients
	// pause for about as long as that before they do so again (strongSwan: 4, 7, 13,
	// 23 s; others: 1, 2, 4, 8, 16 s).
	newcomerPatience = 10 * time.Second
	newcomerMargin   = 5 * time.Second
	// newcomerOctets bounds the messages that wait, each shard has its part: a hundred
	// thousand with a ticket.
	newcomerOctets = 64 << 20
	// welcomed are how many newcomers a shard takes at a time, and welcomedBusy if
	// messages of others wait.
	welcomed     = 64
	welcomedBusy = 8
	// maxFresh are those that were begun in the last freshTime and whose IKE_AUTH
	// hasn't come. More are not begun: it would come of all at once and find no room
	// in the inbox. Who never goes on is in the way for that time only.
	maxFresh  = 1024
	freshTime = 2 * time.Second
	// maxFinishing are those whose IKE_AUTH has come and who aren't up. While there
	// are more nobody is begun: what they wait for is us.
	maxFinishing = 256
	// heldFor is how soon a shard looks again whether the workers have caught up.
	heldFor = 10 * time.Millisecond
)

// newcomers are those who wait for a shard.
type newcomers struct {
	gate   *gate.Gate
	secret *[16]byte // of hashes
	stats  *stats
	wake   chan struct{} // capacity 1: somebody may be there

	mu sync.Mutex
	// Those who bring a ticket don't wait for workers, so they come first, but for
	// each strangersTurn-th: what anybody can say is a ticket is only read then.
	resuming, full lines
	turn           int
	// known are those who wait, and those whose turn came and whose machine is there
	// until over is called.
	known map[initiator]*newcomer
	// holders are those who wait with a ticket, by that: who gave up and begins anew,
	// with another SPI, goes on where it stood, and nothing is done for the old one.
	holders map[holder]*newcomer
	// octets of messages that wait, most of those that may.
	octets, most int
}

// initiator is who waits. Its next message takes the place of the one before: it
// brings a cookie, or is the same once more.
type initiator struct {
	remote netip.AddrPort
	spi    uint64
}

// holder of a ticket is who shows it from an address, so nobody else can take its
// place from afar.
type holder struct {
	source netip.Addr
	ticket uint64 // keyed hash
}

// newcomer is a message, and when its sender was heard of first and last.
type newcomer struct {
	packet
	sum          uint64 // see initKey
	holder       holder // zero without a ticket
	since, heard time.Time
	begun        bool // its turn came; it is in no queue and has no data
}

// gone: its sender would have repeated it since.
func (c *newcomer) gone(now time.Time) bool {
	return now.Sub(c.heard) >= max(newcomerPatience, c.heard.Sub(c.since)+newcomerMargin)
}

func (c *newcomer) from() initiator { return initiator{c.remote, c.header.InitiatorSPI} }

// newNewcomers of one of so many shards.
func newNewcomers(g *gate.Gate, secret *[16]byte, st *stats, shards int) *newcomers {
	return &newcomers{
		gate: g, secret: secret, stats: st, wake: make(chan struct{}, 1), most: newcomerOctets / shards,
		known: make(map[initiator]*newcomer), holders: make(map[holder]*newcomer),
	}
}

// put keeps a message, whose data is the caller's, if there is room. It returns true
// for one that has its machine already, which is for the inbox.
func (n *newcomers) put(now time.Time, p packet, sum uint64) (repeated bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &newcomer{packet: p, sum: sum, since: now, heard: now}
	before := n.known[c.from()]
	if before != nil && before.begun {
		if before.sum == sum {
			return true
		}
		before = nil // what was begun is for a message that its sender gave up
	}
	// The same without its cookie is an older copy: AUTH will be for the one with it.
	if before != nil && before.sum == sum && (len(p.data) < len(before.data) || bytes.Equal(before.data, p.data)) {
		before.heard = now
		n.stats.drop(ReasonWaitsAlready)
		return false
	}
	if p.header.Resume {
		if ticket := gate.TicketOf(p.data); ticket != nil {
			c.holder = holder{p.remote.Addr(), gate.Sum64(n.secret, ticket)}
		}
		if before == nil {
			before = n.holders[c.holder]
		}
	}
	more := len(p.data)
	if before != nil {
		more -= len(before.data)
	}
	switch {
	case n.octets+more > n.most:
		n.stats.drop(ReasonInboxFull)
		return false
	case before != nil && before.header.Resume != p.header.Resume:
		n.stats.drop(ReasonWaitsAlready)
		return false
	case before != nil:
		n.stats.drop(ReasonWaitsAlready)
		n.remove(before)
		*before = *c
		c = before
	default:
		if r := n.gate.Wait(p.remote.Addr(), p.header.Resume); r != gate.ReasonNone {
			n.stats.gateDrop(r)
			return false
		}
		if p.header.Resume {
			n.resuming.put(c)
		} else {
			n.full.put(c)
		}
		n.notify()
	}
	n.add(c)
	c.data = slices.Clone(p.data)
	n.octets += more
	return false
}

// knows says whether a message waits, or has its machine.
func (n *newcomers) knows(k initKey) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.known[initiator{k.remote, k.spi}]
	return c != nil && c.sum == k.sum
}

// over: the machine of a message is up, or gone, or was never made.
func (n *newcomers) over(k initKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.known[initiator{k.remote, k.spi}]; c != nil && c.begun && c.sum == k.sum {
		n.remove(c)
	}
}

// add a newcomer to those who are known.
func (n *newcomers) add(c *newcomer) {
	n.known[c.from()] = c
	if c.holder != (holder{}) {
		n.holders[c.holder] = c
	}
}

func (n *newcomers) remove(c *newcomer) {
	if n.known[c.from()] == c { // not one that took its place
		delete(n.known, c.from())
	}
	n.leave(c)
	if len(n.known) == 0 { // its room is not kept
		n.known = make(map[initiator]*newcomer)
	}
}

// leave: nobody can go on in its place any more.
func (n *newcomers) leave(c *newcomer) {
	if n.holders[c.holder] != c {
		return
	}
	if delete(n.holders, c.holder); len(n.holders) == 0 {
		n.holders = make(map[holder]*newcomer)
	}
}

func (n *newcomers) notify() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take returns who came first from the network whose turn it is, of those with
// tickets, or else, or when it is their turn, with full, of the others. Who wasn't
// heard of for too long is dropped. The caller says when it is over.
func (n *newcomers) take(now time.Time, full bool) (p packet, key initKey, ok bool) {
	if n.gate.FullForAll() {
		return packet{}, initKey{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		var c *newcomer
		var ok bool
		if n.turn++; full && n.turn%strangersTurn == 0 {
			c, ok = n.full.take(n.gate)
		}
		if !ok {
			c, ok = n.resuming.take(n.gate)
		}
		if !ok && full {
			c, ok = n.full.take(n.gate)
		}
		if !ok {
			return packet{}, initKey{}, false
		}
		n.octets -= len(c.data)
		n.gate.Leave(c.remote.Addr(), c.header.Resume)
		if !c.gone(now) {
			n.leave(c)
			p, c.data, c.begun = c.packet, nil, true
			return p, initKey{remote: c.remote, spi: c.header.InitiatorSPI, sum: c.sum}, true
		}
		n.remove(c)
		n.stats.drop(ReasonWaitedTooLong)
	}
}

func (n *newcomers) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.resuming.len() + n.full.len()
}

// lines in which newcomers wait, one for each network that the gate tells apart. Each
// has its turn, so those of one that send without end wait for themselves.
type lines struct {
	of    map[netip.Prefix]*line
	turns fifo[*line] // those where somebody waits
	n     int
}

type line struct {
	fifo[*newcomer]
	site netip.Prefix
}

func (l *lines) put(c *newcomer) {
	site := gate.Site(c.remote.Addr())
	of := l.of[site]
	if of == nil {
		of = &line{site: site}
		if l.of == nil {
			l.of = make(map[netip.Prefix]*line)
		}
		l.of[site] = of
		l.turns.put(of)
	}
	of.put(c)
	l.n++
}

// take who is first in the line whose turn it is. One whose network has as many
// half-open IKE SAs as it may have waits.
func (l *lines) take(g *gate.Gate) (*newcomer, bool) {
	for range l.turns.len() {
		of, _ := l.turns.take()
		if !of.mayBegin(g) {
			l.turns.put(of)
			continue
		}
		c, _ := of.take()
		if of.len() > 0 {
			l.turns.put(of)
		} else if delete(l.of, of.site); len(l.of) == 0 {
			l.of = nil // its room is not kept
		}
		l.n--
		return c, true
	}
	return nil, false
}

// passedBy are as many as are passed by at a time because their part of the site is
// full while others of it may begin.
const passedBy = 64

// mayBegin says whether the first in the line may, now.
func (of *line) mayBegin(g *gate.Gate) bool {
	for range min(of.len(), passedBy) {
		c, _ := of.peek()
		site, network := g.Full(c.remote.Addr())
		if site || !network {
			return !site
		}
		of.take()
		of.put(c)
	}
	return false
}

func (l *lines) len() int { return l.n }

// fresh counts IKE SAs that were begun lately, and those whose IKE_AUTH has come.
type fresh struct {
	begun     fifo[begun]
	n         int
	finishing int
}

// begun lately; its place may be another one's by now.
type begun struct {
	sa  *sa
	spi uint64
	at  time.Time
}

func (b *begun) fresh() bool { return b.sa.fresh && b.sa.spi == b.spi }

func (f *fresh) add(now time.Time, s *sa) {
	s.fresh = true
	f.begun.put(begun{s, s.spi, now})
	f.n++
}

// finish: the IKE_AUTH of one has come.
func (f *fresh) finish(s *sa) {
	f.remove(s)
	s.finishing = true
	f.finishing++ // not twice: remove has taken it back
}

// remove one that is up, or gone.
func (f *fresh) remove(s *sa) {
	if s.fresh {
		s.fresh = false
		f.n--
	}
	if s.finishing {
		s.finishing = false
		f.finishing--
	}
}

// room for newcomers; 0: they have to wait.
func (f *fresh) room(now time.Time) int {
	if f.finishing >= maxFinishing {
		return 0
	}
	return max(0, maxFresh-f.count(now))
}

func (f *fresh) count(now time.Time) int {
	for {
		oldest, ok := f.begun.peek()
		if !ok || oldest.fresh() && now.Sub(oldest.at) < freshTime {
			return f.n
		}
		f.begun.take()
		if oldest.fresh() {
			oldest.sa.fresh = false
			f.n--
		}
	}
}

// welcome takes those who wait. As long as workers are behind, who needs them is
// held, all are as long as many have just begun, or aren't finished, and those of a
// network that has as many half-open IKE SAs as it may have.
func (sh *shard) welcome(now time.Time) {
	most := welcomed
	if len(sh.inbox) > 0 {
		most = welcomedBusy
	}
	room := sh.fresh.room(now)
	taken := true
	for n := 0; n < min(most, room) && taken; n++ {
		var p packet
		var key initKey
		if p, key, taken = sh.newcomers.take(now, sh.server.work.wait() < newcomerWait); !taken {
			break
		}
		if s := sh.initiated(now, p, key); s != nil {
			sh.deliver(now, s, p)
		} else {
			sh.newcomers.over(key)
		}
	}
	sh.held = sh.newcomers.len() > 0 && (!taken || sh.fresh.room(now) == 0)
	if sh.newcomers.len() > 0 && !sh.held {
		sh.newcomers.notify()
	}
}
