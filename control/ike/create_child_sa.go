package ike

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// CREATE_CHILD_SA that the peer began (RFC 7296 section 1.3): another Child
// SA, or one in place of another.
//
//	request:  [N(REKEY_SA)], SA, Ni, [KEi], TSi, TSr
//	response: SA, Nr, [KEr], TSi, TSr

// childOffer is a request.
type childOffer struct {
	sa       *ikewire.SA
	nonce    *ikewire.Nonce
	ke       *ikewire.KE
	tsi, tsr *ikewire.TS
	old      *child // to be replaced
}

func (m *Machine) createChildRequest(now time.Time, inner []ikewire.Payload) {
	const x = ikewire.CreateChildSA
	o := childOffer{}
	o.sa, _ = ikewire.Find[*ikewire.SA](inner)
	o.nonce, _ = ikewire.Find[*ikewire.Nonce](inner)
	o.ke, _ = ikewire.Find[*ikewire.KE](inner)
	o.tsi, o.tsr = selectorsOf(inner)
	if o.sa == nil || o.nonce == nil || m.superseded {
		m.respondNotify(x, ikewire.NotifyInvalidSyntax)
		return
	}
	if o.sa.Proposals[0].Protocol == ikewire.ProtocolIKE {
		m.rekeyIKERequest(now, o)
		return
	}
	if o.tsi == nil || o.tsr == nil {
		m.respondNotify(x, ikewire.NotifyInvalidSyntax)
		return
	}
	if n := ikewire.FindNotify(inner, ikewire.NotifyRekeySA); n != nil {
		if !m.findRekeyed(n, &o) {
			return
		}
	}
	switch {
	case m.rekey.open, len(m.children) >= 2*m.cfg.MaxChildren, !m.pace.allow(now, 2*m.cfg.MaxChildren) && !o.crosses():
		// A peer that rekeys has to delete what it replaced.
		m.respondNotify(x, ikewire.NotifyTemporaryFailure)
	case o.old == nil && len(m.children) >= m.cfg.MaxChildren:
		m.note(NoteNoAdditionalSAs, "")
		m.respondNotify(x, ikewire.NotifyNoAdditionalSAs)
	default:
		// USE_TRANSPORT_MODE, left out of the answer, is declined (RFC 7296
		// section 1.3.1).
		m.acceptChild(o)
	}
}

// crosses: both sides rekey the same Child SA. The first such request is
// answered as usual (RFC 7296 section 2.25.1), however many came before: a
// refusal that arrives between our own request and our DELETE has strongSwan
// (seen in 5.9.8) forget that the Child SA was replaced, and send by none (its
// issue 1896).
func (o *childOffer) crosses() bool {
	return o.old != nil && o.old.state == childRekeying && o.old.heir == nil && !o.old.contended
}

// findRekeyed finds the Child SA that the peer means: it names the SPI by
// which it is sent to, our outbound one.
func (m *Machine) findRekeyed(n *ikewire.Notify, o *childOffer) bool {
	if n.Protocol == ikewire.ProtocolESP && len(n.SPI) == 4 {
		o.old = m.byOutbound(dataplane.SPI(binary.BigEndian.Uint32(n.SPI)))
	}
	switch {
	case o.old == nil && m.makesChild(), o.old != nil && o.old.state == childInstalling:
		// Made in answer to a request of ours: we don't have it yet.
		m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyTemporaryFailure)
	case o.old == nil:
		m.respond(ikewire.CreateChildSA, []ikewire.Payload{&ikewire.Notify{
			Protocol: n.Protocol, SPI: n.SPI, NotifyType: ikewire.NotifyChildSANotFound,
		}})
	case o.old.state == childDeleting && !m.rekey.open:
		m.in.awaits = o.old
	case o.old.state == childDeleting || o.old.state == childReplaced:
		m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyTemporaryFailure)
	default:
		return true
	}
	return false
}

func (m *Machine) acceptChild(o childOffer) {
	const x = ikewire.CreateChildSA
	choice, verdict := m.chooseChild(o.sa, o.ke)
	switch verdict {
	case keMismatch:
		m.respond(x, []ikewire.Payload{notify(ikewire.NotifyInvalidKEPayload, binary.BigEndian.AppendUint16(nil, choice.group))})
		return
	case noChoice:
		m.note(NoteChildRefused, "offered "+describe(o.sa))
		m.respondNotify(x, ikewire.NotifyNoProposalChosen)
		return
	case chosen:
	}
	localAllowed, remoteAllowed := m.assigned.allowed(familiesOf(m.virtual)), hosts(m.virtual)
	if o.old != nil {
		localAllowed, remoteAllowed = o.old.local, o.old.remote
	}
	local, remote := narrow(o.tsr.Selectors, localAllowed), narrow(o.tsi.Selectors, remoteAllowed)
	if len(local) == 0 || len(remote) == 0 {
		m.note(NoteChildRefused, "traffic selectors")
		m.respondNotify(x, ikewire.NotifyTSUnacceptable)
		return
	}
	spec := childSpec{
		child: child{
			outbound: choice.peerSPI, algorithm: choice.algorithm, esn: choice.esn, group: choice.group,
			local: local, remote: remote,
		},
		nonceI: o.nonce.Data, nonceR: make([]byte, nonceLen), activate: o.old == nil,
	}
	if _, err := m.cfg.Rand.Read(spec.nonceR); err != nil {
		m.respondNotify(x, ikewire.NotifyTemporaryFailure)
		return
	}
	if o.old != nil {
		o.old.contended, o.old.lowNonce = true, lower(spec.nonceI, spec.nonceR)
	}
	m.childKeyExchange(o, choice, spec)
}

