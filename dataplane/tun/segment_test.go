package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// frameSpec describes a frame for tests; build writes it down octet by octet.
type frameSpec struct {
	v6      bool
	proto   byte
	ext     []byte // IPv6 extension headers, IPv4 options
	extType byte   // of the first IPv6 extension header
	options int    // octets of TCP options
	flags   byte   // TCP
	id      uint16
	seq     uint32
	payload int
	gsoType byte
	gsoSize int
}

func (s frameSpec) build() []byte {
	var transport []byte
	if s.proto == protoTCP {
		transport = make([]byte, tcpHeaderLen+s.options)
		binary.BigEndian.PutUint32(transport[4:], s.seq)
		binary.BigEndian.PutUint32(transport[8:], 0x01020304)
		transport[12] = byte(len(transport)/4) << 4
		transport[13] = s.flags
		for i := range s.options {
			transport[tcpHeaderLen+i] = 1
		}
	} else {
		transport = make([]byte, udpHeaderLen)
		binary.BigEndian.PutUint16(transport[4:], uint16(udpHeaderLen+s.payload))
	}
	binary.BigEndian.PutUint16(transport[0:], 4000)
	binary.BigEndian.PutUint16(transport[2:], 443)
	headers := len(transport)
	for i := range s.payload {
		transport = append(transport, byte(i*i>>3+i))
	}

	var ip []byte
	if s.v6 {
		ip = make([]byte, ipv6HeaderLen)
		ip[0], ip[6], ip[7] = 0x60, s.proto, 64
		if len(s.ext) > 0 {
			ip[6] = s.extType
		}
		binary.BigEndian.PutUint16(ip[4:], uint16(len(s.ext)+len(transport)))
		for i := range 32 {
			ip[8+i] = byte(0x20 + i)
		}
	} else {
		ip = make([]byte, ipv4HeaderLen)
		ip[0], ip[8], ip[9] = 0x40|byte((ipv4HeaderLen+len(s.ext))/4), 64, s.proto
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4HeaderLen+len(s.ext)+len(transport)))
		binary.BigEndian.PutUint16(ip[4:], s.id)
		ip[6] = 0x40 // DF
		copy(ip[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
	}
	ip = append(ip, s.ext...)

	header := make([]byte, HeaderLen)
	header[0], header[1] = flagNeedsCsum, s.gsoType
	binary.LittleEndian.PutUint16(header[2:], uint16(len(ip)+headers))
	binary.LittleEndian.PutUint16(header[4:], uint16(s.gsoSize))
	binary.LittleEndian.PutUint16(header[6:], uint16(len(ip)))
	binary.LittleEndian.PutUint16(header[8:], uint16(csumOffset(s.proto)))
	return append(append(header, ip...), transport...)
}

// naiveSum is RFC 1071 as it is told.
func naiveSum(parts ...[]byte) uint16 {
	var acc uint32
	for _, b := range parts {
		for i, v := range b {
			if i%2 == 0 {
				acc += uint32(v) << 8
			} else {
				acc += uint32(v)
			}
			acc = acc>>16 + acc&0xffff
		}
	}
	return uint16(acc>>16 + acc&0xffff)
}

