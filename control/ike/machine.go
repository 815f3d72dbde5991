package ike

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// state of an IKE SA. What exactly a machine waits for within a state is the
// continuation in Machine.then.
type state uint8

const (
	stateNew         state = iota // nothing happened yet
	stateInit                     // IKE_SA_INIT is under way
	stateAuth                     // IKE_AUTH is under way
	stateEstablished              // up
	stateDeleting                 // our DELETE was sent
	stateLingering                // over; answers retransmissions only
	stateDead                     // over
)

// Machine is one IKE SA. It is used by one goroutine at a time.
type Machine struct {
	cfg *Config
	ini *InitiatorConfig // nil on a responder

	state      state
	spiI, spiR uint64
	path       path

	suite         ikecrypto.Suite
	keys          *ikecrypto.Keys
	seal, open    ikecrypto.Protector
	in            window  // the peer's requests
	request       request // ours
	handshake     *handshake
	child         *child
	summary       Summary
	expires       time.Time // half-open limit, or end of lingering
	closing       CloseReason
	closeAfterAck bool // Close came while a request of ours was open

	// One question at a time is open; then takes its answer.
	then   func(now time.Time, in Input)
	workID WorkID

	out []Output
}

// path is where the next message of ours goes.
type path struct {
	local, remote netip.AddrPort
	marker        bool
}

// handshake is what only the time before "established" needs.
type handshake struct {
	nonceI, nonceR    []byte
	initReq, initResp []byte // whole IKE_SA_INIT messages, for AUTH
	peerHashes        []uint16
	natBetween        bool
	exchange          ikecrypto.KeyExchange // initiator's, until the answer
	cookie            []byte
	retries           int // of IKE_SA_INIT after COOKIE or INVALID_KE_PAYLOAD
	auth              *authPayloads
	peer              Admitted
	peerMethod        string
}

// Limits that the configuration doesn't change.
const (
	nonceLen = 32               // octets; RFC 7296 section 2.10 asks for half the PRF key at least
	linger   = 15 * time.Second // longer than the first retransmissions of any client
)

// NewResponder makes the machine for an IKE_SA_INIT request whose initiator
// chose spiI; spiR is ours and unique among the owner's machines. The request
// itself is the first Message given to Step.
func NewResponder(cfg *Config, spiI, spiR uint64) *Machine {
	return &Machine{cfg: cfg, spiI: spiI, spiR: spiR, handshake: &handshake{}}
}

// NewInitiator makes the machine for a new IKE SA with the initiator SPI spiI.
// The first Step, with a Tick, sends the request.
func NewInitiator(cfg *InitiatorConfig, spiI uint64) *Machine {
	return &Machine{
		cfg: cfg.Config, ini: cfg, spiI: spiI, handshake: &handshake{},
		path: path{local: cfg.Local, remote: cfg.Remote},
	}
}

// Deadline is when the next Tick is due; the zero time means never.
func (m *Machine) Deadline() time.Time {
	d := m.expires
	if r := m.request.resend; !r.IsZero() && (d.IsZero() || r.Before(d)) {
		d = r
	}
	return d
}

