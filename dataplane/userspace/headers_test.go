package userspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
)

// checkPacket fails unless the checksums of a TCP, UDP or ICMP packet are right.
func checkPacket(t *testing.T, b []byte) {
	t.Helper()
	p, ok := parse(b)
	if !ok || p.length != len(b) {
		t.Fatalf("not a whole packet: %x", b)
	}
	upper := b[p.transport:]
	pseudo := append(p.src.AsSlice(), p.dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(upper)))
	pseudo = append(pseudo, 0, 0, 0, p.protocol)
	if p.protocol == protoICMP {
		pseudo = nil
	}
	if sum := dptest.Checksum(0, append(pseudo, upper...)); sum != 0 {
		t.Errorf("upper-layer checksum is off by %#x in %x", sum, b)
	}
	if !p.v6 && dptest.Checksum(0, b[:ipv4HeaderLen]) != 0 {
		t.Errorf("IPv4 header checksum is wrong in %x", b)
	}
}

// TestECNFromOutside walks through figure 4 of RFC 6040 with the real loop, in
// both families.
func TestECNFromOutside(t *testing.T) {
	const drop = -1
	table := []struct{ inner, outer, want int }{
		{notECT, notECT, notECT}, {notECT, ect0, notECT}, {notECT, ect1, notECT}, {notECT, ce, drop},
		{ect0, notECT, ect0}, {ect0, ect0, ect0}, {ect0, ect1, ect1}, {ect0, ce, ce},
		{ect1, notECT, ect1}, {ect1, ect0, ect1}, {ect1, ect1, ect1}, {ect1, ce, ce},
		{ce, notECT, ce}, {ce, ect0, ce}, {ce, ect1, ce}, {ce, ce, ce},
	}
	p := newPeer(t, newHarness(t, nil, nil), nil)
	const dscp = 0xB8 // EF, which has to stay
	drops := uint64(0)
	for _, c := range table {
		for _, ip := range []dptest.IP{up4, up6} {
			ip.TOS = dscp | uint8(c.inner)
			p.up(ip.UDP(1, 2, []byte("ecn")), uint8(c.outer))
			if c.want == drop {
				drops++
				p.dropped(t, dataplane.ReasonECN, drops)
				continue
			}
			got := p.inside()
			if q, _ := parse(got); q.tos != dscp|uint8(c.want) {
				t.Errorf("inner %d, outer %d: TOS %#x, want %#x", c.inner, c.outer, q.tos, dscp|c.want)
			}
			checkPacket(t, got)
		}
	}
}

// TestTOSToOutside: ECN is always copied (RFC 6040 normal mode), DSCP if wanted.
func TestTOSToOutside(t *testing.T) {
	for _, copyDSCP := range []bool{false, true} {
		p := newPeer(t, newHarness(t, nil, func(c *Config) { c.CopyDSCP = copyDSCP }), nil)
		for _, ip := range []dptest.IP{down4, down6} {
			for ecn := range uint8(4) {
				ip.TOS = 0xB8 | ecn
				inner, outer := p.down(ip.UDP(1, 2, nil))
				want := ecn
				if copyDSCP {
					want = ip.TOS
				}
				if q, _ := parse(inner); outer != want || q.tos != ip.TOS {
					t.Errorf("copy %t: inner TOS %#x became %#x inside and %#x outside", copyDSCP, ip.TOS, q.tos, outer)
				}
			}
		}
	}
}

