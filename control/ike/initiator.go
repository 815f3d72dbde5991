package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// The initiator's side of IKE_SA_INIT and IKE_AUTH:
//
//	Work "key exchange" -> IKE_SA_INIT (again after COOKIE or
//	INVALID_KE_PAYLOAD) -> Work "key exchange" -> Reserve -> Work "sign" ->
//	IKE_AUTH -> AskAdmit -> Work "verify" -> Apply

// maxInitRetries after COOKIE or INVALID_KE_PAYLOAD, so that forged answers
// can't keep an initiator busy.
const maxInitRetries = 5

// ephemeral is the result of making a key pair.
type ephemeral struct {
	kx  ikecrypto.KeyExchange
	err error
}

func (m *Machine) startInit(now time.Time) {
	m.state = stateInit
	m.expires = now.Add(m.cfg.HalfOpen)
	m.handshake.nonceI = make([]byte, nonceLen)
	if m.random(now, m.handshake.nonceI) {
		m.newExchange(now, m.cfg.Suites[0].Group)
	}
}

func (m *Machine) newExchange(now time.Time, group uint16) {
	if m.ini.KeyPair != nil {
		if kx := m.ini.KeyPair(group); kx != nil {
			m.handshake.exchange = kx
			m.sendInit(now)
			return
		}
	}
	m.keyPair(group, func(now time.Time, kx ikecrypto.KeyExchange) {
		m.handshake.exchange = kx
		m.sendInit(now)
	})
}

// keyPair makes one for a request of ours. The IKE SA ends if it can't.
func (m *Machine) keyPair(group uint16, then func(now time.Time, kx ikecrypto.KeyExchange)) {
	rand, allow := m.cfg.Rand, m.suiteAllow(group)
	m.work("key exchange", func() any {
		kx, err := allow.NewKeyExchange(group, rand)
		return ephemeral{kx, err}
	}, func(now time.Time, result any) {
		e := result.(ephemeral)
		if e.err != nil {
			m.closed(now, CloseInternal, e.err.Error(), false)
			return
		}
		then(now, e.kx)
	})
}

func (m *Machine) sendInit(now time.Time) {
	hs := m.handshake
	var payloads []ikewire.Payload
	if hs.cookie != nil {
		payloads = append(payloads, notify(ikewire.NotifyCookie, hs.cookie))
	}
	payloads = append(payloads,
		offerSuites(m.cfg.Suites),
		&ikewire.KE{Group: hs.exchange.Group(), Data: hs.exchange.Public()},
		&ikewire.Nonce{Data: hs.nonceI})
	payloads = append(payloads, m.natPayloads(0, m.path)...)
	payloads = append(payloads, m.announce()...)
	for _, id := range m.ini.VendorIDs {
		payloads = append(payloads, &ikewire.Vendor{Data: id})
	}
	if m.sendRequest(now, ikewire.IKESAInit, payloads, nil) {
		hs.initReq = m.request.raw[0]
	}
}

// suiteAllow is the permission of the suites with a group.
func (m *Machine) suiteAllow(group uint16) (allow ikecrypto.Legacy) {
	for _, s := range m.cfg.Suites {
		if s.Group == group {
			allow = allow.Union(s.Allow)
		}
	}
	return allow
}

// initResponse takes an answer that nothing authenticates yet: whatever makes
// no sense is passed over, the real one may still come.
func (m *Machine) initResponse(now time.Time, in Message, msg *ikewire.Message) {
	if m.state != stateInit || len(m.waiting) > 0 {
		m.note(NoteUnexpected, msg.Exchange.String())
		return
	}
	if c := ikewire.FindNotify(msg.Payloads, ikewire.NotifyCookie); c != nil {
		m.cookieWanted(now, c)
		return
	}
	if n := errorNotify(msg.Payloads); n != nil {
		m.initRefused(now, n)
		return
	}
	if n := ikewire.FindNotify(msg.Payloads, ikewire.NotifyRedirect); n != nil {
		// The nonce shows that it answers our request (RFC 5685 section 3).
		if to, nonce, ok := redirectedTo(n.Data); ok && bytes.Equal(nonce, m.handshake.nonceI) {
			m.closed(now, CloseRedirected, to, false)
		}
		return
	}
	answer, ok := readInit(msg.Payloads)
	if !ok || msg.ResponderSPI == 0 || len(answer.sa.Proposals) != 1 {
		m.note(NoteMalformed, "IKE_SA_INIT response")
		return
	}
	hs := m.handshake
	suite, _, ok := chooseSuite(m.cfg.Suites, answer.sa, hs.exchange.Group())
	if !ok || suite.Group != hs.exchange.Group() || answer.ke.Group != suite.Group {
		m.closed(now, CloseNoProposal, "the peer chose what was not offered: "+describe(answer.sa), false)
		return
	}
	_, between := natDetect(msg.Payloads, m.spiI, msg.ResponderSPI, m.path)
	m.mobility.mapped = mappedOf(msg.Payloads)
	m.request = request{claimed: true, id: m.request.id + 1}
	m.suite, m.spiR = suite, msg.ResponderSPI
	hs.initResp, hs.nonceR = in.Data, answer.nonce
	m.readPeer(msg.Payloads)
	m.natBetween = between || m.cfg.ForceUDP
	if m.natBetween || m.cfg.MOBIKE {
		// RFC 4555 section 3.3: MOBIKE uses port 4500 from here on.
		m.path = path{local: m.ini.LocalNATT, remote: m.ini.RemoteNATT, marker: true}
	}
	m.agree(answer.ke.Data)
}

