package ike

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// Rekeying of the IKE SA (RFC 7296 sections 1.3.2 and 2.18). A new machine
// takes over the Child SAs; the old one is left with nothing and waits to be
// deleted by whoever began.
//
//	request:  SA, Ni, KEi
//	response: SA, Nr, KEr
//
// Collisions (section 2.8.2): if both began, there are two new IKE SAs, and
// that one dies which was made with the lowest of the four nonces, by the hand
// of whoever began it. While Child SAs are being made or deleted, the answer is
// TEMPORARY_FAILURE (section 2.25.2).

// supersededFor is how long a peer may take to delete an IKE SA that it
// rekeyed: longer than it repeats a request whose answer was lost (strongSwan:
// 165 s).
const supersededFor = 3 * time.Minute

// rekeyPause is how long an IKE SA lives at least before the peer can rekey it.
const rekeyPause = 5 * time.Second

// rekeying of the IKE SA.
type rekeying struct {
	due time.Time
	// notBefore is when the peer may rekey an IKE SA that itself was rekeyed, so
	// that it can't pile up old ones.
	notBefore time.Time
	open      bool // our exchange is under way
	// computing: the peer has made its new IKE SA, ours is being made.
	computing WorkID
	// rival is what the peer made meanwhile, by an exchange with lowNonce.
	rival    *Machine
	lowNonce []byte
}

func (r *rekeying) forget() { *r = rekeying{} }

// childrenBusy: an exchange of ours about a Child SA is under way.
func (m *Machine) childrenBusy() bool {
	return len(m.reserved) > 0 || slices.ContainsFunc(m.children, func(c *child) bool {
		return c.state == childInstalling || c.state == childRekeying || c.state == childDeleting
	})
}

// ikeOffer is a request to rekey the IKE SA, as far as it could be understood.
type ikeOffer struct {
	suite  ikecrypto.Suite
	number uint8
	spi    uint64
	nonce  []byte
	peer   []byte // its public value
}

func (m *Machine) rekeyIKERequest(now time.Time, o childOffer) {
	const x = ikewire.CreateChildSA
	if m.childrenBusy() || m.rekey.rival != nil || now.Before(m.rekey.notBefore) {
		m.respondNotify(x, ikewire.NotifyTemporaryFailure)
		return
	}
	if o.ke == nil {
		m.respondNotify(x, ikewire.NotifyInvalidSyntax)
		return
	}
	suite, number, spi, ok := chooseRekeySuite(m.cfg.Suites, o.sa, o.ke.Group)
	if !ok {
		m.note(NoteRekeyRefused, "offered "+describe(o.sa))
		m.respondNotify(x, ikewire.NotifyNoProposalChosen)
		return
	}
	if suite.Group != o.ke.Group {
		want := binary.BigEndian.AppendUint16(nil, suite.Group)
		m.respond(x, []ikewire.Payload{notify(ikewire.NotifyInvalidKEPayload, want)})
		return
	}
	offer := ikeOffer{suite: suite, number: number, spi: spi, nonce: o.nonce.Data, peer: o.ke.Data}
	id := m.newID()
	m.ask(id, ReserveIKE{ID: id}, func(now time.Time, in Input) {
		if r, ok := in.(ReservedIKE); ok {
			m.computeRekey(now, offer, r.SPI)
		}
	})
}

func (m *Machine) computeRekey(now time.Time, o ikeOffer, spiR uint64) {
	nonce := make([]byte, nonceLen)
	if !m.random(now, nonce) {
		return
	}
	oldPRF, rand := m.suite.PRF, m.cfg.Rand
	d := clone(m.skD)
	m.work("key exchange", func() any {
		defer clear(d)
		kx, err := o.suite.Allow.NewKeyExchange(o.suite.Group, rand)
		if err != nil {
			return initKeys{err: err}
		}
		shared, err := kx.Shared(o.peer)
		if err != nil {
			return initKeys{err: err}
		}
		defer clear(shared)
		keys, err := ikecrypto.RekeyKeys(o.suite, oldPRF, d, shared, o.nonce, nonce, o.spi, spiR)
		return initKeys{public: kx.Public(), keys: keys, err: err}
	}, func(now time.Time, result any) {
		r := result.(initKeys)
		if r.err != nil {
			m.note(NoteRekeyRefused, r.err.Error())
			m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyInvalidSyntax)
			return
		}
		m.answerRekey(now, o, spiR, nonce, r)
	})
}