// kxResult is our public value and what was agreed with the peer's.
type kxResult struct {
	public, shared []byte
	err            error
}

func exchangeWith(allow ikecrypto.Legacy, group uint16, m *Machine, peer []byte) func() any {
	rand := m.cfg.Rand
	return func() any {
		kx, err := allow.NewKeyExchange(group, rand)
		if err != nil {
			return kxResult{err: err}
		}
		shared, err := kx.Shared(peer)
		return kxResult{public: kx.Public(), shared: shared, err: err}
	}
}

func (m *Machine) childKeyExchange(o childOffer, choice espChoice, spec childSpec) {
	if choice.group == 0 {
		m.installAccepted(o, choice, spec, nil)
		return
	}
	m.work("key exchange", exchangeWith(m.suite.Allow, choice.group, m, o.ke.Data), func(_ time.Time, result any) {
		r := result.(kxResult)
		if r.err != nil {
			o.uncontend()
			m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyInvalidSyntax)
			return
		}
		spec.shared = r.shared
		m.installAccepted(o, choice, spec, r.public)
	})
}

func (m *Machine) installAccepted(o childOffer, choice espChoice, spec childSpec, public []byte) {
	m.reserve(func(_ time.Time, spi dataplane.SPI, err error) {
		if err != nil {
			clear(spec.shared)
			o.uncontend()
			m.note(NoteNoAdditionalSAs, err.Error())
			m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyNoAdditionalSAs)
			return
		}
		spec.inbound = spi
		m.answerChild(o, choice, spec, public)
	})
}

func (m *Machine) answerChild(o childOffer, choice espChoice, spec childSpec, public []byte) {
	m.install(spec, func(_ time.Time, c *child, err error) {
		if err != nil {
			o.uncontend()
			m.note(NoteChildRefused, err.Error())
			m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyTemporaryFailure)
			return
		}
		if o.old != nil {
			m.supersede(o.old, c)
		}
		payloads := []ikewire.Payload{
			&ikewire.SA{Proposals: []ikewire.Proposal{espProposal(choice, choice.number, c.inbound)}},
			&ikewire.Nonce{Data: spec.nonceR},
		}
		if public != nil {
			payloads = append(payloads, &ikewire.KE{Group: choice.group, Data: public})
		}
		m.respond(ikewire.CreateChildSA, append(payloads, tsPayload(true, c.remote), tsPayload(false, c.local)))
		m.tellChild(c)
	})
}

// supersede notes that the peer replaced a Child SA, and by what nonces, in
// case we are doing the same.
func (m *Machine) supersede(old, heir *child) {
	old.contended = false
	if old.lost {
		heir.state = childReplaced
		return
	}
	old.heir = heir
	if old.state == childUp {
		old.state = childReplaced
	}
}

// uncontend: the peer's request to rekey came to nothing.
func (o *childOffer) uncontend() {
	if o.old != nil {
		o.old.contended = false
		if o.old.state == childReplaced {
			o.old.state = childUp
		}
	}
}

func lower(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}

type verdict uint8

const (
	noChoice verdict = iota
	keMismatch
	chosen
)

// chooseChild is chooseESP with a key exchange of the Child SA's own, which
// is the peer's wish: where it offers both ways, its KE payload decides.
func (m *Machine) chooseChild(sa *ikewire.SA, ke *ikewire.KE) (espChoice, verdict) {
	best := espChoice{}
	found := noChoice
	for _, a := range m.cfg.ESP {
		for i := range sa.Proposals {
			p := &sa.Proposals[i]
			c, ok := m.allowsESP(p, a)
			if !ok {
				continue
			}
			if ke != nil && slices.Contains(m.groups(), ke.Group) && offers(p, ikewire.TransformKE, ke.Group, 0) {
				c.group = ke.Group
				return c, chosen
			}
			if !offersType(p, ikewire.TransformKE) || offers(p, ikewire.TransformKE, ikewire.GroupNone, 0) {
				return c, chosen
			}
			for _, g := range m.groups() {
				if found == noChoice && offers(p, ikewire.TransformKE, g, 0) {
					best, found = c, keMismatch
					best.group = g
				}
			}
		}
	}
	return best, found
}

// offered is a group, or another one if the configuration has given it up.
func (m *Machine) offered(group uint16) uint16 {
	if groups := m.groups(); !slices.Contains(groups, group) {
		return groups[0]
	}
	return group
}

// groups that the configuration allows, in its order.
func (m *Machine) groups() []uint16 {
	var groups []uint16
	for _, s := range m.cfg.Suites {
		if !slices.Contains(groups, s.Group) {
			groups = append(groups, s.Group)
		}
	}
	return groups
}
