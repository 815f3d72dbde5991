package userspace

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/tun"
)

/* Inside to outside
 *
 * 1. A frame: one packet, or a super-packet            outbound
 * 2. Its IP header, the same for all of its segments   fromInside
 * 3. Virtual address and selectors: the loop, the SA   fromInside
 * 4. Length against the path                           fromInside
 * 5. Segments, each right into its send buffer         fromInside
 * 6. Limits and sequence number                        seal
 * 7. Encrypt, in place                                 seal
 * 8. One system call for a batch of a local address    flush
 *
 * All of them run one after the other in the loop's goroutine. All senders
 * are empty at the end of each round. The TTL stays as it is: the kernel decremented
 * it when it forwarded the packet to the inside device (RFC 4301 section 5.1.2).
 */

// sendBufferLen has room for the ESP packet of the longest inner packet that is
// ever sealed: what fits through the path, or 1,280 octets.
func sendBufferLen(pathMTU int) int { return max(pathMTU, minIPv6MTU) + maxESPOverhead }

// maxESPOverhead is more than any transform adds.
const maxESPOverhead = 128

// outbound handles frames from the inside until they gave a batch of packets; a
// super-packet is finished.
func (l *loop) outbound() (worked bool) {
	l.sealed = 0
	for frames := 0; frames < batch && l.sealed < sendBatch; frames++ {
		n, err := l.inside.Read(l.frame)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				l.insideFailed(err)
			}
			break
		}
		worked = true
		l.fromInside(l.frame[:n], false)
	}
	l.flushOutside()
	l.carried = l.carried || worked
	return worked
}

// fromInside handles a frame; passed says that another loop did so before.
func (l *loop) fromInside(frame []byte, passed bool) {
	if err := l.segmenter.Reset(frame); err != nil {
		l.drop(dataplane.ReasonInsideMalformed)
		return
	}
	p, ok := parse(frame[tun.HeaderLen:])
	if !ok {
		l.drop(dataplane.ReasonInsideMalformed)
		return
	}
	s, reason := l.childFor(&p)
	if s == nil && reason == dataplane.ReasonNoChild && !passed && len(l.loops) > 1 {
		if h, ok := l.directory.holder(p.dst); ok && h.loop != l.sadb.loop {
			l.pass(h.loop, foreign{kind: foreignFrame}, frame)
			return
		}
	}
	if s == nil {
		l.drop(reason)
		return
	}
	if l.segmenter.MaxLen() > mtuFor(&p, int(s.innerMTU)) {
		l.squeeze(s)
		return
	}
	header := l.policies.at(s.policy).layout.HeaderLen()
	for {
		buffer := l.buffer(s)
		n := l.segmenter.Next(buffer[header:])
		if n == 0 {
			return
		}
		clampMSS(buffer[header:header+n], &p, int(s.innerMTU))
		l.seal(s, buffer, n, &p)
	}
}

// childFor returns the newest child that carries p, or why there is none.
func (l *loop) childFor(p *packet) (*sa, dataplane.Reason) {
	spi := l.newest[p.dst.As16()]
	if spi == 0 {
		return nil, dataplane.ReasonNoChild
	}
	for spi != 0 {
		s := l.find(spi)
		policy := l.policies.at(s.policy)
		if (s.remoteVirtual || selected(policy.remote, p, p.dst, p.dstPort)) && selected(policy.local, p, p.src, p.srcPort) {
			return s, 0
		}
		spi = *s.older(p.dst)
	}
	return nil, dataplane.ReasonSelectorOut
}

// squeeze handles what the segmenter has where some of it doesn't fit through
// the path: the sender is told, or the packet is fragmented where it allows it.
func (l *loop) squeeze(s *sa) {
	for n := l.segmenter.Next(l.scratch); n > 0; n = l.segmenter.Next(l.scratch) {
		inner := l.scratch[:n]
		p, ok := parse(inner)
		if !ok {
			l.drop(dataplane.ReasonInsideMalformed)
			continue
		}
		clampMSS(inner, &p, int(s.innerMTU))
		mtu := mtuFor(&p, int(s.innerMTU))
		switch {
		case n <= mtu:
			buffer := l.buffer(s)
			copy(buffer[l.policies.at(s.policy).layout.HeaderLen():], inner)
			l.seal(s, buffer, n, &p)
		case p.dontFragment || !l.fragments.reset(inner, mtu):
			l.drop(dataplane.ReasonTooBig)
			l.answerTooBig(inner, &p, mtu)
		default:
			l.sealFragments(s, &p)
		}
	}
}

func (l *loop) sealFragments(s *sa, p *packet) {
	header := l.policies.at(s.policy).layout.HeaderLen()
	for {
		buffer := l.buffer(s)
		n := l.fragments.next(buffer[header:])
		if n == 0 {
			return
		}
		l.seal(s, buffer, n, p)
	}
}

// answerTooBig tells the sender of the inner packet about the path. A lost
// answer is repeated with the next packet.
func (l *loop) answerTooBig(inner []byte, p *packet, mtu int) {
	if !l.icmp.take(l.now) {
		return
	}
	if n := tooBig(l.answer, inner, p, mtu); n > 0 && l.inside.Write(l.answer[:n]) != nil {
		l.drop(dataplane.ReasonInsideWrite)
	}
}

// seal makes the inner packet of n octets that stands in the sender's buffer
// behind the room for the ESP header an ESP packet, and queues it. Nothing can
// fail once the sequence number is taken.
func (l *loop) seal(s *sa, buffer []byte, n int, p *packet) {
	if s.counters.reached(&s.hard) {
		l.drop(dataplane.ReasonHardLimit)
		return
	}
	if s.next == 0 || !s.esn && s.next > math.MaxUint32 {
		l.drop(dataplane.ReasonSequenceExhausted)
		if !s.hardTold {
			s.hardTold = true
			l.tell(dataplane.LimitReached{Inbound: s.spi, Hard: true})
		}
		return
	}
	seq := s.next
	s.next++

	nextHeader := byte(protoIPv4)
	if p.v6 {
		nextHeader = protoIPv6
	}
	length := l.sealInto(s, buffer, n, nextHeader, seq)
	l.locals[s.at].sender.Push(length, s.peer.addrPort(), l.outerTOS(p))

	l.sealed++
	s.counters.packetsOut++
	s.counters.bytesOut += uint64(n)
	s.counters.lastOut = l.now
	l.checkLimits(s)
}

// outerTOS copies ECN (RFC 6040 section 4.1, normal mode) and, if wanted, DSCP,
// which shows the outside what kind of traffic is inside (RFC 4301 section
// 5.1.2.1 note 4).
func (l *loop) outerTOS(p *packet) uint8 {
	if l.config.CopyDSCP {
		return p.tos
	}
	return p.tos & ecnMask
}

// buffer is the next send buffer for the path of s.
func (l *loop) buffer(s *sa) []byte {
	at := l.locals[s.at]
	if at.sender.Full() {
		l.flush(at)
	}
	return at.sender.Buffer()
}

func (l *loop) flushOutside() {
	for _, at := range l.locals {
		l.flush(at)
	}
}

func (l *loop) flush(at *local) {
	l.sealAll(at)
	l.drops[dataplane.ReasonOutsideSend] += uint64(at.sender.Flush())
}