// checkPacket fails unless the packet's lengths and checksums are right.
func checkPacket(t *testing.T, packet []byte, proto byte, transport int) {
	t.Helper()
	segment := packet[transport:]
	pseudo := binary.BigEndian.AppendUint32([]byte{0, 0, 0, proto}, uint32(len(segment)))
	if packet[0]>>4 == 4 {
		if n := int(binary.BigEndian.Uint16(packet[2:])); n != len(packet) {
			t.Fatalf("total length %d of %d octets", n, len(packet))
		}
		if naiveSum(packet[:int(packet[0]&0xf)*4]) != 0xffff {
			t.Fatal("IPv4 header checksum is wrong")
		}
		pseudo = append(pseudo, packet[12:20]...)
	} else {
		if n := int(binary.BigEndian.Uint16(packet[4:])); n != len(packet)-ipv6HeaderLen {
			t.Fatalf("payload length %d of %d octets", n, len(packet))
		}
		pseudo = append(pseudo, packet[8:40]...)
	}
	if naiveSum(pseudo, segment) != 0xffff {
		t.Fatalf("transport checksum is wrong in %x", packet)
	}
	if proto == protoUDP {
		if n := int(binary.BigEndian.Uint16(segment[4:])); n != len(segment) {
			t.Fatalf("UDP length %d of %d octets", n, len(segment))
		}
		if segment[6] == 0 && segment[7] == 0 {
			t.Fatal("UDP without checksum")
		}
	}
}

func segments(t *testing.T, frame []byte) [][]byte {
	t.Helper()
	var s Segmenter
	if err := s.Reset(frame); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(frame)
	dst := make([]byte, s.MaxLen())
	var all [][]byte
	longest := 0
	for n := s.Next(dst); n > 0; n = s.Next(dst) {
		all = append(all, bytes.Clone(dst[:n]))
		longest = max(longest, n)
	}
	if longest != s.MaxLen() {
		t.Fatalf("longest packet has %d octets, MaxLen said %d", longest, s.MaxLen())
	}
	if !bytes.Equal(frame, before) {
		t.Fatal("the frame was changed")
	}
	return all
}

// A super-packet becomes the segments that the sender's kernel would have sent.
func TestSegmentsOfSuperPackets(t *testing.T) {
	hopByHop := []byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}
	chain := []byte{
		extRouting, 0, 1, 4, 0, 0, 0, 0,
		extDestination, 0, 4, 0, 0, 0, 0, 0, // segments left: 0
		protoUDP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}
	for name, spec := range map[string]frameSpec{
		"TCP over IPv4":               {proto: protoTCP, flags: 0x18, id: 7, seq: 1000, payload: 4000, gsoType: gsoTCPv4, gsoSize: 1448},
		"options, wrapping numbers":   {proto: protoTCP, options: 12, ext: []byte{1, 1, 1, 0}, flags: 0x99, id: 0xfffe, seq: 0xfffffa00, payload: 5000, gsoType: gsoTCPv4, gsoSize: 1000},
		"CWR":                         {proto: protoTCP, flags: 0x90, payload: 3000, gsoType: gsoTCPv4 | gsoECN, gsoSize: 1400},
		"exact segments":              {proto: protoTCP, flags: 0x11, payload: 2800, gsoType: gsoTCPv4, gsoSize: 1400},
		"one octet left":              {proto: protoTCP, flags: 0x18, payload: 2801, gsoType: gsoTCPv4, gsoSize: 1400},
		"odd sizes":                   {proto: protoTCP, flags: 0x18, payload: 999, gsoType: gsoTCPv4, gsoSize: 101},
		"one segment":                 {proto: protoTCP, flags: 0x99, payload: 100, gsoType: gsoTCPv4, gsoSize: 1400},
		"longest":                     {proto: protoTCP, flags: 0x18, payload: 65535 - 40, gsoType: gsoTCPv4, gsoSize: 1448},
		"TCP over IPv6":               {v6: true, proto: protoTCP, options: 12, flags: 0x18, payload: 4000, gsoType: gsoTCPv6, gsoSize: 1428},
		"TCP over IPv6, hop-by-hop":   {v6: true, proto: protoTCP, ext: hopByHop, flags: 0x18, payload: 4000, gsoType: gsoTCPv6 | gsoECN, gsoSize: 1420},
		"UDP over IPv4":               {proto: protoUDP, id: 9, payload: 4000, gsoType: gsoUDP, gsoSize: 1472},
		"UDP over IPv6":               {v6: true, proto: protoUDP, payload: 4001, gsoType: gsoUDP, gsoSize: 1200},
		"UDP behind extension header": {v6: true, proto: protoUDP, ext: chain, extType: extHopByHop, payload: 3000, gsoType: gsoUDP, gsoSize: 900},
	} {
		t.Run(name, func(t *testing.T) {
			frame := spec.build()
			got := segments(t, frame)
			packet := frame[HeaderLen:]
			transport := len(packet) - spec.payload - udpHeaderLen
			if spec.proto == protoTCP {
				transport = len(packet) - spec.payload - tcpHeaderLen - spec.options
			}
			headers := len(packet) - spec.payload
			var payload []byte
			for i, segment := range got {
				checkPacket(t, segment, spec.proto, transport)
				last := i == len(got)-1
				if n := len(segment) - headers; n != spec.gsoSize && !last {
					t.Fatalf("segment %d has %d octets of payload", i, n)
				}
				// Put back what may differ: the rest of the headers must be the same.
				want := bytes.Clone(packet[:headers])
				if spec.v6 {
					copy(want[4:6], segment[4:6])
				} else {
					copy(want[2:4], segment[2:4])
					binary.BigEndian.PutUint16(want[4:], spec.id+uint16(i))
					copy(want[10:12], segment[10:12])
				}
				if h := want[transport:]; spec.proto == protoTCP {
					binary.BigEndian.PutUint32(h[4:], spec.seq+uint32(len(payload)))
					if i > 0 {
						h[13] &^= 0x80 // CWR
					}
					if !last {
						h[13] &^= 0x01 | 0x08 // FIN, PSH
					}
					copy(h[16:18], segment[transport+16:])
				} else {
					copy(h[4:8], segment[transport+4:])
				}
				if !bytes.Equal(segment[:headers], want) {
					t.Fatalf("headers of segment %d are\n%x, want\n%x", i, segment[:headers], want)
				}
				payload = append(payload, segment[headers:]...)
			}
			if !bytes.Equal(payload, packet[headers:]) {
				t.Fatal("the payload isn't what was sent")
			}
			if n := (spec.payload + spec.gsoSize - 1) / spec.gsoSize; len(got) != n {
				t.Fatalf("%d segments, want %d", len(got), n)
			}
		})
	}
}

