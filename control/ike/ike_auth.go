package ike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// IKE_AUTH, responder (RFC 7296 section 1.2). One request takes these steps;
// each but the first waits for an answer:
//
//	payloads complete? -> AskAdmit -> Work "verify" -> AskLease -> Reserve
//	-> Work "sign" -> Apply -> response
//
// Nobody learns why he was refused: AUTHENTICATION_FAILED and nothing else.

// authPayloads of an IKE_AUTH message.
type authPayloads struct {
	id       *ikewire.ID
	auth     *ikewire.Auth
	sa       *ikewire.SA
	tsi, tsr *ikewire.TS
	chain    [][]byte
	config   configRequest
	choice   espChoice
	settings Settings
	addrs    []netip.Addr
	inbound  dataplane.SPI
}

func (m *Machine) authRequest(now time.Time, inner []ikewire.Payload) {
	a := &authPayloads{id: identityOf(inner, true), chain: chainOf(inner)}
	a.auth, _ = ikewire.Find[*ikewire.Auth](inner)
	a.sa, _ = ikewire.Find[*ikewire.SA](inner)
	a.tsi, a.tsr = selectorsOf(inner)
	cp, _ := ikewire.Find[*ikewire.CP](inner)
	a.config = parseConfigRequest(cp)
	m.handshake.auth = a
	switch {
	case a.id == nil:
		m.invalidSyntax(now, ikewire.IKEAuth)
	case a.auth == nil:
		m.refuse(now, CloseAuthMethod, "no AUTH payload: the peer wants EAP, which is not offered")
	case a.sa == nil || a.tsi == nil || a.tsr == nil:
		m.invalidSyntax(now, ikewire.IKEAuth)
	default:
		m.ask(AskAdmit{ID: a.id, Chain: a.chain}, m.admitAnswered)
	}
}

// refuse ends the exchange for a peer that is not who it should be.
func (m *Machine) refuse(now time.Time, reason CloseReason, detail string) {
	m.respond(ikewire.IKEAuth, []ikewire.Payload{notify(ikewire.NotifyAuthenticationFailed, nil)})
	m.closed(now, reason, detail, true)
}

func (m *Machine) admitAnswered(now time.Time, in Input) {
	switch in := in.(type) {
	case Refused:
		m.refuse(now, CloseRefused, in.Reason)
	case Admitted:
		m.handshake.peer = in
		m.verify(in.PublicKey, m.verified)
	}
}

// verify checks the peer's AUTH payload over its IKE_SA_INIT message.
func (m *Machine) verify(key crypto.PublicKey, then func(time.Time, any)) {
	hs := m.handshake
	a := hs.auth
	message, nonce, skP := hs.initReq, hs.nonceR, m.keys.Pi
	if m.initiator() {
		message, nonce, skP = hs.initResp, hs.nonceI, m.keys.Pr
	}
	hs.peerMethod = a.auth.Method.String()
	// The octets are made here, because SK_p may be erased while Do runs.
	octets := ikecrypto.SignedOctets(m.suite.PRF, message, nonce, skP, a.id)
	method, data := a.auth.Method, a.auth.Data
	m.work("verify", func() any {
		return ikecrypto.Verify(key, method, data, octets)
	}, then)
}

func (m *Machine) verified(now time.Time, result any) {
	if err, bad := result.(error); bad {
		reason := CloseAuthFailed
		if errors.Is(err, ikecrypto.ErrAuthMethod) {
			reason = CloseAuthMethod
		}
		m.refuse(now, reason, err.Error())
		return
	}
	hs := m.handshake
	choice, ok := chooseESP(m.cfg.ESP, hs.auth.sa)
	if !ok {
		m.withoutChild(now, ikewire.NotifyNoProposalChosen, CloseNoProposal, "ESP: offered "+describe(hs.auth.sa))
		return
	}
	hs.auth.choice = choice
	if !hs.auth.config.ipv4 {
		m.withoutChild(now, ikewire.NotifyFailedCPRequired, CloseNoAddress, "the peer asks for no address")
		return
	}
	m.ask(AskLease{
		Device: hs.peer.Device, Group: hs.peer.Group, IPv4: true, Want: hs.auth.config.want,
	}, m.leaseAnswered)
}

func (m *Machine) leaseAnswered(now time.Time, in Input) {
	switch in := in.(type) {
	case LeaseFailed:
		m.withoutChild(now, ikewire.NotifyInternalAddressFailure, CloseNoAddress, in.Reason)
	case Leased:
		a := m.handshake.auth
		a.addrs, a.settings = in.Addresses, in.Settings
		remote := narrow(a.tsi.Selectors, hosts(in.Addresses))
		local := narrow(a.tsr.Selectors, networks(in.Settings.Networks))
		if len(remote) == 0 || len(local) == 0 {
			m.withoutChild(now, ikewire.NotifyTSUnacceptable, CloseNoChild, "traffic selectors have nothing in common with ours")
			return
		}
		m.summary.RemoteTS, m.summary.LocalTS = remote, local
		m.ask(Reserve{Hint: in.Addresses[0]}, m.reserveAnswered)
	}
}

