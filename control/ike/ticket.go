package ike

import (
	"encoding/binary"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Tickets (RFC 5723 section 4.2): asked for in IKE_AUTH, or afterwards by an
// INFORMATIONAL of its own, such as after the IKE SA was rekeyed, when the old
// ticket stands for keys that are gone. A TICKET_REQUEST that goes with
// CREATE_CHILD_SA gets no answer, which sends the peer to INFORMATIONAL.

// Ticket is an initiator's: to be handed back for a Resumption.
type Ticket struct {
	// Opaque is the responder's.
	Opaque  []byte
	Expires time.Time
	Resumption
}

// AskTicket asks for a ticket for the IKE SA as it is. Resumption is the
// owner's, to be erased. Answered by Ticketed.
type AskTicket struct {
	ID WorkID
	Resumption
}

// Ticketed answers AskTicket. Without Opaque the peer is told that it gets none.
type Ticketed struct {
	ID     WorkID
	Opaque []byte
	// Lifetime of the ticket; whole seconds count.
	Lifetime time.Duration
}

// TicketReceived: the responder gave a ticket, in place of any before. It is the
// owner's, to be erased.
type TicketReceived struct{ Ticket *Ticket }

// RequestTicket tells an initiator to ask for a ticket, after a rekeying.
type RequestTicket struct{}

func (AskTicket) output()      {}
func (TicketReceived) output() {}
func (Ticketed) input()        {}
func (RequestTicket) input()   {}

// resumable is what a ticket says beside the keys. It goes on to the successor.
type resumable struct {
	peer, own *ikewire.ID
	auth      string
	client    string
}

// keepResumable notes who is who while that is known.
func (m *Machine) keepResumable() {
	if m.cfg.Tickets {
		peer := *m.handshake.auth.id
		peer.Data = clone(peer.Data) // not the whole message
		m.resumable = &resumable{peer: &peer, own: m.ownID(), auth: m.authName(), client: m.handshake.client}
	}
}

// resumption is what goes into a ticket for this IKE SA.
func (m *Machine) resumption() Resumption {
	r := m.resumable
	return Resumption{
		Suite: m.suite, SKd: clone(m.skD), PeerID: r.peer, OwnID: r.own, Auth: r.auth, Client: r.client,
	}
}

// withTicket goes on with what an answer says about a ticket: nothing, unless
// one is wanted and they are given here.
func (m *Machine) withTicket(now time.Time, wanted bool, then func(time.Time, []ikewire.Payload)) {
	if !wanted || m.ini != nil || m.resumable == nil {
		then(now, nil)
		return
	}
	id := m.newID()
	m.ask(id, AskTicket{ID: id, Resumption: m.resumption()}, func(now time.Time, in Input) {
		t, _ := in.(Ticketed)
		n := notify(ikewire.NotifyTicketNACK, nil)
		if len(t.Opaque) > 0 {
			data := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(t.Opaque)), uint32(t.Lifetime/time.Second))
			n = notify(ikewire.NotifyTicketLTOpaque, append(data, t.Opaque...))
		}
		then(now, []ikewire.Payload{n})
	})
}

// requestTicket asks the responder.
func (m *Machine) requestTicket(now time.Time) {
	if m.state != stateEstablished || m.ini == nil || m.resumable == nil {
		return
	}
	m.begin(now, func(now time.Time) {
		if m.state != stateEstablished || m.superseded {
			m.finish(now)
			return
		}
		n := notify(ikewire.NotifyTicketRequest, nil)
		m.sendRequest(now, ikewire.Informational, []ikewire.Payload{n}, func(now time.Time, _ Message, inner []ikewire.Payload) {
			m.ticketReceived(now, ikewire.FindNotify(inner, ikewire.NotifyTicketLTOpaque))
		})
	})
}

// ticketReceived hands on what a TICKET_LT_OPAQUE (RFC 5723 section 7.1) holds,
// if there is one.
func (m *Machine) ticketReceived(now time.Time, n *ikewire.Notify) {
	if n == nil || m.ini == nil || m.resumable == nil || m.skD == nil {
		return
	}
	if len(n.Data) <= 4 {
		m.note(NoteMalformed, n.NotifyType.String())
		return
	}
	life := time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second
	m.emit(TicketReceived{Ticket: &Ticket{Opaque: clone(n.Data[4:]), Expires: now.Add(life), Resumption: m.resumption()}})
}
