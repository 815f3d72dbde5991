package userspace

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// TestInnerMTU: the packet of that length fits through the path, the next longer
// one doesn't.
func TestInnerMTU(t *testing.T) {
	for _, alg := range esp.Supported() {
		encryption, integrity, err := esp.KeyLen(alg)
		if err != nil {
			t.Fatal(err)
		}
		keys := dataplane.Keys{Encryption: make([]byte, encryption), Integrity: make([]byte, integrity)}
		rand.Read(keys.Encryption)
		transform, err := esp.New(alg, keys, false)
		if err != nil {
			t.Fatal(err)
		}
		for path := 1200; path <= 1532; path++ {
			for outer, header := range map[bool]int{false: 28, true: 48} {
				n, err := InnerMTU(path, alg, outer)
				if err != nil {
					t.Fatal(err)
				}
				if header+transform.SealedLen(n) > path || header+transform.SealedLen(n+1) <= path {
					t.Errorf("%+v, path MTU %d, IPv6 %t: inner MTU %d gives %d octets, one more %d", alg, path, outer,
						n, header+transform.SealedLen(n), header+transform.SealedLen(n+1))
				}
			}
		}
	}
	// RFC 4106: 1500 - 20 IP - 8 UDP - 8 ESP - 8 IV - 16 ICV = 1440 for packet,
	// padding and trailer.
	if n, err := InnerMTU(1500, gcm128, false); n != 1438 || err != nil {
		t.Errorf("AES-GCM, IPv4: %d, %v; want 1438", n, err)
	}
	if n, err := InnerMTU(100, gcm128, false); !errors.Is(err, dataplane.ErrInvalid) {
		t.Errorf("path MTU 100: %d, %v", n, err)
	}
	if n, err := InnerMTU(1500, dataplane.Algorithm{Encryption: 1}, false); !errors.Is(err, dataplane.ErrAlgorithm) {
		t.Errorf("unknown algorithm: %d, %v", n, err)
	}
}

// TestTooBigIsAnswered: what doesn't fit and may not be fragmented is answered
// with the MTU that fits, and then fits.
func TestTooBigIsAnswered(t *testing.T) {
	eachOuter(t, func(t *testing.T, p *peer, mtu int) {
		checkTooBig(t, p, mtu)
		if drops := p.backend.Drops(); drops[dataplane.ReasonTooBig] != 2 {
			t.Errorf("drops %v", drops)
		}
	})
}

// eachOuter runs test with a peer outside over IPv4 and, where the machine has
// it, over IPv6; mtu is that of inner packets.
func eachOuter(t *testing.T, test func(t *testing.T, p *peer, mtu int)) {
	for name, at := range map[string]Local{"IPv4": loopback4, "IPv6": loopback6} {
		t.Run(name, func(t *testing.T) {
			if at == loopback6 {
				needIPv6(t)
			}
			mtu, err := InnerMTU(1500, gcm128, at == loopback6)
			if err != nil {
				t.Fatal(err)
			}
			test(t, newPeer(t, newHarness(t, nil, func(c *Config) { c.Locals = []Local{at} }), nil), mtu)
		})
	}
}

func checkTooBig(t *testing.T, p *peer, mtu int) {
	t.Helper()
	whole4 := down4
	whole4.DontFragment = true
	for _, c := range []struct {
		ip         dptest.IP
		kind, code byte
		header     int
		mtuAt      int
		quote      int
	}{
		{whole4, 3, 4, ipv4HeaderLen, 6, 576 - 28},
		{down6, 2, 0, ipv6HeaderLen, 6, 1280 - 48},
	} {
		fits := c.ip.UDP(1, 2, make([]byte, mtu-c.header-udpHeaderLen))
		if inner, _ := p.down(fits); !bytes.Equal(inner, fits) {
			t.Errorf("a packet of the inner MTU was changed")
		}
		big := c.ip.UDP(1, 2, make([]byte, mtu+1-c.header-udpHeaderLen))
		p.sendInside(big)
		got := p.inside()
		checkPacket(t, got)
		q, _ := parse(got)
		icmp := got[c.header:]
		if q.src != c.ip.Dst || q.dst != c.ip.Src || icmp[0] != c.kind || icmp[1] != c.code || binary.BigEndian.Uint16(icmp[c.mtuAt:]) != uint16(mtu) {
			t.Errorf("answer %x", got)
		}
		if !bytes.Equal(icmp[icmpHeaderLen:], big[:c.quote]) {
			t.Errorf("the answer quotes %d octets, or others than the packet's", len(icmp)-icmpHeaderLen)
		}
	}
}

// TestTooBigAnswersAreLimited: a flood is dropped, but answered only now and
// then.
func TestTooBigAnswersAreLimited(t *testing.T) {
	p := newPeer(t, newHarness(t, nil, nil), nil)
	big := down6.UDP(1, 2, make([]byte, 1500))
	const flood = 200
	for i := range uint64(flood) {
		p.sendInside(big)
		p.dropped(t, dataplane.ReasonTooBig, i+1)
	}
	answers := 0
	for {
		if _, ok := p.pipe.Receive(0); !ok {
			break
		}
		answers++
	}
	if burst := p.backend.loops[0].icmp.burst; answers != burst {
		t.Errorf("%d answers to %d packets, want %d", answers, flood, burst)
	}
}

