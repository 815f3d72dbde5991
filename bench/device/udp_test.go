package device

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane/dptest"
)

// Datagrams of the data plane's tests can be read; one changed octet can't.
func TestUDP(t *testing.T) {
	for _, h := range []dptest.IP{
		{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.7")},
		{Src: netip.MustParseAddr("fd00:9::1"), Dst: netip.MustParseAddr("fd00:9::7")},
	} {
		for _, data := range []string{"", "odd", "even"} {
			packet := h.UDP(9200, 2948, []byte(data))
			got, ok := ParseUDP(packet)
			if !ok || got.Src != netip.AddrPortFrom(h.Src, 9200) || got.Dst != netip.AddrPortFrom(h.Dst, 2948) || string(got.Data) != data {
				t.Errorf("%q from %v: %+v, %v", data, h.Src, got, ok)
			}
			for i := len(packet) - udpLen - len(data); i < len(packet); i++ {
				changed := bytes.Clone(packet)
				changed[i] ^= 0x10
				if _, ok := ParseUDP(changed); ok {
					t.Errorf("%q from %v: octet %d was changed and nobody noticed", data, h.Src, i)
				}
			}
			at := len(packet) - len(data) - 2
			packet[at], packet[at+1] = 0, 0
			if _, ok := ParseUDP(packet); ok != h.Src.Is4() {
				t.Errorf("%q from %v without a checksum: %v", data, h.Src, ok)
			}
			if _, ok := ParseUDP(packet[:at]); ok {
				t.Error("half a header was read")
			}
		}
	}
}

// A datagram comes through the tunnel and is read as it was sent.
func TestUDPInTunnel(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		ip := d.Info().Summary.VirtualIPs[0]
		w.plane.send(dptest.IP{Src: lan, Dst: ip}.UDP(2948, 2948, []byte("wake up")))
		u, ok := ParseUDP(must(d.Receive(w.Context())))
		if !ok || u.Dst != netip.AddrPortFrom(ip, 2948) || string(u.Data) != "wake up" {
			w.Errorf("%+v, %v", u, ok)
		}
	})
}

func FuzzParseUDP(f *testing.F) {
	v4, v6 := netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00:9::7")
	f.Add(dptest.IP{Src: v4, Dst: v4}.UDP(1, 2, []byte("x")))
	f.Add(dptest.IP{Src: v6, Dst: v6}.UDP(1, 2, nil))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, packet []byte) {
		u, ok := ParseUDP(packet)
		if !ok {
			return
		}
		if u.Src.Addr().BitLen() != u.Dst.Addr().BitLen() || len(u.Data) > len(packet)-ip4Len-udpLen {
			t.Errorf("%+v of %d octets", u, len(packet))
		}
	})
}
