package ike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"slices"
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
	ticket   bool // TICKET_REQUEST
}

// childless: no Child SA is asked for (RFC 6023 section 3).
func (a *authPayloads) childless() bool { return a.sa == nil && a.tsi == nil && a.tsr == nil }

func (m *Machine) authRequest(now time.Time, inner []ikewire.Payload) {
	a := &authPayloads{id: identityOf(inner, true), chain: chainOf(inner)}
	a.ticket = ikewire.FindNotify(inner, ikewire.NotifyTicketRequest) != nil
	a.auth, _ = ikewire.Find[*ikewire.Auth](inner)
	a.sa, _ = ikewire.Find[*ikewire.SA](inner)
	a.tsi, a.tsr = selectorsOf(inner)
	cp, _ := ikewire.Find[*ikewire.CP](inner)
	a.config = parseConfigRequest(cp)
	m.handshake.authorities = authoritiesOf(inner)
	m.handshake.auth = a
	m.peer.mobike = m.cfg.MOBIKE && ikewire.FindNotify(inner, ikewire.NotifyMOBIKESupported) != nil
	m.mobility.peer = nil
	if m.peer.mobike {
		m.mobility.peer = readAddresses(inner)
	}
	whole := a.sa != nil && a.tsi != nil && a.tsr != nil
	switch {
	case a.id == nil:
		m.invalidSyntax(now, ikewire.IKEAuth)
	case m.natForbidden(inner):
		m.respondNotify(ikewire.IKEAuth, ikewire.NotifyUnexpectedNATDetected)
		m.closed(now, CloseNATForbidden, m.in.from.remote.String(), true)
	case a.auth == nil:
		m.refuse(now, CloseAuthMethod, "no AUTH payload: the peer wants EAP, which is not offered")
	case !whole && !(a.childless() && m.cfg.Childless):
		m.invalidSyntax(now, ikewire.IKEAuth)
	case m.resuming():
		m.resumedAuth(now, identityOf(inner, false))
	default:
		m.ask(handshakeQuestion, AskAdmit{ID: a.id, Chain: a.chain}, m.admitAnswered)
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
		m.handshake.admitted = in
		m.verify(in.PublicKey, m.verified)
	}
}

// peerOctets are what the peer's AUTH payload covers (RFC 7296 section 2.15), and
// its SK_p. There is more than one if it added cookies to its first message: it
// knows which it sent last.
func (m *Machine) peerOctets() (candidates [][]byte, skP []byte) {
	hs := m.handshake
	if m.original {
		return [][]byte{m.octets(hs.initResp, hs.nonceI, hs.keys.Pr, hs.auth.id)}, hs.keys.Pr
	}
	for _, message := range append([][]byte{hs.initReq}, hs.withCookies...) {
		candidates = append(candidates, m.octets(message, hs.nonceR, hs.keys.Pi, hs.auth.id))
	}
	slices.Reverse(candidates)
	return candidates, hs.keys.Pi
}

// ownOctets are what our AUTH payload covers, and our SK_p.
func (m *Machine) ownOctets() (octets, skP []byte) {
	hs := m.handshake
	if m.original {
		return m.octets(hs.initReq, hs.nonceR, hs.keys.Pi, m.ownID()), hs.keys.Pi
	}
	return m.octets(hs.initResp, hs.nonceI, hs.keys.Pr, m.ownID()), hs.keys.Pr
}

func (m *Machine) octets(message, nonce, skP []byte, id *ikewire.ID) []byte {
	return ikecrypto.SignedOctets(m.suite.PRF, message, nonce, skP, id)
}

