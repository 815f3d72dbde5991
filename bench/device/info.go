package device

import (
	"context"
	"net/netip"
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

// counters are written by the owner, but for drops of full queues.
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
	changed chan struct{} // closed by the next publish
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

func (b *board) publish(i Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.info = i
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) read() (Info, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.info, b.changed
}

// Info may be called from any goroutine.
func (d *Device) Info() Info {
	i, _ := d.board.read()
	return i
}

// Await waits until condition holds. Errors: how the device ended, if it did so
// before; ctx.Err.
func (d *Device) Await(ctx context.Context, condition func(Info) bool) (Info, error) {
	for {
		i, changed := d.board.read()
		switch {
		case condition(i):
			return i, nil
		case i.Closed != nil:
			return i, i.Closed
		case i.State == Ended:
			return i, ErrGone
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
}