func TestPlainPacketIsCopied(t *testing.T) {
	frame := frameSpec{proto: protoTCP, payload: 100}.build()
	clear(frame[:HeaderLen])
	if got := segments(t, frame); len(got) != 1 || !bytes.Equal(got[0], frame[HeaderLen:]) {
		t.Fatalf("got %x", got)
	}
	var s Segmenter
	if n := s.Next(nil); n != 0 || s.MaxLen() != 0 {
		t.Errorf("zero value gives %d octets", n)
	}
}

// The kernel leaves the sum of the pseudo-header in the field (virtio 1.2
// section 5.1.6.2).
func TestChecksumIsCompleted(t *testing.T) {
	for _, spec := range []frameSpec{
		{proto: protoTCP, payload: 333},
		{proto: protoUDP, payload: 332},
		{v6: true, proto: protoUDP, payload: 1},
		{v6: true, proto: protoTCP, options: 8, payload: 0},
	} {
		frame := spec.build()
		packet := frame[HeaderLen:]
		transport := int(binary.LittleEndian.Uint16(frame[6:]))
		length := len(packet) - transport
		addresses := packet[12:20]
		if spec.v6 {
			addresses = packet[8:40]
		} else {
			binary.BigEndian.PutUint16(packet[10:], ^naiveSum(packet[:20]))
		}
		field := packet[transport+csumOffset(spec.proto):]
		binary.BigEndian.PutUint16(field, naiveSum(addresses, []byte{0, spec.proto, byte(length >> 8), byte(length)}))
		got := segments(t, frame)
		if len(got) != 1 {
			t.Fatalf("%d packets", len(got))
		}
		checkPacket(t, got[0], spec.proto, transport)
	}
}

