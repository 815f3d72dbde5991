package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// IKE_SA_INIT, responder (RFC 7296 section 1.2).
//
//	request:  SA, KE, Ni, N(NAT_DETECTION_*), N(SIGNATURE_HASH_ALGORITHMS)
//	response: SA, KE, Nr, N(NAT_DETECTION_*), CERTREQ, N(SIGNATURE_HASH_ALGORITHMS)
//
// COOKIE is answered before a machine exists (package gate). An offer that is
// refused leaves no state.

// maxInitRepeats of an answer that is longer than its request, and goes where
// nobody has proven to be.
const maxInitRepeats = 5

// maxWithCookies are as many as an honest sender adds to one request while the
// gateway changes its mind; AUTH is tried for each.
const maxWithCookies = 2

// initOffer is what a request or response has to have.
type initOffer struct {
	sa    *ikewire.SA
	ke    *ikewire.KE
	nonce []byte
}

func readInit(payloads []ikewire.Payload) (o initOffer, ok bool) {
	var sa, ke, nonce bool
	o.sa, sa = ikewire.Find[*ikewire.SA](payloads)
	o.ke, ke = ikewire.Find[*ikewire.KE](payloads)
	o.nonce, nonce = nonceOf(payloads)
	return o, sa && ke && nonce
}

func (m *Machine) initRequest(now time.Time, in Message, msg *ikewire.Message) {
	if m.original || msg.MessageID != 0 || m.resuming() {
		m.note(NoteUnexpected, msg.Exchange.String())
		return
	}
	if m.state != stateNew {
		m.repeatInit(in)
		return
	}
	offer, ok := readInit(msg.Payloads)
	if !ok {
		m.closed(now, CloseMalformed, "IKE_SA_INIT without SA, KE or a nonce of 16 to 256 octets", false)
		return
	}
	between, ok := m.welcome(now, in, msg, offer.nonce, ikewire.NotifyNoProposalChosen)
	if !ok {
		return
	}
	suite, number, ok := chooseSuite(m.cfg.Suites, offer.sa, offer.ke.Group)
	if !ok {
		m.refuseInit(now, in.path(), notify(ikewire.NotifyNoProposalChosen, nil), CloseNoProposal, "offered "+describe(offer.sa))
		return
	}
	if suite.Group != offer.ke.Group {
		want := binary.BigEndian.AppendUint16(nil, suite.Group)
		m.refuseInit(now, in.path(), notify(ikewire.NotifyInvalidKEPayload, want), CloseInvalidKE,
			fmt.Sprintf("key exchange of group %d, want %d", offer.ke.Group, suite.Group))
		return
	}
	m.acceptInit(now, in, offer, suite, number, between)
}

// repeatInit answers the retransmission of a request whose answer is known.
func (m *Machine) repeatInit(in Message) {
	hs := m.handshake
	switch {
	case hs == nil || !hs.repeatsInit(in.Data):
		m.note(NoteUnexpected, "another "+m.firstExchange().String()+" with the same SPI")
	case m.in.busy || m.in.last == nil || m.state != stateAuth:
		m.note(NoteWorking, "")
	case hs.repeats == maxInitRepeats:
		m.note(NoteWorking, "repeated too often")
	default:
		hs.repeats++
		m.note(NoteRetransmission, "")
		m.send(m.in.last, in.path())
	}
}

// repeatsInit says whether a request is the one that is worked on. It may bring a
// cookie by now: a copy of it was let in on the way to its sender's being asked for
// one, and AUTH will be for what the sender sent last.
func (hs *handshake) repeatsInit(request []byte) bool {
	if bytes.Equal(hs.initReq, request) {
		return true
	}
	same := func(other []byte) bool { return bytes.Equal(other, request) }
	if !bytes.Equal(ikewire.WithoutCookie(nil, hs.initReq), ikewire.WithoutCookie(nil, request)) {
		return false
	}
	if !slices.ContainsFunc(hs.withCookies, same) && len(hs.withCookies) < maxWithCookies {
		hs.withCookies = append(hs.withCookies, request)
	}
	return true
}

// refuseInit answers with one notification and keeps nothing.
func (m *Machine) refuseInit(now time.Time, p path, n *ikewire.Notify, reason CloseReason, detail string) {
	h := m.header(m.firstExchange(), 0, true)
	h.ResponderSPI = 0
	if messages, err := m.encode(h, []ikewire.Payload{n}); err == nil {
		m.send(messages, p)
	}
	m.closed(now, reason, detail, false)
}

// initKeys is the result of the responder's key exchange.
type initKeys struct {
	public []byte
	keys   *ikecrypto.Keys
	err    error
}

func (m *Machine) acceptInit(now time.Time, in Message, offer initOffer, suite ikecrypto.Suite, number uint8, between bool) {
	m.suite = suite
	if !m.beginHandshake(now, in, offer.nonce, between) {
		return
	}
	hs := m.handshake
	spiI, spiR, nonceI, nonceR, rand, peer := m.spiI, m.spiR, hs.nonceI, hs.nonceR, m.cfg.Rand, offer.ke.Data
	m.work("key exchange", func() any {
		kx, err := suite.Allow.NewKeyExchange(suite.Group, rand)
		if err != nil {
			return initKeys{err: err}
		}
		shared, err := kx.Shared(peer)
		if err != nil {
			return initKeys{err: err}
		}
		defer clear(shared)
		keys, err := ikecrypto.DeriveKeys(suite, shared, nonceI, nonceR, spiI, spiR)
		return initKeys{public: kx.Public(), keys: keys, err: err}
	}, func(now time.Time, result any) {
		m.answerInit(now, number, result.(initKeys))
	})
}