// TestUnanswerable: errors, later fragments and packets of no host get none
// (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
func TestUnanswerable(t *testing.T) {
	body := make([]byte, 1500)
	later := down4
	later.Offset = 8
	multicast := down4
	multicast.Src = netip.MustParseAddr("224.0.0.5")
	nobody := down4
	nobody.Src = netip.IPv4Unspecified()
	for name, c := range map[string]struct {
		packet []byte
		answer bool
	}{
		"UDP":               {down4.UDP(1, 2, body), true},
		"echo":              {down4.ICMP(8, 0, body), true},
		"echo, IPv6":        {down6.ICMP(128, 0, body), true},
		"unreachable":       {down4.ICMP(3, 1, body), false},
		"time exceeded":     {down4.ICMP(11, 0, body), false},
		"too big, IPv6":     {down6.ICMP(2, 0, body), false},
		"later fragment":    {later.Packet(protoUDP, body), false},
		"from a group":      {multicast.UDP(1, 2, body), false},
		"from nobody":       {nobody.UDP(1, 2, body), false},
		"ICMP without type": {down4.Packet(protoICMP, nil), false},
	} {
		p, ok := parse(c.packet)
		if !ok {
			t.Fatalf("%s: does not parse", name)
		}
		if n := tooBig(make([]byte, tooBigFrameLen), c.packet, &p, 1400); (n > 0) != c.answer {
			t.Errorf("%s: answer of %d octets, want any: %t", name, n, c.answer)
		}
	}
}

// TestFragmented: an IPv4 packet that may be fragmented arrives in fragments
// that make the packet again.
func TestFragmented(t *testing.T) { eachOuter(t, checkFragmented) }

func checkFragmented(t *testing.T, p *peer, mtu int) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 250)
	packet := down4.UDP(1, 2, payload)
	p.sendInside(packet)
	var whole []byte
	for offset, more := 0, true; more; {
		inner, _ := p.arrival()
		if len(inner) > mtu {
			t.Errorf("a fragment of %d octets, more than %d", len(inner), mtu)
		}
		if dptest.Checksum(0, inner[:ipv4HeaderLen]) != 0 {
			t.Error("header checksum of a fragment is wrong")
		}
		field := binary.BigEndian.Uint16(inner[6:])
		if int(field&0x1FFF)*8 != offset {
			t.Fatalf("fragment at %d, want %d", int(field&0x1FFF)*8, offset)
		}
		more = field&0x2000 != 0
		whole = append(whole, inner[ipv4HeaderLen:]...)
		offset += len(inner) - ipv4HeaderLen
	}
	if !bytes.Equal(whole, packet[ipv4HeaderLen:]) {
		t.Error("the fragments don't make the packet")
	}
	if drops := p.backend.Drops(); drops != (dataplane.Drops{}) {
		t.Errorf("drops %v", drops)
	}
}

// Options that are to be copied stand in all fragments, others in the first
// (RFC 791 section 3.1).
func TestFragmentOptions(t *testing.T) {
	plain := down4.UDP(1, 2, make([]byte, 100))
	options := []byte{1, 7, 3, 0, 0x94, 4, 0, 0, 0, 0, 0, 0} // NOP, record route, router alert
	packet := append(append(bytes.Clone(plain[:20]), options...), plain[20:]...)
	packet[0] = 0x48
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	packet[6] |= 0x20 // it was fragmented before
	var f fragmenter
	if f.reset(packet, 39) {
		t.Error("32 octets of header leave no room in 39")
	}
	if !f.reset(packet, 76) {
		t.Fatal("there is room in 76")
	}
	dst := make([]byte, 76)
	wantHeaders := []int{32, 24, 24}
	var payload []byte
	for i := 0; ; i++ {
		n := f.next(dst)
		if n == 0 {
			break
		}
		header := int(dst[0]&0xF) * 4
		if header != wantHeaders[i] || n > 76 || dst[6]&0x20 == 0 || dptest.Checksum(0, dst[:header]) != 0 {
			t.Errorf("fragment %d: %x", i, dst[:n])
		}
		if i > 0 && !bytes.Equal(dst[20:24], options[4:8]) {
			t.Errorf("fragment %d: options %x", i, dst[20:header])
		}
		payload = append(payload, dst[header:n]...)
	}
	if !bytes.Equal(payload, packet[32:]) {
		t.Error("the fragments don't make the packet")
	}
}

// TestSuperPacket: segments of a TCP super-packet are packets of their own, and
// one that is cut too long for the path is answered.
func TestSuperPacket(t *testing.T) {
	p := newPeer(t, newHarness(t, nil, nil), nil)
	ip := down4
	ip.DontFragment = true
	payload := bytes.Repeat([]byte("payload "), 2000)
	tcp := append(ip.SYN(1, 2, 1400, false)[ipv4HeaderLen:], payload...)
	tcp[13] = 0x10 // ACK
	packet := ip.Packet(protoTCP, tcp)
	const size = 1390
	if err := p.pipe.sendFrame(frame(packet, 1, size, 20, 16)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < len(payload) {
		inner, _ := p.arrival()
		checkPacket(t, inner)
		got = append(got, inner[48:]...)
	}
	if !bytes.Equal(got, payload) {
		t.Error("the segments don't make the payload")
	}
	if err := p.pipe.sendFrame(frame(packet, 1, 1500, 20, 16)); err != nil {
		t.Fatal(err)
	}
	checkPacket(t, p.inside())
	p.dropped(t, dataplane.ReasonTooBig, 1)
	if err := p.pipe.sendFrame(frame(packet, 1, 0, 20, 16)[:tun.HeaderLen+100]); err != nil {
		t.Fatal(err)
	}
	p.dropped(t, dataplane.ReasonInsideMalformed, 1)
}
