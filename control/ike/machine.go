package ike

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// state of an IKE SA. What exactly a machine waits for within a state is in
// Machine.waiting and in its open request.
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
//
// A gateway has a hundred thousand that are established and idle, and wait for
// hours. Such a one can be laid to rest, see Rest: then awake is nil, and what
// there is of it is some 300 octets.
type Machine struct {
	*awake
	resting
}

// awake is a Machine that works. Whatever a negotiation needs hangs on a pointer
// that is nil before and after it, and the last answer goes when nobody asks for
// it any more. What is added here has to be added to rest.go.
type awake struct {
	cfg *Config
	// newer is to take the place of cfg as soon as no exchange is under way; nil
	// if there is none.
	newer *Config
	ini   *InitiatorConfig // nil on a responder
	// original: this side began the IKE SA. After a rekeying that is whoever
	// began the rekeying (RFC 7296 section 2.18).
	original bool

	state      state
	spiI, spiR uint64
	path       path

	mobility mobility

	suite       ikecrypto.Suite
	skD         []byte // what new keys come from
	seal, open  ikecrypto.Protector
	in          window  // the peer's requests
	request     request // ours
	tasks       []func(now time.Time)
	handshake   *handshake // nil once established
	peer        peer
	children    []*child
	rekey       rekeying
	heir        *Machine               // took over the Child SAs
	reserved    map[dataplane.SPI]bool // SPIs that are no Child SA's yet; nil if none
	natBetween  bool                   // ESP goes in UDP
	carries     bool                   // it has the session; a successor not before it is told
	superseded  bool                   // another IKE SA took over
	pace        pace
	assigned    *Settings    // shared with other machines; nil before a lease
	virtual     []netip.Addr // the device's inner addresses
	expires     time.Time    // half-open limit, end of lingering, hard lifetime
	resumable   *resumable
	departing   []departing
	closing     CloseReason
	closeDetail string
	failure     error  // an answer of ours can't be made
	crashToken  []byte // of the peer, see crash.go

	waiting questions
	lastID  WorkID

	out []Output // of the Step that runs
}

// path is where the next message of ours goes.
type path struct {
	local, remote netip.AddrPort
	marker        bool
}

// handshake is what only the time before "established" needs.
type handshake struct {
	nonceI, nonceR    []byte
	initReq, initResp []byte                // whole IKE_SA_INIT messages, for AUTH
	withCookies       [][]byte              // initReq with cookies that its sender added meanwhile
	repeats           int                   // of initReq that were answered, which nothing authenticates
	keys              *ikecrypto.Keys       // all of them
	hashes            []uint16              // that the peer verifies signatures of
	authorities       []byte                // of its CERTREQ, 20 octets each
	exchange          ikecrypto.KeyExchange // initiator's, until the answer
	cookie            []byte
	from              path // of the IKE_SA_INIT request, which its sender's IKE_AUTH proves
	retries           int  // of IKE_SA_INIT after COOKIE or INVALID_KE_PAYLOAD
	auth              *authPayloads
	admitted          Admitted
	peerMethod        ikewire.AuthMethod
	client            string          // its maker's name as far as it shows
	resume            *Resumption     // nil: by a key exchange
	ticket            *ikewire.Notify // that came with the answer, an initiator's
}

// peer is what the other side said it can do.
type peer struct {
	fragmentation bool // both can
	mobike        bool
	redirect      bool
	trait         *Trait
}

// firstLen is what a first message takes, unless it names many CAs or offers much.
const firstLen = 320

// Limits that the configuration doesn't change.
const (
	nonceLen = 32               // octets; RFC 7296 section 2.10 asks for half the PRF key at least
	linger   = 15 * time.Second // longer than the first retransmissions of any client
	maxTasks = 32               // exchanges of ours that wait for their turn
	// keepAnswer: a peer that lost our answer asks again within that time
	// (strongSwan: 165 s); then the answer is forgotten (RFC 7296 section 2.1).
	keepAnswer = 4 * time.Minute
)

// handshakeQuestion is the number of AskAdmit and AskLease, of which at most
// one is open.
const handshakeQuestion WorkID = 0

// NewResponder makes the machine for an IKE_SA_INIT request whose initiator
// chose spiI; spiR is ours and unique among the owner's machines. The request
// itself is the first Message given to Step.
func NewResponder(cfg *Config, spiI, spiR uint64) *Machine {
	return &Machine{awake: &awake{cfg: cfg, spiI: spiI, spiR: spiR, handshake: &handshake{}}}
}

