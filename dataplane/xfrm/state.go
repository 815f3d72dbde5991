package xfrm

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// state describes one SA to the kernel.
type state struct {
	id       stateID
	src      netip.Addr
	outbound bool
	// sport and dport of ESP in UDP; raw ESP where dport is 0.
	sport, dport uint16
	reqid, ifID  uint32
	// source that packets from an inbound SA must have; the zero Addr checks
	// nothing and lets both families in.
	source netip.Addr
	alg    dataplane.Algorithm
	keys   dataplane.Keys
	esn    bool

	limits   limits
	replay   replay
	lifetime lifetime

	copyDSCP bool
	// direction attribute: the kernel knows it (6.10).
	directed bool
	// offload to the interface of that index.
	offload int
}

// stateID is what the kernel knows an SA by.
type stateID struct {
	dst netip.Addr
	spi dataplane.SPI
}

// limits of one SA; zero is none.
type limits struct{ soft, hard dataplane.Limits }

// lifetime is how far an SA has been used.
type lifetime struct {
	bytes, packets uint64
	// used is when it was used first, in Unix seconds; 0 never.
	used uint64
}

// replay is the state of the sequence numbers.
type replay struct {
	// out is the last number that was sent, in the highest that was received.
	out, in uint64
	// bitmap as the kernel has it: number n is bit (n-1) mod windowLen. An
	// outbound SA has none.
	bitmap [windowWords]uint32
}

// replayOf takes the state that another backend exported.
func replayOf(s *dataplane.ChildState) replay {
	r := replay{out: s.NextSequence - 1, in: s.Replay}
	for i := range uint64(min(windowLen, 64*len(s.ReplayWindow))) {
		if i < s.Replay && s.ReplayWindow[i/64]>>(i%64)&1 != 0 {
			r.set(s.Replay - i)
		}
	}
	return r
}

func (r *replay) set(n uint64) {
	bit := (n - 1) % windowLen
	r.bitmap[bit/32] |= 1 << (bit % 32)
}

// window is the bitmap with the highest number as bit 0.
func (r *replay) window() []uint64 {
	words := make([]uint64, windowLen/64)
	for i := range min(windowLen, r.in) {
		bit := (r.in - i - 1) % windowLen
		if r.bitmap[bit/32]>>(bit%32)&1 != 0 {
			words[i/64] |= 1 << (i % 64)
		}
	}
	return words
}

// newSA appends XFRM_MSG_NEWSA, or XFRM_MSG_UPDSA.
func (b *batch) newSA(kind uint16, s *state) {
	b.begin(kind, 0)
	b.saInfo(s)
	b.algorithm(s)
	if s.dport != 0 {
		e := b.attr(attrEncap, lenEncap)
		native.PutUint16(e, encapESPInUDP)
		network.PutUint16(e[2:], s.sport)
		network.PutUint16(e[4:], s.dport)
		if !s.outbound {
			b.attr32(attrMappingAge, mappingAge)
		}
	}
	b.replayESN(s)
	if s.lifetime != (lifetime{}) {
		putLifetime(b.attr(attrLifetime, 32), s.lifetime)
	}
	if s.outbound && !s.copyDSCP {
		b.attr32(attrExtraFlags, extraDontEncapDSCP)
	}
	if s.offload != 0 {
		o := b.attr(attrOffload, 8)
		native.PutUint32(o, uint32(s.offload))
		if !s.outbound {
			o[4] = offloadInbound
		}
	}
	b.attr32(attrIfID, s.ifID)
	if s.directed {
		b.attr(attrDirection, 1)[0] = s.directionValue()
	}
	b.end()
}

func (s *state) directionValue() byte {
	if s.outbound {
		return saDirOut
	}
	return saDirIn
}

// saInfo appends struct xfrm_usersa_info.
func (b *batch) saInfo(s *state) {
	info := b.room(lenSAInfo)
	if s.source.IsValid() {
		putSelector(info, selector{src: netip.PrefixFrom(s.source, s.source.BitLen()), dst: anyPrefix(s.source)})
	}
	putAddr(info[56:], s.id.dst)
	network.PutUint32(info[72:], uint32(s.id.spi))
	info[76] = unix.IPPROTO_ESP
	putAddr(info[80:], s.src)
	for i, v := range []uint64{s.limits.soft.Bytes, s.limits.hard.Bytes, s.limits.soft.Packets, s.limits.hard.Packets} {
		if v == 0 {
			v = infinite
		}
		native.PutUint64(info[96+8*i:], v)
	}
	native.PutUint32(info[208:], s.reqid)
	native.PutUint16(info[212:], family(s.id.dst))
	info[214] = modeTunnel
	if !s.source.IsValid() {
		info[216] |= flagAFUnspec
	}
	if s.outbound {
		info[216] |= flagNoPMTUDiscovery
	}
	if s.esn {
		info[216] |= flagESN
	}
}

// replayESN appends struct xfrm_replay_state_esn, which windows of more than 32
// packets need without ESN, too. An outbound SA that says so has no window; a
// kernel that doesn't know directions wants one for ESN.
func (b *batch) replayESN(s *state) {
	words := windowWords
	if s.outbound && s.directed {
		words = 0
	}
	r := b.attr(attrReplayESN, lenReplayESN+4*words)
	native.PutUint32(r, uint32(words))
	native.PutUint32(r[4:], uint32(s.replay.out))
	native.PutUint32(r[12:], uint32(s.replay.out>>32))
	native.PutUint32(r[20:], uint32(32*words))
	if s.outbound {
		return
	}
	native.PutUint32(r[8:], uint32(s.replay.in))
	native.PutUint32(r[16:], uint32(s.replay.in>>32))
	for i := range words {
		native.PutUint32(r[lenReplayESN+4*i:], s.replay.bitmap[i])
	}
}

func putLifetime(to []byte, l lifetime) {
	native.PutUint64(to, l.bytes)
	native.PutUint64(to[8:], l.packets)
	native.PutUint64(to[16:], l.used)
	native.PutUint64(to[24:], l.used)
}

// byID appends XFRM_MSG_GETSA or XFRM_MSG_DELSA.
func (b *batch) byID(kind uint16, id stateID) {
	b.begin(kind, 0)
	putSAID(b.room(lenSAID), id)
	b.end()
}

func putSAID(to []byte, id stateID) {
	putAddr(to, id.dst)
	network.PutUint32(to[16:], uint32(id.spi))
	native.PutUint16(to[20:], family(id.dst))
	to[22] = unix.IPPROTO_ESP
}