// again repeats IKE_SA_INIT with something changed; its message ID stays 0
// (RFC 7296 section 2.6).
func (m *Machine) again() bool {
	m.handshake.retries++
	m.request = request{}
	return m.handshake.retries <= maxInitRetries
}

func (m *Machine) cookieWanted(now time.Time, c *ikewire.Notify) {
	if len(c.Data) == 0 || len(c.Data) > 64 || !m.again() {
		m.note(NoteMalformed, "cookie")
		return
	}
	m.note(NoteCookie, "")
	m.handshake.cookie = c.Data
	m.sendFirst(now)
}

func (m *Machine) initRefused(now time.Time, n *ikewire.Notify) {
	if n.NotifyType == ikewire.NotifyInvalidKEPayload && len(n.Data) == 2 {
		group := binary.BigEndian.Uint16(n.Data)
		known := slices.ContainsFunc(m.cfg.Suites, func(s ikecrypto.Suite) bool { return s.Group == group })
		if known && group != m.handshake.exchange.Group() && m.again() {
			m.newExchange(now, group)
			return
		}
	}
	m.closed(now, ClosePeerRefused, n.NotifyType.String(), false)
}

func (m *Machine) agree(peer []byte) {
	hs := m.handshake
	kx, suite, nonceI, nonceR, spiI, spiR := hs.exchange, m.suite, hs.nonceI, hs.nonceR, m.spiI, m.spiR
	m.work("key exchange", func() any {
		shared, err := kx.Shared(peer)
		if err != nil {
			return initKeys{err: err}
		}
		defer clear(shared)
		keys, err := ikecrypto.DeriveKeys(suite, shared, nonceI, nonceR, spiI, spiR)
		return initKeys{keys: keys, err: err}
	}, func(now time.Time, result any) {
		r := result.(initKeys)
		if r.err != nil {
			m.closed(now, CloseMalformed, "key exchange: "+r.err.Error(), false)
			return
		}
		m.handshake.keys = r.keys
		if !m.useKeys(now, r.keys) {
			return
		}
		m.state = stateAuth
		m.reserve(m.sendAuth)
	})
}

func (m *Machine) sendAuth(now time.Time, spi dataplane.SPI, err error) {
	if err != nil {
		m.closed(now, CloseInternal, "data plane: "+err.Error(), false)
		return
	}
	m.sign(now, func(now time.Time, s signature) {
		if s.err != nil {
			m.closed(now, CloseInternal, "own signature: "+s.err.Error(), false)
			return
		}
		m.sendRequest(now, ikewire.IKEAuth, m.authPayloads(s, spi), func(now time.Time, _ Message, inner []ikewire.Payload) {
			m.authResponse(now, inner, spi)
		})
	})
}

func (m *Machine) authPayloads(s signature, spi dataplane.SPI) []ikewire.Payload {
	payloads := m.identify(s)
	if !m.resuming() {
		payloads = append(payloads, m.certRequest()...)
	}
	if id := m.ini.RemoteID; id != nil {
		idr := *id
		idr.Initiator = false
		payloads = append(payloads, &idr)
	}
	f := families{ipv4: true, ipv6: m.ini.IPv6}
	payloads = append(payloads, askConfig(m.ini.Want, m.ini.IPv6), notify(ikewire.NotifyInitialContact, nil))
	if m.cfg.MOBIKE {
		payloads = append(payloads, notify(ikewire.NotifyMOBIKESupported, nil))
		payloads = append(payloads, m.addressPayloads(m.path.local.Addr(), false)...)
		payloads = append(payloads, m.noNATPayload(m.path)...)
	}
	if m.cfg.Tickets {
		payloads = append(payloads, notify(ikewire.NotifyTicketRequest, nil))
	}
	if m.ini.NoChild {
		return payloads
	}
	offer := &ikewire.SA{}
	for i, a := range m.cfg.ESP {
		offer.Proposals = append(offer.Proposals, espProposal(espChoice{algorithm: a, sayESN: true}, uint8(i+1), spi))
		if m.cfg.ESN {
			p := &offer.Proposals[len(offer.Proposals)-1]
			p.Transforms = append(p.Transforms, ikewire.Transform{Type: ikewire.TransformESN, ID: ikewire.ESNYes})
		}
	}
	return append(payloads, offer, tsPayload(true, networks(nil, f)), tsPayload(false, networks(m.ini.Networks, f)))
}

