package ikewire

import (
	"bytes"
	"testing"
)

// A request with a cookie first is without it what it was before, whatever the
// cookie is; a cookie that isn't first, another notification, and what is cut off
// stay as they are.
func TestWithoutCookie(t *testing.T) {
	encode := func(payloads ...Payload) []byte {
		b, err := (&Message{Header: Header{InitiatorSPI: 7, Exchange: IKESAInit, Flags: FlagInitiator}, Payloads: payloads}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cookie := func(n int) Payload { return &Notify{NotifyType: NotifyCookie, Data: bytes.Repeat([]byte{9}, n)} }
	nonce := &Nonce{Data: make([]byte, 32)}
	plain := encode(nonce)
	for _, n := range []int{1, 8, 64} {
		if got := WithoutCookie(make([]byte, 3, 200), encode(cookie(n), nonce)); !bytes.Equal(got, plain) {
			t.Errorf("a cookie of %d octets: %x, want %x", n, got, plain)
		}
	}
	with := encode(cookie(8), nonce)
	for name, b := range map[string][]byte{
		"none": plain, "last": encode(nonce, cookie(8)), "another": encode(&Notify{NotifyType: NotifyCookie2, Data: []byte{1}}, nonce),
		"nothing": nil, "header": with[:HeaderLen], "cut": with[:HeaderLen+notifyHeaderLen+7],
	} {
		if got := WithoutCookie(nil, b); !bytes.Equal(got, b) {
			t.Errorf("%s: %x of %x", name, got, b)
		}
	}
}

func FuzzWithoutCookie(f *testing.F) {
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := WithoutCookie(nil, b)
		if m, err := Parse(b); err == nil && len(m.Payloads) > 0 {
			if n, ok := m.Payloads[0].(*Notify); ok && n.NotifyType == NotifyCookie && len(n.SPI) == 0 {
				if rest, err := Parse(got); err != nil || len(rest.Payloads) != len(m.Payloads)-1 {
					t.Errorf("%x without its cookie: %v", b, err)
				}
			}
		}
	})
}
