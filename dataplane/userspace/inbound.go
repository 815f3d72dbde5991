package userspace

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

/* Outside to inside
 *
 * 1. A batch of datagrams                             inbound
 * 2. IKE, ESP or NAT keepalive                        fromEncap
 * 3. SPI: the loop, the SA, and whether it may carry  fromESP
 *    more; a source that can't be outside
 * 4. Sequence number against the replay window        fromESP
 * 5. Authenticate and decrypt, in place; in some      fromESP
 *    builds all of a batch before it (batches.go)
 * 6. Window, counters, limits, hint of a new address  authenticated
 * 7. Inner packet: header, source, selectors, ECN     fromTunnel
 * 8. Joined with those of its flow, and written to    tun.Coalescer
 *    the inside, at the end of the batch at the latest
 *
 * All of them run one after the other in the loop's goroutine, a packet at a
 * time; the datagram's memory is the receiver's and is free again when the
 * batch is done. Between loops the stages run in parallel: each has its own
 * sockets and SAs.
 */

const (
	// espFixedLen: SPI and sequence number (RFC 4303 section 2).
	espFixedLen = 8
	// hintInterval is how often AddressChanged is repeated for an SA.
	hintInterval = time.Second
	// touchAhead is of how many datagrams the states are fetched together.
	touchAhead = 16
)

// inbound handles one batch from a socket for UDP encapsulation. It returns whether
// there was ESP in it.
func (l *loop) inbound(at *local) (worked bool) {
	n := l.receiver.Receive(at.Encap)
	for i := range n {
		if i%touchAhead == 0 {
			l.touch(i, min(i+touchAhead, n))
		}
		l.openAhead(i, n)
		d := l.receiver.Datagram(i)
		if d.Truncated {
			l.drop(dataplane.ReasonTruncated)
			continue
		}
		worked = l.fromEncap(at, &d) || worked
	}
	l.openAhead(n, n)
	l.flushInside()
	return worked
}

func (l *loop) flushInside() {
	l.drops[dataplane.ReasonInsideWrite] += uint64(l.coalescer.Flush())
}

// touch reads the states that some datagrams need, one right after the other, so
// that the processor fetches all of them at once instead of one whenever it is
// needed: with many SAs they are in no cache.
func (l *loop) touch(from, to int) {
	for i := from; i < to; i++ {
		l.touchState(l.receiver.Payload(i))
	}
}

func (l *loop) touchState(packet []byte) {
	if len(packet) < espFixedLen {
		return
	}
	spi := dataplane.SPI(binary.BigEndian.Uint32(packet))
	if s := l.tables[memberOf(spi)].at(slotOf(spi)); s != nil {
		l.touched += uint32(s.spi) + uint32(s.counters.lastIn) + uint32(s.activation)
	}
}

// ikeInbound handles one batch from a socket that has IKE only.
func (l *loop) ikeInbound(at *local) {
	for i := range l.receiver.Receive(at.IKE) {
		d := l.receiver.Datagram(i)
		switch {
		case d.Truncated:
			l.drop(dataplane.ReasonTruncated)
		case len(d.Payload) == 0:
			l.drop(dataplane.ReasonShort)
		case l.isInside(d.Remote.Addr()):
			l.drop(dataplane.ReasonOuterInside)
		case !l.ikeQueue.put(d.Payload, at.IKE.Local(), d.Remote, false):
			l.drop(dataplane.ReasonIKEQueueFull)
		}
	}
}

// fromEncap returns whether it was ESP.
func (l *loop) fromEncap(at *local, d *encap.Datagram) bool {
	kind, payload := encap.Classify(d.Payload)
	switch kind {
	case encap.KindESP:
		l.fromESP(at, d)
	case encap.KindIKE:
		if l.isInside(d.Remote.Addr()) {
			l.drop(dataplane.ReasonOuterInside)
		} else if !l.ikeQueue.put(payload, at.Encap.Local(), d.Remote, true) {
			l.drop(dataplane.ReasonIKEQueueFull)
		}
	case encap.KindKeepalive: // it did its work in the NAT
	case encap.KindShort:
		l.drop(dataplane.ReasonShort)
	}
	return kind == encap.KindESP
}

