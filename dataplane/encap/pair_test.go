package encap

import (
	"errors"
	"net/netip"
	"testing"
)

// An IKE message leaves by the socket that it names, behind a marker where that
// is the one for UDP encapsulation; there is no other way out.
func TestSendIKE(t *testing.T) {
	to := listen(t, "127.0.0.1:0")
	pairs := Pairs{
		{IKE: listen(t, "127.0.0.1:0"), Encap: listen(t, "127.0.0.1:0")},
		{IKE: listen(t, "127.0.0.2:0"), Encap: listen(t, "127.0.0.2:0")},
	}
	receiver := NewReceiver(4)
	for _, c := range []struct {
		from   *Socket
		marker bool
		want   string
	}{
		{pairs[0].IKE, false, "message"}, {pairs[1].IKE, false, "message"},
		{pairs[0].Encap, true, "\x00\x00\x00\x00message"}, {pairs[1].Encap, true, "\x00\x00\x00\x00message"},
	} {
		if err := pairs.SendIKE([]byte("message"), c.from.Local(), to.Local(), c.marker); err != nil {
			t.Fatal(err)
		}
		if n := receive(t, receiver, to); n != 1 {
			t.Fatalf("%d datagrams", n)
		}
		if d := receiver.Datagram(0); string(d.Payload) != c.want || d.Remote != c.from.Local() {
			t.Errorf("%q from %v, want %q from %v", d.Payload, d.Remote, c.want, c.from.Local())
		}
		if err := pairs.SendIKE([]byte("message"), c.from.Local(), to.Local(), !c.marker); !errors.Is(err, ErrForeign) {
			t.Errorf("by the other kind of socket: %v", err)
		}
	}
	if err := pairs.SendIKE(nil, netip.MustParseAddrPort("127.0.0.3:500"), to.Local(), false); !errors.Is(err, ErrForeign) {
		t.Errorf("from a foreign address: %v", err)
	}
	if err := pairs.Close(); err != nil {
		t.Error(err)
	}
	if err := (Pair{Encap: listen(t, "127.0.0.1:0")}).Close(); err != nil {
		t.Error(err)
	}
}
