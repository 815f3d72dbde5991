package esp

import (
	"crypto/aes"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/roamgate/roamgate/dataplane"
)

// Supported returns the algorithms that New takes, best first. AES-GCM stands
// before ChaCha20-Poly1305, which is slower where the processor has AES, and
// that before AES-CBC with HMAC, which costs several times as much for a packet.
// Among keys the shorter is first: 128 bits are beyond any search, and fewer
// rounds carry more packets. Who wants 256 bits configures it. Legacy algorithms
// (dataplane.Algorithm.Legacy) stand last.
func Supported() []dataplane.Algorithm {
	algs := []dataplane.Algorithm{
		{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128},
		{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 256},
		{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 192},
		{Encryption: dataplane.EncryptionChaCha20Poly1305},
	}
	for _, integrity := range []uint16{dataplane.IntegrityHMACSHA256, dataplane.IntegrityHMACSHA384, dataplane.IntegrityHMACSHA512, dataplane.IntegrityHMACSHA1} {
		for _, bits := range []uint16{128, 256, 192} {
			algs = append(algs, dataplane.Algorithm{Encryption: dataplane.EncryptionAESCBC, KeyBits: bits, Integrity: integrity})
		}
	}
	for _, integrity := range []uint16{dataplane.IntegrityHMACSHA256, dataplane.IntegrityHMACSHA384, dataplane.IntegrityHMACSHA512, dataplane.IntegrityHMACSHA1} {
		algs = append(algs, dataplane.Algorithm{Encryption: dataplane.EncryptionTripleDES, Integrity: integrity})
	}
	return algs
}

// KeyLen is dataplane.Algorithm.KeyLengths with dataplane.ErrAlgorithm for what
// New doesn't take.
func KeyLen(alg dataplane.Algorithm) (encryption, integrity int, err error) {
	encryption, integrity, ok := alg.KeyLengths()
	if !ok {
		return 0, 0, fmt.Errorf("%w: ESP %v", dataplane.ErrAlgorithm, alg)
	}
	return encryption, integrity, nil
}

// Check says whether New takes these keys, without making anything of them. Errors:
// those of New.
func Check(alg dataplane.Algorithm, keys dataplane.Keys) error {
	encryption, integrity, err := KeyLen(alg)
	if err != nil {
		return err
	}
	if len(keys.Encryption) != encryption || len(keys.Integrity) != integrity {
		return fmt.Errorf("%w: ESP %v takes %d and %d octets, got %d and %d", dataplane.ErrKeyLength,
			alg, encryption, integrity, len(keys.Encryption), len(keys.Integrity))
	}
	if alg.Encryption == dataplane.EncryptionTripleDES {
		_, err = newTripleDES(keys.Encryption) // knows weak keys
	}
	return err
}

// New makes the transform of one direction of an SA. It copies what it needs of
// keys; see Transform.Erase. Errors: dataplane.ErrAlgorithm, dataplane.ErrKeyLength,
// and dataplane.ErrInvalid for a weak key, wrapped.
func New(alg dataplane.Algorithm, keys dataplane.Keys, esn bool) (Transform, error) {
	if err := Check(alg, keys); err != nil {
		return nil, err
	}
	switch alg.Encryption {
	case dataplane.EncryptionAESGCM16:
		return newGCM(keys.Encryption, esn)
	case dataplane.EncryptionChaCha20Poly1305:
		return newAEAD(chacha20poly1305.New, keys.Encryption, esn) // RFC 7634
	}
	newCipher := aes.NewCipher
	if alg.Encryption == dataplane.EncryptionTripleDES {
		newCipher = newTripleDES
	}
	block, err := newCipher(keys.Encryption)
	if err != nil {
		return nil, err
	}
	return newCBC(block, macs[alg.Integrity], keys.Integrity, esn)
}