func TestUDPChecksumIsNeverZero(t *testing.T) {
	frame := frameSpec{proto: protoUDP, payload: 2}.build()
	packet := frame[HeaderLen:]
	copy(packet[26:28], []byte{0, 0})
	copy(packet[28:30], []byte{0, 0})
	// Choose the payload so that the sum becomes 0xffff.
	binary.BigEndian.PutUint16(packet[28:], ^naiveSum(packet[20:]))
	got := segments(t, frame)
	if sum := got[0][26:28]; !bytes.Equal(sum, []byte{0xff, 0xff}) {
		t.Errorf("checksum %x", sum)
	}
}

func TestMalformedFrames(t *testing.T) {
	tcp := frameSpec{proto: protoTCP, flags: 0x18, payload: 3000, gsoType: gsoTCPv4, gsoSize: 1400}
	tcp6 := frameSpec{v6: true, proto: protoTCP, payload: 3000, gsoType: gsoTCPv6, gsoSize: 1400}
	udp := frameSpec{proto: protoUDP, payload: 3000, gsoType: gsoUDP, gsoSize: 1400}
	set := func(spec frameSpec, at int, values ...byte) []byte {
		frame := spec.build()
		copy(frame[at:], values)
		return frame
	}
	withExt := func(ext ...byte) []byte {
		spec := tcp6
		spec.ext, spec.extType = ext, ext[0]
		spec.ext[0] = protoTCP
		return spec.build()
	}
	const ip = HeaderLen
	half := set(tcp6, ip+4, 0, 4)[:ip+ipv6HeaderLen+4]
	half[ip+6] = extHopByHop
	for name, frame := range map[string][]byte{
		"empty":                         {},
		"half a virtio header":          make([]byte, 9),
		"no packet":                     make([]byte, 10),
		"IP version 5":                  set(tcp, ip, 0x55),
		"IPv4 header of 16 octets":      set(tcp, ip, 0x44),
		"IPv4 header beyond packet":     append(make([]byte, 10), append([]byte{0x4f, 0, 0, 20}, make([]byte, 16)...)...),
		"total length too long":         set(tcp, ip+2, 0xff, 0xff),
		"total length too short":        set(tcp, ip+2, 0, 40),
		"half an IPv6 header":           append(make([]byte, 10), append([]byte{0x60}, make([]byte, 30)...)...),
		"payload length too long":       set(tcp6, ip+4, 0xff, 0xff),
		"jumbogram":                     set(tcp6, ip+4, 0, 0),
		"GSO without checksum":          set(tcp, 0, 0),
		"GSO of size 0":                 set(tcp, 4, 0, 0),
		"UFO":                           set(udp, 1, 3),
		"unknown GSO":                   set(tcp, 1, 7),
		"ECN alone":                     set(tcp, 1, gsoECN),
		"ECN with UDP":                  set(udp, 1, gsoUDP|gsoECN),
		"TCPv6 GSO of IPv4":             set(tcp, 1, gsoTCPv6),
		"TCPv4 GSO of IPv6":             set(tcp6, 1, gsoTCPv4),
		"TCP GSO of UDP":                set(udp, 1, gsoTCPv4),
		"UDP GSO of TCP":                set(tcp, 1, gsoUDP),
		"GSO of another protocol":       set(tcp, ip+9, 132),
		"checksum starts in IP header":  set(tcp, 6, 10, 0),
		"checksum starts elsewhere":     set(tcp, 6, 24, 0),
		"checksum stands elsewhere":     set(tcp, 8, 6, 0),
		"checksum beyond packet":        set(frameSpec{proto: protoUDP, payload: 10}, 8, 17, 0),
		"checksum start beyond packet":  set(frameSpec{proto: protoUDP, payload: 10}, 6, 0xff, 0xff),
		"checksum offset beyond packet": set(frameSpec{proto: protoUDP, payload: 10}, 8, 0xff, 0xff),
		"first fragment":                set(tcp, ip+6, 0x20, 0),
		"later fragment":                set(tcp, ip+6, 0, 5),
		"TCP header of 16 octets":       set(tcp, ip+20+12, 0x40),
		"TCP header beyond packet":      set(frameSpec{proto: protoTCP, payload: 10, gsoType: gsoTCPv4, gsoSize: 5}, ip+20+12, 0xf0),
		"TCP without payload":           frameSpec{proto: protoTCP, gsoType: gsoTCPv4, gsoSize: 5}.build(),
		"UDP without payload":           frameSpec{proto: protoUDP, gsoType: gsoUDP, gsoSize: 5}.build(),
		"UDP length":                    set(udp, ip+20+4, 0, 100),
		"routing header not used up":    withExt(extRouting, 0, 0, 1, 0, 0, 0, 0),
		"fragment header":               withExt(44, 0, 0, 0, 0, 0, 0, 0),
		"extension beyond packet":       withExt(extHopByHop, 0xff, 0, 0, 0, 0, 0, 0),
		"half an extension header":      half,
	} {
		var s Segmenter
		if err := s.Reset(frame); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Next(make([]byte, MaxFrame)); n != 0 {
			t.Errorf("%s: a packet of %d octets came out", name, n)
		}
	}
	// The frames that were spoiled above are good as they were.
	for _, spec := range []frameSpec{tcp, tcp6, udp} {
		if err := new(Segmenter).Reset(spec.build()); err != nil {
			t.Error(err)
		}
	}
}

