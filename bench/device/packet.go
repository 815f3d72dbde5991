package device

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

const (
	// maxDatagram is the longest datagram that is read; what is longer is cut
	// and doesn't authenticate. An IKE_AUTH with a long chain and without
	// fragments has 6 KiB.
	maxDatagram = 8 << 10
	// headroom and tailroom are what ESP needs before and behind an inner
	// packet at most: 8 + 16 octets; 15 of padding, 2 and an ICV of 32.
	headroom = 32
	tailroom = 64
	// pooled buffers have this length; longer packets are allocated.
	pooled = 2 << 10

	// maxFailures of a socket in a row.
	maxFailures = 64

	protoIPv4 = 4
	protoIPv6 = 41
	protoNone = 59 // a dummy packet (RFC 4303 section 2.6)
)

// buffer holds a datagram, or an inner packet with headroom before it.
type buffer struct {
	data   []byte // all of it
	length int    // of the datagram or packet
}

var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, pooled)} }}

// getBuffer returns one of at least n octets.
func getBuffer(n int) *buffer {
	if n > pooled {
		return &buffer{data: make([]byte, n)}
	}
	return buffers.Get().(*buffer)
}

func (b *buffer) free() {
	if len(b.data) == pooled {
		buffers.Put(b)
	}
}

// Send sends an inner packet, or leaves it to who has the device, and keeps nothing
// of it. Errors: ErrQueueFull, ErrGone.
func (d *Device) Send(packet []byte) error {
	select {
	case <-d.done:
		return ErrGone
	default:
	}
	b := packetBuffer(packet)
	if !put(&d.backlog, &d.backlog.out, b, d.cfg.Queue) {
		b.free()
		return ErrQueueFull
	}
	if d.owner.TryLock() {
		d.disown()
	}
	return nil
}

func packetBuffer(packet []byte) *buffer {
	b := getBuffer(headroom + len(packet) + tailroom)
	b.length = copy(b.data[headroom:], packet)
	return b
}

// transmit encrypts in place and sends.
func (d *Device) transmit(b *buffer) {
	defer b.free()
	c := d.table.out
	switch {
	case d.asleep:
		d.counters.drop(DropAsleep)
		return
	case b.length == 0:
		d.counters.drop(DropInner)
		return
	case c == nil || c.next >= c.limit():
		d.counters.drop(DropNoChild)
		return
	}
	next := byte(protoIPv4)
	if b.data[headroom]>>4 == 6 {
		next = protoIPv6
	}
	packet := c.seal.Seal(b.data[headroom-c.seal.HeaderLen():], b.length, next, uint32(c.outbound), c.next)
	c.next++
	if d.write(packet, d.natt) {
		d.counters.sent.Add(1)
		d.counters.sentBytes.Add(uint64(b.length))
	}
}

// source of a datagram.
type source uint8

const (
	stranger source = iota // not the gateway
	plain                  // its port of IKE
	natted                 // its port of ESP in UDP
)

// readFrom gives the device what comes from a socket until it is closed.
func (d *Device) readFrom(s Socket, natt netip.AddrPort) {
	scratch := make([]byte, maxDatagram)
	for failures := 0; ; {
		n, from, err := s.ReadFromUDPAddrPort(scratch)
		if err != nil {
			// It may tell of something that was sent before (udp(7)).
			if failures++; errors.Is(err, net.ErrClosed) || failures > maxFailures {
				return
			}
			continue
		}
		failures = 0
		d.arrived(scratch[:n], from, natt)
	}
}

// arrived takes a datagram, valid during the call, at once or into the backlog.
func (d *Device) arrived(data []byte, from, natt netip.AddrPort) {
	at := stranger
	switch from = unmap(from); from {
	case natt:
		at = natted
	case d.cfg.Gateway:
		at = plain
	}
	// What is in the backlog came before.
	if d.backlog.waiting.Load() == 0 && d.owner.TryLock() {
		d.receive(time.Now(), data, at)
		d.disown()
		return
	}
	p := datagram{buffer: getBuffer(len(data)), source: at}
	p.length = copy(p.data, data)
	if !put(&d.backlog, &d.backlog.in, p, d.cfg.Queue) {
		p.free()
		d.counters.drop(DropInboxFull)
		return
	}
	if d.owner.TryLock() {
		d.disown()
	}
}

