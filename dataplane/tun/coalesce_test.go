package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/checksum"
)

// frames records what a Coalescer writes.
type frames struct {
	all     [][]byte
	refuses bool
}

func (f *frames) Write(frame []byte) error {
	if f.refuses {
		return unix.EAGAIN
	}
	f.all = append(f.all, bytes.Clone(frame))
	return nil
}

func (f *frames) WriteVector(parts []unix.Iovec) error {
	if f.refuses {
		return unix.EAGAIN
	}
	var frame []byte
	for _, p := range parts {
		frame = append(frame, octets(p)...)
	}
	f.all = append(f.all, frame)
	return nil
}

// inner is a packet of a flow, complete with its checksums.
type inner struct {
	v6                bool
	proto             byte
	flow              uint16 // source port
	id                uint16
	seq, ack          uint32
	flags             byte
	tos, ttl          byte
	options           string
	payload           int
	mayFragment       bool
	window            uint16
	corrupt, noUDPSum bool
}

func (p inner) build() []byte {
	var segment []byte
	if p.proto == protoTCP {
		segment = make([]byte, tcpHeaderLen)
		binary.BigEndian.PutUint32(segment[4:], p.seq)
		binary.BigEndian.PutUint32(segment[8:], p.ack)
		segment[12] = byte(tcpHeaderLen+len(p.options)) << 2
		segment[tcpFlagsAt] = p.flags
		binary.BigEndian.PutUint16(segment[14:], p.window)
		segment = append(segment, p.options...)
	} else {
		segment = make([]byte, udpHeaderLen)
		binary.BigEndian.PutUint16(segment[4:], uint16(udpHeaderLen+p.payload))
	}
	binary.BigEndian.PutUint16(segment, p.flow)
	binary.BigEndian.PutUint16(segment[2:], 443)
	for i := range p.payload {
		segment = append(segment, byte(int(p.seq)+i*7+int(p.id)))
	}
	var packet []byte
	if p.v6 {
		packet = make([]byte, ipv6HeaderLen)
		binary.BigEndian.PutUint16(packet, 0x6000|uint16(p.tos)<<4)
		binary.BigEndian.PutUint16(packet[4:], uint16(len(segment)))
		packet[6], packet[7] = p.proto, p.ttl
		packet[8], packet[24] = 0xfd, 0xfd
	} else {
		packet = make([]byte, ipv4HeaderLen)
		packet[0], packet[1], packet[8], packet[9] = 0x45, p.tos, p.ttl, p.proto
		binary.BigEndian.PutUint16(packet[2:], uint16(ipv4HeaderLen+len(segment)))
		binary.BigEndian.PutUint16(packet[4:], p.id)
		if !p.mayFragment {
			packet[6] = dontFragment
		}
		copy(packet[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
	}
	transport := len(packet)
	packet = append(packet, segment...)
	complete(packet, p.proto, transport)
	if p.noUDPSum {
		clear(packet[transport+udpCsumAt:][:2])
	}
	if p.corrupt {
		packet[len(packet)-1] ^= 0x10
	}
	return packet
}

// complete makes the checksums right.
func complete(packet []byte, proto byte, transport int) {
	addresses := packet[8:ipv6HeaderLen]
	if packet[0]>>4 == 4 {
		clear(packet[10:12])
		checksum.Put(packet[10:12], checksum.Sum(packet[:ipv4HeaderLen], 0))
		addresses = packet[12:ipv4HeaderLen]
	}
	field := packet[transport+csumOffset(proto):][:2]
	clear(field)
	checksum.Put(field, checksum.Sum(packet[transport:], checksum.Pseudo(addresses, proto, len(packet)-transport)))
}

// coalesce runs packets through a Coalescer and returns what it wrote.
func coalesce(t *testing.T, uso bool, packets [][]byte) [][]byte {
	t.Helper()
	var w frames
	c := NewCoalescer(&w, uso)
	for _, p := range packets {
		c.Add(append(bytes.Repeat([]byte{0xAA}, HeaderLen), p...))
	}
	if refused := c.Flush(); refused != 0 {
		t.Fatalf("%d packets refused", refused)
	}
	if c.used != 0 || c.held != 0 || c.slots != [len(c.slots)]uint8{} {
		t.Fatal("something is left after Flush")
	}
	return w.all
}

// split is what the frames stand for.
func split(t *testing.T, frames [][]byte) (packets [][]byte) {
	t.Helper()
	for _, f := range frames {
		packets = append(packets, segments(t, f)...)
	}
	return packets
}

// flowKey is "" for what belongs to any flow.
func flowKey(packet []byte) string {
	f := NewCoalescer(nil, true).classify(packet)
	switch {
	case f.kind == flowUnknown:
		return ""
	case f.v6:
		return fmt.Sprintf("%x %d", packet[8:ipv6HeaderLen+4], f.proto)
	}
	return fmt.Sprintf("%x %d", packet[12:ipv4HeaderLen+4], f.proto)
}

// comparable hides what a Coalescer may change: the identification of an IPv4
// packet that allows no fragments.
func comparable(packet []byte) string {
	p := bytes.Clone(packet)
	if n, ok := networkHeader(p); ok && n == ipv4HeaderLen && p[0]>>4 == 4 && p[6] == dontFragment && p[7] == 0 {
		if checksum.Fold(checksum.Sum(p[:n], 0)) != 0xffff {
			return "wrong " + string(p)
		}
		clear(p[4:6])
		clear(p[10:12])
	}
	return string(p)
}

// same wants the packets of each flow as they came, in their order.
func same(t *testing.T, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets of %d", len(got), len(want))
	}
	byFlow := func(packets [][]byte) map[string][]string {
		keys := make(map[string]bool)
		for _, p := range want {
			keys[flowKey(p)] = true
		}
		m := make(map[string][]string)
		for _, p := range packets {
			k := flowKey(p)
			for other := range keys {
				if k == "" || other == k {
					m[other] = append(m[other], comparable(p))
				}
			}
		}
		return m
	}
	g, w := byFlow(got), byFlow(want)
	for k := range w {
		if !slices.Equal(g[k], w[k]) {
			for i := range w[k] {
				if i >= len(g[k]) || g[k][i] != w[k][i] {
					t.Fatalf("flow %s: packet %d of %d:\n got %x\nwant %x", k, i, len(w[k]), g[k][min(i, len(g[k])-1)], w[k][i])
				}
			}
		}
	}
}

// TestSplitUndoesCoalesce is the property: whatever flows are mixed, cutting
// what was written gives the packets that came.
func TestSplitUndoesCoalesce(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	joined := 0
	for range 300 {
		uso := rng.IntN(4) > 0
		flows := make([]inner, 1+rng.IntN(6))
		for i := range flows {
			flows[i] = inner{
				v6: rng.IntN(2) == 0, proto: []byte{protoTCP, protoTCP, protoUDP}[rng.IntN(3)], flow: uint16(1000 + i),
				id: uint16(rng.Uint32()), seq: rng.Uint32(), flags: 0x10, tos: 2, ttl: 63, payload: 1 + rng.IntN(1400),
				mayFragment: rng.IntN(3) == 0, window: 500,
			}
			if rng.IntN(2) == 0 {
				flows[i].options = "\x01\x01\x08\x0a12345678"
			}
		}
		var packets [][]byte
		for range 1 + rng.IntN(200) {
			f := &flows[rng.IntN(len(flows))]
			p := *f
			if rng.IntN(12) == 0 {
				disturb(&p, rng)
			}
			packets = append(packets, p.build())
			if rng.IntN(40) == 0 {
				fragment := p.build()
				fragment[6] = 0x20
				packets = append(packets, fragment[:len(fragment):len(fragment)])
			}
			f.seq += uint32(p.payload)
			f.id++
		}
		written := coalesce(t, uso, packets)
		joined += len(packets) - len(written)
		same(t, split(t, written), packets)
	}
	if joined < 5000 {
		t.Errorf("only %d packets were joined", joined)
	}
}

func disturb(p *inner, rng *rand.Rand) {
	switch rng.IntN(12) {
	case 0:
		p.payload = rng.IntN(p.payload + 1)
	case 1:
		p.payload++
	case 2:
		p.corrupt = true
	case 3:
		p.flags |= tcpPSH
	case 4:
		p.flags |= []byte{tcpFIN, tcpSYN, tcpRST, tcpURG, tcpECE, tcpCWR}[rng.IntN(6)]
	case 5:
		p.tos ^= 1
	case 6:
		p.ttl--
	case 7:
		p.seq++
	case 8:
		p.ack++
	case 9:
		p.id += 7
	case 10:
		p.window++
	case 11:
		p.noUDPSum = p.proto == protoUDP
	}
}

// TestWhatIsJoined says of pairs and triples which become one frame.
func TestWhatIsJoined(t *testing.T) {
	const size = 1000
	tcp := inner{proto: protoTCP, flow: 1, id: 5, seq: 0xfffffff0, flags: 0x10, ttl: 60, payload: size}
	tcp6, udp, udp6 := tcp, tcp, tcp
	tcp6.v6, udp6.v6 = true, true
	udp.proto, udp6.proto = protoUDP, protoUDP
	next := func(p inner, edit func(*inner)) inner {
		p.seq += uint32(p.payload)
		p.id++
		if edit != nil {
			edit(&p)
		}
		return p
	}
	for _, c := range []struct {
		name   string
		first  inner
		edit   func(*inner)
		frames int // of three packets, the second of which is edited
	}{
		{"TCP over IPv4", tcp, nil, 1},
		{"TCP over IPv6", tcp6, nil, 1},
		{"UDP over IPv4", udp, nil, 1},
		{"UDP over IPv6", udp6, nil, 1},
		{"a short one ends it", tcp, func(p *inner) { p.payload = 999 }, 2},
		{"a longer one begins", tcp, func(p *inner) { p.payload = 1001 }, 2}, // the third is shorter than the second
		{"PSH ends it", tcp, func(p *inner) { p.flags |= tcpPSH }, 2},
		{"FIN ends it", tcp, func(p *inner) { p.flags |= tcpFIN }, 2},
		{"SYN", tcp, func(p *inner) { p.flags |= tcpSYN }, 3},
		{"RST", tcp, func(p *inner) { p.flags |= tcpRST }, 3},
		{"URG", tcp, func(p *inner) { p.flags |= tcpURG }, 3},
		{"CWR begins", tcp, func(p *inner) { p.flags |= tcpCWR }, 2},
		{"ECE is another word", tcp, func(p *inner) { p.flags |= tcpECE }, 3},
		{"pure acknowledgement", tcp, func(p *inner) { p.payload = 0 }, 3},
		{"a gap", tcp, func(p *inner) { p.seq++ }, 2},
		{"acknowledges more", tcp, func(p *inner) { p.ack++ }, 3},
		{"window", tcp, func(p *inner) { p.window++ }, 3},
		{"options", tcp, func(p *inner) { p.options = "\x01\x01\x01\x01" }, 3},
		{"TOS", udp, func(p *inner) { p.tos = 1 }, 3},
		{"traffic class", tcp6, func(p *inner) { p.tos = 1 }, 3},
		{"TTL", tcp, func(p *inner) { p.ttl++ }, 3},
		{"hop limit", udp6, func(p *inner) { p.ttl++ }, 3},
		{"DF", udp, func(p *inner) { p.mayFragment = true }, 3},
		{"any identification with DF", tcp, func(p *inner) { p.id = 0 }, 1},
		{"wrong checksum", tcp, func(p *inner) { p.corrupt = true }, 3},
		{"wrong checksum of UDP", udp6, func(p *inner) { p.corrupt = true }, 3},
		{"no checksum", udp, func(p *inner) { p.noUDPSum = true }, 3},
		{"another flow", tcp, func(p *inner) { p.flow = 2 }, 3}, // of the first one there is a gap then
	} {
		second := next(c.first, c.edit)
		third := next(second, func(p *inner) {
			*p = inner{
				v6: c.first.v6, proto: c.first.proto, flow: c.first.flow, id: p.id, seq: p.seq, flags: c.first.flags, ttl: c.first.ttl, payload: size,
			}
		})
		packets := [][]byte{c.first.build(), second.build(), third.build()}
		written := coalesce(t, true, packets)
		if len(written) != c.frames {
			t.Errorf("%s: %d frames, want %d", c.name, len(written), c.frames)
		}
		same(t, split(t, written), packets)
	}
	// Fragments are possible: then the identification counts.
	counting := udp
	counting.mayFragment = true
	for add, want := range []int{2, 1, 2} {
		second := next(counting, func(p *inner) { p.id = counting.id + uint16(add) })
		if got := coalesce(t, true, [][]byte{counting.build(), second.build()}); len(got) != want {
			t.Errorf("identification + %d: %d frames", add, len(got))
		}
	}
	if got := coalesce(t, false, [][]byte{udp.build(), next(udp, nil).build()}); len(got) != 2 {
		t.Errorf("%d frames of UDP for a device that takes none together", len(got))
	}
	// A wrong checksum of the first of a flow.
	bad := tcp
	bad.corrupt = true
	good := next(tcp, nil)
	if got := coalesce(t, true, [][]byte{bad.build(), good.build(), next(good, nil).build()}); len(got) != 2 {
		t.Errorf("%d frames behind a corrupt packet", len(got))
	}
}

// Bounds: 64 packets, 64 KiB, and more flows than there are places.
func TestCoalescerBounds(t *testing.T) {
	for _, c := range []struct{ packets, payload, frames int }{
		{200, 10, 4}, {100, 1400, 3}, {4000, 1, 65},
	} {
		p := inner{proto: protoTCP, flow: 1, flags: 0x10, payload: c.payload}
		var packets [][]byte
		for range c.packets {
			packets = append(packets, p.build())
			p.seq += uint32(p.payload)
		}
		written := coalesce(t, true, packets)
		if len(written) != c.frames {
			t.Errorf("%d packets of %d: %d frames, want %d", c.packets, c.payload, len(written), c.frames)
		}
		same(t, split(t, written), packets)
	}
	var packets [][]byte
	for round := range uint32(3) {
		for flow := range uint16(300) {
			packets = append(packets, inner{proto: protoTCP, flow: flow, seq: round * 10, flags: 0x10, payload: 10}.build())
		}
	}
	same(t, split(t, coalesce(t, true, packets)), packets)
}

func TestCoalescerCountsRefused(t *testing.T) {
	w := frames{refuses: true}
	c := NewCoalescer(&w, true)
	p := inner{proto: protoTCP, flow: 1, flags: 0x10, payload: 10}
	for range 5 {
		c.Add(append(make([]byte, HeaderLen), p.build()...))
		p.seq += 10
	}
	p.flow = 2
	c.Add(append(make([]byte, HeaderLen), p.build()...))
	if n := c.Flush(); n != 6 {
		t.Errorf("%d refused, want 6", n)
	}
	if n := c.Flush(); n != 0 {
		t.Errorf("%d refused twice", n)
	}
}

func TestCoalescerNoAllocations(t *testing.T) {
	p := inner{proto: protoTCP, flow: 1, flags: 0x10, payload: 1000}
	var all [][]byte
	for i := range 100 {
		p.flow = uint16(i % 3)
		all = append(all, append(make([]byte, HeaderLen), p.build()...))
		if i%3 == 2 {
			p.seq += 1000
		}
	}
	c := NewCoalescer(discard{}, true)
	if n := testing.AllocsPerRun(20, func() {
		for _, f := range all {
			c.Add(f)
		}
		c.Flush()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type discard struct{}

func (discard) Write([]byte) error             { return nil }
func (discard) WriteVector([]unix.Iovec) error { return nil }

// FuzzCoalescer: each octet of script makes one packet of one of four flows,
// changed or not; raw comes in the middle if it is a packet.
func FuzzCoalescer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0x10, 0x10, 0, 0x21, 0x21, 0x32}, []byte{}, uint64(1))
	f.Add(bytes.Repeat([]byte{0, 1, 2, 3}, 40), inner{proto: protoUDP, payload: 4}.build(), uint64(2))
	f.Add([]byte{0xF0, 0x70, 0xA0, 0, 0, 0}, inner{v6: true, proto: protoTCP, flags: 0x10, payload: 20}.build(), uint64(3))
	f.Fuzz(func(t *testing.T, script, raw []byte, seed uint64) {
		if len(script) > 2000 || len(raw) > 2000 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		var flows [4]inner
		for i := range flows {
			flows[i] = inner{v6: i%2 == 1, proto: []byte{protoTCP, protoUDP}[i/2], flow: uint16(i), flags: 0x10, payload: 1 + rng.IntN(300)}
		}
		var packets [][]byte
		for i, b := range script {
			flow := &flows[b%4]
			p := *flow
			if b>>4 > 8 {
				disturb(&p, rng)
			}
			packets = append(packets, p.build())
			flow.seq += uint32(p.payload)
			flow.id++
			if i%16 == 8 {
				if _, ok := networkHeader(raw); ok {
					packets = append(packets, raw)
				}
			}
		}
		same(t, split(t, coalesce(t, seed%2 == 0, packets)), packets)
	})
}

// octets of an iovec that was made of a slice.
func octets(v unix.Iovec) []byte { return unsafe.Slice(v.Base, v.Len) }
