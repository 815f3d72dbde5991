package ikecrypto

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"encoding"
	"testing"
)

// TestKeyed: it gives what crypto/hmac does, one key after the other, and when it is
// released no key is left in it, and its hash begins anew.
func TestKeyed(t *testing.T) {
	secret := bytes.Repeat([]byte{0xa5}, 2*maxBlock)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for n := range secret {
			want := hmac.New(h.New, secret[:n])
			k := newKeyed(h, secret[:n])
			for i := range 3 {
				want.Reset()
				want.Write(secret[:n*(i+1)/3])
				k.begin()
				k.hash.Write(secret[:n*(i+1)/3])
				if got := k.end(nil); !bytes.Equal(got, want.Sum(nil)) {
					t.Fatalf("%v, a key of %d octets, message %d: %x", h, n, i, got)
				}
			}
			k.hash.Write(secret[:n]) // one that was given up
			k.release()
			state, err := k.hash.(encoding.BinaryMarshaler).MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			fresh, _ := h.New().(encoding.BinaryMarshaler).MarshalBinary()
			if k.inner != [maxBlock]byte{} || k.outer != [maxBlock]byte{} || k.sum != [maxSum]byte{} || !bytes.Equal(state, fresh) {
				t.Fatalf("%v, a key of %d octets: something is left", h, n)
			}
		}
	}
}

// TestDraft: what was to be encrypted is erased, and is there for nobody else.
func TestDraft(t *testing.T) {
	d := newDraft()
	d.content[0], d.body[len(d.body)-1] = 1, 1
	d.release()
	if *d != (draft{}) {
		t.Error("something is left")
	}
}
