//go:build amd64 && !purego

package esp

import (
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp/vaes"
)

// TestVectorGCMErases: nothing of the keys is left.
func TestVectorGCMErases(t *testing.T) {
	if !vectorsSupported() {
		return // New takes crypto/cipher, which keeps what can't be reached
	}
	alg := dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 256}
	g := newTransform(t, alg, true).(*vectorGCM)
	if g.key == (vaes.Key{}) {
		t.Fatal("no key")
	}
	g.Erase()
	if *g != (vectorGCM{}) {
		t.Errorf("left: %+v", *g)
	}
}