func TestSegmenterNoAllocations(t *testing.T) {
	frames := [][]byte{
		frameSpec{proto: protoTCP, payload: 60000, gsoType: gsoTCPv4, gsoSize: 1400}.build(),
		frameSpec{v6: true, proto: protoUDP, payload: 1000}.build(),
		frameSpec{proto: protoTCP, payload: 60000, gsoType: gsoUDP, gsoSize: 1400}.build(), // malformed
	}
	var s Segmenter
	dst := make([]byte, 2000)
	if n := testing.AllocsPerRun(20, func() {
		for _, frame := range frames {
			_ = s.Reset(frame)
			for s.Next(dst) > 0 {
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSegmenter(f *testing.F) {
	for _, spec := range []frameSpec{
		{proto: protoTCP, flags: 0x18, payload: 300, gsoType: gsoTCPv4, gsoSize: 100},
		{v6: true, proto: protoTCP, flags: 0x18, payload: 300, gsoType: gsoTCPv6 | gsoECN, gsoSize: 100},
		{v6: true, proto: protoUDP, ext: []byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, extType: extHopByHop, payload: 300, gsoType: gsoUDP, gsoSize: 100},
		{proto: protoUDP, payload: 40},
	} {
		f.Add(spec.build())
	}
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var s Segmenter
		if len(frame) > MaxFrame {
			return
		}
		if err := s.Reset(frame); err != nil {
			if !errors.Is(err, ErrMalformed) || s.Next(nil) != 0 {
				t.Fatal(err)
			}
			return
		}
		before := bytes.Clone(frame)
		packet := frame[HeaderLen:]
		dst := make([]byte, s.MaxLen())
		payload, headers := 0, s.payload
		for n := s.Next(dst); n > 0; n = s.Next(dst) {
			if frame[1] == gsoNone {
				if n != len(packet) {
					t.Fatalf("%d octets of %d", n, len(packet))
				}
				continue
			}
			checkPacket(t, dst[:n], s.proto, s.transport)
			payload += n - headers
		}
		if frame[1] != gsoNone && payload != len(packet)-headers {
			t.Fatalf("%d octets of payload, want %d", payload, len(packet)-headers)
		}
		if !bytes.Equal(frame, before) {
			t.Fatal("the frame was changed")
		}
	})
}