// authentic tries AUTH on each of what it may cover, and returns the first error if
// it covers none.
func authentic(candidates [][]byte, check func(octets []byte) error) (first error) {
	for _, octets := range candidates {
		err := check(octets)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// verify checks the peer's AUTH payload over its IKE_SA_INIT message.
func (m *Machine) verify(key crypto.PublicKey, then func(time.Time, any)) {
	hs := m.handshake
	a := hs.auth
	hs.peerMethod = a.auth.Method
	// The octets are made here, because SK_p may be erased while Do runs.
	candidates, _ := m.peerOctets()
	method, data, legacy := a.auth.Method, a.auth.Data, m.cfg.Legacy
	m.work("verify", func() any {
		return authentic(candidates, func(octets []byte) error { return legacy.Verify(key, method, data, octets) })
	}, then)
}

func (m *Machine) verified(now time.Time, result any) {
	if err, bad := result.(error); bad {
		reason := CloseAuthFailed
		if errors.Is(err, ikecrypto.ErrAuthMethod) || errors.Is(err, ikecrypto.ErrSHA1) {
			reason = CloseAuthMethod
		}
		m.refuse(now, reason, err.Error())
		return
	}
	hs := m.handshake
	a := hs.auth
	if to := hs.admitted.RedirectTo; to != "" && m.peer.redirect {
		m.redirectNow(now, to)
		return
	}
	if !a.childless() {
		var ok bool
		if a.choice, ok = m.chooseESP(a.sa); !ok {
			m.withoutChild(now, notify(ikewire.NotifyNoProposalChosen, nil), CloseNoProposal, "ESP: offered "+describe(a.sa))
			return
		}
	}
	switch {
	case a.config.ipv4 || a.config.ipv6:
		m.ask(handshakeQuestion, AskLease{
			Device: hs.admitted.Device, Group: hs.admitted.Group, IPv4: a.config.ipv4, IPv6: a.config.ipv6, Want: a.config.want,
		}, m.leaseAnswered)
	case a.childless():
		m.accept(now, nil)
	default:
		m.withoutChild(now, notify(ikewire.NotifyFailedCPRequired, nil), CloseNoAddress, "the peer asks for no address")
	}
}

// redirectNow sends a peer on that has proven who it is (RFC 5685 section 4).
func (m *Machine) redirectNow(now time.Time, to string) {
	m.withoutChild(now, notify(ikewire.NotifyRedirect, gatewayIdentity(to, nil)), CloseRedirected, to)
}

func (m *Machine) leaseAnswered(now time.Time, in Input) {
	switch in := in.(type) {
	case LeaseFailed:
		m.withoutChild(now, notify(ikewire.NotifyInternalAddressFailure, nil), CloseNoAddress, in.Reason)
	case Leased:
		m.virtual, m.assigned = in.Addresses, in.Settings
		if m.assigned == nil {
			m.assigned = &Settings{}
		}
		a := m.handshake.auth
		if a.childless() {
			m.accept(now, nil)
			return
		}
		remote := narrow(a.tsi.Selectors, hosts(in.Addresses))
		local := narrow(a.tsr.Selectors, m.assigned.allowed(familiesOf(in.Addresses)))
		if len(remote) == 0 || len(local) == 0 {
			m.withoutChild(now, notify(ikewire.NotifyTSUnacceptable, nil), CloseNoChild, "traffic selectors have nothing in common with ours")
			return
		}
		m.reserve(func(now time.Time, spi dataplane.SPI, err error) {
			if err != nil {
				m.withoutChild(now, notify(ikewire.NotifyNoAdditionalSAs, nil), CloseNoChild, err.Error())
				return
			}
			m.accept(now, &childSpec{
				child: child{
					inbound: spi, outbound: a.choice.peerSPI, algorithm: a.choice.algorithm, esn: a.choice.esn,
					local: local, remote: remote,
				},
				nonceI: m.handshake.nonceI, nonceR: m.handshake.nonceR, activate: true,
			})
		})
	}
}

// accept signs, installs the Child SA if there is to be one, and answers.
func (m *Machine) accept(now time.Time, spec *childSpec) {
	m.sign(now, func(now time.Time, s signature) {
		if s.err != nil {
			m.refuse(now, CloseInternal, "own signature: "+s.err.Error())
			return
		}
		if spec == nil {
			m.answerAuth(now, s, nil)
			return
		}
		m.install(*spec, func(now time.Time, c *child, err error) {
			if err != nil {
				m.refuse(now, CloseInternal, "data plane: "+err.Error())
				return
			}
			m.answerAuth(now, s, c)
		})
	})
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
func (m *Machine) sign(now time.Time, then func(time.Time, signature)) {
	octets, skP := m.ownOctets()
	if m.resuming() {
		then(now, signature{method: ikewire.AuthSharedKey, data: ikecrypto.ResumeAuth(m.suite.PRF, skP, octets)})
		return
	}
	credentials, hashes, rand, legacy := m.credentials(), m.handshake.hashes, m.cfg.Rand, m.cfg.Legacy
	m.work("sign", func() any {
		s := signature{err: errors.New("no credential")}
		for _, c := range credentials {
			s.method, s.data, s.err = legacy.Sign(c.Signer, hashes, octets, rand)
			if s.err == nil {
				s.chain = c.Chain
				return s
			}
		}
		return s
	}, func(now time.Time, result any) { then(now, result.(signature)) })
}

// credentials in the order in which they are tried: those first that the peer
// trusts by its CERTREQ (RFC 7296 section 3.7), otherwise as configured.
func (m *Machine) credentials() []Credential {
	wanted := func(c Credential) bool {
		return slices.ContainsFunc(c.Authorities, func(a [20]byte) bool {
			for rest := m.handshake.authorities; len(rest) >= len(a); rest = rest[len(a):] {
				if [20]byte(rest[:len(a)]) == a {
					return true
				}
			}
			return false
		})
	}
	var first, rest []Credential
	for _, c := range m.cfg.Credentials {
		if wanted(c) {
			first = append(first, c)
		} else {
			rest = append(rest, c)
		}
	}
	return append(first, rest...)
}

// ownID is this side's identity in its role.
func (m *Machine) ownID() *ikewire.ID {
	id := *m.cfg.ID
	if m.resuming() {
		id = *m.handshake.resume.OwnID
	}
	id.Initiator = m.original
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

func (m *Machine) answerAuth(now time.Time, s signature, c *child) {
	m.keepResumable()
	m.withTicket(now, m.handshake.auth.ticket, func(now time.Time, ticket []ikewire.Payload) {
		m.sendAuthAnswer(now, s, c, ticket)
	})
}

func (m *Machine) sendAuthAnswer(now time.Time, s signature, c *child, ticket []ikewire.Payload) {
	a := m.handshake.auth
	payloads := m.identify(s)
	if len(m.virtual) > 0 {
		payloads = append(payloads, a.config.reply(m.virtual, *m.assigned))
	}
	if c != nil {
		payloads = append(payloads,
			&ikewire.SA{Proposals: []ikewire.Proposal{espProposal(a.choice, a.choice.number, c.inbound)}},
			tsPayload(true, c.remote), tsPayload(false, c.local))
	}
	if m.peer.mobike {
		payloads = append(payloads, notify(ikewire.NotifyMOBIKESupported, nil))
		payloads = append(payloads, m.addressPayloads(m.in.from.local.Addr(), false)...)
	}
	payloads = append(payloads, m.authLifetime(now)...)
	payloads = append(payloads, m.crashPayloads()...)
	m.respond(ikewire.IKEAuth, append(payloads, ticket...))
	m.established(now, c)
}

// withoutChild tells a peer that proved who it is why there is no Child SA,
// and ends the IKE SA, which would be of no use to anybody.
func (m *Machine) withoutChild(now time.Time, why *ikewire.Notify, reason CloseReason, detail string) {
	m.sign(now, func(now time.Time, s signature) {
		if s.err != nil {
			m.refuse(now, CloseInternal, "own signature: "+s.err.Error())
			return
		}
		m.respond(ikewire.IKEAuth, append(m.identify(s), why))
		m.closed(now, reason, detail, true)
	})
}

// established drops what only the handshake needed.
func (m *Machine) established(now time.Time, c *child) {
	hs := m.handshake
	s := &Summary{Client: hs.client}
	s.Device, s.Group, s.Until = hs.admitted.Device, hs.admitted.Group, hs.admitted.Until
	s.InitiatorSPI, s.ResponderSPI = m.spiI, m.spiR
	s.IKE = m.suite.String()
	s.Auth, s.Resumed = m.authName(), hs.resume != nil
	s.Local, s.Remote, s.VirtualIPs = m.path.local, m.path.remote, m.virtual
	legacy := m.suite.Legacy().Union(ikecrypto.LegacyAuth(hs.peerMethod))
	if c != nil {
		s.ESP = c.algorithm.String()
		s.Inbound, s.Outbound = c.inbound, c.outbound
		s.LocalTS, s.RemoteTS = c.local, c.remote
		legacy = legacy.Union(espLegacy(c.algorithm))
	}
	s.Legacy = legacy.Names()
	m.childPath()
	m.endHandshake()
	m.rekey.due, m.expires = m.start(now, m.cfg.IKELife.first())
	m.state, m.carries = stateEstablished, true
	m.emit(Established{Summary: *s})
	if hs.resume != nil {
		m.rekeySoon(now)
	}
	m.ticketReceived(now, hs.ticket)
	m.proveAuth(now)
}

// authName is how the peer has shown who it is, for people.
func (m *Machine) authName() string {
	hs := m.handshake
	if hs.resume != nil {
		return hs.resume.Auth
	}
	return keyName(hs.admitted.PublicKey) + " " + hs.peerMethod.String()
}

// espLegacy is which legacy algorithms a Child SA uses.
func espLegacy(a dataplane.Algorithm) ikecrypto.Legacy {
	return ikecrypto.LegacyTransform(ikewire.Transform{Type: ikewire.TransformENCR, ID: a.Encryption}).
		Union(ikecrypto.LegacyTransform(ikewire.Transform{Type: ikewire.TransformINTEG, ID: a.Integrity}))
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