// Step takes one input and returns what is to be done about it, in order. The
// slice is valid until the next Step.
func (m *Machine) Step(now time.Time, in Input) []Output {
	clear(m.out)
	m.out = m.out[:0]
	if m.state == stateDead {
		return nil
	}
	switch in := in.(type) {
	case Message:
		m.message(now, in)
	case Tick:
		m.tick(now)
	case Probe:
		m.probe(now)
	case Close:
		m.close(now, in.Reason)
	case WorkDone:
		if in.ID == m.workID {
			m.answer(now, in)
		}
	case Applied:
		if in.ID == m.workID {
			m.answer(now, in)
		}
	case Admitted, Refused, Leased, LeaseFailed, Reserved, ReserveFailed:
		m.answer(now, in)
	}
	return m.out
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

func (m *Machine) note(n Note, detail string) { m.emit(Noted{Note: n, Detail: detail}) }

// ask gives out a question whose answer goes to then.
func (m *Machine) ask(o Output, then func(time.Time, Input)) {
	m.then = then
	m.emit(o)
}

// work has a computation done elsewhere.
func (m *Machine) work(name string, do func() any, then func(now time.Time, result any)) {
	m.workID++
	m.ask(Work{ID: m.workID, Name: name, Do: do}, func(now time.Time, in Input) {
		if done, ok := in.(WorkDone); ok {
			then(now, done.Result)
		}
	})
}

// answer hands an answer to whoever asked. Late answers, to a machine that
// went on without them, find nobody.
func (m *Machine) answer(now time.Time, in Input) {
	if then := m.then; then != nil {
		m.then = nil
		then(now, in)
	}
}

// initiator says whether this side started the IKE SA.
func (m *Machine) initiator() bool { return m.ini != nil }

func (m *Machine) tick(now time.Time) {
	if m.state == stateNew && m.initiator() {
		m.startInit(now)
		return
	}
	if !m.expires.IsZero() && !now.Before(m.expires) {
		if m.state == stateLingering {
			m.die()
			m.emit(Forget{})
			return
		}
		m.closed(now, CloseHalfOpenTimeout, "", false)
		return
	}
	m.resend(now)
}

// message sorts what came from the network.
func (m *Machine) message(now time.Time, in Message) {
	msg, err := ikewire.Parse(in.Data)
	if err != nil {
		m.malformed(now, err)
		return
	}
	fromInitiator := msg.Flags&ikewire.FlagInitiator != 0
	if msg.InitiatorSPI != m.spiI || fromInitiator == m.initiator() {
		m.note(NoteUnexpected, "direction")
		return
	}
	if msg.Flags&ikewire.FlagResponse != 0 {
		m.response(now, in, msg)
		return
	}
	m.peerRequest(now, in, msg)
}

func (m *Machine) malformed(now time.Time, err error) {
	if m.state == stateNew && !m.initiator() {
		m.closed(now, CloseMalformed, err.Error(), false)
		return
	}
	m.note(NoteMalformed, err.Error())
}

// header of a message of ours.
func (m *Machine) header(x ikewire.ExchangeType, id uint32, response bool) ikewire.Header {
	h := ikewire.Header{
		InitiatorSPI: m.spiI, ResponderSPI: m.spiR,
		Version: ikewire.Version2, Exchange: x, MessageID: id,
	}
	if m.initiator() {
		h.Flags |= ikewire.FlagInitiator
	}
	if response {
		h.Flags |= ikewire.FlagResponse
	}
	return h
}

// encode gives the octets of a message, protected as soon as there are keys
// and the exchange isn't IKE_SA_INIT.
func (m *Machine) encode(h ikewire.Header, payloads []ikewire.Payload) ([]byte, error) {
	if h.Exchange == ikewire.IKESAInit {
		msg := &ikewire.Message{Header: h, Payloads: payloads}
		return msg.Append(nil)
	}
	return m.seal.Seal(nil, &ikewire.Message{Header: h}, payloads)
}

func (m *Machine) send(raw []byte, p path) {
	m.emit(Send{Data: raw, Local: p.local, Remote: p.remote, Marker: p.marker})
}

// closed ends the IKE SA: the Child SA is removed, keys go, and the news is
// told. With lingering the keys to answer the peer stay for a while.
func (m *Machine) closed(now time.Time, reason CloseReason, detail string, lingering bool) {
	m.removeChild()
	m.then = nil
	m.request = request{}
	m.handshake = nil
	if lingering {
		m.state = stateLingering
		m.expires = now.Add(linger)
	} else {
		m.die()
	}
	m.emit(Closed{Reason: reason, Detail: detail, Linger: lingering})
}

func (m *Machine) die() {
	m.state = stateDead
	m.expires = time.Time{}
	m.request = request{}
	m.in = window{}
	m.eraseKeys()
	if m.seal != nil {
		m.seal.Erase()
		m.open.Erase()
		m.seal, m.open = nil, nil
	}
}

// eraseKeys that only the handshake needs; the protectors have their own copy.
func (m *Machine) eraseKeys() {
	if m.keys != nil {
		m.keys.Erase()
		m.keys = nil
	}
}
