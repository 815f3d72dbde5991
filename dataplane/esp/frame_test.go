package esp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// TestFrame: with a cipher that somebody else runs, packets are those of the
// Transform, octet by octet, both ways.
func TestFrame(t *testing.T) {
	key := make([]byte, 20)
	rand.Read(key)
	c, err := newGCMCipher(FrameKey(key))
	if err != nil {
		t.Fatal(err)
	}
	for _, esn := range []bool{false, true} {
		transform, err := New(dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}, dataplane.Keys{Encryption: key}, esn)
		if err != nil {
			t.Fatal(err)
		}
		f := NewFrame(key, esn)
		for n := range 100 {
			seq := uint64(n)<<32 + uint64(n) + 1
			inner := make([]byte, n)
			rand.Read(inner)
			a, b := make([]byte, 256), make([]byte, 256)
			copy(a[transform.HeaderLen():], inner)
			copy(b[transform.HeaderLen():], inner)
			want := transform.Seal(a, n, 4, 0x1234, seq)
			got, p := f.Seal(b, n, 4, 0x1234, seq)
			text := got[p.Offset : p.Offset+p.Length]
			c.Seal(text[:0], p.Nonce[:], text, p.AAD[:p.AADLen])
			if !bytes.Equal(got, want) {
				t.Fatalf("sealed %x, want %x", got, want)
			}
			if p, err = f.Open(got, seq); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Open(got[p.Offset:p.Offset], p.Nonce[:], got[p.Offset:p.Offset+p.Length+FrameICVLen], p.AAD[:p.AADLen]); err != nil {
				t.Fatal(err)
			}
			opened, next, err := FrameInner(got)
			if err != nil || next != 4 || !bytes.Equal(opened, inner) {
				t.Fatalf("opened %x, next %d, %v", opened, next, err)
			}
		}
		if _, err := f.Open(make([]byte, aeadHeaderLen+aeadAlign+aeadICVLen-1), 1); !errors.Is(err, ErrShort) {
			t.Error(err)
		}
		if _, _, err := FrameInner(append(make([]byte, aeadHeaderLen), append([]byte{9, 9, 9, 4}, make([]byte, 16)...)...)); !errors.Is(err, ErrPadding) {
			t.Error(err)
		}
	}
}