// receive takes one datagram, of which it may keep nothing.
func (d *Device) receive(now time.Time, data []byte, from source) {
	switch {
	case d.over:
	case d.asleep:
		d.counters.drop(DropAsleep)
	case from == stranger:
		d.counters.drop(DropStranger)
	case from == plain:
		d.message(now, data, false)
	case len(data) == 1 && data[0] == 0xff: // NAT keepalive, RFC 3948 section 2.3
	case len(data) < 4:
		d.counters.drop(DropShort)
	case binary.BigEndian.Uint32(data) == 0: // non-ESP marker, section 2.2
		d.message(now, data[4:], true)
	default:
		d.decrypt(data)
	}
}

// message gives an IKE message to its machine, which may keep it.
func (d *Device) message(now time.Time, data []byte, marker bool) {
	m := d.find(data)
	if m == nil {
		d.counters.drop(DropUnknownIKE)
		return
	}
	d.counters.ikeReceived.Add(1)
	in := ike.Message{Data: append([]byte(nil), data...), Local: d.local, Remote: d.cfg.Gateway, Marker: marker}
	if marker {
		in.Remote = d.natt
	}
	d.step(now, m, in)
}

func (d *Device) decrypt(packet []byte) {
	inner, next, lost, drop, ok := d.table.decrypt(packet)
	if !ok {
		d.counters.drop(drop)
		return
	}
	d.counters.lost.Add(lost)
	switch {
	case next == protoNone:
		return
	case len(inner) == 0 || (next != protoIPv4 || inner[0]>>4 != 4) && (next != protoIPv6 || inner[0]>>4 != 6):
		d.counters.drop(DropInner)
		return
	}
	d.counters.received.Add(1)
	d.counters.receivedBytes.Add(uint64(len(inner)))
	if len(d.pings) > 0 && d.pong(inner) {
		return
	}
	d.deliver(inner)
}

func (d *Device) deliver(inner []byte) {
	switch {
	case d.cfg.Deliver != nil:
		d.cfg.Deliver(inner)
	case d.cfg.TUN != nil:
		if _, err := d.cfg.TUN.Write(inner); err != nil {
			d.counters.drop(DropUnread)
		}
	default:
		select {
		case d.received() <- append([]byte(nil), inner...):
		default:
			d.counters.drop(DropUnread)
		}
	}
}

// received are inner packets that wait for Receive. Most devices of a load have none.
func (d *Device) received() chan []byte {
	d.unread.Do(func() { d.inner = make(chan []byte, d.cfg.Queue) })
	return d.inner
}

// Receive returns the next inner packet, which is the caller's. Errors: ErrGone,
// when all were taken; ctx.Err.
func (d *Device) Receive(ctx context.Context) ([]byte, error) {
	inner := d.received()
	select {
	case p := <-inner:
		return p, nil
	default:
	}
	select {
	case p := <-inner:
		return p, nil
	case <-d.done:
		return nil, ErrGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fromTUN sends what the TUN device gives, as fast as the device takes it.
func (d *Device) fromTUN() {
	scratch := make([]byte, maxDatagram)
	for {
		n, err := d.cfg.TUN.Read(scratch)
		if err != nil {
			return
		}
		d.owner.Lock()
		over := d.over
		if !over {
			d.transmit(packetBuffer(scratch[:n]))
		}
		d.disown()
		if over {
			return
		}
	}
}

// write sends a datagram by the socket.
func (d *Device) write(data []byte, to netip.AddrPort) bool {
	if _, err := d.socket.WriteToUDPAddrPort(data, to); err != nil {
		d.counters.drop(DropSend)
		return false
	}
	d.lastSent = time.Now()
	return true
}