// NewInitiator makes the machine for a new IKE SA with the initiator SPI spiI.
// The first Step, with a Tick, sends the request.
func NewInitiator(cfg *InitiatorConfig, spiI uint64) *Machine {
	return &Machine{awake: &awake{
		cfg: cfg.Config, ini: cfg, original: true, spiI: spiI, handshake: &handshake{},
		path: path{local: cfg.Local, remote: cfg.Remote},
	}}
}

// Deadline is when the next Tick is due; the zero time means never.
func (m *Machine) Deadline() time.Time {
	if m.awake == nil {
		return m.wakeAt
	}
	d := m.expires
	rekey := m.rekey.due
	if m.state != stateEstablished {
		rekey = time.Time{}
	}
	for _, t := range [...]time.Time{m.request.resend, rekey, m.childDeadline(), m.departure(), m.in.forget} {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	return d
}

// Step takes one input and returns what is to be done about it, in order. The
// slice is the caller's.
func (m *Machine) Step(now time.Time, in Input) []Output {
	m.wake()
	m.out = nil
	m.step(now, in)
	m.reconfigure()
	if m.in.fresh {
		m.in.fresh, m.in.forget = false, now.Add(keepAnswer)
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) step(now time.Time, in Input) {
	if m.state == stateDead {
		return
	}
	switch in := in.(type) {
	case Message:
		m.message(now, in)
	case Tick:
		m.tick(now, in.Heard)
	case Probe:
		m.probe(now)
	case Close:
		if in.Gone {
			m.closed(now, in.Reason, "", false)
			return
		}
		m.close(now, in.Reason)
	case Rekey:
		m.rekeyWanted(now, in.Inbound)
	case AddressHint:
		m.addressHint(now, in)
	case Move:
		m.move(now, in)
	case Redirect:
		m.redirect(now, in)
	case Reconfigure:
		m.newer = in.Config
	case RequestTicket:
		m.requestTicket(now)
	case Ticketed:
		m.answer(now, in.ID, in)
	case WorkDone:
		m.answer(now, in.ID, in)
	case Applied:
		m.answer(now, in.ID, in)
	case Reserved:
		if m.waiting.of(in.ID) == nil {
			m.release(in.SPI) // nobody wants it any more
		}
		m.answer(now, in.ID, in)
	case ReserveFailed:
		m.answer(now, in.ID, in)
	case ReservedIKE:
		m.answer(now, in.ID, in)
	case Admitted, Refused, Leased, LeaseFailed:
		m.answer(now, handshakeQuestion, in)
	case ProbePath:
		m.probePath(now, in)
	case Announce:
		m.announceAddresses(now, in.Addresses)
	}
	if m.failure != nil && m.state != stateDead {
		// The peer would repeat its request until it gives up.
		m.closed(now, CloseInternal, m.failure.Error(), false)
	}
}

// reconfigure goes on with the newer configuration, unless an answer is due to
// what was offered by the old one. Only what exchanges to come look up changes;
// what was agreed on stays.
func (m *Machine) reconfigure() {
	busy := m.request.claimed || m.in.busy || len(m.waiting) > 0
	if m.newer == nil || m.ini != nil || busy || m.state != stateEstablished {
		return
	}
	m.cfg, m.newer = m.newer, nil
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

func (m *Machine) note(n Note, detail string) { m.emit(Noted{Note: n, Detail: detail}) }

// ask gives out a question whose answer goes to then.
func (m *Machine) ask(id WorkID, o Output, then func(time.Time, Input)) {
	m.waiting.put(id, then)
	m.emit(o)
}

func (m *Machine) newID() WorkID {
	m.lastID++
	return m.lastID
}

// work has a computation done elsewhere.
func (m *Machine) work(name string, do func() any, then func(now time.Time, result any)) WorkID {
	id := m.newID()
	m.ask(id, Work{ID: id, Name: name, Do: do}, func(now time.Time, in Input) {
		if done, ok := in.(WorkDone); ok {
			then(now, done.Result)
		}
	})
	return id
}

// answer hands an answer to whoever asked. Late answers, to a machine that
// went on without them, find nobody.
func (m *Machine) answer(now time.Time, id WorkID, in Input) {
	if then := m.waiting.take(id); then != nil {
		then(now, in)
	}
}

func (m *Machine) tick(now, heard time.Time) {
	if m.state == stateNew && m.original {
		if m.ini.Ticket != nil {
			m.startResume(now)
		} else {
			m.startInit(now)
		}
		return
	}
	if !m.expires.IsZero() && !now.Before(m.expires) {
		m.expired(now)
		return
	}
	if due(now, m.in.forget) {
		m.in.last, m.in.parts, m.in.forget = nil, nil, time.Time{}
	}
	m.departed(now)
	m.resend(now)
	if m.state == stateEstablished {
		m.lifetimes(now, heard)
	}
}

// expired: whatever the machine was doing took too long.
func (m *Machine) expired(now time.Time) {
	switch m.state {
	case stateLingering:
		m.die()
		m.emit(Forget{})
	case stateEstablished:
		m.expires = time.Time{}
		if m.superseded {
			m.close(now, CloseRekeyed)
		} else {
			m.close(now, CloseExpired)
		}
	default:
		m.closed(now, CloseHalfOpenTimeout, "", false)
	}
}

// message sorts what came from the network.
func (m *Machine) message(now time.Time, in Message) {
	msg, err := ikewire.Parse(in.Data)
	if err != nil {
		m.malformed(now, err)
		return
	}
	if msg.InitiatorSPI != m.spiI || msg.FromInitiator() == m.original {
		m.note(NoteUnexpected, "direction")
		return
	}
	if msg.IsResponse() {
		m.response(now, in, msg)
		return
	}
	m.peerRequest(now, in, msg)
}

func (m *Machine) malformed(now time.Time, err error) {
	if m.state == stateNew && !m.original {
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
	if m.original {
		h.Flags |= ikewire.FlagInitiator
	}
	if response {
		h.Flags |= ikewire.FlagResponse
	}
	return h
}

// encode gives the octets of a message: one, or its fragments where the peer
// takes them (RFC 7383). It is protected as soon as there are keys and the
// exchange isn't the first.
func (m *Machine) encode(h ikewire.Header, payloads []ikewire.Payload) ([][]byte, error) {
	if h.Exchange == ikewire.IKESAInit || h.Exchange == ikewire.IKESessionResume {
		raw, err := (&ikewire.Message{Header: h, Payloads: payloads}).Append(make([]byte, 0, firstLen))
		return [][]byte{raw}, err
	}
	msg := &ikewire.Message{Header: h}
	if m.peer.fragmentation && m.cfg.FragmentSize > 0 {
		return m.seal.SealFragments(msg, payloads, m.cfg.FragmentSize)
	}
	raw, err := m.seal.Seal(nil, msg, payloads)
	return [][]byte{raw}, err
}

func (m *Machine) send(messages [][]byte, p path) {
	for _, raw := range messages {
		m.emit(Send{Data: raw, Local: p.local, Remote: p.remote, Marker: p.marker})
	}
}

// closed ends the IKE SA: its Child SAs are removed, keys go, and the news is
// told. With lingering the keys to answer the peer stay for a while.
func (m *Machine) closed(now time.Time, reason CloseReason, detail string, lingering bool) {
	m.removeChildren()
	m.abandon()
	if lingering {
		m.state = stateLingering
		m.expires = now.Add(linger)
	} else {
		m.die()
	}
	m.emit(Closed{Reason: reason, Detail: detail, Linger: lingering})
}

// abandon drops everything that is under way.
func (m *Machine) abandon() {
	m.waiting = nil
	m.request = request{id: m.request.id}
	m.tasks = nil
	m.endHandshake()
	m.rekey.forget()
}

func (m *Machine) die() {
	m.state = stateDead
	m.expires = time.Time{}
	m.request = request{}
	m.in = window{}
	clear(m.skD)
	m.skD = nil
	if m.seal != nil {
		m.seal.Erase()
		m.open.Erase()
		m.seal, m.open = nil, nil
	}
}

// endHandshake drops what only the handshake needs. Its keys are erased; the
// protectors have their own copies.
func (m *Machine) endHandshake() {
	if m.handshake != nil && m.handshake.keys != nil {
		m.handshake.keys.Erase()
	}
	if m.handshake != nil && m.handshake.resume != nil {
		m.handshake.resume.Erase()
	}
	m.handshake = nil
}
