package device

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// State of a device.
type State uint8

const (
	Idle       State = iota // Connect was not called
	Connecting              // the handshake is under way
	Up                      // a Child SA carries packets
	Ended                   // over, see Info.Closed
)

func (s State) String() string {
	return [...]string{"idle", "connecting", "up", "ended"}[s]
}

// Info is what a device is at a moment.
type Info struct {
	State State
	// Summary of the IKE SA as it was established. After a rekeying it has the
	// algorithms of the new one.
	Summary ike.Summary
	// Closed says how it ended; nil while it didn't, or if the device vanished.
	Closed *ClosedError
	// Local address of the socket.
	Local netip.AddrPort
	// GatewayAddresses are those that the gateway told beside the one in use (RFC
	// 4555 section 3.4).
	GatewayAddresses []netip.Addr
	// Child is the inbound SPI of the Child SA that is sent by, 0 if none;
	// Children how many there are.
	Child    dataplane.SPI
	Children int
	// ChildSAs, IKESAs and Moves are how many there were, the first SAs
	// included.
	ChildSAs, IKESAs, Moves int
	Asleep                  bool
	// TicketRefused: the session was to be resumed and began in full.
	TicketRefused bool
}

// Drop is a reason for which a device dropped a packet.
type Drop uint8

const (
	DropAsleep     Drop = iota // it sleeps
	DropStranger               // not from the gateway
	DropInboxFull              // more came than it could take
	DropShort                  // neither IKE nor ESP
	DropUnknownIKE             // IKE, but of no IKE SA of ours
	DropUnknownSPI             // ESP, but of no Child SA of ours
	DropReplay                 // seen before, or too old
	DropIntegrity              // doesn't authenticate
	DropInner                  // what is in it is no IP packet
	DropUnread                 // nobody calls Receive, or TUN refuses
	DropNoChild                // nothing to send it by
	DropSend                   // the socket refused
	NumDrops
)

func (r Drop) String() string {
	return [NumDrops]string{
		"asleep", "stranger", "inbox_full", "short", "unknown_ike_spi", "unknown_spi", "replay", "integrity",
		"inner", "unread", "no_child", "send",
	}[r]
}

// Counters since the beginning. Packets and bytes are inner ones.
type Counters struct {
	Sent, SentBytes         uint64
	Received, ReceivedBytes uint64
	// Lost are the holes in the gateway's sequence numbers that nothing has
	// filled yet. What was lost after the last packet of a Child SA isn't seen.
	Lost int64
	// IKE messages, and NAT keepalives sent.
	IKESent, IKEReceived, Keepalives uint64
	Drops                            [NumDrops]uint64
}

// counters are written by the owner, but for drops of a full backlog.
type counters struct {
	sent, sentBytes, received, receivedBytes atomic.Uint64
	lost                                     atomic.Int64
	ikeSent, ikeReceived, keepalives         atomic.Uint64
	drops                                    [NumDrops]atomic.Uint64
}

func (c *counters) drop(r Drop) { c.drops[r].Add(1) }

// Counters may be called from any goroutine.
func (d *Device) Counters() Counters {
	c := &d.counters
	out := Counters{
		Sent: c.sent.Load(), SentBytes: c.sentBytes.Load(),
		Received: c.received.Load(), ReceivedBytes: c.receivedBytes.Load(),
		Lost:    c.lost.Load(),
		IKESent: c.ikeSent.Load(), IKEReceived: c.ikeReceived.Load(), Keepalives: c.keepalives.Load(),
	}
	for i := range c.drops {
		out.Drops[i] = c.drops[i].Load()
	}
	return out
}

// board is where the owner publishes Info.
type board struct {
	mu      sync.Mutex
	info    Info
	ticket  *ike.Ticket
	waiting []*waiter
}

// waiter for a condition, who is told once, when it holds or the device has ended.
type waiter struct {
	condition func(Info) bool
	tell      func(Info)
}

func (w *waiter) pleased(i Info) bool {
	return i.State == Ended || i.Closed != nil || w.condition(i)
}

func (b *board) keepTicket(t *ike.Ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ticket != nil {
		b.ticket.Erase()
	}
	b.ticket = t
}

// Ticket takes the newest ticket, which is then the caller's, to be erased; nil
// if there is none that wasn't taken. It may be called from any goroutine. A
// device that closed its session in order should forget it.
func (d *Device) Ticket() *ike.Ticket {
	d.board.mu.Lock()
	defer d.board.mu.Unlock()
	t := d.board.ticket
	d.board.ticket = nil
	return t
}

// publish is the owner's. Conditions may look at the device.
func (b *board) publish(i Info) {
	b.mu.Lock()
	b.info = i
	waiting := b.waiting
	b.mu.Unlock()
	for _, w := range waiting {
		if w.pleased(i) && b.leave(w) {
			w.tell(i)
		}
	}
}

// join who waits.
func (b *board) join(w *waiter) {
	b.mu.Lock()
	i := b.info
	b.waiting = append(b.waiting[:len(b.waiting):len(b.waiting)], w)
	b.mu.Unlock()
	if w.pleased(i) && b.leave(w) {
		w.tell(i)
	}
}

// leave says whether a waiter was still there.
func (b *board) leave(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, w)
	if i < 0 {
		return false
	}
	if len(b.waiting) == 1 {
		b.waiting = nil
	} else {
		b.waiting = slices.Concat(b.waiting[:i], b.waiting[i+1:]) // publish may look at it
	}
	return true
}

// Info may be called from any goroutine.
func (d *Device) Info() Info {
	d.board.mu.Lock()
	defer d.board.mu.Unlock()
	return d.board.info
}

// Await waits until condition holds, which is looked at whenever Info changes, on
// any goroutine, and has the rules of Config.Deliver. Errors: how the device ended,
// if it did so before; ctx.Err.
func (d *Device) Await(ctx context.Context, condition func(Info) bool) (Info, error) {
	woken := make(chan Info, 1)
	w := &waiter{condition: condition, tell: func(i Info) { woken <- i }}
	d.board.join(w)
	var i Info
	select {
	case i = <-woken:
	case <-ctx.Done():
		if d.board.leave(w) {
			return d.Info(), ctx.Err()
		}
		i = <-woken
	}
	switch {
	case condition(i):
		return i, nil
	case i.Closed != nil:
		return i, i.Closed
	}
	return i, ErrGone
}
