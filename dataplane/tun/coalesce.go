package tun

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/checksum"
)

const (
	// maxGroups is how many super-packets a Coalescer builds at once, maxParts how
	// many packets all of them hold.
	maxGroups = 64
	maxParts  = 1024
	// maxPerGroup keeps within what the kernel allows a UDP super-packet.
	maxPerGroup = 64
	maxLength   = 65535
	noPart      = -1
)

// Writer takes frames, virtio header first. Both calls return when the octets
// were taken or refused.
type Writer interface {
	Write(frame []byte) error
	// WriteVector takes one frame in parts.
	WriteVector(parts []unix.Iovec) error
}

// Coalescer is the inverse of a [Segmenter]: of packets that follow each other
// in a TCP or UDP flow it makes super-packets, so that a host's stack and its
// bridges are walked once for many packets. What it writes, a Segmenter or a
// kernel cuts into the packets that came, in their order.
//
// The rules are those of the kernel's GRO (net/ipv4/tcp_offload.c,
// udp_offload.c): same flow, same headers, TCP sequence numbers without a gap,
// payloads of one size but the last; PSH and FIN end a super-packet, and one with
// CWR can only begin it; with SYN, RST, URG, IP options or extension headers
// nothing is joined. Two more: an octet is joined only where both checksums were
// found right, because the super-packet gets new ones; and the identification of
// IPv4 packets that allow no fragments may be any (it becomes counting then; RFC
// 6864 section 4.1 has nobody look at it), that of others must count.
//
// Packets of a flow never overtake each other. Between flows they may, by less
// than a batch. Nothing is copied: frames are the caller's memory until Flush,
// and change. It is used by one goroutine.
type Coalescer struct {
	writer Writer
	uso    bool

	groups [maxGroups]group // in the order in which they were begun
	used   int
	slots  [2 * maxGroups]uint8 // by hash of the flow: 1 + index of its group
	parts  [maxParts]part
	held   int

	vectors [maxPerGroup]unix.Iovec
	refused int
}

// part is the payload of a packet behind the first of its group.
type part struct {
	payload []byte
	next    int16
}

type group struct {
	frame       []byte // the first packet, behind room for a virtio header; nil: written
	flow        flow
	first, last int16 // parts
	slot        uint8
	verified    bool // the checksums of the first packet
	count       int
	length      int    // of the super-packet by now
	size        int    // of a payload
	seq         uint32 // TCP: that comes next
	id          uint16 // IPv4: that comes next
}

// flow is where the headers of a packet stand, and whether it may be joined.
type flow struct {
	kind      flowKind
	v6        bool
	proto     byte
	transport int
	payload   int
	slot      uint8
}

type flowKind uint8

const (
	flowUnknown flowKind = iota // belongs to any flow
	flowAlone                   // of a flow, but not to be joined
	flowJoins
)

// NewCoalescer returns a coalescer in front of w. uso says that w takes UDP
// super-packets ([Device.USO]); without, UDP goes packet by packet.
func NewCoalescer(w Writer, uso bool) *Coalescer {
	return &Coalescer{writer: w, uso: uso}
}

// Add takes one frame: HeaderLen octets of room and one IP packet, complete,
// whose length is what its header says. It is written by the next Flush at the
// latest.
func (c *Coalescer) Add(frame []byte) {
	if c.held == maxParts {
		c.writeAll()
	}
	packet := frame[HeaderLen:]
	f := c.classify(packet)
	switch f.kind {
	case flowUnknown:
		c.writeAll()
		c.single(frame)
		return
	case flowAlone:
		if g := c.open(f.slot); g != nil && g.sameFlow(packet, &f) {
			c.write(g)
		}
		c.single(frame)
		return
	case flowJoins:
	}
	g := c.open(f.slot)
	if g != nil && g.sameFlow(packet, &f) && g.follows(packet, &f) && c.join(g, packet, &f) {
		return
	}
	if g != nil {
		c.write(g)
	}
	if f.ends(packet) {
		c.single(frame)
		return
	}
	c.begin(frame, &f)
}

// Flush writes what is left and returns how many packets the writer refused
// since the last Flush. Afterwards the frames are the caller's again.
func (c *Coalescer) Flush() (refused int) {
	c.writeAll()
	refused, c.refused = c.refused, 0
	return refused
}

func (c *Coalescer) open(slot uint8) *group {
	if at := c.slots[slot]; at != 0 {
		return &c.groups[at-1]
	}
	return nil
}

