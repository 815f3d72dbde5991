package session

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// session of a device: what stays when its IKE SA is rekeyed. Its shard's
// goroutine owns it; it is there until the IKE SA that carries it is closed.
type session struct {
	// id is our SPI of the IKE SA that it began with, and not used again while
	// the session is there.
	id       lease.SessionID
	home     *slab.Chunk[session]
	settings *Settings // those it began with
	current  *sa       // carries it
	machines []*sa     // current and bare ones, oldest first; in alone where it is one
	alone    [1]*sa
	remote   netip.AddrPort // where the last message came from
	began    time.Time

	evidence evidence // of AskAdmit
	admitted bool
	holds    bool // a lease
	over     bool
	// regrouped: the group has changed since the admission.
	regrouped bool
	spread    float32  // 0 to 1: this session's part of every jitter
	standing  standing // zero before it is admitted, unless it came with a ticket
	device    string
	group     string    // of the device
	until     time.Time // end of the admission

	indexed   indexed      // since it was admitted
	assigned  []netip.Addr // that the policy's Roll wants it to have
	addresses []netip.Addr // that it has, in two; they don't change
	two       [2]netip.Addr
	displaced lease.SessionID // to be closed when this one is up
	inherited []heldLease     // of successors that failed; end with this one

	card    card     // zero before it is up; see change
	account *account // from then until it is over

	lastIn time.Time // last IKE message without fault
	lookAt time.Time // when liveness and the like are looked at; before it is up, when it is given up
	// attention that the session gets; nil where it is left alone.
	attention *attention
	hint      *hint // the last one

	closing ike.CloseReason // Close was given to the machine
}

// attention is what look has to remember.
type attention struct {
	waiting   time.Time // since when a packet to the device is known to be unanswered
	probed    time.Time // since then; zero if it was not
	interimAt time.Time // next interim record
}

// hint about another address of the device.
type hint struct {
	at     time.Time
	remote netip.AddrPort
}

// established says whether it came up at some time.
func (s *session) established() bool { return !s.card.established.IsZero() }

// up says whether there is something to keep alive.
func (s *session) up() bool { return s.established() && s.closing == "" && !s.over }

// lease that it holds, or will.
func (s *session) lease() heldLease { return heldLease{device: s.device, session: s.id} }

// add an IKE SA.
func (s *session) add(x *sa) {
	if s.machines == nil {
		s.machines = s.alone[:0]
	}
	s.machines = append(s.machines, x)
}

func (s *session) remove(x *sa) {
	s.machines = slices.DeleteFunc(s.machines, func(y *sa) bool { return x == y })
	if len(s.machines) == 1 {
		s.machines = append(s.alone[:0], s.machines[0])
	}
}

// change the card of a session, which others may be reading.
func (sh *shard) change(s *session, do func(*card)) {
	sh.server.infos.mu.Lock()
	defer sh.server.infos.mu.Unlock()
	do(&s.card)
}

// Child SA of a session.
type Child struct {
	Inbound, Outbound dataplane.SPI
	ESP               string
	LocalTS, RemoteTS []dataplane.Selector
}

// childUp takes a Child SA in, unless the session is over already.
func (sh *shard) childUp(s *session, c Child) {
	if s.over || !s.established() {
		return
	}
	kept := keepChild(&c, s.card.virtualIPs)
	sh.change(s, func(card *card) {
		card.add(kept)
		card.name(func(n *names) { n.esp = c.ESP })
	})
	sh.children[c.Inbound] = s
	sh.server.meter.add(c.Inbound, s.account)
	if s.regrouped {
		sh.applyGroup(s, c.Inbound)
	}
}

func (sh *shard) childDown(s *session, inbound dataplane.SPI) {
	if !s.established() {
		return
	}
	i := slices.IndexFunc(s.card.children, func(c keptChild) bool { return c.inbound == inbound })
	if i < 0 {
		return
	}
	sh.change(s, func(card *card) { card.remove(i) })
	delete(sh.children, inbound)
}

// tell publishes what is known of a session that is up.
func (sh *shard) tell(s *session) {
	if s.up() {
		sh.server.infos.set(s)
	}
}

// moved: the IKE SA and its Child SAs have another path.
func (sh *shard) moved(s *session, o ike.Moved) {
	if !s.established() {
		return
	}
	sh.change(s, func(c *card) {
		c.remote = o.Remote
		c.name(func(n *names) { n.local = o.Local })
	})
	sh.server.stats.moved.Add(1)
	sh.server.notice(Notice{
		Time: time.Now(), Kind: NoticeMoved, Device: s.device, Session: fmt.Sprintf("%016x", uint64(s.id)),
		Addresses: slices.Clone(s.card.virtualIPs), Remote: o.Remote,
	})
	if s.hint != nil && o.Remote == s.hint.remote {
		s.hint.remote = netip.AddrPort{}
		sh.server.stats.event(eventHintConfirmed)
	}
	sh.tell(s)
}
