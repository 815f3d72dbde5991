package userspace

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

/* What belongs to another loop
 *
 * An SA has one owner, which alone touches its window and its counters. Who owns
 * an ESP packet is in its SPI, who owns a packet from the inside is in the
 * directory. The kernel gives a socket and a queue of the inside device what it
 * likes; with Config.Steering mostly what the loop owns, but a bundle is steered
 * by its first datagram. So each packet is told apart here, and what is foreign is
 * copied into the owner's ring, in the order in which it came.
 */

// ringLen bounds the octets that wait for a loop.
const ringLen = 1 << 20

// ring is a bounded queue of packets from other loops to one. Its reader takes
// all at once and gives the memory back with the next call.
type ring struct {
	mu      sync.Mutex
	filling []byte
	taken   []byte // the reader's
}

// foreign is the head of a packet in a ring.
type foreign struct {
	kind   foreignKind
	at     uint8 // local address that it came to
	tos    uint8
	remote netip.AddrPort
}

type foreignKind uint8

const (
	foreignESP   foreignKind = iota // ESP packet
	foreignFrame                    // frame of the inside
)

// foreignHead: kind, at, tos, family, port, address, length.
const foreignHead = 4 + 2 + 16 + 4

// put copies a packet; first says that the ring was empty. The reader has to be
// woken then.
func (r *ring) put(f foreign, data []byte) (first, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filling == nil {
		r.filling, r.taken = make([]byte, 0, ringLen), make([]byte, 0, ringLen)
	}
	if len(r.filling)+foreignHead+len(data) > ringLen {
		return false, false
	}
	first = len(r.filling) == 0
	e := endpointOf(f.remote)
	v6 := byte(0)
	if e.v6 {
		v6 = 1
	}
	b := append(r.filling, byte(f.kind), f.at, f.tos, v6)
	b = binary.BigEndian.AppendUint16(b, e.port)
	b = append(b, e.addr[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	r.filling = append(b, data...)
	return first, true
}

// take returns what waits; it is the reader's until the next take.
func (r *ring) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.filling) == 0 {
		return nil
	}
	r.filling, r.taken = r.taken[:0], r.filling
	return r.taken
}

// next cuts the first packet off.
func nextForeign(b []byte) (f foreign, data, rest []byte) {
	e := endpoint{v6: b[3] != 0, port: binary.BigEndian.Uint16(b[4:]), addr: [16]byte(b[6:22])}
	f = foreign{kind: foreignKind(b[0]), at: b[1], tos: b[2], remote: e.addrPort()}
	n := foreignHead + int(binary.BigEndian.Uint32(b[22:]))
	return f, b[foreignHead:n:n], b[n:]
}

// pass hands a packet to its owner.
func (l *loop) pass(owner uint8, f foreign, data []byte) {
	to := l.loops[owner]
	first, ok := to.ring.put(f, data)
	if !ok {
		l.drop(dataplane.ReasonOwnerBehind)
		return
	}
	l.passed++
	if first {
		to.wakeUp()
	}
}

// foreign handles what other loops have passed on.
func (l *loop) foreign() (worked bool) {
	b := l.ring.take()
	worked = len(b) > 0
	for len(b) > 0 {
		var f foreign
		var data []byte
		f, data, b = nextForeign(b)
		switch f.kind {
		case foreignESP:
			l.fromESP(l.locals[f.at], &encap.Datagram{Payload: data, Remote: f.remote, TOS: f.tos})
		case foreignFrame:
			l.fromInside(data, true)
		}
	}
	if worked {
		l.flushInside()
		l.flushOutside()
	}
	return worked
}
