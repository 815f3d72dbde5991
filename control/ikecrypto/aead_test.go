package ikecrypto

import (
	"bytes"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// The whole message of RFC 7634 appendix B: an INFORMATIONAL request with one
// notify.
func TestChaCha20Poly1305RFC7634(t *testing.T) {
	key := unhex(`808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3`)
	want := unhex(`c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 2e202500 00000009 00000045
		29000029 1011121314151617
		610394701f8d017f7c12924889 6b71bfe25236efd7cdc67066906315b2`)
	p, err := NewProtector(suiteChaCha, key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.(*protector).transform.(*aead).next = 0x1011121314151617
	m := &ikewire.Message{Header: ikewire.Header{
		InitiatorSPI: 0xc0c1c2c3c4c5c6c7,
		ResponderSPI: 0xd0d1d2d3d4d5d6d7,
		Exchange:     ikewire.Informational,
		MessageID:    9,
	}}
	raw, parsed := seal(t, p, m, &ikewire.Notify{NotifyType: 16385, Data: []byte{0, 0, 0, 10}})
	if !bytes.Equal(raw, want) {
		t.Errorf("got %x, want %x", raw, want)
	}
	inner, err := p.Open(want, parsed)
	if err != nil || len(inner) != 1 || inner[0].(*ikewire.Notify).NotifyType != 16385 {
		t.Errorf("payloads %v, error %v", inner, err)
	}
}
