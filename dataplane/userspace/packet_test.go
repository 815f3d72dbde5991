package userspace

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// TestParseExtensions: selectors see what stands behind IPv6 extension headers
// (RFC 4301 section 4.4.1.1).
func TestParseExtensions(t *testing.T) {
	udp := []byte{0, 1, 0, 2, 0, 8, 0, 0}
	options := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	long := func(next byte) []byte { return append([]byte{next, 1}, make([]byte, 14)...) }
	fragment := func(next byte, offset uint16) []byte {
		return []byte{next, 0, byte(offset >> 8), byte(offset), 0, 0, 0, 1}
	}
	for _, c := range []struct {
		name        string
		first       byte
		rest        [][]byte
		ok          bool
		protocol    byte
		hasProtocol bool
		hasPorts    bool
		transport   int
	}{
		{"none", protoUDP, [][]byte{udp}, true, protoUDP, true, true, 40},
		{"hop by hop", protoHopByHop, [][]byte{options(protoUDP), udp}, true, protoUDP, true, true, 48},
		{"three", protoHopByHop, [][]byte{long(protoRouting), options(protoDestination), options(protoUDP), udp}, true, protoUDP, true, true, 72},
		{"first fragment", protoFragment, [][]byte{fragment(protoUDP, 1), udp}, true, protoUDP, true, true, 48},
		{"later fragment", protoFragment, [][]byte{fragment(protoUDP, 8), udp}, true, protoUDP, true, false, 0},
		{"later fragment of options", protoFragment, [][]byte{fragment(protoDestination, 8), udp}, true, protoDestination, false, false, 0},
		{"ESP is an upper layer", 50, [][]byte{udp}, true, 50, true, false, 40},
		{"no next header", protoNone, nil, true, protoNone, true, false, 40},
		{"ports cut off", protoUDP, [][]byte{udp[:3]}, true, protoUDP, true, false, 40},
		{"header cut off", protoHopByHop, [][]byte{options(protoUDP)[:7]}, false, 0, false, false, 0},
		{"header longer than the packet", protoHopByHop, [][]byte{{protoUDP, 9, 0, 0, 0, 0, 0, 0}, udp}, false, 0, false, false, 0},
		{"endless chain", protoDestination, [][]byte{bytes.Repeat(options(protoDestination), 9), udp}, false, 0, false, false, 0},
	} {
		p, ok := parse(up6.Packet(c.first, bytes.Join(c.rest, nil)))
		if ok != c.ok {
			t.Errorf("%s: parsed %t", c.name, ok)
			continue
		}
		if ok && (p.protocol != c.protocol || p.hasProtocol != c.hasProtocol || p.hasPorts != c.hasPorts || p.transport != c.transport) {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

// FuzzInner runs what the loop does to a decrypted packet and to one from the
// inside, and looks for what must never happen.
func FuzzInner(f *testing.F) {
	f.Add(up4.UDP(1, 2, []byte("data")), uint8(0), uint16(1400))
	f.Add(up4.SYN(1, 2, 9000, true), uint8(ce), uint16(1400))
	f.Add(up6.SYN(1, 2, 9000, false), uint8(ect1), uint16(80))
	f.Add(up6.ICMP(128, 0, make([]byte, 1400)), uint8(ect0), uint16(1280))
	fragment := up6
	fragment.Offset, fragment.MoreFragments = 8, true
	f.Add(fragment.UDP(1, 2, make([]byte, 100)), uint8(0), uint16(68))
	f.Add(up6.Packet(protoHopByHop, []byte{protoUDP, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0}), uint8(0), uint16(1400))
	f.Add([]byte{0x4F, 0, 0, 0}, uint8(0), uint16(100))
	f.Fuzz(func(t *testing.T, b []byte, outerTOS uint8, mtu uint16) {
		if len(b) > 1<<16 {
			return
		}
		original := bytes.Clone(b)
		p, ok := parse(b)
		if !ok {
			return
		}
		if p.length > len(b) || p.transport > p.length || !p.src.IsValid() || p.src.Is6() != p.v6 {
			t.Fatalf("%x parsed to %+v", b, p)
		}
		checkSelected(t, &p)
		inner := b[:p.length]
		if decapsulateECN(inner, &p, outerTOS) {
			clampMSS(inner, &p, max(int(mtu), minIPv4MTU))
		}
		if q, ok := parse(b); !ok || q != p {
			t.Fatalf("%x parsed to %+v, after ECN and MSS to %+v", original, p, q)
		}
		answer := make([]byte, tooBigFrameLen)
		if n := tooBig(answer, inner, &p, int(mtu)); n > 0 {
			checkPacket(t, answer[tun.HeaderLen:n])
		}
		if !p.dontFragment && p.length > int(mtu) {
			checkFragments(t, inner, int(mtu))
		}
	})
}

// checkSelected: the packet's own addresses, protocol and ports are selected,
// and so are all, but not what is next to them.
func checkSelected(t *testing.T, p *packet) {
	own := dataplane.Selector{First: p.src, Last: p.src, LastPort: 0xFFFF}
	if !selected([]dataplane.Selector{own}, p, p.src, p.srcPort) {
		t.Fatalf("%+v is not selected by its own address", p)
	}
	exact := own
	exact.Protocol, exact.FirstPort, exact.LastPort = p.protocol, p.srcPort, p.srcPort
	if selected([]dataplane.Selector{exact}, p, p.src, p.srcPort) != (p.hasPorts) {
		t.Fatalf("%+v: ports are shown, but don't decide", p)
	}
	other := own
	other.First = p.src.Next()
	if other.Last = other.First; other.First.IsValid() && selected([]dataplane.Selector{other}, p, p.src, p.srcPort) {
		t.Fatalf("%+v is selected by the next address", p)
	}
	if other.First = netip.IPv6Unspecified(); !p.v6 {
		other.Last = netip.MustParseAddr("ffff::")
		if selected([]dataplane.Selector{other}, p, p.src, p.srcPort) {
			t.Fatalf("%+v is selected by an IPv6 range", p)
		}
	}
	own.Protocol = p.protocol + 1
	if own.Protocol != 0 && selected([]dataplane.Selector{own}, p, p.src, p.srcPort) {
		t.Fatalf("%+v is selected by another protocol", p)
	}
}

// checkFragments: fragments fit, and make the payload again.
func checkFragments(t *testing.T, b []byte, mtu int) {
	var f fragmenter
	if !f.reset(b, mtu) {
		return
	}
	dst := make([]byte, mtu)
	var payload []byte
	for {
		n := f.next(dst)
		if n == 0 {
			break
		}
		if _, ok := parse(dst[:n]); !ok {
			t.Fatalf("fragment %x of %x", dst[:n], b)
		}
		payload = append(payload, dst[int(dst[0]&0xF)*4:n]...)
	}
	if !bytes.Equal(payload, b[f.header:]) {
		t.Fatalf("fragments of %x make %x", b, payload)
	}
}