func (m *Machine) reserveAnswered(now time.Time, in Input) {
	switch in := in.(type) {
	case ReserveFailed:
		m.withoutChild(now, ikewire.NotifyNoAdditionalSAs, CloseNoChild, in.Err.Error())
	case Reserved:
		m.handshake.auth.inbound = in.SPI
		m.child = &child{inbound: in.SPI}
		m.sign(func(now time.Time, s signature) {
			if s.err != nil {
				m.refuse(now, CloseInternal, "own signature: "+s.err.Error())
				return
			}
			m.install(now, func(now time.Time) { m.authAccept(now, s) })
		})
	}
}

// signature is our AUTH payload and the chain that goes with it.
type signature struct {
	method ikewire.AuthMethod
	data   []byte
	chain  [][]byte
	err    error
}

// sign makes our AUTH payload over our IKE_SA_INIT message with the first
// credential whose signature the peer can verify.
func (m *Machine) sign(then func(time.Time, signature)) {
	hs := m.handshake
	message, nonce, skP := hs.initResp, hs.nonceI, m.keys.Pr
	if m.initiator() {
		message, nonce, skP = hs.initReq, hs.nonceR, m.keys.Pi
	}
	octets := ikecrypto.SignedOctets(m.suite.PRF, message, nonce, skP, m.ownID())
	credentials, hashes, rand := m.cfg.Credentials, hs.peerHashes, m.cfg.Rand
	m.work("sign", func() any {
		s := signature{err: errors.New("no credential")}
		for _, c := range credentials {
			s.method, s.data, s.err = ikecrypto.Sign(c.Signer, hashes, octets, rand)
			if s.err == nil {
				s.chain = c.Chain
				return s
			}
		}
		return s
	}, func(now time.Time, result any) { then(now, result.(signature)) })
}

// ownID is this side's identity in its role.
func (m *Machine) ownID() *ikewire.ID {
	id := *m.cfg.ID
	id.Initiator = m.initiator()
	return &id
}

// identify are the payloads that prove who we are.
func (m *Machine) identify(s signature) []ikewire.Payload {
	payloads := []ikewire.Payload{m.ownID()}
	for _, der := range s.chain {
		payloads = append(payloads, &ikewire.Cert{Encoding: ikewire.CertX509Signature, Data: der})
	}
	return append(payloads, &ikewire.Auth{Method: s.method, Data: s.data})
}

func (m *Machine) authAccept(now time.Time, s signature) {
	a := m.handshake.auth
	payloads := m.identify(s)
	payloads = append(payloads,
		a.config.reply(a.addrs, a.settings),
		&ikewire.SA{Proposals: []ikewire.Proposal{espProposal(a.choice.algorithm, a.choice.number, a.inbound, a.choice.sayESN)}},
		tsPayload(true, m.summary.RemoteTS),
		tsPayload(false, m.summary.LocalTS))
	m.respond(ikewire.IKEAuth, payloads)
	m.established(now)
}

// withoutChild tells a peer that proved who it is why there is no Child SA,
// and ends the IKE SA, which would be of no use to anybody.
func (m *Machine) withoutChild(now time.Time, n ikewire.NotifyType, reason CloseReason, detail string) {
	m.sign(func(now time.Time, s signature) {
		if s.err != nil {
			m.refuse(now, CloseInternal, "own signature: "+s.err.Error())
			return
		}
		m.respond(ikewire.IKEAuth, append(m.identify(s), notify(n, nil)))
		m.closed(now, reason, detail, true)
	})
}

// established drops what only the handshake needed.
func (m *Machine) established(time.Time) {
	hs := m.handshake
	s := &m.summary
	s.Device, s.Group, s.Until = hs.peer.Device, hs.peer.Group, hs.peer.Until
	s.InitiatorSPI, s.ResponderSPI = m.spiI, m.spiR
	s.IKE, s.ESP = m.suite.String(), hs.auth.choice.algorithm.String()
	s.Auth = keyName(hs.peer.PublicKey) + " " + hs.peerMethod
	s.Local, s.Remote = m.path.local, m.path.remote
	s.VirtualIPs = hs.auth.addrs
	s.Inbound, s.Outbound = m.child.inbound, m.child.outbound
	m.handshake = nil
	m.eraseKeys()
	m.in.lastRequest = nil
	m.expires = time.Time{}
	m.state = stateEstablished
	m.emit(Established{Summary: *s})
}

// keyName is the kind of a public key for people: "ECDSA P-256", "RSA 2048".
func keyName(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	case *rsa.PublicKey:
		return "RSA " + strconv.Itoa(k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}