func (l *loop) fromESP(at *local, d *encap.Datagram) {
	packet := d.Payload
	if len(packet) < espFixedLen {
		l.drop(dataplane.ReasonShort)
		return
	}
	spi := dataplane.SPI(binary.BigEndian.Uint32(packet))
	if owner := loopOf(spi); owner != l.sadb.loop && int(owner) < len(l.loops) {
		l.pass(owner, foreign{kind: foreignESP, at: at.number, tos: d.TOS, remote: d.Remote}, packet)
		return
	}
	s := l.installed(spi)
	moved := s == nil || endpointOf(d.Remote) != s.peer
	// Where the path leads was looked at when it was set.
	if moved && l.isInside(d.Remote.Addr()) {
		l.drop(dataplane.ReasonOuterInside)
		return
	}
	if s == nil {
		l.drop(dataplane.ReasonUnknownSPI)
		if l.unknownSPI.take(l.now) {
			l.tell(dataplane.UnknownSPI{SPI: spi, Local: at.Encap.Local(), Remote: d.Remote, Encapsulation: dataplane.EncapsulationUDP})
		}
		return
	}
	if s.counters.reached(&s.hard) {
		l.drop(dataplane.ReasonHardLimit)
		return
	}
	seq, verdict := s.window.Check(binary.BigEndian.Uint32(packet[4:]), s.esn)
	switch verdict {
	case esp.Fresh:
	case esp.Replayed:
		l.drop(dataplane.ReasonReplay)
		return
	case esp.TooOld:
		l.drop(dataplane.ReasonReplayOld)
		return
	}
	inner, nextHeader, err := l.open(s, packet, seq)
	if err != nil {
		l.drop(reasonOf(err))
		return
	}
	l.authenticated(s, at, d, seq, len(inner), moved || at.number != s.at)
	l.fromTunnel(s, packet, inner, nextHeader, d.TOS)
}

func reasonOf(err error) dataplane.Reason {
	switch {
	case errors.Is(err, esp.ErrShort):
		return dataplane.ReasonShort
	case errors.Is(err, esp.ErrPadding):
		return dataplane.ReasonPadding
	}
	return dataplane.ReasonIntegrity
}

// authenticated notes that a packet came that only the peer can have made. It
// counts whatever is inside: limits are on the use of the key.
func (l *loop) authenticated(s *sa, at *local, d *encap.Datagram, seq uint64, length int, moved bool) {
	l.carried = true
	advanced := s.window.Advance(seq)
	s.counters.packetsIn++
	s.counters.bytesIn += uint64(length)
	s.counters.lastIn = l.now
	l.checkLimits(s)
	// Only the newest packet says where the device is: an older one may come
	// late from where it was. Once in a while is enough, and a device that
	// shows two addresses in turn must not fill the channel.
	if advanced && moved && (s.hinted == 0 || l.now-s.hinted >= hintInterval) {
		if l.tell(dataplane.AddressChanged{Inbound: s.spi, Local: at.Encap.Local(), Remote: d.Remote}) {
			s.hinted = l.now
		}
	}
}

// fromTunnel checks an inner packet, a slice of the ESP packet, and hands it to
// the coalescer.
func (l *loop) fromTunnel(s *sa, packet, inner []byte, nextHeader byte, outerTOS uint8) {
	switch nextHeader {
	case protoIPv4, protoIPv6:
	case protoNone:
		return // dummy packet (RFC 4303 section 2.6)
	default:
		l.drop(dataplane.ReasonNextHeader)
		return
	}
	p, ok := parse(inner)
	if !ok || p.v6 != (nextHeader == protoIPv6) {
		l.drop(dataplane.ReasonInnerMalformed)
		return
	}
	if !s.has(p.src) {
		l.drop(dataplane.ReasonInnerSource)
		return
	}
	policy := l.policies.at(s.policy)
	if !s.remoteVirtual && !selected(policy.remote, &p, p.src, p.srcPort) || !selected(policy.local, &p, p.dst, p.dstPort) {
		l.drop(dataplane.ReasonSelectorIn)
		return
	}
	if !decapsulateECN(inner, &p, outerTOS) {
		l.drop(dataplane.ReasonECN)
		return
	}
	clampMSS(inner[:p.length], &p, int(s.innerMTU))

	// The end of the ESP header becomes the virtio header. What lies behind p.length is TFC padding (RFC 4303 section
	// 2.7). The kernel decrements the TTL when it forwards the packet.
	at := policy.layout.HeaderLen()
	l.coalescer.Add(packet[at-tun.HeaderLen : at+p.length])
}