func (m *Machine) authResponse(now time.Time, inner []ikewire.Payload, spi dataplane.SPI) {
	a := &authPayloads{id: identityOf(inner, false), chain: chainOf(inner)}
	a.auth, _ = ikewire.Find[*ikewire.Auth](inner)
	a.sa, _ = ikewire.Find[*ikewire.SA](inner)
	a.tsi, a.tsr = selectorsOf(inner)
	if n := errorNotify(inner); n != nil && a.auth == nil {
		m.closed(now, ClosePeerRefused, n.NotifyType.String(), false)
		return
	}
	if a.id == nil || a.auth == nil {
		m.closed(now, CloseMalformed, "IKE_AUTH response without IDr or AUTH", false)
		return
	}
	m.handshake.auth = a
	if m.resuming() {
		m.resumedAuthResponse(now, inner, spi)
		return
	}
	m.ask(handshakeQuestion, AskAdmit{ID: a.id, Chain: a.chain}, func(now time.Time, in Input) {
		switch in := in.(type) {
		case Refused:
			m.closed(now, CloseRefused, in.Reason, false)
		case Admitted:
			m.handshake.admitted = in
			m.verify(in.PublicKey, func(now time.Time, result any) {
				if err, bad := result.(error); bad {
					m.closed(now, CloseAuthFailed, err.Error(), false)
					return
				}
				m.takeChild(now, inner, spi)
			})
		}
	})
}

// takeChild installs what an authenticated responder granted.
func (m *Machine) takeChild(now time.Time, inner []ikewire.Payload, spi dataplane.SPI) {
	a := m.handshake.auth
	m.peer.mobike = m.cfg.MOBIKE && ikewire.FindNotify(inner, ikewire.NotifyMOBIKESupported) != nil
	m.keepCrashToken(inner)
	if m.peer.mobike {
		m.takeAddresses(inner)
	}
	if n := ikewire.FindNotify(inner, ikewire.NotifyRedirect); n != nil {
		to, _, _ := redirectedTo(n.Data)
		m.closed(now, CloseRedirected, to, false)
		return
	}
	if n := errorNotify(inner); n != nil {
		// The IKE SA is up, the Child SA isn't: nothing to keep it for.
		m.note(NoteChildRefused, n.NotifyType.String())
		m.endHandshake()
		m.sendDelete(now, ClosePeerRefused)
		return
	}
	m.keepResumable()
	m.handshake.ticket = ikewire.FindNotify(inner, ikewire.NotifyTicketLTOpaque)
	cp, _ := ikewire.Find[*ikewire.CP](inner)
	addresses, settings := assigned(cp)
	m.virtual, m.assigned = addresses, &settings
	if m.ini.NoChild {
		m.release(spi)
		m.established(now, nil)
		return
	}
	if a.sa == nil || a.tsi == nil || a.tsr == nil || len(m.virtual) == 0 {
		m.closed(now, CloseMalformed, "IKE_AUTH response without SA, TS or an address", false)
		return
	}
	choice, ok := m.chooseESP(a.sa)
	local := narrow(a.tsi.Selectors, hosts(m.virtual))
	remote := narrow(a.tsr.Selectors, networks(m.ini.Networks, familiesOf(m.virtual)))
	if !ok || len(local) == 0 || len(remote) == 0 {
		m.closed(now, CloseNoChild, fmt.Sprintf("the peer chose what was not offered: %s", describe(a.sa)), false)
		return
	}
	hs := m.handshake
	m.install(childSpec{
		child: child{
			inbound: spi, outbound: choice.peerSPI, algorithm: choice.algorithm, esn: choice.esn,
			local: local, remote: remote,
		},
		nonceI: hs.nonceI, nonceR: hs.nonceR, ours: true, activate: true,
	}, func(now time.Time, c *child, err error) {
		if err != nil {
			m.closed(now, CloseInternal, "data plane: "+err.Error(), false)
			return
		}
		m.established(now, c)
	})
}
