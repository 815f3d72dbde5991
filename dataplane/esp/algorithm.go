package esp

import (
	"fmt"

	"github.com/roamgate/roamgate/dataplane"
)

// Transform IDs (IANA "Internet Key Exchange Version 2 (IKEv2) Parameters").
const (
	encrAESCBC   = 12 // RFC 3602
	encrAESGCM16 = 20 // RFC 4106

	authHMACSHA256128 = 12 // RFC 4868
	authHMACSHA384192 = 13
	authHMACSHA512256 = 14
)

// Supported returns the algorithms that New takes, best first. AES-GCM stands
// before AES-CBC with HMAC, which costs several times as much for a packet.
// Among keys the shorter is first: 128 bits are beyond any search, and fewer
// rounds carry more packets. Who wants 256 bits configures it.
func Supported() []dataplane.Algorithm {
	algs := []dataplane.Algorithm{
		{Encryption: encrAESGCM16, KeyBits: 128},
		{Encryption: encrAESGCM16, KeyBits: 256},
		{Encryption: encrAESGCM16, KeyBits: 192},
	}
	for _, integrity := range []uint16{authHMACSHA256128, authHMACSHA384192, authHMACSHA512256} {
		for _, bits := range []uint16{128, 256, 192} {
			algs = append(algs, dataplane.Algorithm{Encryption: encrAESCBC, KeyBits: bits, Integrity: integrity})
		}
	}
	return algs
}

// KeyLen returns how many octets of keying material an algorithm takes for one
// direction: for encryption, with the salt of AES-GCM included (RFC 4106
// section 8.1), and for integrity. The error is dataplane.ErrAlgorithm.
func KeyLen(alg dataplane.Algorithm) (encryption, integrity int, err error) {
	switch alg.KeyBits {
	case 128, 192, 256:
		encryption = int(alg.KeyBits) / 8
	default:
		return 0, 0, unsupported(alg)
	}
	if alg.Encryption == encrAESGCM16 && alg.Integrity == 0 {
		return encryption + gcmSaltLen, 0, nil
	}
	if mac, ok := macs[alg.Integrity]; ok && alg.Encryption == encrAESCBC {
		return encryption, mac.keyLen, nil
	}
	return 0, 0, unsupported(alg)
}

// New makes the transform of one direction of an SA. It copies what it needs of
// keys, and the copy can't be erased: crypto/aes and crypto/hmac expand keys
// into memory of their own. Errors: dataplane.ErrAlgorithm and
// dataplane.ErrKeyLength, wrapped.
func New(alg dataplane.Algorithm, keys dataplane.Keys, esn bool) (Transform, error) {
	encryption, integrity, err := KeyLen(alg)
	if err != nil {
		return nil, err
	}
	if len(keys.Encryption) != encryption || len(keys.Integrity) != integrity {
		return nil, fmt.Errorf("%w: ESP %v takes %d and %d octets, got %d and %d", dataplane.ErrKeyLength,
			alg, encryption, integrity, len(keys.Encryption), len(keys.Integrity))
	}
	if alg.Encryption == encrAESGCM16 {
		return newGCM(keys.Encryption, esn)
	}
	return newCBC(keys, macs[alg.Integrity], esn)
}

func unsupported(alg dataplane.Algorithm) error {
	return fmt.Errorf("%w: ESP encryption %d with %d bits, integrity %d",
		dataplane.ErrAlgorithm, alg.Encryption, alg.KeyBits, alg.Integrity)
}