func (m *Machine) answerRekey(now time.Time, o ikeOffer, spiR uint64, nonce []byte, r initKeys) {
	var next *Machine
	if !m.childrenBusy() { // one of ours may have begun meanwhile
		next = m.successor(now, o.suite, r.keys, o.spi, spiR, false)
	}
	if next == nil {
		r.keys.Erase()
		m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyTemporaryFailure)
		return
	}
	// Our answer may be lost, and asked for again as long as the peer is patient.
	// Tries of ours before that would find nobody.
	next.request.claimed, next.request.held, next.request.resend = true, true, now.Add(supersededFor)
	answer := chosenSuite(o.suite, o.number)
	answer.SPI = binary.BigEndian.AppendUint64(nil, spiR)
	m.respond(ikewire.CreateChildSA, append([]ikewire.Payload{
		&ikewire.SA{Proposals: []ikewire.Proposal{answer}},
		&ikewire.Nonce{Data: nonce},
		&ikewire.KE{Group: o.suite.Group, Data: r.public},
	}, next.crashPayloads()...))
	m.emit(Spawned{Next: next, InitiatorSPI: next.spiI, ResponderSPI: next.spiR})
	if m.rekey.open {
		// Who goes on is known when our own exchange is over.
		m.rekey.rival, m.rekey.lowNonce = next, lower(o.nonce, nonce)
		return
	}
	m.giveWay(now, next)
}

// giveWay leaves everything to an IKE SA that the peer made. The peer is to
// delete this one.
func (m *Machine) giveWay(now time.Time, next *Machine) {
	m.superseded = true
	m.expires = now.Add(supersededFor)
	m.bequeath(now, next)
}

// successor makes the machine of a new IKE SA between the same parties.
func (m *Machine) successor(now time.Time, suite ikecrypto.Suite, keys *ikecrypto.Keys, spiI, spiR uint64, original bool) *Machine {
	next := &Machine{awake: &awake{
		cfg: m.cfg, newer: m.newer, ini: m.ini, original: original, spiI: spiI, spiR: spiR,
		path: m.path, suite: suite, peer: m.peer, natBetween: m.natBetween,
		assigned: m.assigned, virtual: m.virtual, state: stateEstablished, pace: m.pace, resumable: m.resumable,
	}}
	if !next.useKeys(now, keys) {
		return nil
	}
	keys.Erase()
	for _, o := range next.out {
		m.emit(o) // KeysDerived
	}
	next.out = nil
	next.rekey.due, next.expires = next.start(now, m.cfg.IKELife)
	next.rekey.notBefore = now.Add(rekeyPause)
	return next
}

// bequeath gives the Child SAs to a successor and tells the owner of it. A move
// that isn't over goes on there.
func (m *Machine) bequeath(now time.Time, next *Machine) {
	next.children, m.children = append(m.children, next.children...), nil
	next.departing, m.departing = m.departing, nil
	next.pace = m.pace
	next.inherit(m)
	m.heir, m.carries, next.carries = next, false, true
	m.emit(Rekeyed{Next: next, IKE: next.suite.String()})
	m.lend(next, func() { next.takeUp(now) })
}

// takeUp begins what a successor has to do first.
func (m *Machine) takeUp(now time.Time) {
	if m.original {
		m.tellCrashToken(now)
	}
	for _, c := range m.children {
		switch c.state { // tasks that waited at the one before
		case childDeleting:
			m.deleteChild(now, c)
		case childRekeying:
			c.state, c.rekeyAt = childUp, now
		case childInstalling, childUp, childReplaced:
		}
	}
	hint := m.mobility.hint
	m.mobility.hint = path{}
	switch {
	case hint.remote.IsValid():
		m.askAt(now, hint)
	case m.peer.mobike && m.unsettled():
		m.settle(now)
	default:
		m.seenAt(now, m.path)
	}
}

// rekeyIKE begins.
func (m *Machine) rekeyIKE(now time.Time) {
	m.begin(now, func(now time.Time) {
		if m.state != stateEstablished || m.superseded || m.rekey.open {
			m.finish(now) // or one is under way: its keys are being computed
			return
		}
		if m.childrenBusy() {
			m.rekey.due = now.Add(retryAfter + m.jitter(retryAfter))
			m.finish(now)
			return
		}
		m.rekey.open = true
		id := m.newID()
		m.ask(id, ReserveIKE{ID: id}, func(now time.Time, in Input) {
			if r, ok := in.(ReservedIKE); ok {
				m.prepareRekey(now, ikeAttempt{spi: r.SPI}, m.offered(m.suite.Group))
			}
		})
	})
}

// ikeAttempt is a rekeying of ours that is open.
type ikeAttempt struct {
	retried bool // in another group already
	spi     uint64
	nonce   []byte
	kx      ikecrypto.KeyExchange
	answer  []ikewire.Payload
}

func (m *Machine) prepareRekey(now time.Time, a ikeAttempt, group uint16) {
	a.nonce = make([]byte, nonceLen)
	if !m.random(now, a.nonce) {
		return
	}
	m.keyPair(group, func(now time.Time, kx ikecrypto.KeyExchange) {
		a.kx = kx
		m.offerRekey(now, a)
	})
}

func (m *Machine) offerRekey(now time.Time, a ikeAttempt) {
	offer := offerSuites(m.cfg.Suites)
	for i := range offer.Proposals {
		offer.Proposals[i].SPI = binary.BigEndian.AppendUint64(nil, a.spi)
	}
	m.sendRequest(now, ikewire.CreateChildSA, []ikewire.Payload{
		offer,
		&ikewire.Nonce{Data: a.nonce},
		&ikewire.KE{Group: a.kx.Group(), Data: a.kx.Public()},
	}, func(now time.Time, _ Message, inner []ikewire.Payload) {
		m.rekeyAnswered(now, a, inner)
	})
}

