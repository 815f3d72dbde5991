package ike

import (
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// An IKE SA that is up and has nothing to do is laid to rest: what only it has
// is written behind each other, keys included, and what many have in common is
// kept once for all. The next input wakes it. Both together take 4 us, so it is
// not done as long as the last answer is kept for a peer that may ask again.

// resting is a Machine that rests; all of it is zero while it is awake.
type resting struct {
	written slab.Piece // secret: erased when it is woken
	common  unique.Handle[common]
	wakeAt  time.Time // its deadline
}

// common is what many machines share.
type common struct {
	cfg          *Config
	assigned     *Settings
	trait        *Trait
	suite        ikecrypto.Suite
	local        netip.AddrPort // of the path
	childLocal   string         // selectors of the newest Child SA, as dataplane.AppendSelectors writes them
	own          string         // of resumable: ID.AppendBody
	auth, client string         // of resumable
}

// flags of a state.
const (
	flagOriginal uint16 = 1 << iota
	flagNATBetween
	flagCarries
	flagSuperseded
	flagFragmentation
	flagMOBIKE
	flagRedirect
	flagMarker
	flagTold
	flagPaced
	flagResumable
	flagChildPath   // the Child SAs have one
	flagOtherPath   // it is not that of the IKE SA
	flagEncapsulate // by that path ESP goes in UDP
)

// Rest lays the machine to rest if it has had nothing to do for keepAnswer, in octets
// of its owner; whatever it is told afterwards wakes it. It says whether it rests.
func (m *Machine) Rest(in *slab.Octets) bool {
	if m.awake == nil {
		return true
	}
	if !m.idle() {
		return false
	}
	at := m.Deadline()
	var c common
	w := stateWriter{b: make([]byte, 0, 1024), base: baseOf(at)}
	w.machine(m.awake, &c)
	m.resting = resting{written: in.Put(w.b), common: unique.Make(c), wakeAt: at}
	clear(w.b[:cap(w.b)])
	clear(m.skD)
	m.seal.Erase()
	m.open.Erase()
	m.awake = nil
	return true
}

// idle: there is nothing but what Rest writes.
func (m *Machine) idle() bool {
	r, mo := &m.request, &m.mobility
	switch {
	case m.state != stateEstablished || m.ini != nil || m.newer != nil || !m.carries || m.heir != nil,
		m.seal == nil || m.handshake != nil || m.failure != nil || m.crashToken != nil || m.closing != "" || m.closeDetail != "",
		len(m.waiting) > 0 || len(m.tasks) > 0 || len(m.reserved) > 0 || len(m.departing) > 0 || len(m.out) > 0,
		m.path.remote.Addr().Zone() != "", // isn't written
		m.in.busy || m.in.fresh || m.in.last != nil || !m.in.forget.IsZero() || m.in.parts != nil || m.in.awaits != nil,
		r.claimed || r.held || r.open || r.to != nil || r.proof != nil || r.parts != nil || r.done != nil || r.hinted != path{},
		m.rekey.open || m.rekey.computing != 0 || m.rekey.rival != nil || m.rekey.lowNonce != nil,
		mo.settling || mo.updateDue || mo.updating || mo.hinting || mo.announced || mo.refused != 0 || mo.mapped != nil || mo.hint != path{}:
		return false
	}
	for _, c := range m.children {
		if c.state != childUp || c.heir != nil || c.lowNonce != nil || c.contended || c.lost {
			return false
		}
	}
	return true
}

// machine writes a machine that is idle.
func (w *stateWriter) machine(m *awake, c *common) {
	*c = common{cfg: m.cfg, assigned: m.assigned, trait: m.peer.trait, suite: m.suite, local: m.path.local}
	at := m.mobility.children
	own := dataplane.Path{Local: m.path.local, Remote: m.path.remote, Encapsulation: at.Encapsulation}
	var flags uint16
	for _, f := range [...]struct {
		on   bool
		flag uint16
	}{
		{m.original, flagOriginal},
		{m.natBetween, flagNATBetween},
		{m.carries, flagCarries},
		{m.superseded, flagSuperseded},
		{m.peer.fragmentation, flagFragmentation},
		{m.peer.mobike, flagMOBIKE},
		{m.peer.redirect, flagRedirect},
		{m.path.marker, flagMarker},
		{m.mobility.told, flagTold},
		{m.pace.began, flagPaced},
		{m.resumable != nil, flagResumable},
		{at.Remote.IsValid(), flagChildPath},
		{at.Remote.IsValid() && at != own, flagOtherPath},
		{at.Encapsulation == dataplane.EncapsulationUDP, flagEncapsulate},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	w.u16(flags)
	w.u64(m.spiI)
	w.u64(m.spiR)
	w.uint(uint64(m.in.next))
	w.uint(uint64(m.request.id))
	w.uint(uint64(m.lastID))
	w.addrPort(m.path.remote)
	if flags&flagOtherPath != 0 {
		w.addrPort(at.Local)
		w.addrPort(at.Remote)
	}
	w.time(m.expires)
	w.time(m.rekey.due)
	w.time(m.rekey.notBefore)
	if m.pace.began {
		w.float(m.pace.left)
		w.time(m.pace.at)
	}
	w.addresses(m.virtual)
	w.addresses(m.mobility.peer)
	w.addresses(m.mobility.own)
	if r := m.resumable; r != nil {
		w.octets(r.peer.AppendBody(nil))
		c.own, c.auth, c.client = string(r.own.AppendBody(nil)), r.auth, r.client
	}
	if n := len(m.children); n > 0 {
		c.childLocal = string(dataplane.AppendSelectors(nil, m.children[n-1].local))
	}
	w.uint(uint64(len(m.children)))
	for _, child := range m.children {
		w.child(child, m.virtual, c)
	}
	// Keys come last: nothing that has them is left behind by append.
	w.b = slices.Grow(w.b, maxKeysWritten)
	w.octets(m.skD)
	w.b = m.seal.AppendState(w.b)
	w.b = m.open.AppendState(w.b)
}

// maxKeysWritten is more than SK_d and two protectors take, in octets.
const maxKeysWritten = 512

// child writes a Child SA. Selectors that go without saying are not written: 0 is
// in place of their length.
func (w *stateWriter) child(c *child, virtual []netip.Addr, shared *common) {
	w.u32(uint32(c.inbound))
	w.u32(uint32(c.outbound))
	w.u16(c.algorithm.Encryption)
	w.u16(c.algorithm.KeyBits)
	w.u16(c.algorithm.Integrity)
	w.bool(c.esn)
	w.u16(c.group)
	w.time(c.rekeyAt)
	w.time(c.expires)
	local, remote := dataplane.AppendSelectors(nil, c.local), dataplane.AppendSelectors(nil, c.remote)
	if string(local) == shared.childLocal {
		local = nil
	}
	if string(remote) == string(dataplane.AppendSelectors(nil, hosts(virtual))) {
		remote = nil
	}
	w.octets(local)
	w.octets(remote)
}

// wake makes a machine that rests what it was.
func (m *Machine) wake() {
	if m.awake != nil {
		return
	}
	c := m.common.Value()
	r := stateReader{b: m.written.Octets(), base: baseOf(m.wakeAt)}
	a := &awake{cfg: c.cfg, assigned: c.assigned, suite: c.suite, state: stateEstablished}
	r.machine(a, &c)
	m.written.Erase()
	m.awake, m.resting = a, resting{}
}

func (r *stateReader) machine(m *awake, c *common) {
	flags := r.u16()
	on := func(f uint16) bool { return flags&f != 0 }
	m.original, m.natBetween, m.carries, m.superseded = on(flagOriginal), on(flagNATBetween), on(flagCarries), on(flagSuperseded)
	m.peer = peer{fragmentation: on(flagFragmentation), mobike: on(flagMOBIKE), redirect: on(flagRedirect), trait: c.trait}
	m.spiI, m.spiR = r.u64(), r.u64()
	m.in.next, m.request.id, m.lastID = uint32(r.uint()), uint32(r.uint()), WorkID(r.uint())
	m.path = path{local: c.local, remote: r.addrPort(), marker: on(flagMarker)}
	m.mobility.told = on(flagTold)
	if on(flagChildPath) {
		at := dataplane.Path{Local: m.path.local, Remote: m.path.remote, Encapsulation: dataplane.EncapsulationNone}
		if on(flagOtherPath) {
			at.Local, at.Remote = r.addrPort(), r.addrPort()
		}
		if on(flagEncapsulate) {
			at.Encapsulation = dataplane.EncapsulationUDP
		}
		m.mobility.children = at
	}
	m.expires, m.rekey.due, m.rekey.notBefore = r.time(), r.time(), r.time()
	if m.pace.began = on(flagPaced); m.pace.began {
		m.pace.left, m.pace.at = r.float(), r.time()
	}
	m.virtual, m.mobility.peer, m.mobility.own = r.addresses(), r.addresses(), r.addresses()
	if on(flagResumable) {
		m.resumable = &resumable{
			peer: restoredID(true, r.octets()), own: restoredID(false, []byte(c.own)), auth: c.auth, client: c.client,
		}
	}
	m.children = make([]*child, r.uint())
	for i := range m.children {
		m.children[i] = r.child(m.virtual, c)
	}
	m.skD = clone(r.octets())
	m.seal, m.open = r.protector(c), r.protector(c)
}

func (r *stateReader) child(virtual []netip.Addr, shared *common) *child {
	c := &child{
		inbound: dataplane.SPI(r.u32()), outbound: dataplane.SPI(r.u32()),
		algorithm: dataplane.Algorithm{Encryption: r.u16(), KeyBits: r.u16(), Integrity: r.u16()},
		esn:       r.bool(), group: r.u16(), state: childUp, rekeyAt: r.time(), expires: r.time(),
	}
	c.local = dataplane.ReadSelectors(r.octets())
	if c.local == nil {
		c.local = dataplane.ReadSelectors([]byte(shared.childLocal))
	}
	c.remote = dataplane.ReadSelectors(r.octets())
	if c.remote == nil {
		c.remote = hosts(virtual)
	}
	return c
}

func (r *stateReader) protector(c *common) ikecrypto.Protector {
	p, rest, err := ikecrypto.Restore(c.suite, r.b, c.cfg.Rand)
	if err != nil {
		panic("ike: keys that were good are not: " + err.Error())
	}
	r.b = rest
	return p
}

// never stands for the zero time among those that are written, which are nanoseconds
// since a base.
const never = -1 << 63

// baseOf times of a machine that wakes at so much: that time, because it has a
// monotonic reading, which they are to keep.
func baseOf(wakeAt time.Time) time.Time {
	if wakeAt.IsZero() {
		return time.Unix(0, 0)
	}
	return wakeAt
}