func (c *Coalescer) begin(frame []byte, f *flow) {
	if c.used == maxGroups {
		c.writeAll()
	}
	packet := frame[HeaderLen:]
	g := &c.groups[c.used]
	*g = group{frame: frame, flow: *f, first: noPart, last: noPart, slot: f.slot, count: 1, length: len(packet), size: len(packet) - f.payload}
	if f.proto == protoTCP {
		g.seq = binary.BigEndian.Uint32(packet[f.transport+4:]) + uint32(g.size)
	}
	if !f.v6 {
		g.id = binary.BigEndian.Uint16(packet[4:]) + 1
	}
	c.used++
	c.slots[f.slot] = uint8(c.used)
}

// join adds the payload of a packet that follows; false where a checksum is
// wrong, which leaves everything as it was.
func (c *Coalescer) join(g *group, packet []byte, f *flow) bool {
	if !g.verified {
		if g.verified = checksumsRight(g.frame[HeaderLen:], &g.flow); !g.verified {
			return false
		}
	}
	if !checksumsRight(packet, f) {
		return false
	}
	at := int16(c.held)
	c.parts[at] = part{payload: packet[f.payload:], next: noPart}
	c.held++
	if g.first == noPart {
		g.first = at
	} else {
		c.parts[g.last].next = at
	}
	g.last = at
	g.count++
	g.id++
	n := len(packet) - f.payload
	g.length += n
	g.seq += uint32(n)
	if f.proto == protoTCP {
		g.frame[HeaderLen+f.transport+tcpFlagsAt] |= packet[f.transport+tcpFlagsAt] & (tcpFIN | tcpPSH)
	}
	if n < g.size || g.count == maxPerGroup || g.length+g.size > maxLength || f.ends(packet) {
		c.write(g)
	}
	return true
}

func (c *Coalescer) writeAll() {
	for i := range c.groups[:c.used] {
		if g := &c.groups[i]; g.frame != nil {
			c.write(g)
		}
	}
	clear(c.parts[:c.held])
	c.used, c.held = 0, 0
}

// write gives a group to the writer.
func (c *Coalescer) write(g *group) {
	c.slots[g.slot] = 0
	frame := g.frame
	g.frame = nil
	if g.count == 1 {
		c.single(frame)
		return
	}
	g.finish(frame)
	c.vectors[0] = iovec(frame)
	n := 1
	for at := g.first; at != noPart; at = c.parts[at].next {
		c.vectors[n] = iovec(c.parts[at].payload)
		n++
	}
	if c.writer.WriteVector(c.vectors[:n]) != nil {
		c.refused += g.count
	}
}

// single writes a packet as it came: its checksums are the sender's.
func (c *Coalescer) single(frame []byte) {
	clear(frame[:HeaderLen])
	if c.writer.Write(frame) != nil {
		c.refused++
	}
}

func iovec(b []byte) (v unix.Iovec) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
	return v
}

// finish makes the headers of the first packet those of the super-packet.
func (g *group) finish(frame []byte) {
	packet, f := frame[HeaderLen:], &g.flow
	segment := packet[f.transport:]
	addresses := packet[12:20]
	if f.v6 {
		binary.BigEndian.PutUint16(packet[4:], uint16(g.length-ipv6HeaderLen))
		addresses = packet[8:40]
	} else {
		binary.BigEndian.PutUint16(packet[2:], uint16(g.length))
		clear(packet[10:12])
		checksum.Put(packet[10:12], checksum.Sum(packet[:ipv4HeaderLen], 0))
	}
	kind, csumAt := byte(gsoUDP), udpCsumAt
	if f.proto == protoTCP {
		kind, csumAt = gsoTCPv4, tcpCsumAt
		if f.v6 {
			kind = gsoTCPv6
		}
		if segment[tcpFlagsAt]&tcpCWR != 0 {
			kind |= gsoECN
		}
	} else {
		binary.BigEndian.PutUint16(segment[4:], uint16(g.length-f.transport))
	}
	// The sum of the pseudo-header, not its complement (virtio 1.2 section
	// 5.1.6.2).
	binary.NativeEndian.PutUint16(segment[csumAt:], checksum.Fold(checksum.Pseudo(addresses, f.proto, g.length-f.transport)))

	frame[0], frame[1] = flagNeedsCsum, kind
	binary.LittleEndian.PutUint16(frame[2:], uint16(f.payload))
	binary.LittleEndian.PutUint16(frame[4:], uint16(g.size))
	binary.LittleEndian.PutUint16(frame[6:], uint16(f.transport))
	binary.LittleEndian.PutUint16(frame[8:], uint16(csumAt))
}