// rekeyFailed leaves the IKE SA as it is; retry says when to try again, the
// hard lifetime is for the rest.
func (m *Machine) rekeyFailed(now time.Time, detail string, retry bool) {
	m.note(NoteRekeyRefused, detail)
	m.rekey.open = false
	if rival := m.rekey.rival; rival != nil && rival.state == stateEstablished {
		m.rekey.rival = nil
		m.giveWay(now, rival)
		return
	}
	if retry {
		m.rekey.due = now.Add(retryAfter + m.jitter(retryAfter))
	}
}

func (m *Machine) rekeyAnswered(now time.Time, a ikeAttempt, inner []ikewire.Payload) {
	if n := errorNotify(inner); n != nil {
		if n.NotifyType == ikewire.NotifyInvalidKEPayload && len(n.Data) == 2 && !a.retried {
			g := binary.BigEndian.Uint16(n.Data)
			if slices.Contains(m.groups(), g) && g != a.kx.Group() {
				m.begin(now, func(now time.Time) { m.prepareRekey(now, ikeAttempt{spi: a.spi, retried: true}, g) })
				return
			}
		}
		m.rekeyFailed(now, n.NotifyType.String(), n.NotifyType == ikewire.NotifyTemporaryFailure)
		return
	}
	answer, ok := readInit(inner)
	if !ok || len(answer.sa.Proposals) != 1 || len(answer.nonce) == 0 {
		m.rekeyFailed(now, "the peer's answer is not one to our offer", false)
		return
	}
	suite, _, spi, ok := chooseRekeySuite(m.cfg.Suites, answer.sa, a.kx.Group())
	if !ok || suite.Group != a.kx.Group() || answer.ke.Group != suite.Group {
		m.rekeyFailed(now, "the peer chose what was not offered", false)
		return
	}
	a.answer = inner
	oldPRF, d := m.suite.PRF, clone(m.skD)
	m.rekey.computing = m.work("key exchange", func() any {
		defer clear(d)
		shared, err := a.kx.Shared(answer.ke.Data)
		if err != nil {
			return initKeys{err: err}
		}
		defer clear(shared)
		keys, err := ikecrypto.RekeyKeys(suite, oldPRF, d, shared, a.nonce, answer.nonce, a.spi, spi)
		return initKeys{keys: keys, err: err}
	}, func(now time.Time, result any) {
		r := result.(initKeys)
		m.rekey.computing = 0
		switch {
		case m.state == stateDeleting, m.state == stateLingering:
			m.endRekeyed(now, suite, r, a.spi, spi)
		case r.err != nil:
			m.rekeyFailed(now, r.err.Error(), false)
		default:
			m.takeRekeyedIKE(now, suite, r.keys, a, spi, answer.nonce)
		}
	})
}

// endRekeyed: the IKE SA was closed while its successor was made. The peer has
// both, and is told to delete both.
func (m *Machine) endRekeyed(now time.Time, suite ikecrypto.Suite, r initKeys, spiI, spiR uint64) {
	if r.err == nil {
		if next := m.successor(now, suite, r.keys, spiI, spiR, true); next != nil {
			next.superseded = true
			m.emit(Spawned{Next: next, InitiatorSPI: spiI, ResponderSPI: spiR, Original: true, Redundant: true})
		}
	}
	m.finish(now)
}

func (m *Machine) takeRekeyedIKE(now time.Time, suite ikecrypto.Suite, keys *ikecrypto.Keys, a ikeAttempt, spiR uint64, nonceR []byte) {
	m.rekey.open = false
	next := m.successor(now, suite, keys, a.spi, spiR, true)
	if next == nil {
		m.rekeyFailed(now, "keys", false)
		return
	}
	next.keepCrashToken(a.answer)
	rival := m.rekey.rival
	m.rekey.rival = nil
	if rival != nil && rival.state == stateEstablished && bytes.Compare(lower(a.nonce, nonceR), m.rekey.lowNonce) < 0 {
		// Ours has the lowest nonce and goes; the peer deletes the old one.
		m.note(NoteRekeyCollision, "ours goes")
		next.superseded = true
		m.emit(Spawned{Next: next, InitiatorSPI: a.spi, ResponderSPI: spiR, Original: true, Redundant: true})
		m.giveWay(now, rival)
		return
	}
	if rival != nil {
		m.note(NoteRekeyCollision, "the peer's goes")
		rival.superseded = true
		rival.expires = now.Add(supersededFor)
	}
	m.superseded = true
	m.emit(Spawned{Next: next, InitiatorSPI: a.spi, ResponderSPI: spiR, Original: true})
	m.bequeath(now, next)
	m.sendDelete(now, CloseRekeyed)
}
