package session

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/control/gate"
)

// Who asks for an IKE SA that isn't here is told, if there is a secret; never for
// one that is here, whatever the flags say.
func TestCrashTokenIsShown(t *testing.T) {
	secret := gate.Secret{1}
	for _, set := range []gate.Secret{secret, {}} {
		run(t, options{config: func(c *Config) { c.CrashSecret = set }}, func(w *world) {
			peer := netip.MustParseAddrPort("10.1.0.77:4500")
			d := w.connect("phone")
			i := w.only()
			before := len(w.net.sentTo(peer.Addr()))
			ask := func(spiI, spiR uint64, fromInitiator bool) [][]byte {
				m := informational(spiR)
				m.Local = peer
				binary.BigEndian.PutUint64(m.Data, spiI)
				m.Data = append(m.Data, make([]byte, 80-len(m.Data))...)
				binary.BigEndian.PutUint32(m.Data[24:], 80)
				if !fromInitiator {
					m.Data[19] = 0
				}
				w.net.send(m)
				w.settled()
				var got [][]byte
				for _, s := range w.net.sentTo(peer.Addr())[before:] {
					got = append(got, s.Data)
				}
				before += len(got)
				return got
			}
			want := 0
			if set == secret {
				want = 1
			}
			for _, unknown := range []uint64{0x1234, 0xff << 56} {
				got := ask(1, unknown, true)
				if len(got) != want {
					t.Fatalf("%d answers, want %d", len(got), want)
				}
				if want == 1 && !bytes.HasSuffix(got[0], secret.CrashToken(unknown, 1)) {
					t.Errorf("answer %x", got[0])
				}
			}
			w.want("shown", w.server.Stats().Events[eventCrashToken], uint64(2*want))
			for _, s := range ask(i.InitiatorSPI, i.ResponderSPI, true) {
				t.Errorf("an answer for an IKE SA that is here: %x", s)
			}
			token := secret.CrashToken(i.ResponderSPI, i.InitiatorSPI)
			for _, s := range ask(i.InitiatorSPI, i.ResponderSPI, false) {
				if bytes.Contains(s, token) {
					t.Error("the token of an IKE SA that is here, for a flag")
				}
			}
			w.want("state", d.state(), "up")
		})
	}
}