func (m *Machine) answerInit(now time.Time, number uint8, r initKeys) {
	if r.err != nil {
		m.closed(now, CloseMalformed, "key exchange: "+r.err.Error(), false)
		return
	}
	m.handshake.keys = r.keys
	if !m.useKeys(now, r.keys) {
		return
	}
	payloads := []ikewire.Payload{
		&ikewire.SA{Proposals: []ikewire.Proposal{chosenSuite(m.suite, number)}},
		&ikewire.KE{Group: m.suite.Group, Data: r.public},
		&ikewire.Nonce{Data: m.handshake.nonceR},
	}
	payloads = append(payloads, m.natPayloads(m.spiR, m.in.from)...)
	payloads = append(payloads, m.certRequest()...)
	payloads = append(payloads, m.announce()...)
	m.respond(ikewire.IKESAInit, payloads)
	m.handshake.initResp = m.in.last[0]
	m.state = stateAuth
}

// useKeys takes the keys of the IKE SA into use.
func (m *Machine) useKeys(now time.Time, keys *ikecrypto.Keys) bool {
	m.skD = clone(keys.D)
	i, errI := ikecrypto.NewProtector(m.suite, keys.Ei, keys.Ai, m.cfg.Rand)
	r, errR := ikecrypto.NewProtector(m.suite, keys.Er, keys.Ar, m.cfg.Rand)
	if errI != nil || errR != nil {
		m.closed(now, CloseInternal, fmt.Sprint("protection of the IKE SA: ", errI, errR), false)
		return false
	}
	m.seal, m.open = r, i
	if m.original {
		m.seal, m.open = i, r
	}
	if m.cfg.ExportKeys {
		m.emit(KeysDerived{IKE: &IKEKeyLog{
			InitiatorSPI: m.spiI, ResponderSPI: m.spiR,
			Encryption: m.suite.Encryption, Integrity: m.suite.Integrity, KeyBits: m.suite.KeyBits,
			Ei: clone(keys.Ei), Er: clone(keys.Er), Ai: clone(keys.Ai), Ar: clone(keys.Ar),
		}})
	}
	return true
}

func (m *Machine) random(now time.Time, b []byte) bool {
	if _, err := m.cfg.Rand.Read(b); err != nil {
		m.closed(now, CloseInternal, "randomness: "+err.Error(), false)
		return false
	}
	return true
}

// announce says what we can do: hashes for method 14 (RFC 7427 section 4, RFC
// 8420), and the extensions of IKE_SA_INIT.
func (m *Machine) announce() []ikewire.Payload {
	var b []byte
	for _, h := range []uint16{ikewire.HashSHA256, ikewire.HashSHA384, ikewire.HashSHA512, ikewire.HashIdentity} {
		b = binary.BigEndian.AppendUint16(b, h)
	}
	payloads := []ikewire.Payload{notify(ikewire.NotifySignatureHashAlgorithms, b)}
	if m.resuming() {
		payloads = nil // nobody signs
	}
	if m.cfg.FragmentSize > 0 && (m.original || m.peer.fragmentation) {
		payloads = append(payloads, notify(ikewire.NotifyFragmentationSupported, nil))
	}
	if m.cfg.Childless && !m.original {
		payloads = append(payloads, notify(ikewire.NotifyChildlessSupported, nil))
	}
	if m.original {
		payloads = append(payloads, notify(ikewire.NotifyRedirectSupported, nil))
	}
	return payloads
}

// readPeer notes what the peer announced in IKE_SA_INIT.
func (m *Machine) readPeer(payloads []ikewire.Payload) {
	has := func(t ikewire.NotifyType) bool { return ikewire.FindNotify(payloads, t) != nil }
	m.handshake.hashes, m.handshake.authorities = hashesOf(payloads), authoritiesOf(payloads)
	m.peer.fragmentation = m.cfg.FragmentSize > 0 && has(ikewire.NotifyFragmentationSupported)
	m.peer.redirect = has(ikewire.NotifyRedirectSupported) || has(ikewire.NotifyRedirectedFrom)
	m.peer.trait = traitOf(payloads)
	m.handshake.client = m.trait().Name
}

func hashesOf(payloads []ikewire.Payload) []uint16 {
	n := ikewire.FindNotify(payloads, ikewire.NotifySignatureHashAlgorithms)
	if n == nil {
		return nil
	}
	var hashes []uint16
	for b := n.Data; len(b) >= 2 && len(hashes) < 16; b = b[2:] {
		hashes = append(hashes, binary.BigEndian.Uint16(b))
	}
	return hashes
}

// certRequest names the CAs that are accepted (RFC 7296 section 3.7).
func (m *Machine) certRequest() []ikewire.Payload {
	if len(m.cfg.TrustAnchors) == 0 {
		return nil
	}
	var hashes []byte
	for _, a := range m.cfg.TrustAnchors {
		hashes = append(hashes, a[:]...)
	}
	return []ikewire.Payload{&ikewire.CertReq{Encoding: ikewire.CertX509Signature, Data: hashes}}
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }
