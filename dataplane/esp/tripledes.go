package esp

import (
	"crypto/cipher"
	"crypto/des"
	"fmt"

	"github.com/roamgate/roamgate/dataplane"
)

// newTripleDES is the block cipher of 3DES-CBC (RFC 2451). A key whose first or
// last two parts are the same is single DES and has to be refused (RFC 2451
// section 2.3); the parity bits, which the cipher doesn't look at, don't make
// them differ. Errors: dataplane.ErrInvalid, wrapped.
func newTripleDES(key []byte) (cipher.Block, error) {
	if sameDESKey(key[:8], key[8:16]) || sameDESKey(key[8:16], key[16:]) {
		return nil, fmt.Errorf("%w: the 3DES key is one of single DES", dataplane.ErrInvalid)
	}
	return des.NewTripleDESCipher(key)
}

func sameDESKey(a, b []byte) bool {
	const parity = 1
	var differ byte
	for i := range a {
		differ |= (a[i] ^ b[i]) &^ parity
	}
	return differ == 0
}
