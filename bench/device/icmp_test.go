package device

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/dataplane/dptest"
)

// TestEcho: what is built can be read, by us and by what the data plane's tests
// build packets with; one changed octet can't.
func TestEcho(t *testing.T) {
	for _, e := range []Echo{
		{Src: netip.MustParseAddr("10.9.0.7"), Dst: netip.MustParseAddr("10.2.0.2"), ID: 0x7069, Number: 3, Data: []byte("odd")},
		{Src: netip.MustParseAddr("fd00:9::7"), Dst: netip.MustParseAddr("fd00:2::2"), ID: 1, Number: 0xffff, Data: []byte("even")},
		{Src: netip.MustParseAddr("10.9.0.7"), Dst: netip.MustParseAddr("10.2.0.2"), Reply: true},
		{Src: netip.MustParseAddr("fd00:9::7"), Dst: netip.MustParseAddr("fd00:2::2"), Reply: true},
	} {
		packet := e.Append(nil)
		body := append([]byte{byte(e.ID >> 8), byte(e.ID), byte(e.Number >> 8), byte(e.Number)}, e.Data...)
		h := dptest.IP{Src: e.Src, Dst: e.Dst}
		if got := packet[len(packet)-len(body):]; !bytes.Equal(got, body) {
			t.Errorf("%+v ends with %x", e, got)
		}
		if e.Src.Is4() && dptest.Checksum(0, packet[:20]) != 0 {
			t.Errorf("%+v: wrong header checksum", e)
		}
		if len(packet) != len(h.ICMP(e.kind(), 0, e.Data)) {
			t.Errorf("%+v has %d octets", e, len(packet))
		}
		got, ok := ParseEcho(packet)
		if !ok || got.Src != e.Src || got.Dst != e.Dst || got.ID != e.ID || got.Number != e.Number || got.Reply != e.Reply || !bytes.Equal(got.Data, e.Data) {
			t.Errorf("read %+v, %v; want %+v", got, ok, e)
		}
		back := got.Answer()
		if again, ok := ParseEcho(back.Append(nil)); !ok || again.Src != e.Dst || !again.Reply {
			t.Errorf("answer %+v, %v", again, ok)
		}
		icmp := len(packet) - echoLen - len(e.Data)
		for i := icmp; i < len(packet); i++ {
			changed := bytes.Clone(packet)
			changed[i] ^= 0x10
			if _, ok := ParseEcho(changed); ok {
				t.Errorf("%+v: octet %d was changed and nobody noticed", e, i)
			}
		}
	}
}

func FuzzParseEcho(f *testing.F) {
	v4, v6 := netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00:9::7")
	f.Add(Echo{Src: v4, Dst: v4, Data: []byte("x")}.Append(nil))
	f.Add(Echo{Src: v6, Dst: v6, Reply: true}.Append(nil))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, packet []byte) {
		e, ok := ParseEcho(packet)
		if !ok {
			return
		}
		again, ok := ParseEcho(e.Append(nil))
		if !ok || again.Src != e.Src || again.Dst != e.Dst || again.ID != e.ID || again.Number != e.Number || !bytes.Equal(again.Data, e.Data) {
			t.Errorf("%+v became %+v, %v", e, again, ok)
		}
	})
}