// TestTrafficPadding: what stands behind the packet (RFC 4303 section 2.7) and
// dummy packets (section 2.6) don't reach the inside.
func TestTrafficPadding(t *testing.T) {
	p := newPeer(t, newHarness(t, nil, nil), nil)
	for _, ip := range []dptest.IP{up4, up6} {
		inner := ip.UDP(1, 2, []byte("padded"))
		p.queue(append(bytes.Clone(inner), make([]byte, 300)...), nextHeaderOf(inner), 0)
		p.queue(make([]byte, 100), protoNone, 0)
		p.queue(nil, protoNone, 0)
		p.flush()
		if got := p.inside(); !bytes.Equal(got, inner) {
			t.Errorf("inside got %x, want %x", got, inner)
		}
	}
	inner := up4.UDP(1, 2, []byte("last"))
	p.up(inner, 0)
	if got := p.inside(); !bytes.Equal(got, inner) {
		t.Errorf("inside got %x, want %x", got, inner)
	}
	if drops := p.backend.Drops(); drops != (dataplane.Drops{}) {
		t.Errorf("drops %v", drops)
	}
}

// TestNextHeaderAndVersion: both have to say the same.
func TestNextHeaderAndVersion(t *testing.T) {
	p := newPeer(t, newHarness(t, nil, nil), nil)
	p.queue(up4.UDP(1, 2, nil), protoIPv6, 0)
	p.queue(up6.UDP(1, 2, nil), protoIPv4, 0)
	p.queue(nil, protoIPv4, 0)
	p.flush()
	p.dropped(t, dataplane.ReasonInnerMalformed, 3)
}

// TestMSS: a SYN leaves the tunnel with an MSS that fits, on either side, and
// with right checksums.
func TestMSS(t *testing.T) {
	p := newPeer(t, newHarness(t, nil, nil), nil)
	mtu, err := InnerMTU(1500, gcm128, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		up, down dptest.IP
		limit    uint16
	}{{up4, down4, uint16(mtu - 40)}, {up6, down6, uint16(mtu - 60)}} {
		for _, odd := range []bool{false, true} {
			for _, mss := range []uint16{536, c.limit - 1, c.limit, c.limit + 1, 8960, 0xFFFF} {
				what := fmt.Sprintf("MSS %d at odd offset %t", mss, odd)
				p.up(c.up.SYN(1, 2, mss, odd), 0)
				inner, _ := p.down(c.down.SYN(2, 1, mss, odd))
				for _, got := range [][]byte{p.inside(), inner} {
					checkPacket(t, got)
					q, _ := parse(got)
					tcp := got[q.transport:]
					at := mssOption(tcp)
					if at == 0 || binary.BigEndian.Uint16(tcp[at:]) != min(mss, c.limit) {
						t.Errorf("%s: TCP header %x, want MSS %d", what, tcp, min(mss, c.limit))
					}
				}
			}
		}
	}
}

// Broken options and packets that are no SYN are left alone.
func TestMSSLeavesAlone(t *testing.T) {
	syn := up4.SYN(1, 2, 9000, false)
	edits := map[string]func([]byte){
		"no SYN":               func(b []byte) { b[33] = 0x10 },
		"option beyond header": func(b []byte) { b[41] = 99 },
		"option of length 0":   func(b []byte) { b[41] = 0 },
		"MSS of length 3":      func(b []byte) { b[41] = 3 },
		"end before MSS":       func(b []byte) { copy(b[40:], []byte{0, 2, 4}) },
		"data offset 60":       func(b []byte) { b[32] = 0xF0 },
		"data offset 16":       func(b []byte) { b[32] = 0x40 },
	}
	for name, edit := range edits {
		b := bytes.Clone(syn)
		edit(b)
		p, ok := parse(b)
		if !ok {
			t.Fatalf("%s: does not parse", name)
		}
		before := bytes.Clone(b)
		if clampMSS(b, &p, 1400); !bytes.Equal(b, before) {
			t.Errorf("%s: %x became %x", name, before, b)
		}
	}
	later := up4
	later.Offset = 1480
	b := later.Packet(protoTCP, syn[20:])
	p, _ := parse(b)
	before := bytes.Clone(b)
	if clampMSS(b, &p, 1400); !bytes.Equal(b, before) {
		t.Errorf("later fragment: %x became %x", before, b)
	}
}
