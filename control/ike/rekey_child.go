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

// Rekeying and deletion of a Child SA that we begin (RFC 7296 sections 1.3.3,
// 1.4.1 and 2.8): make before break. The new one is received and sent by
// before the old one is deleted.
//
// Collisions (sections 2.8.1 and 2.25.1): if the peer rekeyed the same Child
// SA meanwhile, of the two new ones that dies which was made with the lowest
// of the four nonces, by the hand of whoever began it.

// rekeyChild begins. A group that the peer named in INVALID_KE_PAYLOAD is used
// from then on; otherwise there is a key exchange only where the peer wanted
// one before, because some peers fail on an unexpected one.
func (m *Machine) rekeyChild(now time.Time, old *child) {
	old.state = childRekeying
	m.begin(now, func(now time.Time) {
		switch {
		case m.byInbound(old.inbound) != old:
			m.finish(now) // gone, or a successor's, which begins itself
			return
		case old.heir != nil:
			old.state = childReplaced // by the peer, while this waited
			m.finish(now)
			return
		case old.state != childRekeying || m.rekey.open || m.superseded || m.isHeir(old):
			m.postpone(now, old)
			m.finish(now)
			return
		}
		m.reserve(func(now time.Time, spi dataplane.SPI, err error) {
			if err != nil {
				m.postpone(now, old)
				m.finish(now)
				return
			}
			m.offerChild(now, old, spi)
		})
	})
}

// isHeir: the peer made it in place of another and hasn't deleted that one. It
// may not have our answer yet, and know nothing of this one.
func (m *Machine) isHeir(c *child) bool {
	return slices.ContainsFunc(m.children, func(old *child) bool { return old.heir == c })
}

// makesChild: a rekeying of ours is under way, or about to be.
func (m *Machine) makesChild() bool {
	return slices.ContainsFunc(m.children, func(c *child) bool { return c.state == childRekeying })
}

// postpone tries again later, if there is still something to rekey.
func (m *Machine) postpone(now time.Time, old *child) {
	if old.state != childRekeying {
		return
	}
	old.state = childUp
	old.rekeyAt = now.Add(retryAfter + m.jitter(retryAfter))
}

// attempt is a rekeying of ours that is open.
type attempt struct {
	old     *child
	inbound dataplane.SPI
	nonce   []byte
	kx      ikecrypto.KeyExchange
}

func (m *Machine) offerChild(now time.Time, old *child, spi dataplane.SPI) {
	a := attempt{old: old, inbound: spi, nonce: make([]byte, nonceLen)}
	if !m.random(now, a.nonce) {
		return
	}
	if old.group == 0 {
		m.sendChildOffer(now, a)
		return
	}
	old.group = m.offered(old.group)
	m.keyPair(old.group, func(now time.Time, kx ikecrypto.KeyExchange) {
		a.kx = kx
		m.sendChildOffer(now, a)
	})
}

func (m *Machine) sendChildOffer(now time.Time, a attempt) {
	offer := &ikewire.SA{}
	for i, alg := range m.cfg.ESP {
		offer.Proposals = append(offer.Proposals, espProposal(espChoice{
			algorithm: alg, sayESN: true, esn: a.old.esn, group: a.old.group,
		}, uint8(i+1), a.inbound))
	}
	payloads := []ikewire.Payload{
		&ikewire.Notify{
			Protocol: ikewire.ProtocolESP, NotifyType: ikewire.NotifyRekeySA,
			SPI: binary.BigEndian.AppendUint32(nil, uint32(a.old.inbound)),
		},
		offer,
		&ikewire.Nonce{Data: a.nonce},
	}
	if a.kx != nil {
		payloads = append(payloads, &ikewire.KE{Group: a.kx.Group(), Data: a.kx.Public()})
	}
	payloads = append(payloads, tsPayload(true, a.old.local), tsPayload(false, a.old.remote))
	m.sendRequest(now, ikewire.CreateChildSA, payloads, func(now time.Time, _ Message, inner []ikewire.Payload) {
		m.childAnswered(now, a, inner)
	})
}

func (m *Machine) childAnswered(now time.Time, a attempt, inner []ikewire.Payload) {
	if n := errorNotify(inner); n != nil {
		m.release(a.inbound)
		m.childRefused(now, a.old, n)
		return
	}
	spec, ke, ok := m.readChild(a, inner)
	if !ok {
		m.release(a.inbound)
		m.note(NoteChildRefused, "the peer's answer is not one to our offer")
		m.giveUp(a.old)
		return
	}
	if a.kx == nil {
		m.takeRekeyed(a, spec)
		return
	}
	kx, peer := a.kx, ke.Data
	m.work("key exchange", func() any {
		shared, err := kx.Shared(peer)
		return kxResult{shared: shared, err: err}
	}, func(_ time.Time, result any) {
		r := result.(kxResult)
		if r.err != nil {
			m.release(a.inbound)
			m.note(NoteChildRefused, r.err.Error())
			m.giveUp(a.old)
			return
		}
		spec.shared = r.shared
		m.takeRekeyed(a, spec)
	})
}

// readChild checks an answer against the offer.
func (m *Machine) readChild(a attempt, inner []ikewire.Payload) (spec childSpec, ke *ikewire.KE, ok bool) {
	sa, hasSA := ikewire.Find[*ikewire.SA](inner)
	nonce, hasNonce := ikewire.Find[*ikewire.Nonce](inner)
	ke, hasKE := ikewire.Find[*ikewire.KE](inner)
	tsi, tsr := selectorsOf(inner)
	if !hasSA || !hasNonce || tsi == nil || tsr == nil || len(sa.Proposals) != 1 {
		return spec, nil, false
	}
	if (a.kx != nil) != hasKE || (hasKE && ke.Group != a.kx.Group()) {
		return spec, nil, false
	}
	choice, ok := m.chooseESP(sa)
	if !ok {
		return spec, nil, false
	}
	spec = childSpec{
		child: child{
			inbound: a.inbound, outbound: choice.peerSPI, algorithm: choice.algorithm, esn: choice.esn, group: a.old.group,
			local: narrow(tsi.Selectors, a.old.local), remote: narrow(tsr.Selectors, a.old.remote),
		},
		nonceI: a.nonce, nonceR: nonce.Data, ours: true,
	}
	return spec, ke, len(spec.local) > 0 && len(spec.remote) > 0
}

// childRefused: the peer didn't rekey.
func (m *Machine) childRefused(now time.Time, old *child, n *ikewire.Notify) {
	m.note(NoteChildRefused, n.NotifyType.String())
	switch n.NotifyType {
	case ikewire.NotifyTemporaryFailure:
		m.postpone(now, old)
	case ikewire.NotifyChildSANotFound:
		// It deleted the Child SA, or is about to.
		if m.byInbound(old.inbound) == old && old.heir == nil {
			m.drop(old)
		}
	case ikewire.NotifyNoProposalChosen:
		// Perhaps it wants a key exchange for each Child SA.
		if old.group == 0 && old.state == childRekeying {
			old.group = m.suite.Group
			m.rekeyChild(now, old)
			return
		}
		m.giveUp(old)
	case ikewire.NotifyInvalidKEPayload:
		if len(n.Data) == 2 {
			g := binary.BigEndian.Uint16(n.Data)
			if slices.Contains(m.groups(), g) && g != old.group && old.state == childRekeying {
				old.group = g
				m.rekeyChild(now, old)
				return
			}
		}
		m.giveUp(old)
	default:
		m.giveUp(old)
	}
}

// giveUp leaves a Child SA to its hard lifetime.
func (m *Machine) giveUp(old *child) {
	if old.state == childRekeying {
		old.state = childUp
		old.rekeyAt = time.Time{}
	}
}

func (m *Machine) takeRekeyed(a attempt, spec childSpec) {
	m.install(spec, func(now time.Time, c *child, err error) {
		if err != nil {
			m.note(NoteChildRefused, err.Error())
			m.postpone(now, a.old)
			return
		}
		m.tellChild(c)
		old := a.old
		contended := old.heir != nil || old.contended
		if contended && bytes.Compare(lower(spec.nonceI, spec.nonceR), old.lowNonce) < 0 {
			// Ours has the lowest nonce: it goes, and the peer deletes the old one.
			// Sending goes on by the old one until then.
			m.note(NoteRekeyCollision, "ours goes")
			old.state = childReplaced
			m.deleteChild(now, c)
			return
		}
		if contended {
			m.note(NoteRekeyCollision, "the peer's goes")
			old.lost = true
		}
		if old.heir != nil {
			old.heir.state, old.heir = childReplaced, nil
		}
		m.emit(Apply{Changes: []dataplane.Change{dataplane.UseOutbound{Inbound: c.inbound}}})
		if m.byInbound(old.inbound) == old {
			m.deleteChild(now, old)
		}
	})
}

// deleteChild tells the peer and removes the Child SA when it has answered.
func (m *Machine) deleteChild(now time.Time, c *child) {
	c.state = childDeleting
	m.begin(now, func(now time.Time) {
		if m.byInbound(c.inbound) != c {
			m.finish(now)
			return
		}
		d := &ikewire.Delete{Protocol: ikewire.ProtocolESP, SPIs: []uint32{uint32(c.inbound)}}
		m.sendRequest(now, ikewire.Informational, []ikewire.Payload{d}, func(now time.Time, _ Message, _ []ikewire.Payload) {
			m.depart(now, c)
		})
	})
}

// childDeleted removes the Child SA whose outbound SPI the peer names, and
// returns ours for the answer; nothing if our own DELETE for it is on its way
// (RFC 7296 section 1.4.1).
func (m *Machine) childDeleted(spi dataplane.SPI) (ours uint32, answer bool) {
	c := m.byOutbound(spi)
	if c == nil {
		return 0, false
	}
	if c.heir != nil && m.byInbound(c.heir.inbound) == c.heir {
		m.emit(Apply{Changes: []dataplane.Change{dataplane.UseOutbound{Inbound: c.heir.inbound}}})
	}
	wasDeleting := c.state == childDeleting
	m.drop(c)
	return uint32(c.inbound), !wasDeleting
}
